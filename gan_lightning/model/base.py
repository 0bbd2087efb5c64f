"""Base LightningModule: per-step seeding, gradients of named loss terms, optimizers, and an EMA of the generator."""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import reduce
from operator import attrgetter
from typing import Any, ClassVar, NamedTuple

import torch
from pytorch_lightning import LightningModule
from torch import Tensor, nn
from torch.optim import Optimizer

from gan_lightning import seed as seeds
from gan_lightning.config.constraints import Validated
from gan_lightning.config.description import FORMAT_VERSION, description_of
from gan_lightning.errors import UserError
from gan_lightning.io.class_names import sanitize_class_names
from gan_lightning.io.versions import versions
from gan_lightning.model.cuda_graphs import CUDAGraphs, Eager
from gan_lightning.model.ema import EMA
from gan_lightning.model.micro_batch import MicroBatch
from gan_lightning.model.minibatch import minibatches
from gan_lightning.model.sampling import SamplingMixin
from gan_lightning.schedule import Schedule

HISTORY_STEPS = 1000

OptimizerFn = Callable[[Iterable[nn.Parameter]], Optimizer]
Terms = dict[str, Tensor]  # named, weighted terms of a loss (scalars); an update minimises their sum


class Logits(NamedTuple):
    """A discriminator's logits in one update, in float32 or float64.

    Attributes:
        real: Logits (N,) of real samples; None where the update did not compute them.
        fake: Logits (M,) of generated samples.
    """

    real: Tensor | None
    fake: Tensor


@dataclass
class StepOutput:
    """Detached results of one update.

    Under a CUDA graph the next step overwrites the tensors in place: a callback that keeps one clones it.

    Attributes:
        terms: The terms of the loss.
        fake: The generated samples (M, ...).
        logits: The discriminator's logits; None without a discriminator.
    """

    terms: Terms
    fake: Tensor
    logits: Logits | None = None


class GenerativeModel(Validated, SamplingMixin, LightningModule):
    """Base class: a generator and the networks that are trained with it, each updated by one optimizer.

    Args:
        generator: Maps latents (N, latent_dim) and labels (N,) to samples: images (N, C, H, W) in [-1, 1] or points.
        optimizers: Functions that build an optimizer from parameters, by the name of the setting that configures them,
            in the order of ``optimized_networks``.
        latent_dim: Size of the latent ``z``, drawn from N(0, I).
        ema_decay: Decay of the EMA of the generator's weights, which is used for sampling; None disables the EMA.
        seed: Together with the step and the rank it determines all random numbers of a step.
        schedules: Schedules of numbers that change during training, by name: a number of an optimizer, such as
            "generator_optimizer.lr" or "discriminator_optimizer.beta2", or of the model, such as "gp_weight" or
            "generator_ema.decay".

    Attributes:
        optimized_networks: Attribute names of the networks that each optimizer updates. The keys, such as "g" and "d",
            are the prefixes of logged values. The first entry has the generator; its update ends a step, and its
            optimizer is the one whose steps Lightning counts.
        d_steps: Number of minibatches in a step.
        history: Step number and loss terms of the latest steps; it locates the step where a NaN began.
        uses_cuda_graphs: Whether gradient computations are captured as CUDA graphs; set by the trainer.
        micro_batch: Number of samples whose gradients are computed at once, see :mod:`micro_batch`; None for all
            samples of a minibatch. Set by the trainer.
        current_micro_batch: The rows of the minibatch whose gradients are being computed; None for all of them.
    """

    optimized_networks: ClassVar[Mapping[str, tuple[str, ...]]]
    d_steps: int = 1

    def __init__(
        self,
        generator: nn.Module,
        optimizers: dict[str, OptimizerFn],
        latent_dim: int,
        ema_decay: float | None = None,
        seed: int = 0,
        schedules: Mapping[str, Schedule] | None = None,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.generator = generator
        self.generator_ema = None if ema_decay is None else EMA(generator, ema_decay)
        self.optimizer_fns = optimizers
        self.latent_dim, self.seed, self.schedules = latent_dim, seed, dict(schedules or {})
        self.num_classes: int = getattr(generator, "num_classes", 0)  # user-supplied generators may ignore labels
        self.class_names: list[str] = []
        self.history: deque[tuple[int, dict[str, Terms]]] = deque(maxlen=HISTORY_STEPS)
        self.sampler_cache: tuple[tuple, nn.Module] | None = None
        self.uses_cuda_graphs = False
        self.micro_batch: int | None = None
        self.current_micro_batch: MicroBatch | None = None
        self.rng, self.execute = torch.Generator(), Eager()  # replaced in on_fit_start

    def seed_step(self) -> None:
        """Reseed the random number generators from the seed, the step and the rank, and apply the schedules."""
        self.rng.manual_seed(seeds.mix(self.seed, seeds.TRAINING_STEP, self.global_step))
        seeds.seed_default(self.device, self.seed, seeds.DROPOUT, self.global_step, self.global_rank)
        for name, schedule in self.schedules.items():
            self.set_number(name, schedule(self.global_step / self.trainer.max_steps))

    def set_number(self, name: str, value: float) -> None:
        """Set a number of an optimizer or of the model; names are those of ``schedules``."""
        owner, _, last = name.rpartition(".")
        if owner in self.optimizer_fns:
            for group in self.trainer.optimizers[[*self.optimizer_fns].index(owner)].param_groups:
                if last == "beta2":
                    group["betas"] = group["betas"][0], value
                else:
                    group[last] = value
            return
        holder = attrgetter(owner)(self) if owner else self
        number = getattr(holder, last)
        if isinstance(number, Tensor):  # in place, since a CUDA graph reads the tensor
            number.fill_(value)
        else:
            setattr(holder, last, value)

    def check_schedules(self) -> None:
        """Raise UserError for scheduled numbers that do not exist; move those that CUDA graphs read to the device."""
        for name in self.schedules:
            owner, _, last = name.rpartition(".")
            try:
                if owner in self.optimizer_fns:
                    group = self.trainer.optimizers[[*self.optimizer_fns].index(owner)].param_groups[0]
                    number = group["betas"][1] if last == "beta2" else group[last]
                else:
                    number = getattr(attrgetter(owner)(self) if owner else self, last)
            except (AttributeError, KeyError):
                number = None
            if isinstance(number, bool) or not isinstance(number, int | float | Tensor):
                raise UserError(f"schedules: {name}: there is no such number of an optimizer or of the model")
            if self.uses_cuda_graphs and owner not in (*self.optimizer_fns, "generator_ema"):  # updated outside graphs
                holder = attrgetter(owner)(self) if owner else self
                setattr(holder, last, torch.as_tensor(float(number), device=self.device))

    def minibatches(self, batch: Any) -> list[tuple[Tensor, Tensor]]:
        """Split a batch into ``d_steps`` minibatches of samples and labels, see :func:`minibatch.minibatches`."""
        return minibatches(batch, self)

    def finish_step(self, outputs: dict[str, StepOutput]) -> dict[str, StepOutput]:
        """Update the EMA and the history of terms after the generator's update.

        Args:
            outputs: The results of the last update of each network.

        Returns:
            ``outputs``, which Lightning passes to ``on_train_batch_end``.
        """
        terms = {name: output.terms for name, output in outputs.items()}
        self.history.append((self.global_step, self.execute.snapshot(terms)))
        if self.generator_ema is not None:
            self.generator_ema.update(self.generator)
            self.sampler_cache = None
        return outputs

    def backward_terms(self, key: str, terms: Terms) -> Terms:
        """Compute the gradient of the sum of the terms with respect to the parameters of one optimizer.

        The weighted gradients of micro batches are accumulated.

        Args:
            key: The optimizer's key in ``optimized_networks``.
            terms: The terms of the loss.

        Returns:
            The terms, detached.
        """
        part = self.current_micro_batch
        if part is None or part.start == 0:
            for weight in self.optimized_parameters(key):
                weight.grad = None
        backward = self.manual_backward if self._trainer else Tensor.backward  # the former scales gradients
        with torch.autocast(self.device.type, enabled=False):  # a penalty needs double backward
            loss = reduce(torch.add, terms.values())
            backward(loss if part is None else loss * part.weight)
        return {name: term.detach() for name, term in terms.items()}

    def optimizer_of(self, key: str) -> Optimizer:
        """Return the optimizer with a key of ``optimized_networks``, without Lightning's wrapper."""
        return self.trainer.optimizers[[*self.optimized_networks].index(key)]

    def optimized_parameters(self, key: str) -> list[nn.Parameter]:
        """Return the parameters that the optimizer with a key of ``optimized_networks`` updates."""
        return [weight for name in self.optimized_networks[key] for weight in getattr(self, name).parameters()]

    def latents(self, num: int) -> Tensor:
        """Draw latents (num, latent_dim) for this rank."""
        return self.draw(torch.randn, num, self.latent_dim)

    def draw(self, sample: Callable[..., Tensor], num: int, *shape: int) -> Tensor:
        """Draw for the global batch and return this rank's slice, so that results do not depend on the world size.

        Within a micro batch, these are its rows of a draw for the whole minibatch.

        Args:
            sample: A function like ``torch.rand`` or ``torch.randn``.
            num: Number of rows on each rank, or of the micro batch.
            shape: Shape of a row.

        Returns:
            A tensor (num, *shape) on the model's device.
        """
        world, rank = self.trainer.world_size if self._trainer else 1, self.global_rank

        def draw_rows(num: int) -> Tensor:
            return sample(num * world, *shape, generator=self.rng, device=self.device)[rank * num : (rank + 1) * num]

        return draw_rows(num) if self.current_micro_batch is None else self.current_micro_batch.draw(draw_rows, num)

    def sampler(self) -> nn.Module:
        """Return the network that is used for sampling: the EMA with recalibrated BatchNorm, or else the generator."""
        if self.generator_ema is None:
            return self.generator
        weights = [*self.generator_ema.parameters(), self.generator_ema.class_counts]
        version = sum(w._version for w in weights), weights[0].dtype, weights[0].device  # changes with loaded weights
        if self.sampler_cache is None or self.sampler_cache[0] != version:
            self.sampler_cache = version, self.generator_ema.recalibrate_batchnorm(self.latent_dim, self.num_classes)
        return self.sampler_cache[1]

    def networks(self) -> dict[str, nn.Module]:
        """Return the networks that are trained, by name."""
        return {name: getattr(self, name) for names in self.optimized_networks.values() for name in names}

    def compile_networks(self) -> None:
        """Compile the networks with ``torch.compile``; compilation itself happens in the first forward pass."""
        for network in self.networks().values():
            network.compile()

    def configure_optimizers(self) -> list[Optimizer]:
        """Return the optimizers in the order of ``optimized_networks``."""
        builds = self.optimizer_fns.values()
        return [
            build(self.optimized_parameters(key)) for build, key in zip(builds, self.optimized_networks, strict=True)
        ]

    def on_fit_start(self) -> None:
        """Create the random number generator and the executor of steps; count labels for BatchNorm recalibration."""
        self.rng = torch.Generator(self.device)
        self.execute = CUDAGraphs(self.device, self.rng) if self.uses_cuda_graphs else Eager()
        self.history.clear()
        trainer: Any = self.trainer
        if self.num_classes and not self.class_names:  # a model that was constructed in Python
            names = sanitize_class_names(getattr(trainer.datamodule, "class_names", None) or [])
            self.class_names = names if len(names) == self.num_classes else []
        if self.generator_ema is not None:
            self.generator_ema.count_labels_of(trainer.datamodule)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Describe a model that was constructed in Python, so that :func:`gan_lightning.load` can rebuild it.

        The hyperparameters of a run of the command line contain its configuration.
        """
        stored: dict[str, Any] = checkpoint.setdefault("hyper_parameters", {})
        if "config" in stored:
            return
        trainer: Any = self.trainer
        data = description_of(trainer.datamodule)
        stored["config"] = {
            "seed": self.seed,
            "model": description_of(self),
            "network": {},
            "data": data if isinstance(data, dict) else {"_target_": data},
            "trainer": {"max_steps": trainer.max_steps, "precision": str(trainer.precision)},
            "eval": {},
        }
        stored |= {"format_version": FORMAT_VERSION, "choices": {}, "overrides": [], "versions": versions()}
        stored["class_names"] = sanitize_class_names(getattr(trainer.datamodule, "class_names", None) or [])

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the configured settings of optimizers; a checkpoint's settings would replace them silently."""
        for state, optimizer in zip(checkpoint.get("optimizer_states", ()), self.configure_optimizers(), strict=False):
            state["param_groups"] = optimizer.state_dict()["param_groups"]

    def on_train_start(self) -> None:
        """Check the schedules, and convert restored optimizer state to the parameters' memory format.

        Fused optimizers require that weights and moments have the same memory layout.
        """
        self.check_schedules()
        for optimizer in self.trainer.optimizers:
            for weight, state in optimizer.state.items():
                for name, value in state.items():
                    if isinstance(value, Tensor) and value.shape == weight.shape:
                        state[name] = torch.empty_like(weight, dtype=value.dtype).copy_(value)
