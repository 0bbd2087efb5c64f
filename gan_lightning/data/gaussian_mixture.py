"""Gaussians wherever they are wanted."""

from collections.abc import Sequence
from typing import Annotated, Any

import torch
from annotated_types import Interval, Len, MinLen, doc
from torch import Tensor

from gan_lightning.config.constraints import NonNegativeFloat
from gan_lightning.data.points import Points

Coordinate = Annotated[float, Interval(ge=-1e6, le=1e6)]
Centres = Annotated[
    Sequence[Annotated[Sequence[Coordinate], Len(2, 2)]], MinLen(1), doc("a list of pairs, [[0,0],[1,2]] say")
]


class GaussianMixture(Points):
    """Gaussians around centres that are given one by one.

    Args:
        centres: Their means, a pair each.
        deviation: Standard deviation of each.
        **points: Arguments of :class:`~gan_lightning.data.points.Points`.
    """

    def __init__(self, centres: Centres, deviation: NonNegativeFloat = 0.05, **points: Any) -> None:
        super().__init__(deviation, **points)
        self.means = [[*map(float, centre)] for centre in centres]

    def centres(self) -> Tensor:
        """Means (modes, 2)."""
        return torch.tensor(self.means)
