"""Base class of two-dimensional toy data: points from a mixture of Gaussians, to measure mode collapse.

The evaluation protocol is that of PacGAN (Lin et al., 2018, section 4.1, https://arxiv.org/abs/1712.04086).
"""

from abc import abstractmethod
from collections import Counter

import torch
from torch import Tensor

from gan_lightning import seed as seeds
from gan_lightning.config.constraints import NonNegativeFloat, PositiveInt, Seed
from gan_lightning.data.datamodule import InMemoryDataModule
from gan_lightning.io.memory import check_fits_in_memory


class Points(InMemoryDataModule):
    """Points (num, 2) from a mixture of equally likely Gaussians; the classes are the components (modes).

    Args:
        std: Standard deviation of each Gaussian.
        num: Number of points.
        batch_size: Points per discriminator update, over all devices.
        seed: Seed of the points and of their order.
    """

    provides_images = False
    provides_points = True
    provides_labels = True

    def __init__(
        self, std: NonNegativeFloat, num: PositiveInt = 100_000, batch_size: PositiveInt = 64, seed: Seed = 0
    ) -> None:
        super().__init__(batch_size, seed)
        self.std, self.num = float(std), num

    @abstractmethod
    def centres(self) -> Tensor:
        """Return the means of the Gaussians (modes, 2)."""

    def load(self) -> tuple[Tensor, Tensor, list[str]]:
        """Draw the training points; return them, their components and the names of the components."""
        names = [f"({x:.4g}, {y:.4g})" for x, y in self.centres().tolist()]
        # Class names are unique, but centres may be equal or too close for four digits.
        counts = Counter(names)
        return *self.drawn(seeds.POINTS), [f"{i} {name}" if counts[name] > 1 else name for i, name in enumerate(names)]

    def test(self) -> tuple[Tensor, Tensor, list[str]]:
        """Draw as many points for the test set, with another seed."""
        return *self.drawn(seeds.HELD_OUT), []

    def drawn(self, stream: int) -> tuple[Tensor, Tensor]:
        """Draw points (num, 2) and their components (num,).

        Args:
            stream: Number of the random stream, one for each set.

        Raises:
            UserError: There is not enough memory.
        """
        check_fits_in_memory(f"data.num={self.num}: the points", 16 * self.num, "use a smaller data.num")
        generator, centres = torch.Generator().manual_seed(seeds.mix(self.seed, stream)), self.centres()
        labels = torch.randint(len(centres), (self.num,), generator=generator)
        return centres[labels] + self.std * torch.randn(self.num, 2, generator=generator), labels

    def scale(self, samples: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Convert points to ``dtype``; they are not scaled."""
        return samples.to(dtype)
