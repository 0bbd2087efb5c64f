"""Sampling from a generator: shared by models in training and exported generators."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from gan_lightning import seed as seeds
from gan_lightning.io.class_names import resolve_class_numbers
from gan_lightning.model.modes import eval_mode

SAMPLING_BATCH = 256  # samples per forward pass, which bounds the memory


class SamplingMixin(nn.Module):
    """Draws samples from a generator.

    Attributes:
        generator: Maps latents (N, latent_dim) and labels (N,) to samples: images (N, C, H, W) in [-1, 1] or points.
        latent_dim: Size of the latent ``z``, drawn from N(0, I).
        num_classes: Number of classes; 0 for an unconditional model.
        class_names: Class names in the order of their numbers; empty if they are unknown or there are no classes.
    """

    generator: nn.Module
    latent_dim: int
    num_classes: int
    class_names: Sequence[str] = ()

    def sampler(self) -> nn.Module:
        """Return the network that is used for sampling."""
        return self.generator

    def sample(
        self,
        num: int | None = None,
        labels: Tensor | Sequence[int | str] | None = None,
        seed: int = 0,
        truncation: float = 1.0,
    ) -> Tensor:
        """Draw samples (num, ...) in evaluation mode, from the EMA if there is one; images are in [-1, 1].

        Args:
            num: Number of samples; None for one sample of each label.
            labels: Classes (num,) of a conditional model, as numbers or names; None draws them uniformly from the seed.
            seed: The same seed draws the same latents on every machine.
            truncation: Factor of the latents; below 1 samples are more typical and less diverse. The truncation of
                StyleGAN (Karras et al., 2019, appendix B), applied to z, whose mean is zero.

        Raises:
            ValueError: There are not ``num`` labels, or the model does not have one of the classes.
        """
        if num is None:
            if labels is None or isinstance(labels, str):
                raise ValueError("num=None: the number of samples is unknown; set num, or pass a list of labels")
            num = len(labels)
        z, y = self.draw_latents(num, labels, seed)
        return self.generate(truncation * z, y)

    def draw_latents(
        self, num: int, labels: Tensor | Sequence[int | str] | None = None, seed: int = 0
    ) -> tuple[Tensor, Tensor]:
        """Draw the latents (num, latent_dim) and labels (num,) of :meth:`sample`, on the CPU and in float32.

        Raises:
            ValueError: There are not ``num`` labels, or the model does not have one of the classes.
        """
        generator = torch.Generator().manual_seed(seeds.mix(seed))
        z = torch.randn(num, self.latent_dim, generator=generator)
        if labels is None:
            return z, torch.randint(max(self.num_classes, 1), (num,), generator=generator)
        if isinstance(labels, str):
            raise ValueError(
                f"labels={labels!r}: must be a list with one class per sample; labels=[{labels!r}] * {num}"
            )
        if isinstance(labels, np.ndarray):
            labels = labels.tolist()  # torch rejects arrays of strings, of objects and of non-native byte order
        if isinstance(labels, Sequence) and any(isinstance(label, str) for label in labels):
            try:
                labels = resolve_class_numbers(labels, self.class_names, self.num_classes)
            except ValueError as error:
                raise ValueError(f"labels: {error}") from None
        y = torch.as_tensor(labels)
        if y.shape != (num,) or y.is_floating_point() or y.is_complex() or y.dtype == torch.bool:
            raise ValueError(f"labels: must be {num} integers, one class per sample")
        if not ((y >= 0) & (y < max(self.num_classes, 1))).all():
            classes = f"must be between 0 and {self.num_classes - 1}, the model's classes"
            raise ValueError(f"labels: {classes if self.num_classes else 'the model has no classes'}")
        return z, y.long()

    @torch.no_grad()
    def generate(self, z: Tensor, y: Tensor) -> Tensor:
        """Generate samples (N, ...) from latents (N, latent_dim) and labels (N,), in evaluation mode."""
        weight = next(self.generator.parameters())
        z, y = z.to(weight.device, weight.dtype), y.to(weight.device)
        batches = zip(z.split(SAMPLING_BATCH), y.split(SAMPLING_BATCH), strict=True)
        with eval_mode(self.sampler()) as sampler:
            return torch.cat([sampler(*batch) for batch in batches])
