"""Conditional GAN: Conditional Generative Adversarial Nets (Mirza & Osindero, 2014).

https://arxiv.org/abs/1411.1784
"""

from typing import Unpack

from gan_lightning.model.base import GAN, Game


class CGAN(GAN):
    r"""Both players are told the class, so that the generator can be asked for one.

    .. math:: \min_G \max_D E_x[\log D(x \mid y)] + E_z[\log(1 - D(G(z \mid y) \mid y))] \quad\text{(equation 2)}.

    The networks embed the label and join it to z and to x. Fakes are judged under the labels of the real minibatch.

    Raises:
        ValueError: A network was built without classes.
    """

    needs_labels = True

    def __init__(self, **game: Unpack[Game]) -> None:
        super().__init__(**game)
        if not (self.generator.num_classes and self.discriminator.num_classes):
            raise ValueError("cgan: both networks need num_classes > 0, or they never see the label")
