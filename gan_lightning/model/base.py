"""The two-player game that every variant plays."""

from collections import deque
from collections.abc import Callable, Iterable
from functools import reduce
from typing import TypedDict

import torch
from pytorch_lightning import LightningModule
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer

from gan_lightning import seed as seeds
from gan_lightning.average import Average
from gan_lightning.graph import Graphs, Play
from gan_lightning.loss import AdversarialLoss
from gan_lightning.modes import frozen
from gan_lightning.sampler import Sampler

RECENT = 1000  # steps

OptimizerFn = Callable[[Iterable[nn.Parameter]], Optimizer]
Terms = dict[str, Tensor]  # named, weighted terms of a loss; a player minimises their sum


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


class GAN(Sampler, LightningModule):
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
    """

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        loss: AdversarialLoss,
        generator_optimizer: OptimizerFn,
        discriminator_optimizer: OptimizerFn,
        latent_dim: int,
        d_steps: int = 1,
        generator_batch: int = 1,
        reuse_fake: bool = False,
        ema_decay: float | None = None,
        generator_clip_norm: float | None = None,
        discriminator_clip_norm: float | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.generator = generator
        self.discriminator = discriminator
        self.looks_at_batches = any(isinstance(module, _BatchNorm) for module in discriminator.modules())
        self.generator_ema = None if ema_decay is None else Average(generator, ema_decay)
        self.loss = loss
        self.optimizer_fns = generator_optimizer, discriminator_optimizer
        self.latent_dim, self.d_steps, self.generator_batch = latent_dim, d_steps, generator_batch
        self.reuse_fake = reuse_fake
        self.clip_norms = {"g": generator_clip_norm, "d": discriminator_clip_norm}
        self.seed = seed
        self.num_classes: int = generator.num_classes
        self.terms: dict[str, Terms] = {}  # of the last update of each player, for whoever watches
        self.logits: dict[str, Tensor] = {}  # the discriminator's, on real and on fake, likewise
        self.fake: Tensor | None = None  # samples of the last generator update, likewise
        self.recent: deque[tuple[int, dict[str, Terms]]] = deque(maxlen=RECENT)  # terms by step, to find what diverged
        self.sampler_cache: tuple[tuple, nn.Module] | None = None
        self.records = False  # each player's gradient as a CUDA graph

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """One generator step: ``batch`` holds the ``d_steps`` minibatches, samples and labels, one after the other."""
        step = self.global_step
        self.rng.manual_seed(seeds.mix(self.seed, seeds.GAME, step))
        seeds.seed_default(self.device, self.seed, seeds.DROPOUT, step, self.global_rank)
        samples, labels = (part.chunk(self.d_steps) for part in batch)
        for real, y in zip(samples, labels, strict=True):
            self.discriminator_step(real, y)
        self.generator_step(y)

    def discriminator_step(self, real: Tensor, y: Tensor) -> None:
        """The discriminator's update on one minibatch."""
        self.play(self.global_step, self.discriminator_gradient, real, y)
        _, d_opt = self.optimizers(use_pl_optimizer=False)
        self.trainer.strategy.optimizer_step(d_opt, lambda: None)  # scaler and hooks, not counted
        self.after_discriminator_update()

    def generator_step(self, y: Tensor) -> None:
        """The generator's update on one minibatch's labels."""
        g_opt, _ = self.optimizers()
        self.play(self.global_step, self.generator_gradient, y)
        g_opt.step()  # Lightning counts this one: global_step is the generator step, our only clock
        self.recent.append((self.global_step, self.play.kept(self.terms)))
        if self.generator_ema is not None:
            self.generator_ema.update(self.generator)
            self.sampler_cache = None

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
        return {"adversarial": self.loss.generator(self.discriminator(fake, y))}

    def discriminate(self, real: Tensor, fake: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of real and of fake: in one pass, or in one each where BatchNorm would mix their statistics."""
        if self.looks_at_batches:
            return self.discriminator(real, y), self.discriminator(fake, y)
        return self.discriminator(torch.cat([real, fake]), torch.cat([y, y])).chunk(2)

    def after_discriminator_update(self) -> None:
        """Hook for a constraint on the discriminator's weights."""

    def adversarial(self, real_logits: Tensor, fake_logits: Tensor) -> Terms:
        """The discriminator's side of the adversarial loss."""
        self.logits = {"real": real_logits.detach(), "fake": fake_logits.detach()}
        return {"adversarial": self.loss.discriminator(real_logits, fake_logits)}

    def descend(self, player: str, terms: Terms) -> None:
        """Leave the gradient of the sum of a player's terms with its weights, and keep the terms for the log."""
        self.optimizers(use_pl_optimizer=False)["gd".index(player)].zero_grad()
        with torch.autocast(self.device.type, enabled=False):  # a penalty is differentiated twice
            self.manual_backward(reduce(torch.add, terms.values()))
        self.terms[player] = {name: term.detach() for name, term in terms.items()}

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Clip a player's gradient, after a gradient scaler and before the update."""
        for player, bound in self.clip_norms.items():
            if bound is not None and optimizer is self.optimizers(use_pl_optimizer=False)["gd".index(player)]:
                nn.utils.clip_grad_norm_((p for group in optimizer.param_groups for p in group["params"]), bound)

    def latents(self, num: int) -> Tensor:
        """Latents (num, latent_dim) for this rank."""
        return self.draw(torch.randn, num, self.latent_dim)

    def draw(self, law: Callable[..., Tensor], num: int, *shape: int) -> Tensor:
        """This rank's rows of a draw for the global batch, so that any number of ranks plays the same game."""
        world, rank = self.trainer.world_size, self.global_rank
        return law(num * world, *shape, generator=self.rng, device=self.device)[rank * num : (rank + 1) * num]

    def sampler(self) -> nn.Module:
        """The network that samples: the live generator, or the average made ready for it."""
        if self.generator_ema is None:
            return self.generator
        weights = [*self.generator_ema.parameters()]
        version = sum(w._version for w in weights), weights[0].dtype, weights[0].device  # grows as weights are loaded
        if self.sampler_cache is None or self.sampler_cache[0] != version:
            self.sampler_cache = version, self.generator_ema.calibrated(self.latent_dim, self.num_classes)
        return self.sampler_cache[1]

    def compile_networks(self) -> None:
        """Let ``torch.compile`` make each network's passes into few kernels, once they are first taken."""
        self.generator.compile()
        self.discriminator.compile()

    def configure_optimizers(self) -> list[Optimizer]:
        """The generator's optimizer, then the discriminator's."""
        players = self.generator, self.discriminator
        return [build(player.parameters()) for build, player in zip(self.optimizer_fns, players, strict=True)]

    def on_fit_start(self) -> None:
        """Make ready what every step uses."""
        self.rng = torch.Generator(self.device)
        self.play = Graphs(self.device, self.rng) if self.records else Play()
        self.discriminator_parameters = [*self.discriminator.parameters()]

    def on_train_start(self) -> None:
        """Lay the moments of a checkpoint out as the weights are: fused optimizers go through both in one order."""
        for optimizer in self.optimizers(use_pl_optimizer=False):
            for weight, state in optimizer.state.items():
                for name, value in state.items():
                    if isinstance(value, Tensor) and value.shape == weight.shape:
                        state[name] = torch.empty_like(weight, dtype=value.dtype).copy_(value)
