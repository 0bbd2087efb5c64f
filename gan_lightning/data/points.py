"""Points in the plane, drawn from a mixture of Gaussians, to see which modes are found.

The protocol is that of PacGAN (Lin et al., 2018, section 4.1, https://arxiv.org/abs/1712.04086).
"""

from abc import abstractmethod
from collections import Counter

import torch
from torch import Tensor

from gan_lightning import seed as seeds
from gan_lightning.config.constraints import NonNegativeFloat, PositiveInt, Seed
from gan_lightning.data.base import StepData
from gan_lightning.memory import refuse_too_large


class Points(StepData):
    """Points (num, 2) around equally likely centres, which are their classes.

    Args:
        deviation: Standard deviation of each Gaussian.
        num: How many points.
        batch_size: Points per discriminator step, over all devices.
        seed: Decides the points and their order.
    """

    provides_images = False
    provides_points = True
    provides_labels = True

    def __init__(
        self, deviation: NonNegativeFloat, num: PositiveInt = 100_000, batch_size: PositiveInt = 64, seed: Seed = 0
    ) -> None:
        super().__init__(batch_size, seed)
        self.deviation, self.num = float(deviation), num

    @abstractmethod
    def centres(self) -> Tensor:
        """Means of the Gaussians (modes, 2)."""

    def load(self) -> tuple[Tensor, Tensor, list[str]]:
        """Draw them all."""
        names = [f"({x:.4g}, {y:.4g})" for x, y in self.centres().tolist()]
        # Class names are unique, but centres may be equal or too close for four digits.
        counts = Counter(names)
        return *self.drawn(seeds.POINTS), [f"{i} {name}" if counts[name] > 1 else name for i, name in enumerate(names)]

    def test(self) -> tuple[Tensor, Tensor, list[str]]:
        """As many others."""
        return *self.drawn(seeds.HELD_OUT), []

    def drawn(self, stream: int) -> tuple[Tensor, Tensor]:
        """Points and their modes."""
        refuse_too_large("data.num: so many points", 16 * self.num, "fewer")
        generator, centres = torch.Generator().manual_seed(seeds.mix(self.seed, stream)), self.centres()
        labels = torch.randint(len(centres), (self.num,), generator=generator)
        return centres[labels] + self.deviation * torch.randn(self.num, 2, generator=generator), labels

    def scale(self, samples: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Points stay as they are."""
        return samples.to(dtype)
