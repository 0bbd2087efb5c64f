"""The hinge loss (Lim & Ye, 2017, https://arxiv.org/abs/1705.02894; Miyato et al., 2018, equations 16 and 17)."""

import torch.nn.functional as F
from torch import Tensor


class Hinge:
    """D is trained until real logits exceed 1 and fake ones fall below -1; G raises its own without end."""

    boundary = 0.0

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """E[max(0, 1 - D(x))] + E[max(0, 1 + D(G(z)))]."""
        return F.relu(1 - real).mean() + F.relu(1 + fake).mean()

    def generator(self, fake: Tensor) -> Tensor:
        """-E[D(G(z))]."""
        return -fake.mean()
