"""Interpolation between the latents of several seeds."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated

import torch
from annotated_types import Interval, MinLen
from torch import Tensor

from gan_lightning.config.constraints import Seed
from gan_lightning.latent import Classes, Exploration, LatentExplorer, captions, selected_classes
from gan_lightning.model.sampling import SamplingMixin


class Interpolate(LatentExplorer):
    """Interpolate between the latents of several seeds.

    Linear interpolation leaves the shell on which normal latents lie; spherical interpolation stays on it (White, 2016,
    section 2, https://arxiv.org/abs/1609.04468).

    Args:
        seeds: At least two seeds; each gives the first latent of ``gan-sample --seed``.
        steps: Samples from one latent to the next.
        loop: Return to the first latent.
        spherical: Spherical instead of linear interpolation.
        classes: Classes of a conditional model, one row each; None for the first ten.
    """

    def __init__(
        self,
        seeds: Annotated[Sequence[Seed], MinLen(2)] = (0, 1, 2),
        steps: Annotated[int, Interval(ge=1, le=100_000)] = 8,
        loop: bool = True,
        spherical: bool = True,
        classes: Classes | None = None,
    ) -> None:
        self.seeds, self.steps, self.loop, self.spherical, self.classes = seeds, steps, loop, spherical, classes

    def __call__(self, model: SamplingMixin) -> Exploration:
        """Return a row per class, with the same latents in each."""
        path, classes = self.path(model), selected_classes(model, self.classes)
        rows = [model.generate(path, torch.full((len(path),), label)) for label in classes]
        return Exploration(rows, captions(model, classes))

    def path(self, model: SamplingMixin) -> Tensor:
        """Return the latents (T, latent_dim)."""
        seeds = [*self.seeds, *self.seeds[: int(self.loop)]]
        corners = torch.cat([model.draw_latents(1, seed=seed)[0] for seed in seeds])
        weights = torch.arange(self.steps) / self.steps
        interpolation = slerp if self.spherical else lambda a, b, t: torch.lerp(a, b, t[:, None])
        path = torch.cat([interpolation(a, b, weights) for a, b in pairwise(corners)])
        return path if self.loop else torch.cat([path, corners[-1:]])


def slerp(start: Tensor, end: Tensor, weights: Tensor) -> Tensor:
    """Interpolate spherically between two latents (D,), and linearly between their norms; return (T, D).

    Args:
        start: The latent with weight 0.
        end: The latent with weight 1.
        weights: Interpolation weights (T,) from 0 to 1.
    """
    a, b = start / start.norm(), end / end.norm()
    angle = torch.arccos((a @ b).clamp(-1, 1))
    t = weights[:, None]
    if angle.sin() < 1e-6:  # the arc between equal or opposite directions is undefined
        return torch.lerp(start, end, t)
    direction = (torch.sin((1 - t) * angle) * a + torch.sin(t * angle) * b) / angle.sin()
    return direction * torch.lerp(start.norm(), end.norm(), t)
