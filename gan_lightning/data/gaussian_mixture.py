"""Gaussians wherever they are wanted."""

from collections.abc import Sequence

import torch
from torch import Tensor

from gan_lightning.data.points import Points


class GaussianMixture(Points):
    """Gaussians around centres that are given one by one.

    Args:
        centres: Their means, a pair each.
        deviation: Standard deviation of each.
        **points: Arguments of :class:`~gan_lightning.data.points.Points`.
    """

    def __init__(self, centres: Sequence[Sequence[float]], deviation: float = 0.05, **points: int) -> None:
        super().__init__(deviation, **points)
        self.means = [[*map(float, centre)] for centre in centres]

    def centres(self) -> Tensor:
        """Means (modes, 2)."""
        return torch.tensor(self.means)
