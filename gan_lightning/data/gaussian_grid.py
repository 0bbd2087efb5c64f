"""Mixture of Gaussians on a square grid, a toy distribution to count modes on."""

from typing import Annotated, Any

import torch
from annotated_types import Interval
from torch import Tensor

from gan_lightning.config.constraints import NonNegativeFloat, PositiveFloat
from gan_lightning.data.points import Points


class GaussianGrid(Points):
    """Mixture of Gaussians whose means form a square grid around the origin; by default {-4, -2, 0, 2, 4} squared.

    Args:
        side: Number of Gaussians along a side.
        spacing: Distance between neighbouring means.
        std: Standard deviation of each Gaussian.
        **points: Further arguments of :class:`~gan_lightning.data.points.Points`.
    """

    def __init__(
        self,
        side: Annotated[int, Interval(ge=1, le=100)] = 5,
        spacing: PositiveFloat = 2.0,
        std: NonNegativeFloat = 0.05,
        **points: Any,
    ) -> None:
        super().__init__(std, **points)
        self.side, self.spacing = side, spacing

    def centres(self) -> Tensor:
        """Return the means (side * side, 2)."""
        line = self.spacing * (torch.arange(self.side) - (self.side - 1) / 2)
        return torch.cartesian_prod(line, line)
