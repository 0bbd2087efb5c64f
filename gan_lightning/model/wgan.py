"""WGAN: Wasserstein GAN (Arjovsky et al., 2017).

https://arxiv.org/abs/1701.07875
"""

from typing import Unpack

import torch

from gan_lightning.config.constraints import PositiveFloat
from gan_lightning.model.gan import GAN, GANKwargs


class WGAN(GAN):
    r"""Wasserstein GAN whose critic is kept Lipschitz by weight clipping; it estimates the Wasserstein distance.

    .. math:: \min_G \max_{\|w\|_\infty \le c} E_x[f_w(x)] - E_z[f_w(G(z))] \quad\text{(Algorithm 1)}.

    Args:
        clip_value: The bound c; the critic's parameters are clipped to [-c, c] after each of its updates.
        **kwargs: Arguments of :class:`~gan_lightning.model.gan.GAN`.
    """

    provides_lipschitz_critic = True

    def __init__(self, clip_value: PositiveFloat = 0.01, **kwargs: Unpack[GANKwargs]) -> None:
        super().__init__(**kwargs)
        self.clip_value = clip_value

    @torch.no_grad()
    def after_discriminator_update(self) -> None:
        """Clip the weights: w <- clip(w, -c, c) (Algorithm 1, line 7)."""
        torch._foreach_clamp_min_(self.discriminator_parameters, -self.clip_value)
        torch._foreach_clamp_max_(self.discriminator_parameters, self.clip_value)
