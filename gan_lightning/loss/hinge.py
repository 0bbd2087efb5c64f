"""The hinge loss (Lim & Ye, 2017, https://arxiv.org/abs/1705.02894; Miyato et al., 2018, equations 16 and 17)."""

import torch.nn.functional as F
from torch import Tensor


class Hinge:
    """Hinge loss: D's gradient vanishes for real logits above 1 and fake logits below -1; G's loss is unbounded."""

    boundary = 0.0

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return E[max(0, 1 - D(x))] + E[max(0, 1 + D(G(z)))]."""
        return F.relu(1 - real).mean() + F.relu(1 + fake).mean()

    def generator(self, fake: Tensor) -> Tensor:
        """Return -E[D(G(z))]."""
        return -fake.mean()
