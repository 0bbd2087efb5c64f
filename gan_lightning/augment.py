"""Augmentations of the samples that a discriminator is given."""

from collections.abc import Callable
from typing import Protocol

from torch import Tensor


class Augmentation(Protocol):
    """Maps samples to augmented samples of the same shape, with gradients through it."""

    def __call__(self, x: Tensor, draw: Callable[..., Tensor]) -> Tensor:
        """Augment samples.

        Args:
            x: Real or generated samples (N, ...), images in [-1, 1].
            draw: ``draw(torch.rand, N, ...)`` draws this rank's rows of random numbers that depend on seed and step.

        Returns:
            Samples of the same shape, differentiable in ``x``.
        """
