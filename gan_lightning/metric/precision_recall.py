"""Improved precision and recall (Kynkaanniemi et al., 2019, section 2, https://arxiv.org/abs/1904.06991)."""

import torch
from torch import Tensor

from gan_lightning.config.constraints import PositiveInt
from gan_lightning.metric import FeatureSet
from gan_lightning.metric.knn import KNNManifold, knn_radii, pairwise_sq_distances


class PrecisionRecall(KNNManifold):
    """Share of generated samples inside the manifold of the real samples (precision), and vice versa (recall).

    A manifold is the union of closed balls around its samples, each with the distance to the k-th nearest neighbour as
    its radius: a generator that repeats one training image has a recall just above zero.

    Args:
        k: Number of nearest neighbours; the paper uses 3.
    """

    higher = ("precision", "recall")
    ties = "<="

    def __init__(self, k: PositiveInt = 3) -> None:
        super().__init__(k)

    def __call__(self, real: FeatureSet, prepared: dict[str, Tensor], fake: FeatureSet) -> dict[str, float]:
        """Return precision and recall."""
        fake_radii = knn_radii(fake.features, self.k)
        inside, covered = 0, torch.zeros(len(real), dtype=torch.bool)
        for block in pairwise_sq_distances(fake.features, real.features, "precision and recall"):
            inside += int(block.within(prepared["radii"], edge=True).any(1).sum())
            covered |= block.within(fake_radii[block.where, None], edge=True).any(0)
        return {"precision": inside / len(fake), "recall": float(covered.double().mean())}
