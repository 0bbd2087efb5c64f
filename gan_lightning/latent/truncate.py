"""Truncation of latents, which trades diversity for quality."""

from collections.abc import Sequence
from typing import Annotated

import torch
from annotated_types import Interval, MinLen

from gan_lightning.config.constraints import Seed
from gan_lightning.latent import Exploration, LatentExplorer, Rows
from gan_lightning.model.sampling import SamplingMixin


class Truncate(LatentExplorer):
    """Scale the same latents towards their mean: samples are more typical and less diverse for small factors.

    The truncation of StyleGAN (Karras et al., 2019, appendix B, https://arxiv.org/abs/1812.04948), applied to z itself,
    whose mean is zero.

    Args:
        factors: Factors of the latents, one row each.
        num: Samples in a row.
        seed: Seed of the latents, and of the classes of a conditional model.
    """

    animated = False

    def __init__(
        self,
        factors: Annotated[Sequence[Annotated[float, Interval(ge=-1e6, le=1e6)]], MinLen(1)] = (0, 0.25, 0.5, 0.75, 1),
        num: Rows = 8,
        seed: Seed = 0,
    ) -> None:
        self.factors, self.num, self.seed = factors, num, seed

    def __call__(self, model: SamplingMixin) -> Exploration:
        """Return a row per factor; ``diversity`` is the mean pairwise distance of its samples."""
        z, y = model.draw_latents(self.num, seed=self.seed)
        rows = [model.generate(factor * z, y) for factor in self.factors]
        diversity = [float(torch.pdist(row.flatten(1).float()).mean()) if self.num > 1 else 0.0 for row in rows]
        results = {"factors": [float(factor) for factor in self.factors], "diversity": diversity}
        return Exploration(rows, [f"x {factor:g}" for factor in self.factors], results=results)
