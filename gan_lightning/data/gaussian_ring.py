"""Mixture of Gaussians on a ring, a toy distribution to count modes on."""

import math
from typing import Annotated, Any

import torch
from annotated_types import Interval
from torch import Tensor

from gan_lightning.config.constraints import NonNegativeFloat, PositiveFloat
from gan_lightning.data.points import Points


class GaussianRing(Points):
    """Mixture of Gaussians whose means are equally spaced on a circle.

    Args:
        modes: Number of Gaussians.
        radius: Radius of the circle.
        std: Standard deviation of each Gaussian.
        **points: Further arguments of :class:`~gan_lightning.data.points.Points`.
    """

    def __init__(
        self,
        modes: Annotated[int, Interval(ge=1, le=10_000)] = 8,
        radius: PositiveFloat = 1.0,
        std: NonNegativeFloat = 0.01,
        **points: Any,
    ) -> None:
        super().__init__(std, **points)
        self.modes, self.radius = modes, radius

    def centres(self) -> Tensor:
        """Return the means (modes, 2); ``linspace`` to 2 pi would repeat the first."""
        angles = 2 * math.pi * torch.arange(self.modes) / self.modes
        return self.radius * torch.stack([angles.cos(), angles.sin()], dim=1)
