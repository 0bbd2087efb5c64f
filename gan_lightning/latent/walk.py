"""A circular walk in latent space."""

import math

import torch

from gan_lightning.config.constraints import Seed
from gan_lightning.latent import Classes, Exploration, LatentExplorer, Steps, captions, selected_classes
from gan_lightning.model.sampling import SamplingMixin


class CircularWalk(LatentExplorer):
    """Walk on a circle in latent space, ``z = a cos t + b sin t``, on which every point is normally distributed.

    Args:
        seed: Seed of the two latents that span the circle.
        steps: Samples on the circle, evenly spaced.
        classes: Classes of a conditional model, one row each; None for the first ten.
    """

    def __init__(self, seed: Seed = 0, steps: Steps = 32, classes: Classes | None = None) -> None:
        self.seed, self.steps, self.classes = seed, steps, classes

    def __call__(self, model: SamplingMixin) -> Exploration:
        """Return a row per class, with the same latents in each."""
        a, b = model.draw_latents(2, seed=self.seed)[0]
        angle = torch.arange(self.steps)[:, None] * (2 * math.pi / self.steps)
        path = a * angle.cos() + b * angle.sin()
        classes = selected_classes(model, self.classes)
        return Exploration(
            [model.generate(path, torch.full((len(path),), c)) for c in classes], captions(model, classes)
        )
