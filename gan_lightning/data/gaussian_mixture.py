"""Mixture of Gaussians with given means."""

from collections.abc import Sequence
from typing import Annotated, Any

import torch
from annotated_types import Interval, Len, MinLen, doc
from torch import Tensor

from gan_lightning.config.constraints import NonNegativeFloat
from gan_lightning.data.points import Points

Coordinate = Annotated[float, Interval(ge=-1e6, le=1e6)]
Centres = Annotated[
    Sequence[Annotated[Sequence[Coordinate], Len(2, 2)]], MinLen(1), doc("a list of pairs, for example [[0,0],[1,2]]")
]


class GaussianMixture(Points):
    """Mixture of Gaussians with given means.

    Args:
        centres: Means, as pairs of coordinates.
        std: Standard deviation of each Gaussian.
        **points: Further arguments of :class:`~gan_lightning.data.points.Points`.
    """

    def __init__(self, centres: Centres, std: NonNegativeFloat = 0.05, **points: Any) -> None:
        super().__init__(std, **points)
        self.means = [[*map(float, centre)] for centre in centres]

    def centres(self) -> Tensor:
        """Return the means (modes, 2)."""
        return torch.tensor(self.means)
