"""Base class of the GAN variants: discriminator and generator updates of one training step."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar, TypedDict

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gan_lightning.augment import Augmentation
from gan_lightning.config.constraints import Decay, PositiveFloat, PositiveInt, Seed
from gan_lightning.loss import AdversarialLoss
from gan_lightning.model.base import GenerativeModel, Logits, OptimizerFn, StepOutput, Terms
from gan_lightning.model.ema import has_batchnorm
from gan_lightning.model.micro_batch import in_micro_batches
from gan_lightning.model.modes import frozen
from gan_lightning.network.layers import single_precision
from gan_lightning.penalty.gradient_penalty import Penalty
from gan_lightning.schedule import Schedule


class GANKwargs(TypedDict, total=False):
    """Keyword arguments of all GAN variants, see :class:`GAN`."""

    generator: nn.Module
    discriminator: nn.Module
    loss: AdversarialLoss
    generator_optimizer: OptimizerFn
    discriminator_optimizer: OptimizerFn
    latent_dim: int
    d_steps: int
    generator_batch_multiplier: int
    reuse_fake: bool
    ema_decay: float | None
    generator_clip_norm: float | None
    discriminator_clip_norm: float | None
    augment: Augmentation | None
    penalties: Mapping[str, Penalty]
    seed: int
    schedules: Mapping[str, Schedule]


class GAN(GenerativeModel):
    """A generator and a discriminator that are trained alternately (Goodfellow et al., 2014, Algorithm 1).

    One training step consists of ``d_steps`` discriminator updates, each on its own minibatch, and one generator
    update. Variants override the losses, not the order of updates.

    Args:
        generator: Maps latents (N, latent_dim) and labels (N,) to samples: images (N, C, H, W) in [-1, 1] or points.
        discriminator: Maps samples and labels (N,) to logits (N,).
        loss: The adversarial loss of both networks.
        generator_optimizer: Builds the generator's optimizer from its parameters.
        discriminator_optimizer: Builds the discriminator's optimizer.
        latent_dim: Size of the latent ``z``, drawn from N(0, I).
        d_steps: Discriminator updates per generator update; ``k`` in the GAN paper, ``n_critic`` in WGAN.
        generator_batch_multiplier: Size of the generator's batch as a multiple of the discriminator's.
        reuse_fake: Use the fakes of the last discriminator update in the generator's update instead of new ones.
        ema_decay: Decay of the EMA of the generator's weights, which is used for sampling; None disables the EMA.
        generator_clip_norm: Maximum norm of the generator's gradient over all parameters; None disables clipping.
        discriminator_clip_norm: Maximum norm of the discriminator's gradient.
        augment: Augmentation of real and generated inputs of the discriminator, in both updates.
        penalties: Further terms of the discriminator's loss, by the name under which they are logged.
        seed: Together with the step and the rank it determines all random numbers of a step.
        schedules: Schedules of numbers, see :class:`~gan_lightning.model.base.GenerativeModel`.

    Attributes:
        needs_double_backward: Whether a loss contains a derivative with respect to the discriminator's input, which
            needs double backward. BatchNorm in the discriminator and half-precision weights are errors then.

    Raises:
        ValueError: The variant needs double backward and the discriminator has BatchNorm, with which a sample's
            gradient depends on the other samples.
    """

    optimized_networks: ClassVar = {"g": ("generator",), "d": ("discriminator",)}

    needs_one_generator_batch: ClassVar = {"reuse_fake": (True,)}
    provides_one_generator_batch: ClassVar = {"generator_batch_multiplier": (1,)}
    needs_whole_minibatch: ClassVar = {"reuse_fake": (True,)}  # whose autograd graph is kept for the generator's update
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
        generator_batch_multiplier: PositiveInt = 1,
        reuse_fake: bool = False,
        ema_decay: Decay | None = None,
        generator_clip_norm: PositiveFloat | None = None,
        discriminator_clip_norm: PositiveFloat | None = None,
        augment: Augmentation | None = None,
        penalties: Mapping[str, Penalty] | None = None,
        seed: Seed = 0,
        schedules: Mapping[str, Schedule] | None = None,
    ) -> None:
        optimizers = {"generator_optimizer": generator_optimizer, "discriminator_optimizer": discriminator_optimizer}
        parts = {f"augment.{name}": schedule for name, schedule in getattr(augment, "schedules", {}).items()}
        super().__init__(generator, optimizers, latent_dim, ema_decay, seed, parts | dict(schedules or {}))
        self.discriminator: Any = discriminator  # of whose attributes nn.Module declares no types
        self.uses_batch_statistics = has_batchnorm(discriminator)
        if self.needs_double_backward and self.uses_batch_statistics:
            raise ValueError(
                f"discriminator: {type(self).__name__} needs gradients of each sample by itself (double backward), and "
                "BatchNorm mixes samples; use norm=none or norm=layer"
            )
        self.loss = loss
        self.d_steps, self.generator_batch_multiplier, self.reuse_fake = d_steps, generator_batch_multiplier, reuse_fake
        self.augment, self.penalties = augment, dict(penalties or {})
        self.clip_norms = {"g": generator_clip_norm, "d": discriminator_clip_norm}

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, StepOutput]:
        """Perform one generator step on a batch of samples and labels that consists of ``d_steps`` minibatches.

        Returns:
            The results of the last discriminator update ("d") and of the generator update ("g").
        """
        self.seed_step()
        for real, y in self.minibatches(batch):
            d, fake = self.discriminator_step(real, y)
        g = self.generator_step(real, y, fake)
        return self.finish_step({"d": d, "g": g})

    def discriminator_step(self, real: Tensor, y: Tensor) -> tuple[StepOutput, Tensor | None]:
        """Update the discriminator on one minibatch.

        Returns:
            The results, and with ``reuse_fake`` the fakes with their autograd graph, else None.
        """
        output, fake = self.execute(self.global_step, self.discriminator_gradients, real, y)
        self.trainer.strategy.optimizer_step(self.optimizer_of("d"), lambda: None)  # with scaler and hooks; not counted
        self.after_discriminator_update()
        self.adapt_augment(output)
        return output, fake

    def generator_step(self, real: Tensor, y: Tensor, fake: Tensor | None = None) -> StepOutput:
        """Update the generator: on ``fake`` if it is given, otherwise on new samples with the labels ``y``."""
        optimizers: Any = self.optimizers()
        inputs = (real, y) if fake is None else (real, y, fake)
        output = self.execute(self.global_step, self.generator_gradients, *inputs)
        optimizers[0].step()  # the step that Lightning counts: global_step is the number of generator steps
        return output

    @in_micro_batches()
    def discriminator_gradients(self, real: Tensor, y: Tensor) -> tuple[StepOutput, Tensor | None]:
        """Compute the gradient of the discriminator's loss on one minibatch."""
        with torch.set_grad_enabled(self.reuse_fake):
            fake = self.generator(self.latents(len(y)), y)
        terms, logits = self.discriminator_loss(real, fake.detach(), y)
        for name, penalty in self.penalties.items():
            terms[name] = penalty(self.critic, real, fake.detach(), y, self.draw)
        output = StepOutput(self.backward_terms("d", terms), fake.detach(), detached(logits))
        return output, fake if self.reuse_fake else None

    @in_micro_batches("generator_batch_multiplier")
    def generator_gradients(self, real: Tensor, y: Tensor, fake: Tensor | None = None) -> StepOutput:
        """Compute the gradient of the generator's loss."""
        with frozen(self.discriminator_parameters):
            if fake is None:
                z = torch.cat([self.latents(len(y)) for _ in range(self.generator_batch_multiplier)])
                y = torch.cat([y] * self.generator_batch_multiplier)
                fake = self.generator(z, y)
            terms, logits = self.generator_loss(fake, real, y)
            terms = self.backward_terms("g", terms)
        return StepOutput(terms, fake.detach(), detached(logits))

    def discriminator_loss(self, real: Tensor, fake: Tensor, y: Tensor) -> tuple[Terms, Logits]:
        """Compute the terms of the discriminator's loss on one minibatch.

        Args:
            real: Real samples (N, ...).
            fake: Generated samples (N, ...), detached from the generator.
            y: Labels (N,) of real and of generated samples.

        Returns:
            Named, weighted terms, whose sum is minimised, and the logits, from which accuracies are computed.
        """
        logits = self.discriminate(self.augmented(real), self.augmented(fake), y)
        return {"adversarial": self.loss.discriminator(*logits)}, logits  # type: ignore[arg-type]  # real is not None

    def generator_loss(self, fake: Tensor, real: Tensor, y: Tensor) -> tuple[Terms, Logits]:
        """Compute the terms of the generator's loss; the discriminator's parameters are frozen.

        Args:
            fake: Generated samples (M, ...), M = N * ``generator_batch_multiplier``.
            real: The last minibatch (N, ...), for losses that pair real and generated samples.
            y: Labels (M,) of the generated samples.

        Returns:
            Named, weighted terms, whose sum is minimised, and the logits.
        """
        logits = single_precision(self.discriminator(self.augmented(fake, len(real)), y))
        adversarial, logits = self.generator_adversarial(logits, real, y)
        return {"adversarial": adversarial}, logits

    def generator_adversarial(self, fake_logits: Tensor, real: Tensor, y: Tensor) -> tuple[Tensor, Logits]:
        """Compute the generator's adversarial loss, which also gets logits of real samples if it pairs both."""
        if not getattr(self.loss, "needs_real_logits", False):
            return self.loss.generator(fake_logits), Logits(None, fake_logits)
        real_logits = single_precision(self.discriminator(self.augmented(real), y[: len(real)]))
        real_logits = real_logits.repeat(len(fake_logits) // len(real))
        adversarial = self.loss.generator(fake_logits, real_logits)  # type: ignore[call-arg]  # needs_real_logits
        return adversarial, Logits(real_logits, fake_logits)

    def discriminate(self, real: Tensor, fake: Tensor, y: Tensor) -> Logits:
        """Compute logits in float32 or float64, in one pass, or in two if BatchNorm would mix real and fake samples."""
        if self.uses_batch_statistics:
            logits = self.discriminator(real, y), self.discriminator(fake, y)
        else:
            logits = self.discriminator(torch.cat([real, fake]), torch.cat([y, y])).chunk(2)
        return Logits(*map(single_precision, logits))

    def augmented(self, x: Tensor, minibatch: int | None = None) -> Tensor:
        """Apply the augmentation, if there is one, to samples (M, ...) before they enter the discriminator.

        Args:
            x: Real or generated samples.
            minibatch: Size of a minibatch if ``x`` holds several. Random numbers are drawn for each minibatch, so that
                they do not depend on the number of ranks.
        """
        if self.augment is None:
            return x
        return torch.cat([self.augment(part, self.draw) for part in x.split(minibatch or len(x))])

    def adapt_augment(self, output: StepOutput) -> None:
        """Pass the signs of D's logits on real images to an adaptive augmentation, summed over all ranks.

        A logit's sign is relative to the loss's decision boundary; for a critic, which has none, to the mean logit of
        generated samples, as for the relativistic average discriminator (Jolicoeur-Martineau, 2018, equation 6).
        """
        adapt = getattr(self.augment, "adapt", None)
        if adapt is None or output.logits is None or output.logits.real is None:
            return
        real, fake = output.logits.real, output.logits.fake
        reduce: Any = self.trainer.strategy.reduce
        boundary = self.loss.boundary
        if boundary is None:
            boundary = reduce(fake.double().mean(), reduce_op="mean")
        signs = (real - boundary).sign().double().sum()
        adapt(reduce(signs, reduce_op="sum"), self.trainer.world_size * len(real))

    def match_augment_state(self, state: dict[str, Any]) -> None:
        """Replace the augmentation's part of a ``state_dict`` by its initial state if it is that of another one.

        As in a run that is resumed with another augmentation (``force_resume``).
        """
        own, stored = ({k: v for k, v in one.items() if k.startswith("augment.")} for one in (self.state_dict(), state))
        if own.keys() != stored.keys():
            for name in stored:
                del state[name]
            state |= own

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Also accept a checkpoint of a run with another augmentation."""
        super().on_load_checkpoint(checkpoint)
        self.match_augment_state(checkpoint["state_dict"])

    def critic(self, x: Tensor, y: Tensor) -> Tensor:
        """Compute logits for a gradient penalty, which differentiates with respect to the samples before augmentation.

        It calls the uncompiled ``forward``, since compiled networks do not support double backward.
        """
        return self.discriminator.forward(self.augmented(x), y)

    def after_discriminator_update(self) -> None:
        """Hook for constraints on the discriminator's weights."""

    @cached_property
    def discriminator_parameters(self) -> list[Tensor]:
        """The discriminator's parameters, cached since collecting them slows down the steps of small networks."""
        return [*self.discriminator.parameters()]

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Clip the gradient of one network after the gradient scaler has unscaled it and before the update."""
        for key, max_norm in self.clip_norms.items():
            if max_norm is not None and optimizer is self.optimizer_of(key):
                nn.utils.clip_grad_norm_((p for group in optimizer.param_groups for p in group["params"]), max_norm)

    def on_fit_start(self) -> None:
        """Also clear the cached parameters of the discriminator."""
        super().on_fit_start()
        self.__dict__.pop("discriminator_parameters", None)  # the discriminator may have been replaced


def detached(logits: Logits) -> Logits:
    """Detach logits from the autograd graph."""
    return Logits(None if logits.real is None else logits.real.detach(), logits.fake.detach())
