"""Round and round in latent space."""

import math
from collections.abc import Sequence

import torch

from gan_lightning.latent import Explorer, Found, at_least, captions, shown_classes
from gan_lightning.sampler import Sampler


class Walk(Explorer):
    """Samples on a circle through latent space, whose every point is a normal latent: ``z = a cos t + b sin t``.

    Args:
        seed: Of the two latents that span the circle.
        steps: Samples on it; the last is beside the first.
        classes: One row each, of a conditional model; None for the first ten.
    """

    def __init__(self, seed: int = 0, steps: int = 32, classes: Sequence[int | str] | None = None) -> None:
        at_least("steps", steps, 2)
        self.seed, self.steps, self.classes = seed, steps, classes

    def __call__(self, model: Sampler) -> Found:
        """A row a class, the same circle in each."""
        a, b = model.draw_latents(2, seed=self.seed)[0]
        angle = torch.arange(self.steps)[:, None] * (2 * math.pi / self.steps)
        way = a * angle.cos() + b * angle.sin()
        classes = shown_classes(model, self.classes)
        return Found([model.generate(way, torch.full((len(way),), c)) for c in classes], captions(model, classes))
