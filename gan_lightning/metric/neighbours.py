"""Nearest neighbours among many features, block by block, so that memory stays bounded."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from gan_lightning.bar import bar
from gan_lightning.metric import Metric, Seen

BLOCK = 1 << 25  # entries of one block of distances, a quarter of a gigabyte
FEW = 1000  # samples, of which the figures depend on how many they are
SAME = 1e-11  # what is less than this share of the largest squared norms is rounding


def rounding(rows: Tensor, columns: Tensor) -> float:
    """Squared distances that differ by no more than this are equal."""
    return SAME * float(rows.double().square().sum(1).max() + columns.double().square().sum(1).max())


def blocks(rows: Tensor, columns: Tensor, what: str) -> Iterator[tuple[slice, Tensor]]:
    """Slices of the rows, each with its squared distances to all columns, in float64 and exactly 0 between equal rows.

    The progress is shown if it takes long.
    """
    rows, columns = rows.double(), columns.double()
    norms, of_columns = rows.square().sum(1), columns.square().sum(1)
    size = max(BLOCK // len(columns), 1)
    for start in bar(range(0, len(rows), size), what):
        where = slice(start, min(start + size, len(rows)))
        squared = torch.addmm(of_columns, rows[where], columns.T, alpha=-2).add_(norms[where, None])
        yield where, F.threshold_(squared, SAME * float(norms[where].max() + of_columns.max()), 0.0)


def radii(features: Tensor, k: int) -> Tensor:
    """Squared distance (N,) of each sample to its k-th nearest neighbour among the others.

    Raises:
        ValueError: There are too few samples to have so many neighbours.
    """
    if len(features) <= k:
        raise ValueError(f"k={k}: more than {k} samples are needed on each side, and there are {len(features)}")
    # The nearest of all is the sample itself, so the k-th other is the k + 1st; topk is 15 times as fast as kthvalue.
    nearest = [squared.topk(k + 1, largest=False).values for _, squared in blocks(features, features, "neighbours")]
    return torch.cat([part[:, -1] for part in nearest])


class Balls(Metric):
    """What the metrics share that put a ball around each real sample, as large as its k-th neighbour is far.

    Args:
        k: Which neighbour.

    Attributes:
        ties: Whether a ball holds its edge: ``<=`` or ``<``.
    """

    ties: str

    def __init__(self, k: int) -> None:
        self.k = k

    @property
    def least(self) -> int:
        """Of so many each has k others."""
        return self.k + 1

    def settings(self) -> dict[str, object]:
        """K and the rule for ties."""
        return super().settings() | {"ties": self.ties, "dtype": "float64"}

    def notes(self, real: Seen, fake: Seen) -> list[str]:
        """Whether there are few samples."""
        few, names = min(len(real), len(fake)), " and ".join(self.higher)
        return [f"{names}: {few:,} samples; of fewer than {FEW:,} both tell how many they are"] if few < FEW else []

    def prepare(self, real: Seen) -> dict[str, Tensor]:
        """Squared radii of the real balls (N,)."""
        return {"radii": radii(real.features, self.k)}
