"""ACGAN: Conditional Image Synthesis with Auxiliary Classifier GANs (Odena et al., 2017).

https://arxiv.org/abs/1610.09585
"""

from typing import ClassVar, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor

from gan_lightning.config.constraints import NonNegativeFloat
from gan_lightning.model.base import Logits, Terms
from gan_lightning.model.gan import GAN, GANKwargs
from gan_lightning.network.layers import Head, single_precision


class ACGAN(GAN):
    r"""Conditional GAN with an auxiliary classifier in the discriminator.

    With the source loss :math:`L_S` (equation 2), which is the argument ``loss``, and the class loss (equation 3)

    .. math:: L_C = -E[\log P(C = c \mid X_{real})] - E[\log P(C = c \mid X_{fake})],

    D maximises :math:`L_S + L_C` and G maximises :math:`L_C - L_S`. The class head and the source logit share D's
    features. Training the classifier on fakes lets it fit the generator's errors, so by default it is trained on real
    samples only.

    Args:
        class_weight_real: Weight of D's class loss on real samples.
        class_weight_fake: Weight of D's class loss on fakes; 1 in the paper.
        class_weight_generator: Weight of G's class loss.
        **kwargs: Arguments of :class:`~gan_lightning.model.gan.GAN`.

    Raises:
        ValueError: The generator was built without classes.
    """

    needs_labels = True
    needs_discriminator_class_loss = "model=dcgan has none"
    provides_discriminator_class_loss: ClassVar = {"class_weight_real": 1.0, "class_weight_fake": 1.0}
    needs_generator_class_loss = "model=dcgan has none"
    provides_generator_class_loss: ClassVar = {"class_weight_generator": 1.0}
    provides_class_aware_discriminator = True  # through the class head

    def __init__(
        self,
        class_weight_real: NonNegativeFloat = 1.0,
        class_weight_fake: NonNegativeFloat = 0.0,
        class_weight_generator: NonNegativeFloat = 1.0,
        **kwargs: Unpack[GANKwargs],
    ) -> None:
        super().__init__(**kwargs)
        if not self.num_classes:
            raise ValueError(
                "acgan: the generator needs num_classes > 0, since the auxiliary classifier predicts the class"
            )
        self.class_weight_real, self.class_weight_fake = class_weight_real, class_weight_fake
        self.class_weight_generator = class_weight_generator
        self.discriminator.class_head = Head(self.discriminator.feature_dim, self.num_classes)

    def discriminator_loss(self, real: Tensor, fake: Tensor, y: Tensor) -> tuple[Terms, Logits]:
        """Compute -L_S and both parts of -L_C."""
        real_logits, real_classes = self.classify(self.augmented(real), y)
        fake_logits, fake_classes = self.classify(self.augmented(fake), y)
        return {
            "adversarial": self.loss.discriminator(real_logits, fake_logits),
            "class_real": self.class_weight_real * F.cross_entropy(real_classes, y),
            "class_fake": self.class_weight_fake * F.cross_entropy(fake_classes, y),
        }, Logits(real_logits, fake_logits)

    def generator_loss(self, fake: Tensor, real: Tensor, y: Tensor) -> tuple[Terms, Logits]:
        """Compute L_S and the generator's part of -L_C."""
        logits, classes = self.classify(self.augmented(fake, len(real)), y)
        adversarial, logits = self.generator_adversarial(logits, real, y)
        class_loss = self.class_weight_generator * F.cross_entropy(classes, y)
        return {"adversarial": adversarial, "class_fake": class_loss}, logits

    def classify(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Compute logits of the source (N,) and of the classes (N, num_classes), in float32 or float64."""
        features = self.discriminator.features(x, y)
        return single_precision(self.discriminator.logits(features, y)), self.discriminator.class_head(features)

    def compile_networks(self) -> None:
        """Also compile ``classify``, which does not call the discriminator's ``forward``."""
        super().compile_networks()
        self.classify = torch.compile(self.classify)
