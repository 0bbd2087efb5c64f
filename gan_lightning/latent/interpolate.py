"""From one seed to the next."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated

import torch
from annotated_types import Interval, MinLen
from torch import Tensor

from gan_lightning.config.constraints import Seed
from gan_lightning.latent import Classes, Explorer, Found, captions, latents, shown_classes
from gan_lightning.sampler import Sampler


class Interpolate(Explorer):
    """Samples on the way between the latents of several seeds.

    A straight line leaves the shell on which normal latents lie; an arc stays on it (White, 2016, section 2,
    https://arxiv.org/abs/1609.04468).

    Args:
        seeds: At least two; each is the first sample of ``gan-sample --seed``.
        steps: Samples from one to the next.
        loop: Come back to the first.
        spherical: Along an arc; or else straight.
        classes: One row each, of a conditional model; None for the first ten.
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

    def __call__(self, model: Sampler) -> Found:
        """A row a class, the same latents in each."""
        way, classes = self.way(model), shown_classes(model, self.classes)
        rows = [model.generate(way, torch.full((len(way),), label)) for label in classes]
        return Found(rows, captions(model, classes))

    def way(self, model: Sampler) -> Tensor:
        """The latents (T, latent_dim)."""
        corners = latents(model, [*self.seeds, *self.seeds[: int(self.loop)]])
        shares = torch.arange(self.steps) / self.steps
        between = slerp if self.spherical else lambda a, b, t: torch.lerp(a, b, t[:, None])
        way = torch.cat([between(a, b, shares) for a, b in pairwise(corners)])
        return way if self.loop else torch.cat([way, corners[-1:]])


def slerp(one: Tensor, other: Tensor, shares: Tensor) -> Tensor:
    """Latents (T, D) on the arc between two latents (D,), the lengths passing evenly from one's to the other's.

    Args:
        one: A latent.
        other: Another.
        shares: How far on the way (T,), from 0 to 1.
    """
    a, b = one / one.norm(), other / other.norm()
    angle = torch.arccos((a @ b).clamp(-1, 1))
    t = shares[:, None]
    if angle.sin() < 1e-6:  # the same direction, or the opposite one, between which there is no arc
        return torch.lerp(one, other, t)
    direction = (torch.sin((1 - t) * angle) * a + torch.sin(t * angle) * b) / angle.sin()
    return direction * torch.lerp(one.norm(), other.norm(), t)
