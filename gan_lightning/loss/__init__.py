"""Adversarial losses: what each player minimises, given the discriminator's logits."""

from typing import Protocol

from torch import Tensor


class AdversarialLoss(Protocol):
    """A game seen from both sides; logits have shape (N,), losses are scalars.

    Attributes:
        boundary: The logit that parts real from fake where D is sure of neither; None for a critic, which has none.
    """

    boundary: float | None

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """Loss of the discriminator on logits of real and of fake samples."""

    def generator(self, fake: Tensor) -> Tensor:
        """Loss of the generator on logits of its samples."""
