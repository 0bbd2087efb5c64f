"""The vanilla GAN: Generative Adversarial Nets (Goodfellow et al., 2014).

https://arxiv.org/abs/1406.2661
"""

from gan_lightning.model.gan import GAN


class VanillaGAN(GAN):
    r"""The original GAN, with multilayer perceptrons.

    D estimates the probability that a sample is real; G learns to generate samples that D takes for real:

    .. math:: \min_G \max_D E_x[\log D(x)] + E_z[\log(1 - D(G(z)))] \quad\text{(equation 1)}.

    Algorithm 1 is :meth:`GAN.training_step`, with new latents for the generator's update. The loss is an argument:
    non-saturating (section 3) by default; ``loss=minimax`` is equation 1.
    """
