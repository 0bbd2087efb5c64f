"""VAE: Auto-Encoding Variational Bayes (Kingma & Welling, 2014), a baseline for the GANs.

https://arxiv.org/abs/1312.6114
"""

import math
from typing import Any, ClassVar

from torch import Tensor, nn

from gan_lightning.config.constraints import Decay, NonNegativeFloat, PositiveFloat, PositiveInt, Seed
from gan_lightning.model.base import GenerativeModel, OptimizerFn, StepOutput, Terms
from gan_lightning.model.micro_batch import in_micro_batches
from gan_lightning.network.layers import Head, single_precision


class VAE(GenerativeModel):
    r"""Variational autoencoder: a generator with :math:`p(x \mid z) = N(G(z), s^2 I)`, and an encoder.

    With :math:`q(z \mid x) = N(\mu(x), \operatorname{diag} \sigma^2(x))` both minimise, in nats per sample, the
    negative evidence lower bound on :math:`\log p(x)` (equation 3; for :math:`\beta \neq 1` Higgins et al., 2017)

    .. math:: -E_{q(z \mid x)}[\log p(x \mid z)] + \beta \, D_{KL}(q(z \mid x) \| N(0, I)).

    Samples are G(z), without the noise of p.

    Args:
        generator: Maps latents (N, latent_dim) and labels (N,) to samples: images (N, C, H, W) in [-1, 1] or points.
        encoder: A discriminator; its head is replaced by one that returns mu and log sigma^2.
        optimizer: Builds the optimizer of generator and encoder.
        latent_dim: Size of the latent ``z``, drawn from N(0, I).
        output_std: Standard deviation s of every entry of a sample.
        beta: Weight of the KL divergence.
        ema_decay: Decay of the EMA of the generator's weights, which is used for sampling; None disables the EMA.
        seed: Together with the step and the rank it determines all random numbers of a step.
    """

    needs_unnormalized_weights = True

    optimized_networks: ClassVar = {"g": ("generator", "encoder")}

    def __init__(
        self,
        generator: nn.Module,
        encoder: nn.Module,
        optimizer: OptimizerFn,
        latent_dim: PositiveInt,
        output_std: PositiveFloat = 0.5,
        beta: NonNegativeFloat = 1.0,
        ema_decay: Decay | None = None,
        seed: Seed = 0,
    ) -> None:
        super().__init__(generator, {"optimizer": optimizer}, latent_dim, ema_decay, seed)
        self.encoder, self.output_std, self.beta = encoder, output_std, beta
        encoder.head = Head(encoder.feature_dim, 2 * latent_dim)  # type: ignore[arg-type]  # an int, not a module

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, StepOutput]:
        """Update both networks on a minibatch of samples and labels (Algorithm 1)."""
        self.seed_step()
        output = self.execute(self.global_step, self.gradients, *self.minibatches(batch)[0])
        optimizer: Any = self.optimizers()
        optimizer.step()
        return self.finish_step({"g": output})

    @in_micro_batches()
    def gradients(self, x: Tensor, y: Tensor) -> StepOutput:
        """Compute the gradient of the bound, with one z for each x (section 2.4)."""
        mean, log_variance = self.encode(x, y)
        z = mean + (log_variance / 2).exp() * self.latents(len(x))
        x_hat = single_precision(self.generator(z.to(x.dtype), y))  # sums over many pixels exceed half precision
        terms = self.backward_terms("g", self.bound(x, x_hat, mean, log_variance))
        return StepOutput(terms, x_hat.detach())

    def bound(self, x: Tensor, x_hat: Tensor, mean: Tensor, log_variance: Tensor) -> Terms:
        """Compute both terms: sums over a sample, means over the batch; the divergence in closed form (appendix B)."""
        error = ((x - x_hat) / self.output_std).square() / 2 + math.log(self.output_std * math.sqrt(2 * math.pi))
        divergence = (mean.square() + log_variance.exp() - log_variance - 1) / 2
        return {"reconstruction": error.flatten(1).sum(1).mean(), "kl": self.beta * divergence.sum(1).mean()}

    def encode(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the mean and the log variance (N, latent_dim) of q(z | x), in float32 or float64."""
        mean, log_variance = single_precision(self.encoder(x, y)).chunk(2, dim=1)
        return mean, log_variance
