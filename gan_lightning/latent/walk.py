"""Round and round in latent space."""

import math

import torch

from gan_lightning.config.constraints import Seed
from gan_lightning.latent import Classes, Explorer, Found, Steps, captions, shown_classes
from gan_lightning.sampler import Sampler


class Walk(Explorer):
    """Samples on a circle through latent space, whose every point is a normal latent: ``z = a cos t + b sin t``.

    Args:
        seed: Of the two latents that span the circle.
        steps: Samples on it; the last is beside the first.
        classes: One row each, of a conditional model; None for the first ten.
    """

    def __init__(self, seed: Seed = 0, steps: Steps = 32, classes: Classes | None = None) -> None:
        self.seed, self.steps, self.classes = seed, steps, classes

    def __call__(self, model: Sampler) -> Found:
        """A row a class, the same circle in each."""
        a, b = model.draw_latents(2, seed=self.seed)[0]
        angle = torch.arange(self.steps)[:, None] * (2 * math.pi / self.steps)
        way = a * angle.cos() + b * angle.sin()
        classes = shown_classes(model, self.classes)
        return Found([model.generate(way, torch.full((len(way),), c)) for c in classes], captions(model, classes))
