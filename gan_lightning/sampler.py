"""Samples from latents: what a model in training and a generator by itself have in common."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from gan_lightning import seed as seeds
from gan_lightning.class_names import numbers
from gan_lightning.modes import evaluating

SAMPLING_BATCH = 256  # bounds the memory of a large draw


class Sampler(nn.Module):
    """Draws samples from a generator.

    Attributes:
        generator: Maps latents (N, latent_dim) and labels (N,) to samples: images (N, C, H, W) in [-1, 1] or points.
        latent_dim: Size of the latent ``z``, drawn from N(0, I).
        num_classes: How many classes may be asked for; 0 for none.
        class_names: Their names in the order of their numbers; empty where they are unknown, or there are none.
    """

    generator: nn.Module
    latent_dim: int
    num_classes: int
    class_names: Sequence[str] = ()

    def sampler(self) -> nn.Module:
        """The network that samples."""
        return self.generator

    def sample(
        self, num: int | None = None, labels: Tensor | Sequence[int | str] | None = None, seed: int = 0
    ) -> Tensor:
        """Draw samples (num, ...) in evaluation mode, from the average if there is one; images are in [-1, 1].

        Args:
            num: How many; None for one of each label.
            labels: Classes (num,) of a conditional model, as numbers or names; None draws them uniformly from the seed.
            seed: The same seed draws the same latents on every machine.

        Raises:
            ValueError: The labels are not as many, or are classes that the model does not have.
        """
        if num is None:
            if labels is None or isinstance(labels, str):
                raise ValueError("num: how many samples? It may be left out only with a list of labels")
            num = len(labels)
        return self.generate(*self.draw_latents(num, labels, seed))

    def draw_latents(
        self, num: int, labels: Tensor | Sequence[int | str] | None = None, seed: int = 0
    ) -> tuple[Tensor, Tensor]:
        """Latents (num, latent_dim) and labels (num,) of :meth:`sample`, on the CPU and in single precision."""
        generator = torch.Generator().manual_seed(seeds.mix(seed))
        z = torch.randn(num, self.latent_dim, generator=generator)
        if labels is None:
            return z, torch.randint(max(self.num_classes, 1), (num,), generator=generator)
        if isinstance(labels, str):
            raise ValueError(f"labels={labels!r}: a list is needed, one for each sample: labels=[{labels!r}] * {num}")
        if isinstance(labels, np.ndarray):
            labels = labels.tolist()  # torch takes no text, no objects and no other byte order
        if isinstance(labels, Sequence) and any(isinstance(label, str) for label in labels):
            labels = self.numbers_of(labels)
        y = torch.as_tensor(labels)
        if y.shape != (num,) or y.is_floating_point() or y.is_complex() or y.dtype == torch.bool:
            raise ValueError(f"labels: {num} whole numbers are needed, one for each sample")
        if not ((y >= 0) & (y < max(self.num_classes, 1))).all():
            there = f"0 to {self.num_classes - 1}, the model's classes, may be asked for"
            raise ValueError(f"labels: {there if self.num_classes else 'the model has no classes'}")
        return z, y.long()

    def numbers_of(self, labels: Sequence[int | str]) -> list[int]:
        """Return the numbers of classes that are given by name or number.

        Raises:
            ValueError: The model has no such class.
        """
        try:
            return numbers(labels, self.class_names, self.num_classes)
        except ValueError as error:
            raise ValueError(f"labels: {error}") from None

    @torch.no_grad()
    def generate(self, z: Tensor, y: Tensor) -> Tensor:
        """Samples (N, ...) of latents (N, latent_dim) and labels (N,), in evaluation mode."""
        weight = next(self.generator.parameters())
        z, y = z.to(weight.device, weight.dtype), y.to(weight.device)
        batches = zip(z.split(SAMPLING_BATCH), y.split(SAMPLING_BATCH), strict=True)
        with evaluating(self.sampler()) as sampler:
            return torch.cat([sampler(*batch) for batch in batches])
