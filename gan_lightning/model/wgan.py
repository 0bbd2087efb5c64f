"""WGAN: Wasserstein GAN (Arjovsky et al., 2017).

https://arxiv.org/abs/1701.07875
"""

from typing import Unpack

import torch

from gan_lightning.config.constraints import PositiveFloat
from gan_lightning.model.base import GAN, Game


class WGAN(GAN):
    r"""The critic estimates the Wasserstein distance, kept Lipschitz by clipping its weights.

    .. math:: \min_G \max_{\|w\|_\infty \le c} E_x[f_w(x)] - E_z[f_w(G(z))] \quad\text{(Algorithm 1)}.

    Args:
        clip_value: The bound c on every parameter of the critic after each of its updates.
        **game: Arguments of :class:`~gan_lightning.model.base.GAN`.
    """

    provides_lipschitz_critic = True

    def __init__(self, clip_value: PositiveFloat = 0.01, **game: Unpack[Game]) -> None:
        super().__init__(**game)
        self.clip_value = clip_value

    @torch.no_grad()
    def after_discriminator_update(self) -> None:
        """Algorithm 1, line 7: w <- clip(w, -c, c)."""
        torch._foreach_clamp_min_(self.discriminator_parameters, -self.clip_value)
        torch._foreach_clamp_max_(self.discriminator_parameters, self.clip_value)
