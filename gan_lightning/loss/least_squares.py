"""The least squares loss (Mao et al., 2017, equation 9, https://arxiv.org/abs/1611.04076)."""

from torch import Tensor


class LeastSquares:
    """Least squares regression of D's logits to 1 for real and 0 for fake samples, and of G's to 1."""

    boundary = 0.5

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return E[(D(x) - 1)^2] / 2 + E[D(G(z))^2] / 2."""
        return ((real - 1).square().mean() + fake.square().mean()) / 2

    def generator(self, fake: Tensor) -> Tensor:
        """Return E[(D(G(z)) - 1)^2] / 2."""
        return (fake - 1).square().mean() / 2
