"""The minimax loss (Goodfellow et al., 2014, equation 1, https://arxiv.org/abs/1406.2661)."""

import torch.nn.functional as F
from torch import Tensor

from gan_lightning.config.constraints import Fraction, Validated
from gan_lightning.loss.non_saturating import NonSaturating


class Minimax(Validated):
    """The original zero-sum loss; G's gradient vanishes where D classifies with confidence.

    Args:
        label_smoothing: One-sided: the target of real samples is one minus this (Salimans et al., 2016, section 3.4).
    """

    boundary = 0.0

    def __init__(self, label_smoothing: Fraction = 0.0) -> None:
        self.discriminator = NonSaturating(label_smoothing).discriminator

    def generator(self, fake: Tensor) -> Tensor:
        """Return E[log(1 - D(G(z)))]."""
        return -F.softplus(fake).mean()
