"""What learns to sample: the randomness of its steps, its gradients, and the average that samples."""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from functools import reduce
from typing import Any, ClassVar

import torch
from pytorch_lightning import LightningModule
from torch import Tensor, nn
from torch.optim import Optimizer

from gan_lightning import seed as seeds
from gan_lightning.average import Average
from gan_lightning.graph import Graphs, Play
from gan_lightning.minibatch import minibatches
from gan_lightning.sampler import Sampler

RECENT = 1000  # steps

OptimizerFn = Callable[[Iterable[nn.Parameter]], Optimizer]
Terms = dict[str, Tensor]  # named, weighted terms of a loss; a player minimises their sum


class Learner(Sampler, LightningModule):
    """A generator, and the networks that are trained with it, each by one player's optimizer.

    Args:
        generator: Maps latents (N, latent_dim) and labels (N,) to samples: images (N, C, H, W) in [-1, 1] or points.
        optimizers: Build each player's optimizer from its parameters, by the names of their settings.
        latent_dim: Size of the latent ``z``, drawn from N(0, I).
        ema_decay: Decay of the averaged generator that samples; None keeps no average.
        seed: All that a step draws follows from it, the step and the rank.

    Attributes:
        players: The networks of each player, by its name in what is logged. The first has the generator, and ends a
            step: its optimizer is the one that Lightning counts.
        d_steps: Minibatches of a step.
    """

    players: ClassVar[Mapping[str, tuple[str, ...]]]
    d_steps: int = 1

    def __init__(
        self,
        generator: nn.Module,
        optimizers: dict[str, OptimizerFn],
        latent_dim: int,
        ema_decay: float | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.generator = generator
        self.generator_ema = None if ema_decay is None else Average(generator, ema_decay)
        self.optimizer_fns, self.latent_dim, self.seed = optimizers, latent_dim, seed
        self.num_classes: int = generator.num_classes
        self.class_names: list[str] = []
        self.terms: dict[str, Terms] = {}  # of the last update of each player, for whoever watches
        self.logits: dict[str, Tensor] = {}  # a discriminator's, on real and on fake, likewise
        self.fake: Tensor | None = None  # samples of the last generator update, likewise
        self.sampler_cache: tuple[tuple, nn.Module] | None = None
        self.records = False  # each player's gradient as a CUDA graph

    def begin(self) -> int:
        """Seed all that a step draws; return the step."""
        step = self.global_step
        self.rng.manual_seed(seeds.mix(self.seed, seeds.GAME, step))
        seeds.seed_default(self.device, self.seed, seeds.DROPOUT, step, self.global_rank)
        return step

    def minibatches(self, batch: Any) -> list[tuple[Tensor, Tensor]]:
        """Samples and labels of each of the ``d_steps`` minibatches of a batch, see :func:`minibatch.minibatches`."""
        return minibatches(batch, self)

    def end(self, step: int) -> None:
        """Note the step's terms and move the average, once the generator has moved."""
        self.recent.append((step + 1, self.play.kept(self.terms)))
        if self.generator_ema is not None:
            self.generator_ema.update(self.generator)
            self.sampler_cache = None

    def descend(self, player: str, terms: Terms) -> None:
        """Leave the gradient of the sum of a player's terms with its weights, and keep the terms for the log."""
        self.optimizer_of(player).zero_grad()
        with torch.autocast(self.device.type, enabled=False):  # a penalty is differentiated twice
            self.manual_backward(reduce(torch.add, terms.values()))
        self.terms[player] = {name: term.detach() for name, term in terms.items()}

    def optimizer_of(self, player: str) -> Optimizer:
        """A player's optimizer, without what Lightning wraps it in."""
        return self.trainer.optimizers[[*self.players].index(player)]

    def weights_of(self, player: str) -> list[nn.Parameter]:
        """All that a player's optimizer moves."""
        return [weight for name in self.players[player] for weight in getattr(self, name).parameters()]

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
        weights = [*self.generator_ema.parameters(), self.generator_ema.class_counts]
        version = sum(w._version for w in weights), weights[0].dtype, weights[0].device  # grows as weights are loaded
        if self.sampler_cache is None or self.sampler_cache[0] != version:
            self.sampler_cache = version, self.generator_ema.calibrated(self.latent_dim, self.num_classes)
        return self.sampler_cache[1]

    def networks(self) -> dict[str, nn.Module]:
        """The networks that are trained, by name."""
        return {name: getattr(self, name) for names in self.players.values() for name in names}

    def compile_networks(self) -> None:
        """Let ``torch.compile`` make each network's passes into few kernels, once they are first taken."""
        for network in self.networks().values():
            network.compile()

    def configure_optimizers(self) -> list[Optimizer]:
        """Each player's optimizer, in the order of the players."""
        builds = self.optimizer_fns.values()
        return [build(self.weights_of(player)) for build, player in zip(builds, self.players, strict=True)]

    def on_fit_start(self) -> None:
        """Make ready what every step uses, and count the labels of the data for the average's BatchNorm."""
        self.rng = torch.Generator(self.device)
        self.recent: deque[tuple[int, dict[str, Terms]]] = deque(maxlen=RECENT)  # terms by step, to find what diverged
        self.play = Graphs(self.device, self.rng) if self.records else Play()
        if self.generator_ema is not None:
            self.generator_ema.count_labels_of(self.trainer.datamodule)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Let optimizers keep their configured settings, as a checkpoint's would change the training unnoticed."""
        for state, optimizer in zip(checkpoint.get("optimizer_states", ()), self.configure_optimizers(), strict=False):
            state["param_groups"] = optimizer.state_dict()["param_groups"]

    def on_train_start(self) -> None:
        """Lay the moments of a checkpoint out as the weights are: fused optimizers go through both in one order."""
        for optimizer in self.trainer.optimizers:
            for weight, state in optimizer.state.items():
                for name, value in state.items():
                    if isinstance(value, Tensor) and value.shape == weight.shape:
                        state[name] = torch.empty_like(weight, dtype=value.dtype).copy_(value)
