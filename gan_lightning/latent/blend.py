"""Interpolation between two classes."""

import torch

from gan_lightning.config.constraints import ClassLabel, Seed
from gan_lightning.latent import (
    Exploration,
    LatentExplorer,
    Rows,
    Steps,
    captions,
    class_numbers,
    interpolated_embeddings,
)
from gan_lightning.model.sampling import SAMPLING_BATCH, SamplingMixin


class ClassInterpolation(LatentExplorer):
    """Interpolate between two classes of a conditional generator for fixed latents.

    The outputs of all class embeddings of the generator are interpolated linearly.

    Args:
        start: The class on the left, by name or number.
        end: The class on the right, by name or number.
        steps: Samples in a row.
        num: Number of latents, one row each.
        seed: Seed of the latents.
    """

    def __init__(
        self, start: ClassLabel = 0, end: ClassLabel = 1, steps: Steps = 9, num: Rows = 8, seed: Seed = 0
    ) -> None:
        self.start, self.end, self.steps, self.num, self.seed = start, end, steps, num, seed

    def __call__(self, model: SamplingMixin) -> Exploration:
        """Return a row per latent."""
        start, end = (
            class_numbers(setting, [label], model.class_names, model.num_classes)[0]
            for setting, label in (("start", self.start), ("end", self.end))
        )
        z, _ = model.draw_latents(self.num, seed=self.seed)
        y = torch.full((self.steps,), start)
        rows = []
        for latent in z:
            parts = []
            for weights in torch.linspace(0, 1, self.steps).split(SAMPLING_BATCH):
                with interpolated_embeddings(model.sampler(), start, end, weights):
                    parts.append(model.generate(latent.expand(len(weights), -1), y[: len(weights)]))
            rows.append(torch.cat(parts))
        return Exploration(rows, [" to ".join(captions(model, [start, end]))] * self.num)
