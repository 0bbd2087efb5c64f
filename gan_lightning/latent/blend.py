"""From one class to another."""

import torch

from gan_lightning.errors import UserError
from gan_lightning.latent import Explorer, Found, at_least, blended
from gan_lightning.sampler import SAMPLING_BATCH, Sampler


class Blend(Explorer):
    """The same latents, while a conditional generator is told more and more of another class.

    What is blended is whatever an embedding makes of the class, also within the generator.

    Args:
        start: The class at the left.
        end: The class at the right.
        steps: Samples from one to the other.
        num: Latents, one row each.
        seed: Of the latents.
    """

    def __init__(self, start: int = 0, end: int = 1, steps: int = 9, num: int = 8, seed: int = 0) -> None:
        at_least("steps", steps, 2)
        at_least("num", num, 1)
        self.start, self.end, self.steps, self.num, self.seed = start, end, steps, num, seed

    def __call__(self, model: Sampler) -> Found:
        """A row a latent."""
        for name in ("start", "end"):
            if not 0 <= getattr(self, name) < model.num_classes:
                there = f"0 to {model.num_classes - 1}" if model.num_classes else "none: it is not conditional"
                raise UserError(f"latent.{name}={getattr(self, name)}: the model's classes are {there}")
        z, _ = model.draw_latents(self.num, seed=self.seed)
        y = torch.full((self.steps,), self.start)
        rows = []
        for one in z:
            parts = []
            for shares in torch.linspace(0, 1, self.steps).split(SAMPLING_BATCH):
                with blended(model.sampler(), self.start, self.end, shares):
                    parts.append(model.generate(one.expand(len(shares), -1), y[: len(shares)]))
            rows.append(torch.cat(parts))
        return Found(rows, [""] * self.num)
