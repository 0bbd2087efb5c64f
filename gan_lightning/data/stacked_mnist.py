"""Stacked MNIST (Metz et al., 2017, section 3.3.1, https://arxiv.org/abs/1611.02163): a thousand modes to count."""

import torch
from torch import Tensor

from gan_lightning import seed as seeds
from gan_lightning.config.constraints import ImageSize, PositiveInt
from gan_lightning.data.mnist import MNIST


class StackedMNIST(MNIST):
    """Three digits drawn at random, one in each colour channel; the class is the number from 000 to 999 that they make.

    Args:
        root: Folder of the data sets.
        image_size: A side, or height and width.
        num: How many pictures; the draw is the same for every seed.
        **data: Further arguments of :class:`~gan_lightning.data.base.ImageData`.
    """

    def __init__(self, root: str, image_size: ImageSize = 28, num: PositiveInt = 60_000, **data: object) -> None:
        super().__init__(root, image_size, **{"channels": 3, **data})
        self.num = num

    def read(self, rows: slice) -> tuple[Tensor, Tensor, list[str]]:
        """Stacks of training digits."""
        digits, labels, _ = super().read(slice(None))
        return self.stacked(digits, labels, seeds.POINTS, rows)

    def test(self) -> tuple[Tensor, Tensor, list[str]]:
        """Stacks of test digits."""
        digits, labels, _ = super().test()
        return self.stacked(digits, labels, seeds.HELD_OUT, slice(10_000))

    def stacked(self, digits: Tensor, labels: Tensor, stream: int, rows: slice) -> tuple[Tensor, Tensor, list[str]]:
        """Pictures (n, 3, H, W), their numbers, and the names of all numbers."""
        generator = torch.Generator().manual_seed(seeds.mix(stream))
        chosen = torch.randint(len(digits), (self.num, 3), generator=generator)[rows]
        numbers = (labels[chosen] * torch.tensor([100, 10, 1])).sum(1)
        return digits[chosen, 0], numbers, [f"{number:03d}" for number in range(1000)]
