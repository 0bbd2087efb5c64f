"""Gradient penalties, in single precision or better whatever the run's precision."""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from gan_lightning.second_derivative import TwiceDifferentiable

Critic = Callable[[Tensor, Tensor], Tensor]  # samples (N, ...) and labels (N,) to logits (N,)


class Penalty(Protocol):
    """A term of the discriminator's loss besides the adversarial one."""

    def __call__(self, critic: Critic, real: Tensor, fake: Tensor, y: Tensor, draw: Callable[..., Tensor]) -> Tensor:
        """Compute the weighted penalty.

        Args:
            critic: Maps samples and labels to logits, uncompiled, through the augmentation if there is one.
            real: Real samples (N, ...).
            fake: Generated samples (N, ...), detached.
            y: Labels (N,).
            draw: ``draw(torch.rand, N, ...)`` draws this rank's rows of random numbers that depend on seed and step.

        Returns:
            A scalar that is differentiable in the discriminator's weights.
        """


def gradient_penalty(critic: Critic, real: Tensor, fake: Tensor, y: Tensor, epsilon: Tensor) -> Tensor:
    r"""Two-sided penalty of WGAN-GP, :math:`E[(\|\nabla_{\hat x} D(\hat x)\|_2 - 1)^2]`.

    Gulrajani et al., 2017, equation 3 and Algorithm 1: :math:`\hat x = \epsilon x + (1 - \epsilon) \tilde x`.

    Args:
        critic: Maps samples and labels to logits (N,).
        real: Samples (N, ...).
        fake: As many, of the same shape.
        y: Labels (N,).
        epsilon: One number in [0, 1] a sample, (N,).

    Returns:
        The unweighted penalty, a scalar that is differentiable in the discriminator's weights.
    """
    epsilon = epsilon.view(-1, *[1] * (real.ndim - 1))
    x_hat = epsilon * real + (1 - epsilon) * fake
    return (input_gradient_norm(critic, x_hat, y) - 1).square().mean()


def input_gradient_norm(critic: Critic, x: Tensor, y: Tensor) -> Tensor:
    """Euclidean norm (N,) of the critic's gradient with respect to each sample, differentiable in its weights.

    Args:
        critic: Maps samples and labels to logits (N,); it must not be compiled, since it is differentiated twice.
        x: Samples (N, ...).
        y: Labels (N,).
    """
    x = x.detach().to(torch.promote_types(x.dtype, torch.float32)).requires_grad_()  # float64 stays
    with torch.autocast(x.device.type, enabled=False):
        with TwiceDifferentiable() as twice:
            total = critic(x, y).sum()
        gradient = twice.gradient(total, x)
    return gradient.flatten(1).norm(dim=1)
