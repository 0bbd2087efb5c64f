"""Stacked MNIST (Metz et al., 2017, section 3.3.1, https://arxiv.org/abs/1611.02163): data with 1,000 modes."""

from typing import Any

import torch
from torch import Tensor

from gan_lightning import seed as seeds
from gan_lightning.config.constraints import ImageSize, PositiveInt
from gan_lightning.data.mnist import MNIST


class StackedMNIST(MNIST):
    """Images of three random MNIST digits, one per colour channel; the class is the number 000 to 999 that they form.

    Args:
        root: Directory of the data sets.
        image_size: Side, or height and width, in pixels.
        num: Number of images; they are the same for every seed.
        **data: Further arguments of :class:`~gan_lightning.data.datamodule.ImageData`.
    """

    def __init__(self, root: str, image_size: ImageSize = 28, num: PositiveInt = 60_000, **data: Any) -> None:
        super().__init__(root, image_size, **{"channels": 3, **data})
        self.num = num

    def read(self, rows: slice) -> tuple[Tensor, Tensor, list[str]]:
        """Return stacks of training digits."""
        digits, labels, _ = super().read(slice(None))
        return self.stacked(digits, labels, seeds.POINTS, rows)

    def test(self) -> tuple[Tensor, Tensor, list[str]]:
        """Return 10,000 stacks of test digits."""
        digits, labels, _ = super().test()
        return self.stacked(digits, labels, seeds.HELD_OUT, slice(10_000))

    def stacked(self, digits: Tensor, labels: Tensor, stream: int, rows: slice) -> tuple[Tensor, Tensor, list[str]]:
        """Draw stacked images (n, 3, H, W); return them, their numbers and the names of all 1,000 classes.

        Args:
            digits: Images (N, 1, H, W) of single digits.
            labels: Their digits (N,).
            stream: Number of the random stream, one for each set.
            rows: Slice of the ``num`` stacks to return.
        """
        generator = torch.Generator().manual_seed(seeds.mix(stream))
        chosen = torch.randint(len(digits), (self.num, 3), generator=generator)[rows]
        numbers = (labels[chosen] * torch.tensor([100, 10, 1])).sum(1)
        return digits[chosen, 0], numbers, [f"{number:03d}" for number in range(1000)]
