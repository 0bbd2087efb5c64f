"""The Wasserstein loss (Arjovsky et al., 2017, equation 2, https://arxiv.org/abs/1701.07875)."""

from torch import Tensor


class Wasserstein:
    """The dual of the Wasserstein-1 distance; logits are scores of a critic that must be kept Lipschitz."""

    needs_lipschitz_critic = True

    boundary = None

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """E[D(G(z))] - E[D(x)], minus the estimate of the distance."""
        return fake.mean() - real.mean()

    def generator(self, fake: Tensor) -> Tensor:
        """-E[D(G(z))]."""
        return -fake.mean()
