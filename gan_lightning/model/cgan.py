"""Conditional GAN: Conditional Generative Adversarial Nets (Mirza & Osindero, 2014).

https://arxiv.org/abs/1411.1784
"""

from typing import Unpack

from gan_lightning.model.gan import GAN, GANKwargs


class CGAN(GAN):
    r"""Generator and discriminator are conditioned on the class, so that samples of a given class can be generated.

    .. math:: \min_G \max_D E_x[\log D(x \mid y)] + E_z[\log(1 - D(G(z \mid y) \mid y))] \quad\text{(equation 2)}.

    The networks embed the label and concatenate it to z and to x. Fakes have the labels of the real minibatch.

    Raises:
        ValueError: A network was built without classes.
    """

    needs_labels = True

    def __init__(self, **kwargs: Unpack[GANKwargs]) -> None:
        super().__init__(**kwargs)
        if not (self.num_classes and getattr(self.discriminator, "num_classes", 0)):
            raise ValueError("cgan: both networks need num_classes > 0, since they are conditioned on the label")
