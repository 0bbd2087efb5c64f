"""Adversarial losses of discriminator and generator, as functions of the discriminator's logits."""

from typing import Protocol

from torch import Tensor


class AdversarialLoss(Protocol):
    """Interface of adversarial losses; logits have shape (N,), losses are scalars.

    Attributes:
        boundary: The logit that separates real from generated samples; None for a critic, which has none.
        needs_real_logits: Whether :meth:`generator` also takes logits of real samples; False if it is not defined.
    """

    boundary: float | None
    needs_real_logits: bool = False

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """Compute the discriminator's loss from logits of real and of generated samples."""

    def generator(self, fake: Tensor) -> Tensor:
        """Compute the generator's loss from logits of its samples, and of real samples if ``needs_real_logits``."""
