"""Density and coverage (Naeem et al., 2020, equations 3 and 4, https://arxiv.org/abs/2002.09797)."""

import torch
from torch import Tensor

from gan_lightning.config.constraints import PositiveInt
from gan_lightning.metric import Seen
from gan_lightning.metric.neighbours import Balls, blocks


class DensityCoverage(Balls):
    """How many balls of real samples a generated sample lies in, over k; and the share of real balls that hold one.

    For equal laws density is 1 in expectation, and coverage ``1 - prod_{i=1..k} (N - i) / (M + N - i)`` for N real and
    M generated samples. A ball ends just before the k-th nearest neighbour.

    Args:
        k: Which neighbour; the paper has 5.
    """

    higher = ("density", "coverage")
    ties = "<"

    def __init__(self, k: PositiveInt = 5) -> None:
        super().__init__(k)

    def __call__(self, real: Seen, prepared: dict[str, Tensor], fake: Seen) -> dict[str, float]:
        """Both figures."""
        balls, covered = 0, torch.zeros(len(real), dtype=torch.bool)
        for block in blocks(fake.features, real.features, "density and coverage"):
            inside = block.within(prepared["radii"], edge=False)
            balls += int(inside.sum())
            covered |= inside.any(0)
        return {"density": balls / (self.k * len(fake)), "coverage": float(covered.double().mean())}
