"""Adversarial losses: what each player minimises, given the discriminator's logits."""

from typing import Protocol

from torch import Tensor


class AdversarialLoss(Protocol):
    """A game seen from both sides; logits have shape (N,), losses are scalars.

    Attributes:
        boundary: The logit that separates real from generated samples; None for a critic, which has none.
        needs_real_logits: Whether :meth:`generator` pairs generated with real samples; False where it is missing.
    """

    boundary: float | None
    needs_real_logits: bool = False

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """Loss of the discriminator on logits of real and of fake samples."""

    def generator(self, fake: Tensor) -> Tensor:
        """Loss of the generator on logits of its samples, and on those of real samples if ``needs_real_logits``."""
