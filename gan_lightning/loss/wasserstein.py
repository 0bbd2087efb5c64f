"""The Wasserstein loss (Arjovsky et al., 2017, equation 2, https://arxiv.org/abs/1701.07875)."""

from torch import Tensor


class Wasserstein:
    """Dual form of the Wasserstein-1 distance; the logits are the scores of a critic, which must be Lipschitz."""

    needs_lipschitz_critic = True

    boundary = None

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return E[D(G(z))] - E[D(x)], the negative estimate of the distance."""
        return fake.mean() - real.mean()

    def generator(self, fake: Tensor) -> Tensor:
        """Return -E[D(G(z))]."""
        return -fake.mean()
