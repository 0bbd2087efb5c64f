"""Quality against diversity, by shorter latents."""

from collections.abc import Sequence
from typing import Annotated

import torch
from annotated_types import Interval, MinLen

from gan_lightning.config.constraints import Seed
from gan_lightning.latent import Explorer, Found, Rows
from gan_lightning.sampler import Sampler


class Truncate(Explorer):
    """The same latents, scaled towards the mean: typical and alike on the left, as they were drawn at 1.

    StyleGAN's truncation (Karras et al., 2019, appendix B, https://arxiv.org/abs/1812.04948), of z
    itself, whose mean is zero.

    Args:
        factors: What latents are multiplied by, one row each.
        num: Samples in a row.
        seed: Of the latents, and of the classes of a conditional model.
    """

    moves = False

    def __init__(
        self,
        factors: Annotated[Sequence[Annotated[float, Interval(ge=-1e6, le=1e6)]], MinLen(1)] = (0, 0.25, 0.5, 0.75, 1),
        num: Rows = 8,
        seed: Seed = 0,
    ) -> None:
        self.factors, self.num, self.seed = factors, num, seed

    def __call__(self, model: Sampler) -> Found:
        """A row a factor, with the mean distance of its samples from one another as ``diversity``."""
        z, y = model.draw_latents(self.num, seed=self.seed)
        rows = [model.generate(factor * z, y) for factor in self.factors]
        apart = [float(torch.pdist(row.flatten(1).float()).mean()) if self.num > 1 else 0.0 for row in rows]
        figures = {"factors": [float(factor) for factor in self.factors], "diversity": apart}
        return Found(rows, [f"x {factor:g}" for factor in self.factors], figures=figures)
