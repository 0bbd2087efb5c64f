"""Kernel Inception Distance (Binkowski et al., 2018, section 4, https://arxiv.org/abs/1801.01401)."""

from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge
from torch import Tensor

from gan_lightning.config.constraints import PositiveInt, Seed
from gan_lightning.metric import Metric, Seen
from gan_lightning.metric.neighbours import BLOCK


class KID(Metric):
    r"""Unbiased squared MMD with the kernel :math:`(x \cdot y / D + 1)^3`, the mean over subsets.

    Unlike FID its expectation does not depend on the number of samples, so it may be compared where they are few; it
    can be a little below zero. The subsets are those that torch-fidelity draws.

    Args:
        subsets: How many subsets.
        subset_size: Samples of each side in one; all of the smaller side where that has fewer.
        seed: Decides the subsets.
    """

    lower = ("kid",)

    def __init__(
        self, subsets: PositiveInt = 100, subset_size: Annotated[int, Ge(2)] = 1000, seed: Seed = 2020
    ) -> None:
        self.subsets, self.subset_size, self.seed = subsets, subset_size, seed

    def settings(self) -> dict[str, object]:
        """Subsets and kernel."""
        more = {"kernel": "polynomial of degree 3, gamma 1/D, coef0 1", "std_ddof": 0, "dtype": "float64"}
        return super().settings() | more

    def __call__(self, real: Seen, prepared: dict[str, Tensor], fake: Seen) -> dict[str, float]:
        """The mean over the subsets, and their standard deviation."""
        size, random = min(self.subset_size, len(real), len(fake)), np.random.RandomState(self.seed)
        ours, theirs = fake.features.double(), real.features.double()
        mine, others = torch.zeros(self.subsets, len(ours)).double(), torch.zeros(self.subsets, len(theirs)).double()
        for subset in range(self.subsets):
            for side in (mine, others):
                side[subset, torch.from_numpy(random.choice(side.shape[1], size, replace=False))] = 1
        if max(len(ours), len(theirs)) ** 2 <= BLOCK:  # one kernel serves all subsets: 20 times as fast for 2,000
            found = squared_mmd(ours, theirs, mine, others)
        else:
            one = torch.ones(1, size).double()
            pairs = zip(mine.bool(), others.bool(), strict=True)
            found = torch.cat([squared_mmd(ours[rows], theirs[others], one, one) for rows, others in pairs])
        return {"kid": float(found.mean()), "kid_std": float(found.std(correction=0))}

    def notes(self, real: Seen, fake: Seen) -> list[str]:
        """Whether the subsets are smaller than the card says."""
        few = min(len(real), len(fake))
        told = f"kid: subsets of {few:,}, since there are no more samples; kid_std over equal subsets says nothing"
        return [told] if few < self.subset_size else []


def squared_mmd(ours: Tensor, theirs: Tensor, mine: Tensor, others: Tensor) -> Tensor:
    """Unbiased squared MMD (S,) of subsets of features (N, D) and (M, D), named by ones in rows (S, N) and (S, M).

    The estimator of Gretton et al. (2012, lemma 6): the pairs of a sample with itself are left out.
    """
    size, centre = mine.sum(1), torch.cat([ours, theirs]).mean(0)

    def within(features: Tensor, chosen: Tensor) -> Tensor:
        kernel = centred_kernel(features, features, centre).fill_diagonal_(0)
        return ((chosen @ kernel) * chosen).sum(1) / (size * (size - 1))

    across = ((mine @ centred_kernel(ours, theirs, centre)) * others).sum(1) / size.square()
    return within(ours, mine) + within(theirs, others) - 2 * across


def centred_kernel(ours: Tensor, theirs: Tensor, centre: Tensor) -> Tensor:
    r"""Kernel (N, M) :math:`(x \cdot y / D + 1)^3` of features, less what depends on x alone or on y alone.

    The means of those terms cancel in the squared MMD. With features far from zero they are larger than the result by
    many orders of magnitude, and their rounding errors would be all that is left.

    With :math:`x = m + a, y = m + b, c = |m|^2 / D + 1, s = m \cdot a / D, t = m \cdot b / D` and
    :math:`q = a \cdot b / D` the kernel is :math:`(c + s + t + q)^3`.

    Args:
        ours: Features (N, D).
        theirs: Features (M, D).
        centre: The point m (D,).
    """
    dim = len(centre)
    a, b = ours - centre, theirs - centre
    c, s, t, q = centre @ centre / dim + 1, (a @ centre / dim)[:, None], b @ centre / dim, a @ b.T / dim
    # (p + q)^3 less p^3, and the terms of p^3 that hold both s and t, with p = c + s + t.
    # In place, since new matrices cost more time than the arithmetic.
    p = (s + t).add_(c)
    kernel = (p * 3).add_(q).mul_(q).add_(p.square_(), alpha=3).mul_(q)
    return kernel.add_(torch.add(s, t, out=p).add_(2 * c).mul_(t).mul_(s), alpha=3)
