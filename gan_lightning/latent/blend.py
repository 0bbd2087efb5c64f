"""From one class to another."""

import torch

from gan_lightning.config.constraints import ClassLabel, Seed
from gan_lightning.latent import Explorer, Found, Rows, Steps, blended, captions, class_numbers
from gan_lightning.sampler import SAMPLING_BATCH, Sampler


class Blend(Explorer):
    """The same latents, while a conditional generator is told more and more of another class.

    What is blended is whatever an embedding makes of the class, also within the generator.

    Args:
        start: The class at the left, by name or number.
        end: The class at the right, likewise.
        steps: Samples from one to the other.
        num: Latents, one row each.
        seed: Of the latents.
    """

    def __init__(
        self, start: ClassLabel = 0, end: ClassLabel = 1, steps: Steps = 9, num: Rows = 8, seed: Seed = 0
    ) -> None:
        self.start, self.end, self.steps, self.num, self.seed = start, end, steps, num, seed

    def __call__(self, model: Sampler) -> Found:
        """A row a latent."""
        start, end = (
            class_numbers(setting, [label], model.class_names, model.num_classes)[0]
            for setting, label in (("start", self.start), ("end", self.end))
        )
        z, _ = model.draw_latents(self.num, seed=self.seed)
        y = torch.full((self.steps,), start)
        rows = []
        for one in z:
            parts = []
            for shares in torch.linspace(0, 1, self.steps).split(SAMPLING_BATCH):
                with blended(model.sampler(), start, end, shares):
                    parts.append(model.generate(one.expand(len(shares), -1), y[: len(shares)]))
            rows.append(torch.cat(parts))
        return Found(rows, [" to ".join(captions(model, [start, end]))] * self.num)
