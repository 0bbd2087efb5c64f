"""Penalties on the discriminator's gradient, in single precision or better whatever the run's precision."""

import torch
from torch import Tensor, nn

from gan_lightning.second_derivative import TwiceDifferentiable


def gradient_penalty(discriminator: nn.Module, real: Tensor, fake: Tensor, y: Tensor, epsilon: Tensor) -> Tensor:
    r"""Two-sided penalty of WGAN-GP, :math:`E[(\|\nabla_{\hat x} D(\hat x)\|_2 - 1)^2]`.

    Gulrajani et al., 2017, equation 3 and Algorithm 1: :math:`\hat x = \epsilon x + (1 - \epsilon) \tilde x`.

    Args:
        discriminator: Maps samples and labels to logits (N,).
        real: Samples (N, ...).
        fake: As many, of the same shape.
        y: Labels (N,).
        epsilon: One number in [0, 1] a sample, (N,).

    Returns:
        The unweighted penalty, a scalar that is differentiable in the discriminator's weights.
    """
    epsilon = epsilon.view(-1, *[1] * (real.ndim - 1))
    x_hat = epsilon * real + (1 - epsilon) * fake
    return (slope(discriminator, x_hat, y) - 1).square().mean()


def slope(discriminator: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Euclidean norm (N,) of the discriminator's gradient at each sample, differentiable in its weights."""
    x = x.detach().to(torch.promote_types(x.dtype, torch.float32)).requires_grad_()  # float64 stays
    # What torch.compile makes of a network can be differentiated once only, so its forward is taken as it is written.
    with torch.autocast(x.device.type, enabled=False):
        with TwiceDifferentiable() as twice:
            total = discriminator.forward(x, y).sum()
        gradient = twice.gradient(total, x)
    return gradient.flatten(1).norm(dim=1)
