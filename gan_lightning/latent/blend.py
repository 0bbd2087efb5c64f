"""Interpolation between two classes."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from gan_lightning.config.constraints import ClassLabel, Seed
from gan_lightning.latent import Exploration, LatentExplorer, Rows, Steps, captions, class_numbers
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


@contextmanager
def interpolated_embeddings(network: nn.Module, start: int, end: int, weights: Tensor) -> Iterator[None]:
    """Replace the output of every embedding of a network by an interpolation between two classes.

    Args:
        network: A network that embeds class labels with ``nn.Embedding``.
        start: The class with weight 0.
        end: The class with weight 1.
        weights: Interpolation weights (N,), one for each sample of the batch.
    """

    def interpolate(embedding: nn.Embedding, _: Any, __: Tensor) -> Tensor:
        return torch.lerp(embedding.weight[start], embedding.weight[end], weights.to(embedding.weight)[:, None])

    hooks = [part.register_forward_hook(interpolate) for part in network.modules() if isinstance(part, nn.Embedding)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
