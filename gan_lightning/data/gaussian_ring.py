"""A ring of Gaussians."""

import math
from typing import Annotated, Any

import torch
from annotated_types import Interval
from torch import Tensor

from gan_lightning.config.constraints import NonNegativeFloat, PositiveFloat
from gan_lightning.data.points import Points


class GaussianRing(Points):
    """Gaussians whose distinct centres are equally spaced on a circle.

    Args:
        modes: How many.
        radius: Of the circle.
        deviation: Standard deviation of each.
        **points: Arguments of :class:`~gan_lightning.data.points.Points`.
    """

    def __init__(
        self,
        modes: Annotated[int, Interval(ge=1, le=10_000)] = 8,
        radius: PositiveFloat = 1.0,
        deviation: NonNegativeFloat = 0.01,
        **points: Any,
    ) -> None:
        super().__init__(deviation, **points)
        self.modes, self.radius = modes, radius

    def centres(self) -> Tensor:
        """Means (modes, 2); the last one is a step short of the first, which ``linspace`` to 2 pi would repeat."""
        angles = 2 * math.pi * torch.arange(self.modes) / self.modes
        return self.radius * torch.stack([angles.cos(), angles.sin()], dim=1)
