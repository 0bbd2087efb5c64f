"""The two-player game that every variant plays."""

from typing import ClassVar, TypedDict

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gan_lightning.average import has_batchnorm
from gan_lightning.config.constraints import Decay, PositiveFloat, PositiveInt, Seed
from gan_lightning.learner import Learner, OptimizerFn, Terms
from gan_lightning.loss import AdversarialLoss
from gan_lightning.modes import frozen
from gan_lightning.network.layers import single_precision


class Game(TypedDict, total=False):
    """What every variant takes, see :class:`GAN`."""

    generator: nn.Module
    discriminator: nn.Module
    loss: AdversarialLoss
    generator_optimizer: OptimizerFn
    discriminator_optimizer: OptimizerFn
    latent_dim: int
    d_steps: int
    generator_batch: int
    reuse_fake: bool
    ema_decay: float | None
    generator_clip_norm: float | None
    discriminator_clip_norm: float | None
    seed: int


class GAN(Learner):
    """A generator and a discriminator trained in turn (Goodfellow et al., 2014, Algorithm 1).

    One training step is ``d_steps`` discriminator updates, each on a minibatch of its own, then one
    generator update. A variant overrides the losses, never the schedule.

    Args:
        generator: Maps latents (N, latent_dim) and labels (N,) to samples: images (N, C, H, W) in [-1, 1] or points.
        discriminator: Maps samples and labels (N,) to logits (N,).
        loss: The adversarial loss as each player sees it.
        generator_optimizer: Builds the generator's optimizer from its parameters.
        discriminator_optimizer: Builds the discriminator's.
        latent_dim: Size of the latent ``z``, drawn from N(0, I).
        d_steps: Discriminator updates per generator update; ``k`` in the GAN paper, ``n_critic`` in WGAN.
        generator_batch: Size of the generator's batch as a multiple of the discriminator's.
        reuse_fake: Let the generator's update play the last fakes again instead of drawing fresh ones.
        ema_decay: Decay of the averaged generator that samples; None keeps no average.
        generator_clip_norm: Bound on the norm of the generator's whole gradient; None is no bound.
        discriminator_clip_norm: The same for the discriminator's.
        seed: All that a step draws follows from it, the step and the rank.

    Attributes:
        needs_double_backward: Whether a loss holds a derivative with respect to the discriminator's input, which is
            differentiated again. BatchNorm in the discriminator and half-precision weights are then errors.

    Raises:
        ValueError: The discriminator has BatchNorm, through which a sample's gradient depends on the others, and the
            variant needs double backward.
    """

    players: ClassVar = {"g": ("generator",), "d": ("discriminator",)}

    needs_one_generator_batch: ClassVar = {"reuse_fake": (True,)}
    provides_one_generator_batch: ClassVar = {"generator_batch": (1,)}
    needs_generator_clipping: ClassVar = {"generator_clip_norm": 1.0}
    provides_generator_clipping: ClassVar = {"generator_optimizer.fused": (False, None)}
    needs_discriminator_clipping: ClassVar = {"discriminator_clip_norm": 1.0}
    provides_discriminator_clipping: ClassVar = {"discriminator_optimizer.fused": (False, None)}
    provides_lipschitz_critic = False
    needs_double_backward = False

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        loss: AdversarialLoss,
        generator_optimizer: OptimizerFn,
        discriminator_optimizer: OptimizerFn,
        latent_dim: PositiveInt,
        d_steps: PositiveInt = 1,
        generator_batch: PositiveInt = 1,
        reuse_fake: bool = False,
        ema_decay: Decay | None = None,
        generator_clip_norm: PositiveFloat | None = None,
        discriminator_clip_norm: PositiveFloat | None = None,
        seed: Seed = 0,
    ) -> None:
        optimizers = {"generator_optimizer": generator_optimizer, "discriminator_optimizer": discriminator_optimizer}
        super().__init__(generator, optimizers, latent_dim, ema_decay, seed)
        self.discriminator = discriminator
        self.looks_at_batches = has_batchnorm(discriminator)
        if self.needs_double_backward and self.looks_at_batches:
            raise ValueError(
                f"discriminator: {type(self).__name__} needs gradients of each sample by itself (double backward), and "
                "BatchNorm mixes samples; use norm=none or norm=layer"
            )
        self.loss = loss
        self.d_steps, self.generator_batch, self.reuse_fake = d_steps, generator_batch, reuse_fake
        self.clip_norms = {"g": generator_clip_norm, "d": discriminator_clip_norm}

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """One generator step: ``batch`` holds the ``d_steps`` minibatches, samples and labels, one after the other."""
        self.begin()
        for real, y in self.minibatches(batch):
            self.discriminator_step(real, y)
        self.generator_step(y)

    def discriminator_step(self, real: Tensor, y: Tensor) -> None:
        """The discriminator's update on one minibatch."""
        self.play(self.global_step, self.discriminator_gradient, real, y)
        self.trainer.strategy.optimizer_step(self.optimizer_of("d"), lambda: None)  # scaler and hooks, not counted
        self.after_discriminator_update()

    def generator_step(self, y: Tensor) -> None:
        """The generator's update on one minibatch's labels."""
        step, (g_opt, _) = self.global_step, self.optimizers()
        self.play(step, self.generator_gradient, y)
        g_opt.step()  # Lightning counts this one: global_step is the generator step, our only clock
        self.end(step)

    def discriminator_gradient(self, real: Tensor, y: Tensor) -> None:
        """The gradient of the discriminator's loss on one minibatch."""
        with torch.set_grad_enabled(self.reuse_fake):
            self.fake = self.generator(self.latents(len(y)), y)
        self.descend("d", self.discriminator_loss(real, self.fake.detach(), y))

    def generator_gradient(self, y: Tensor) -> None:
        """The gradient of the generator's loss, on fresh fakes or on those that the discriminator saw last."""
        with frozen(self.discriminator_parameters):
            if not self.reuse_fake:
                z = torch.cat([self.latents(len(y)) for _ in range(self.generator_batch)])
                y = torch.cat([y] * self.generator_batch)
                self.fake = self.generator(z, y)
            self.descend("g", self.generator_loss(self.fake, y))
        self.fake = self.fake.detach()

    def discriminator_loss(self, real: Tensor, fake: Tensor, y: Tensor) -> Terms:
        """What the discriminator minimises on one minibatch; ``fake`` carries no gradient into the generator."""
        return self.adversarial(*self.discriminate(real, fake, y))

    def generator_loss(self, fake: Tensor, y: Tensor) -> Terms:
        """What the generator minimises."""
        return {"adversarial": self.loss.generator(single_precision(self.discriminator(fake, y)))}

    def discriminate(self, real: Tensor, fake: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of real and of fake: in one pass, or in one each where BatchNorm would mix their statistics."""
        if self.looks_at_batches:
            return self.discriminator(real, y), self.discriminator(fake, y)
        return self.discriminator(torch.cat([real, fake]), torch.cat([y, y])).chunk(2)

    def after_discriminator_update(self) -> None:
        """Hook for a constraint on the discriminator's weights."""

    def adversarial(self, real_logits: Tensor, fake_logits: Tensor) -> Terms:
        """The discriminator's side of the adversarial loss, of logits in single precision or better."""
        real_logits, fake_logits = single_precision(real_logits), single_precision(fake_logits)
        self.logits = {"real": real_logits.detach(), "fake": fake_logits.detach()}
        return {"adversarial": self.loss.discriminator(real_logits, fake_logits)}

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Clip a player's gradient, after a gradient scaler and before the update."""
        for player, bound in self.clip_norms.items():
            if bound is not None and optimizer is self.optimizer_of(player):
                nn.utils.clip_grad_norm_((p for group in optimizer.param_groups for p in group["params"]), bound)

    def on_fit_start(self) -> None:
        """Make ready what every step uses."""
        super().on_fit_start()
        self.discriminator_parameters = [*self.discriminator.parameters()]
