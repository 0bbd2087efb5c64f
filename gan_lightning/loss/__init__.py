"""Adversarial losses: what each player minimises, given the discriminator's logits."""

from typing import Protocol

from torch import Tensor


class AdversarialLoss(Protocol):
    """A game seen from both sides; logits have shape (N,), losses are scalars."""

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """Loss of the discriminator on logits of real and of fake samples."""

    def generator(self, fake: Tensor) -> Tensor:
        """Loss of the generator on logits of its samples."""
