"""Exact nearest-neighbour search among features, block by block to bound the memory."""

from collections.abc import Iterator

import torch
from torch import Tensor

from gan_lightning.io.progress import progress_bar
from gan_lightning.metric import FeatureSet, Metric

BLOCK = 1 << 25  # entries of one block of distances: a quarter of a gigabyte
PAIRS = 1 << 21  # entries of the differences that are computed at a time
CENTRED_BY = 100  # approximate number of columns whose median is the centre
FEW = 1000  # samples below which the scores depend strongly on the number of samples


class Block:
    r"""Squared distances of some rows to all columns: a lower bound of each, and the exact value on demand.

    One matrix product gives :math:`|x|^2 + |y|^2 - 2 x \cdot y` for all pairs, with rounding errors that grow with the
    norms of the pair. The product decides where these errors cannot change the result. Elsewhere the distance is the
    sum of squared differences, as computed by brute force: exactly 0 between equal rows, and independent of all other
    samples and of the block size.

    Args:
        where: Slice of the rows in this block.
        rows: Features (N, D).
        columns: Features (M, D).
        lower: Lower bounds (n, M) of the squared distances, less than ``error`` below them.
        errors: Contribution of each row (n,) and each column (M,) to ``error``.
    """

    def __init__(
        self, where: slice, rows: Tensor, columns: Tensor, lower: Tensor, errors: tuple[Tensor, Tensor]
    ) -> None:
        self.where, self.rows, self.columns, self.lower, self.errors = where, rows[where], columns, lower, errors

    def exact(self, i: Tensor, j: Tensor) -> Tensor:
        """Compute squared distances (P,) of rows i (P,) to columns j (P,) in float64; infinite for excluded pairs."""
        size = max(PAIRS // self.rows.shape[1], 1)
        parts = zip(i.split(size), j.split(size), strict=True)
        squared = torch.cat([(self.rows[a].double() - self.columns[b].double()).square_().sum(1) for a, b in parts])
        return squared.masked_fill_(self.lower[i, j] == float("inf"), float("inf"))

    def within(self, limit: Tensor, edge: bool) -> Tensor:
        """Return whether each squared distance (n, M) is below a limit.

        Args:
            limit: Squared limit for each column (M,) or for each row (n, 1).
            edge: Whether a distance equal to the limit counts as below it.
        """
        inside = self.lower <= limit
        upper = self.lower + self.errors[0][:, None]
        upper += self.errors[1]
        # Indices take 16 bytes per pair, so only the pairs that the product cannot decide are listed.
        i, j = (inside & (upper >= limit)).nonzero(as_tuple=True)
        squared, limits = self.exact(i, j), limit.expand_as(inside)[i, j]
        inside[i, j] = squared <= limits if edge else squared < limits
        return inside

    def nearest(self, k: int) -> tuple[Tensor, Tensor]:
        """Return squared distances (n, k) to the k nearest columns, ascending, and these columns (n, k)."""
        near = self.lower.topk(min(k + 1, self.lower.shape[1]), largest=False)
        rows = torch.arange(len(self.lower))[:, None].expand(-1, k)
        index = near.indices[:, :k].sort(1).values  # so that the first of equally near columns comes first
        squared, order = self.exact(rows.flatten(), index.flatten()).view_as(index).sort(dim=1, stable=True)
        index = index.gather(1, order)
        # Other columns may be nearer than the last of these k if the next lower bound is no larger, unless all k are
        # equal to the row, as in a set of many duplicates.
        farthest = squared[:, -1]
        (open_rows,) = ((near.values[:, -1] <= farthest) & (farthest > 0)).nonzero(as_tuple=True)
        if len(open_rows) and self.lower.shape[1] > k:
            i, j = (self.lower[open_rows] <= farthest[open_rows, None]).nonzero(as_tuple=True)
            distance = self.exact(open_rows[i], j)
            order = distance.sort(stable=True).indices
            order = order[i[order].sort(stable=True).indices]  # by row, then by distance, then by column
            counts = i.bincount(minlength=len(open_rows))
            chosen = order[(counts.cumsum(0) - counts)[:, None] + torch.arange(k)]
            squared[open_rows], index[open_rows] = distance[chosen], j[chosen]
        return squared, index

    def exclude_equal(self) -> None:
        """Set the distance of pairs of equal samples to infinity."""
        i, j = (self.lower <= 0).nonzero(as_tuple=True)
        equal = self.exact(i, j) == 0
        self.lower[i[equal], j[equal]] = float("inf")


def pairwise_sq_distances(rows: Tensor, columns: Tensor, what: str) -> Iterator[Block]:
    """Compute squared distances of features (N, D) to features (M, D) for blocks of rows.

    A progress bar is shown if it takes long.
    """
    # Errors grow with the norms, so an offset that all features share is subtracted. The median is robust to outliers,
    # and every centre gives exact results, so a subset of the columns is enough.
    centre = columns[:: len(columns) // CENTRED_BY + 1].double().nanmedian(0).values
    x, y = (features.to(torch.float64, copy=True).sub_(centre) for features in (rows, columns))
    x_norms, y_norms = x.square().sum(1), y.square().sum(1)
    # 4 (D + 3) units of rounding of the two squared norms bound the errors of the product, of the centred features and
    # of the exact distance together (Higham, Accuracy and Stability of Numerical Algorithms, 2002, section 3.1).
    error = 2 * (rows.shape[1] + 8) * torch.finfo(torch.float64).eps
    errors = 3 * error * x_norms, 3 * error * y_norms
    x_norms, y_norms = (1 - error) * x_norms, (1 - error) * y_norms
    size = max(BLOCK // len(columns), 1)
    for start in progress_bar(range(0, len(rows), size), what):
        where = slice(start, min(start + size, len(rows)))
        lower = torch.addmm(y_norms, x[where], y.T, alpha=-2).add_(x_norms[where, None])
        yield Block(where, rows, columns, lower, (errors[0][where], errors[1]))


def nearest(rows: Tensor, columns: Tensor, k: int, what: str) -> tuple[Tensor, Tensor]:
    """Return squared distances (N, k) of each row to the k nearest columns, ascending, and these columns (N, k)."""
    squared, index = zip(*(block.nearest(k) for block in pairwise_sq_distances(rows, columns, what)), strict=True)
    return torch.cat(squared), torch.cat(index)


def knn_radii(features: Tensor, k: int) -> Tensor:
    """Return the squared distance (N,) of each sample to its k-th nearest neighbour among the other samples.

    Raises:
        ValueError: There are no more than k samples.
    """
    if len(features) <= k:
        raise ValueError(f"k={k}: more than {k} samples are needed on each side, and there are {len(features)}")
    # The nearest one is the sample itself, so the k-th neighbour is the (k + 1)-th nearest sample.
    return nearest(features, features, k + 1, "neighbours")[0][:, -1].contiguous()


class KNNManifold(Metric):
    """Base class of metrics that estimate a manifold by balls with the distance to the k-th neighbour as their radius.

    Args:
        k: Number of nearest neighbours.

    Attributes:
        ties: Whether the balls are closed (``<=``) or open (``<``).
    """

    ties: str

    def __init__(self, k: int) -> None:
        self.k = k

    @property
    def min_samples(self) -> int:
        """Return k + 1, so that each sample has k neighbours."""
        return self.k + 1

    def settings(self) -> dict[str, object]:
        """Return k and the rule for ties."""
        return super().settings() | {"ties": self.ties, "dtype": "float64"}

    def warnings(self, real: FeatureSet, fake: FeatureSet) -> list[str]:
        """Return a warning if there are few samples."""
        few = min(len(real), len(fake))
        return [f"{few:,} samples; with fewer than {FEW:,} both depend on their number"] if few < FEW else []

    def prepare(self, real: FeatureSet) -> dict[str, Tensor]:
        """Compute the squared radii of the real balls (N,)."""
        return {"radii": knn_radii(real.features, self.k)}
