"""Kernel Inception Distance (Binkowski et al., 2018, section 4, https://arxiv.org/abs/1801.01401)."""

from typing import Annotated, ClassVar

import numpy as np
import torch
from annotated_types import Ge
from torch import Tensor

from gan_lightning.config.constraints import PositiveInt, Seed
from gan_lightning.metric import FeatureSet, Metric
from gan_lightning.metric.knn import BLOCK


class KID(Metric):
    r"""Unbiased squared MMD with the kernel :math:`(x \cdot y / D + 1)^3`, averaged over subsets.

    Unlike FID its expectation does not depend on the number of samples, so that scores of few samples are comparable;
    it can be slightly negative. The subsets are those that torch-fidelity draws. Through other networks than Inception
    the score is named ``kd``.

    Args:
        subsets: Number of subsets.
        subset_size: Real and generated samples in a subset; fewer if one of the sets has fewer.
        seed: Seed of the random subsets.
    """

    lower = ("kid",)
    names_without_inception: ClassVar = {"KID": "KD", "kid": "kd", "kid_std": "kd_std"}

    def __init__(
        self, subsets: PositiveInt = 100, subset_size: Annotated[int, Ge(2)] = 1000, seed: Seed = 2020
    ) -> None:
        self.subsets, self.subset_size, self.seed = subsets, subset_size, seed

    def settings(self) -> dict[str, object]:
        """Return the subsets and the kernel."""
        constants = {"kernel": "polynomial of degree 3, gamma 1/D, coef0 1", "std_ddof": 0, "dtype": "float64"}
        return super().settings() | constants

    def __call__(self, real: FeatureSet, prepared: dict[str, Tensor], fake: FeatureSet) -> dict[str, float]:
        """Return the mean and the standard deviation over the subsets."""
        size, random = min(self.subset_size, len(real), len(fake)), np.random.RandomState(self.seed)
        x, y = fake.features.double(), real.features.double()
        in_x, in_y = torch.zeros(self.subsets, len(x)).double(), torch.zeros(self.subsets, len(y)).double()
        for subset in range(self.subsets):
            for mask in (in_x, in_y):
                mask[subset, torch.from_numpy(random.choice(mask.shape[1], size, replace=False))] = 1
        if max(len(x), len(y)) ** 2 <= BLOCK:  # one kernel matrix for all subsets: 20 times as fast for 2,000 samples
            mmd = squared_mmd(x, y, in_x, in_y)
        else:
            ones = torch.ones(1, size).double()
            pairs = zip(in_x.bool(), in_y.bool(), strict=True)
            mmd = torch.cat([squared_mmd(x[rows], y[columns], ones, ones) for rows, columns in pairs])
        return {"kid": float(mmd.mean()), "kid_std": float(mmd.std(correction=0))}

    def warnings(self, real: FeatureSet, fake: FeatureSet) -> list[str]:
        """Return a warning if the subsets are smaller than those of the protocol card."""
        few = min(len(real), len(fake))
        warning = (
            f"subsets of {few:,}, since there are no more samples; the standard deviation over subsets is meaningless"
        )
        return [warning] if few < self.subset_size else []


def squared_mmd(x: Tensor, y: Tensor, in_x: Tensor, in_y: Tensor) -> Tensor:
    """Compute the unbiased squared MMD (S,) of S subsets of features.

    The estimator of Gretton et al. (2012, lemma 6), which omits the pairs of a sample with itself.

    Args:
        x: Features (N, D).
        y: Features (M, D).
        in_x: Membership of x in each subset, 0 or 1 (S, N).
        in_y: Membership of y in each subset, 0 or 1 (S, M).
    """
    size, centre = in_x.sum(1), torch.cat([x, y]).mean(0)

    def within(features: Tensor, mask: Tensor) -> Tensor:
        kernel = centred_kernel(features, features, centre).fill_diagonal_(0)
        return ((mask @ kernel) * mask).sum(1) / (size * (size - 1))

    across = ((in_x @ centred_kernel(x, y, centre)) * in_y).sum(1) / size.square()
    return within(x, in_x) + within(y, in_y) - 2 * across


def centred_kernel(x: Tensor, y: Tensor, centre: Tensor) -> Tensor:
    r"""Compute the kernel (N, M) :math:`(x \cdot y / D + 1)^3` without the terms that depend on x or on y alone.

    The means of these terms cancel in the squared MMD. If the features are far from zero, the terms are larger than the
    result by many orders of magnitude, and their rounding errors would dominate it.

    With :math:`x = m + a, y = m + b, c = |m|^2 / D + 1, s = m \cdot a / D, t = m \cdot b / D` and
    :math:`q = a \cdot b / D` the kernel is :math:`(c + s + t + q)^3`.

    Args:
        x: Features (N, D).
        y: Features (M, D).
        centre: The point m (D,).
    """
    dim = len(centre)
    a, b = x - centre, y - centre
    c, s, t, q = centre @ centre / dim + 1, (a @ centre / dim)[:, None], b @ centre / dim, a @ b.T / dim
    # (p + q)^3 - p^3, plus the terms of p^3 that contain both s and t, with p = c + s + t.
    # In place, since allocating matrices takes more time than the arithmetic.
    p = (s + t).add_(c)
    kernel = (p * 3).add_(q).mul_(q).add_(p.square_(), alpha=3).mul_(q)
    return kernel.add_(torch.add(s, t, out=p).add_(2 * c).mul_(t).mul_(s), alpha=3)
