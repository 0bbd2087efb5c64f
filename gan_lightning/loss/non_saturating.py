"""The non-saturating loss (Goodfellow et al., 2014, section 3, https://arxiv.org/abs/1406.2661)."""

import torch.nn.functional as F
from torch import Tensor

from gan_lightning.config.constraints import Fraction, Validated


class NonSaturating(Validated):
    r"""Binary cross-entropy for D; G maximises :math:`\log D(G(z))` instead of minimising log(1 - D(G(z))).

    With D(x) = sigmoid(logit), :math:`-\log D = softplus(-logit)` and :math:`-\log(1 - D) = softplus(logit)`,
    which never overflow.

    Args:
        label_smoothing: One-sided: the target of real samples is one minus this (Salimans et al., 2016, section 3.4,
            https://arxiv.org/abs/1606.03498).
    """

    boundary = 0.0

    def __init__(self, label_smoothing: Fraction = 0.0) -> None:
        self.label_smoothing = label_smoothing

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return -E[log D(x)] - E[log(1 - D(G(z)))]."""
        loss = F.softplus(-real).mean() + F.softplus(fake).mean()
        # Cross-entropy with target t is softplus(-logit) + (1 - t) * logit.
        return loss + self.label_smoothing * real.mean() if self.label_smoothing else loss

    def generator(self, fake: Tensor) -> Tensor:
        """Return -E[log D(G(z))]."""
        return F.softplus(-fake).mean()
