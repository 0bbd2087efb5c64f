"""Interface of augmentations, which are applied to all inputs of the discriminator."""

from collections.abc import Callable
from typing import Protocol

from torch import Tensor


class Augmentation(Protocol):
    """A differentiable augmentation of samples that keeps their shape."""

    def __call__(self, x: Tensor, draw: Callable[..., Tensor]) -> Tensor:
        """Augment samples.

        Args:
            x: Real or generated samples (N, ...), images in [-1, 1].
            draw: ``draw(torch.rand, N, ...)`` returns this rank's rows of random numbers, a function of seed and step.

        Returns:
            Samples of the same shape, differentiable with respect to ``x``.
        """
