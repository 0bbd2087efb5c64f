"""Improved precision and recall (Kynkaanniemi et al., 2019, section 2, https://arxiv.org/abs/1904.06991)."""

import torch
from torch import Tensor

from gan_lightning.config.constraints import PositiveInt
from gan_lightning.metric import Seen
from gan_lightning.metric.neighbours import Balls, blocks, radii


class PrecisionRecall(Balls):
    """Share of generated samples inside the manifold of the real ones, and the other way round.

    A manifold is the union of balls around its samples, each as large as the distance to the k-th nearest neighbour,
    the edge included: a generator that repeats one training picture has a recall just above zero.

    Args:
        k: Which neighbour; the paper has 3.
    """

    higher = ("precision", "recall")
    ties = "<="

    def __init__(self, k: PositiveInt = 3) -> None:
        super().__init__(k)

    def __call__(self, real: Seen, prepared: dict[str, Tensor], fake: Seen) -> dict[str, float]:
        """Both shares."""
        own = radii(fake.features, self.k)
        inside, reached = 0, torch.zeros(len(real), dtype=torch.bool)
        for block in blocks(fake.features, real.features, "precision and recall"):
            inside += int(block.within(prepared["radii"], edge=True).any(1).sum())
            reached |= block.within(own[block.where, None], edge=True).any(0)
        return {"precision": inside / len(fake), "recall": float(reached.double().mean())}
