"""Density and coverage (Naeem et al., 2020, equations 3 and 4, https://arxiv.org/abs/2002.09797)."""

import torch
from torch import Tensor

from gan_lightning.config.constraints import PositiveInt
from gan_lightning.metric import FeatureSet
from gan_lightning.metric.knn import KNNManifold, pairwise_sq_distances


class DensityCoverage(KNNManifold):
    """Mean number of real k-NN balls that contain a generated sample, over k; share of real balls that contain one.

    If both distributions are equal, the expectation of density is 1, and that of coverage
    ``1 - prod_{i=1..k} (N - i) / (M + N - i)`` for N real and M generated samples. The balls are open: they exclude the
    k-th nearest neighbour.

    Args:
        k: Number of nearest neighbours; the paper uses 5.
    """

    higher = ("density", "coverage")
    ties = "<"

    def __init__(self, k: PositiveInt = 5) -> None:
        super().__init__(k)

    def __call__(self, real: FeatureSet, prepared: dict[str, Tensor], fake: FeatureSet) -> dict[str, float]:
        """Return density and coverage."""
        count, covered = 0, torch.zeros(len(real), dtype=torch.bool)
        for block in pairwise_sq_distances(fake.features, real.features, "density and coverage"):
            inside = block.within(prepared["radii"], edge=False)
            count += int(inside.sum())
            covered |= inside.any(0)
        return {"density": count / (self.k * len(fake)), "coverage": float(covered.double().mean())}
