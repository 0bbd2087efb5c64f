"""Nearest neighbours among many features: exact decisions about distances, block by block to bound the memory."""

from collections.abc import Iterator

import torch
from torch import Tensor

from gan_lightning.bar import bar
from gan_lightning.metric import Metric, Seen

BLOCK = 1 << 25  # entries of one block of distances, a quarter of a gigabyte
PAIRS = 1 << 21  # numbers in the differences of pairs that are computed at a time
CENTRED_BY = 100  # columns, about, whose median is the centre
FEW = 1000  # samples, of which the figures depend on how many they are


class Block:
    r"""Squared distances of some rows to all columns, with a lower bound of each and its exact value on demand.

    One matrix product gives :math:`|x|^2 + |y|^2 - 2 x \cdot y` for all pairs, but each only up to a rounding error
    that grows with the norms of the pair. So the product decides where that error cannot change the decision.
    Everywhere else the distance is the sum of squared differences, as brute force computes it: exactly 0 between equal
    rows, and independent of all other samples and of the size of a block.

    Args:
        where: The rows.
        rows: Features (N, D).
        columns: Features (M, D).
        lower: Lower bounds (n, M) of the squared distances, less than ``error`` below them.
        errors: What each row (n,) and each column (M,) contributes to ``error``.
    """

    def __init__(
        self, where: slice, rows: Tensor, columns: Tensor, lower: Tensor, errors: tuple[Tensor, Tensor]
    ) -> None:
        self.where, self.rows, self.columns, self.lower, self.errors = where, rows[where], columns, lower, errors

    def exact(self, i: Tensor, j: Tensor) -> Tensor:
        """Squared distances (P,) of rows i (P,) to columns j (P,) in float64; infinite where the pair was excluded."""
        size = max(PAIRS // self.rows.shape[1], 1)
        parts = zip(i.split(size), j.split(size), strict=True)
        squared = torch.cat([(self.rows[a].double() - self.columns[b].double()).square_().sum(1) for a, b in parts])
        return squared.masked_fill_(self.lower[i, j] == float("inf"), float("inf"))

    def within(self, limit: Tensor, edge: bool) -> Tensor:
        """Whether each squared distance (n, M) is below a limit.

        Args:
            limit: Squared, of each column (M,) or of each row (n, 1).
            edge: Whether a distance equal to the limit is within it.
        """
        inside = self.lower <= limit
        upper = self.lower + self.errors[0][:, None]
        upper += self.errors[1]
        # Indices take 16 bytes a pair, so only those of the pairs that the product leaves open are listed.
        i, j = (inside & (upper >= limit)).nonzero(as_tuple=True)
        squared, limits = self.exact(i, j), limit.expand_as(inside)[i, j]
        inside[i, j] = squared <= limits if edge else squared < limits
        return inside

    def nearest(self, k: int) -> tuple[Tensor, Tensor]:
        """Squared distances (n, k) to the k nearest columns, ascending, and these columns (n, k)."""
        near = self.lower.topk(min(k + 1, self.lower.shape[1]), largest=False)
        rows = torch.arange(len(self.lower))[:, None].expand(-1, k)
        index = near.indices[:, :k].sort(1).values  # so that the first of equally near columns comes first
        squared, order = self.exact(rows.flatten(), index.flatten()).view_as(index).sort(dim=1, stable=True)
        index = index.gather(1, order)
        # Other columns may be nearer than the last of these k where the next lower bound is no larger, unless all k are
        # equal to the row, as in a set of many duplicates.
        reach = squared[:, -1]
        (open_rows,) = ((near.values[:, -1] <= reach) & (reach > 0)).nonzero(as_tuple=True)
        if len(open_rows) and self.lower.shape[1] > k:
            i, j = (self.lower[open_rows] <= reach[open_rows, None]).nonzero(as_tuple=True)
            distance = self.exact(open_rows[i], j)
            order = distance.sort(stable=True).indices
            order = order[i[order].sort(stable=True).indices]  # by row, then by distance, then by column
            counts = i.bincount(minlength=len(open_rows))
            chosen = order[(counts.cumsum(0) - counts)[:, None] + torch.arange(k)]
            squared[open_rows], index[open_rows] = distance[chosen], j[chosen]
        return squared, index

    def exclude_equal(self) -> None:
        """Exclude the pairs of equal samples: their distance becomes infinite."""
        i, j = (self.lower <= 0).nonzero(as_tuple=True)
        equal = self.exact(i, j) == 0
        self.lower[i[equal], j[equal]] = float("inf")


def blocks(rows: Tensor, columns: Tensor, what: str) -> Iterator[Block]:
    """Squared distances of features (N, D) to features (M, D), some rows at a time.

    The progress is shown if it takes long.
    """
    # Errors grow with the norms, so an offset that all features share is taken away. A median is not moved by outliers,
    # and any centre is right, so some of the columns are enough.
    centre = columns[:: len(columns) // CENTRED_BY + 1].double().nanmedian(0).values
    ours, theirs = (side.to(torch.float64, copy=True).sub_(centre) for side in (rows, columns))
    norms, of_columns = ours.square().sum(1), theirs.square().sum(1)
    # 4 (D + 3) units of rounding of the two squared norms bound the errors of the product, of the centred features and
    # of the exact distance together (Higham, Accuracy and Stability of Numerical Algorithms, 2002, section 3.1).
    error = 2 * (rows.shape[1] + 8) * torch.finfo(torch.float64).eps
    errors = 3 * error * norms, 3 * error * of_columns
    norms, of_columns = (1 - error) * norms, (1 - error) * of_columns
    size = max(BLOCK // len(columns), 1)
    for start in bar(range(0, len(rows), size), what):
        where = slice(start, min(start + size, len(rows)))
        lower = torch.addmm(of_columns, ours[where], theirs.T, alpha=-2).add_(norms[where, None])
        yield Block(where, rows, columns, lower, (errors[0][where], errors[1]))


def nearest(rows: Tensor, columns: Tensor, k: int, what: str) -> tuple[Tensor, Tensor]:
    """Squared distances (N, k) of each row to the k nearest columns, ascending, and these columns (N, k)."""
    squared, index = zip(*(block.nearest(k) for block in blocks(rows, columns, what)), strict=True)
    return torch.cat(squared), torch.cat(index)


def radii(features: Tensor, k: int) -> Tensor:
    """Squared distance (N,) of each sample to its k-th nearest neighbour among the others.

    Raises:
        ValueError: There are too few samples to have so many neighbours.
    """
    if len(features) <= k:
        raise ValueError(f"k={k}: more than {k} samples are needed on each side, and there are {len(features)}")
    # The nearest of all is the sample itself, so the k-th other is the k + 1st.
    return nearest(features, features, k + 1, "neighbours")[0][:, -1].contiguous()


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
