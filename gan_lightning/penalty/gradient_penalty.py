"""Gradient penalties, computed in float32 or float64 independently of the precision of the run."""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from gan_lightning.penalty.conv2d_gradfix import DoubleBackwardMode

Critic = Callable[[Tensor, Tensor], Tensor]  # samples (N, ...) and labels (N,) to logits (N,)


class Penalty(Protocol):
    """A term that is added to the discriminator's adversarial loss."""

    def __call__(self, critic: Critic, real: Tensor, fake: Tensor, y: Tensor, draw: Callable[..., Tensor]) -> Tensor:
        """Compute the weighted penalty.

        Args:
            critic: Maps samples and labels to logits; not compiled, and includes the augmentation if there is one.
            real: Real samples (N, ...).
            fake: Generated samples (N, ...), detached.
            y: Labels (N,).
            draw: ``draw(torch.rand, N, ...)`` returns this rank's rows of random numbers, a function of seed and step.

        Returns:
            A scalar that is differentiable with respect to the discriminator's weights.
        """


def gradient_penalty(critic: Critic, real: Tensor, fake: Tensor, y: Tensor, epsilon: Tensor) -> Tensor:
    r"""Compute the two-sided gradient penalty of WGAN-GP, :math:`E[(\|\nabla_{\hat x} D(\hat x)\|_2 - 1)^2]`.

    Gulrajani et al., 2017, equation 3 and Algorithm 1: :math:`\hat x = \epsilon x + (1 - \epsilon) \tilde x`.

    Args:
        critic: Maps samples and labels to logits (N,).
        real: Real samples (N, ...).
        fake: Generated samples (N, ...).
        y: Labels (N,).
        epsilon: Interpolation coefficients (N,) in [0, 1].

    Returns:
        The unweighted penalty, a scalar that is differentiable with respect to the discriminator's weights.
    """
    epsilon = epsilon.view(-1, *[1] * (real.ndim - 1))
    x_hat = epsilon * real + (1 - epsilon) * fake
    return (input_gradient_norm(critic, x_hat, y) - 1).square().mean()


def input_gradient_norm(critic: Critic, x: Tensor, y: Tensor) -> Tensor:
    """Compute the Euclidean norm (N,) of the critic's gradient with respect to each sample.

    The result is differentiable with respect to the critic's weights (double backward).

    Args:
        critic: Maps samples and labels to logits (N,); compiled networks do not support double backward.
        x: Samples (N, ...).
        y: Labels (N,).
    """
    x = x.detach().to(torch.promote_types(x.dtype, torch.float32)).requires_grad_()  # keeps float64
    with torch.autocast(x.device.type, enabled=False):
        with DoubleBackwardMode() as mode:
            total = critic(x, y).sum()
        gradient = mode.gradient(total, x)
    return gradient.flatten(1).norm(dim=1)
