"""VAE: Auto-Encoding Variational Bayes (Kingma & Welling, 2014), the baseline beside the games.

https://arxiv.org/abs/1312.6114
"""

import math
from typing import ClassVar

from torch import Tensor, nn

from gan_lightning.config.constraints import Decay, NonNegativeFloat, PositiveFloat, PositiveInt, Seed
from gan_lightning.learner import Learner, OptimizerFn, StepOutput, Terms
from gan_lightning.network.layers import Head, single_precision


class VAE(Learner):
    r"""The generator is the mean of :math:`p(x \mid z) = N(G(z), s^2 I)`, learned together with an encoder.

    With :math:`q(z \mid x) = N(\mu(x), \operatorname{diag} \sigma^2(x))` both minimise, in nats a sample, the negative
    of the bound on :math:`\log p(x)` (equation 3; for :math:`\beta \neq 1` Higgins et al., 2017)

    .. math:: -E_{q(z \mid x)}[\log p(x \mid z)] + \beta \, D_{KL}(q(z \mid x) \| N(0, I)).

    What is sampled is G(z) itself, without the noise of p.

    Args:
        generator: Maps latents (N, latent_dim) and labels (N,) to samples: images (N, C, H, W) in [-1, 1] or points.
        encoder: A discriminator; its head is replaced by one that gives mu and log sigma^2.
        optimizer: Builds the optimizer of both.
        latent_dim: Size of the latent ``z``, drawn from N(0, I).
        deviation: Standard deviation s of every entry of a sample.
        beta: Weight of the divergence.
        ema_decay: Decay of the averaged generator that samples; None keeps no average.
        seed: All that a step draws follows from it, the step and the rank.
    """

    needs_unnormalized_weights = True

    players: ClassVar = {"g": ("generator", "encoder")}

    def __init__(
        self,
        generator: nn.Module,
        encoder: nn.Module,
        optimizer: OptimizerFn,
        latent_dim: PositiveInt,
        deviation: PositiveFloat = 0.5,
        beta: NonNegativeFloat = 1.0,
        ema_decay: Decay | None = None,
        seed: Seed = 0,
    ) -> None:
        super().__init__(generator, {"optimizer": optimizer}, latent_dim, ema_decay, seed)
        self.encoder, self.deviation, self.beta = encoder, deviation, beta
        encoder.head = Head(encoder.feature_dim, 2 * latent_dim)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, StepOutput]:
        """One step of both networks on a minibatch of samples and labels (Algorithm 1)."""
        self.seed_step()
        output = self.execute(self.global_step, self.gradients, *self.minibatches(batch)[0])
        self.optimizers().step()
        return self.finish_step({"g": output})

    def gradients(self, x: Tensor, y: Tensor) -> StepOutput:
        """The gradient of the bound, with one z for each x (section 2.4)."""
        mean, log_variance = self.encode(x, y)
        z = mean + (log_variance / 2).exp() * self.latents(len(x))
        x_hat = single_precision(self.generator(z.to(x.dtype), y))  # half precision cannot hold sums of many pixels
        terms = self.backward_terms("g", self.bound(x, x_hat, mean, log_variance))
        return StepOutput(terms, x_hat.detach())

    def bound(self, x: Tensor, x_hat: Tensor, mean: Tensor, log_variance: Tensor) -> Terms:
        """The two terms, sums over a sample and means over the batch; the divergence in closed form (appendix B)."""
        error = ((x - x_hat) / self.deviation).square() / 2 + math.log(self.deviation * math.sqrt(2 * math.pi))
        divergence = (mean.square() + log_variance.exp() - log_variance - 1) / 2
        return {"reconstruction": error.flatten(1).sum(1).mean(), "kl": self.beta * divergence.sum(1).mean()}

    def encode(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """The mean and the log variance (N, latent_dim) of q(z | x), in single precision or better."""
        return single_precision(self.encoder(x, y)).chunk(2, dim=1)
