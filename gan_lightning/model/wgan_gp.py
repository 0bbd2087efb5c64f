"""WGAN-GP: Improved Training of Wasserstein GANs (Gulrajani et al., 2017).

https://arxiv.org/abs/1704.00028
"""

from typing import Unpack

import torch
from torch import Tensor

from gan_lightning.config.constraints import PositiveFloat
from gan_lightning.model.base import Logits, Terms
from gan_lightning.model.gan import GAN, GANKwargs
from gan_lightning.penalty.gradient_penalty import gradient_penalty


class WGANGP(GAN):
    r"""Wasserstein GAN whose critic is kept 1-Lipschitz by a gradient penalty instead of weight clipping.

    The critic minimises, for :math:`\hat x` uniform on lines between real and fake samples (equation 3),

    .. math:: E[D(G(z))] - E[D(x)] + \lambda E[(\|\nabla_{\hat x} D(\hat x)\|_2 - 1)^2].

    Args:
        gp_weight: The penalty's weight :math:`\lambda`.
        **kwargs: Arguments of :class:`~gan_lightning.model.gan.GAN`.
    """

    needs_double_backward = True
    provides_lipschitz_critic = True

    def __init__(self, gp_weight: PositiveFloat = 10.0, **kwargs: Unpack[GANKwargs]) -> None:
        super().__init__(**kwargs)
        self.gp_weight = gp_weight

    def discriminator_loss(self, real: Tensor, fake: Tensor, y: Tensor) -> tuple[Terms, Logits]:
        """Compute the critic's loss with the gradient penalty (Algorithm 1, lines 4 to 8)."""
        terms, logits = super().discriminator_loss(real, fake, y)
        epsilon = self.draw(torch.rand, len(real))
        penalty = gradient_penalty(self.critic, real, fake, y, epsilon)
        return terms | {"gradient_penalty": self.gp_weight * penalty}, logits
