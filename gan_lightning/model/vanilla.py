"""The vanilla GAN: Generative Adversarial Nets (Goodfellow et al., 2014).

https://arxiv.org/abs/1406.2661
"""

from gan_lightning.model.base import GAN


class VanillaGAN(GAN):
    r"""The original game, with multilayer perceptrons.

    D estimates the probability that a sample is real; G learns to be mistaken for the data:

    .. math:: \min_G \max_D E_x[\log D(x)] + E_z[\log(1 - D(G(z)))] \quad\text{(equation 1)}.

    Algorithm 1 is :meth:`GAN.training_step`, with fresh noise for the generator's update. The loss is handed in:
    non-saturating (section 3) by default, ``loss=minimax`` for equation 1 as it stands.
    """
