"""Interactive training on points in the plane for gan-play: updates on request in a background thread."""

import re
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from hydra import compose
from hydra.errors import HydraException
from omegaconf import DictConfig
from pytorch_lightning import Callback
from torch import Tensor

from gan_lightning import seed as seeds
from gan_lightning.callbacks.metric_logger import finite_checks, loss_terms
from gan_lightning.callbacks.sample_grid import extent_of, surface
from gan_lightning.config.compose import initialize_hydra, parse_override
from gan_lightning.errors import UserError, short_message
from gan_lightning.io.plot import Surface
from gan_lightning.metric import FeatureSet
from gan_lightning.metric.modes import Modes
from gan_lightning.model.base import StepOutput
from gan_lightning.model.gan import GAN
from gan_lightning.run.build import build
from gan_lightning.run.command_line import check_command_line
from gan_lightning.trainer import Trainer

POINTS = 1000  # points that are shown and evaluated
MAX_FRAMES = 400  # frames in the history; every second one is removed when there are more
FRAME_INTERVAL = 5  # steps between two frames of continuous training, doubled whenever frames are removed
# Held while random numbers are drawn: initialization and dropout use the global generator of the process.
RNG_LOCK = threading.Lock()
RUN_KEYS = ("trainer", "eval", "callbacks", "logger", "hydra", "debug", "ckpt_path", "init_from", "objective")
RUN_KEYS += ("force_resume", "trust_checkpoint", "experiment", "protocol", "feature", "metric", "run_dir", "data_info")
SETTABLE = ("model", "loss", "network", "data", "optimizer", "seed")  # sections that can be set
# Settings come from a web page: they set values, but neither read the environment nor choose what is called.
CALL_KEYS = ("_target_", "_partial_", "_args_", "_recursive_", "_convert_")
FIXED_SETTINGS = {  # overrides that are always applied
    "trainer.accelerator": "cpu",
    "trainer.max_steps": "1000000",
    "eval.every_n_steps": "null",
}


@dataclass
class Frame:
    """A snapshot after an update.

    Args:
        g_updates: Number of generator updates so far.
        d_updates: Number of discriminator updates so far.
        fake: Generated points (N, 2) of the same latents in every frame.
        surface: Output of the discriminator over the square that is shown.
        metrics: The latest loss terms of both networks, the number of covered modes, and the quality.
    """

    g_updates: int
    d_updates: int
    fake: Tensor
    surface: Surface
    metrics: dict[str, float]

    @property
    def updates(self) -> int:
        """Return the number of updates so far, which is unique among the frames."""
        return self.g_updates + self.d_updates


class LiveTraining(Callback):
    """Train in a background thread that waits before every step for a request to update D, G or both.

    Args:
        overrides: Overrides of ``conf/train.yaml`` for a GAN and points in the plane.

    Attributes:
        frames: The history, oldest frame first; the first one is from before training.
        real: Real points (N, 2).
        data: The data module.
        extent: Half width of the square [-extent, extent]^2 that is shown.
        model: The GAN.
        error: Why training has ended; empty while it continues.

    Raises:
        UserError: The overrides are invalid; all errors are listed.
    """

    def __init__(self, overrides: Sequence[str]) -> None:
        self.config = compose_config(overrides)
        self.frames: list[Frame] = []
        self.real, self.error = torch.empty(0, 2), ""
        self.frame_interval, self.g_updates, self.d_updates = FRAME_INTERVAL, 0, 0
        self.outputs: dict[str, StepOutput] = {}  # of the latest update of each network
        self.requested: deque[str] = deque()  # updates: "d", "g" or "both"
        self.rate, self.due = 0.0, 0.0  # steps per second of continuous training, and the time of the next one
        self.stopping = self.has_lock = False
        self.changed = threading.Condition()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()
        with self.changed:
            self.changed.wait_for(lambda: self.frames or self.error)
        if not self.frames:
            raise UserError(*self.error.splitlines())

    def run(self) -> None:
        """Train without a run directory; runs in the background thread."""
        error = "training has ended"
        self.acquire_rng()
        try:
            experiment = build(self.config, Path(), [self])
            experiment.trainer.fit(experiment.model, experiment.data)
        except UserError as exception:
            error = str(exception)
        except BaseException as exception:  # an exception in a thread would be lost
            error = f"{type(exception).__name__}: {short_message(exception)}"
        finally:
            self.release_rng()
            with self.changed:
                self.error = error
                self.changed.notify_all()

    def acquire_rng(self) -> None:
        """Wait until no other thread draws random numbers."""
        RNG_LOCK.acquire()
        self.has_lock = True

    def release_rng(self) -> None:
        """Let other threads draw random numbers."""
        if self.has_lock:
            self.has_lock = False
            RNG_LOCK.release()

    def train(self, rate: float) -> None:
        """Train continuously.

        Args:
            rate: Generator steps per second.
        """
        with self.changed:
            self.rate, self.due = rate, time.monotonic()
            self.changed.notify_all()

    def pause(self) -> None:
        """Stop continuous training, and discard requested updates."""
        with self.changed:
            self.rate = 0.0
            self.requested.clear()

    def request(self, networks: str, times: int = 1) -> None:
        """Request updates of "d" or "g", or generator steps ("both")."""
        with self.changed:
            self.rate = 0.0
            self.requested += [networks] * (0 if self.error else times)
            self.changed.notify_all()

    def stop(self) -> None:
        """Stop the thread after the current step."""
        with self.changed:
            self.stopping = True
            self.changed.notify_all()

    @property
    def busy(self) -> bool:
        """Return whether updates are in progress."""
        return not self.error and bool(self.rate or self.requested)

    def next_update(self) -> str:
        """Wait for the next update and return its networks: "d", "g", "both", or "" if training is to end."""
        with self.changed:
            while not self.stopping:
                if self.requested:
                    return self.requested.popleft()
                late = time.monotonic() - self.due
                if self.rate and late >= 0:
                    self.due += max(1 / self.rate, late)
                    return "both"
                self.changed.wait(-late if self.rate else None)
        return ""

    def on_train_start(self, trainer: Trainer, module: GAN) -> None:
        """Record the first frame, before any update."""
        self.data, self.model = trainer.datamodule, module
        self.real, self.extent = self.data.real(POINTS), extent_of(self.data)
        self.record_frame(module)
        self.release_rng()

    def on_train_batch_start(self, trainer: Trainer, module: GAN, batch: Any, batch_idx: int) -> None:
        """Make requested updates of a single network, until a whole step is requested, which Lightning then runs."""
        while (networks := self.next_update()) in ("d", "g"):
            self.acquire_rng()
            # One word more than the seed of a training step, so that the random numbers differ.
            key = module.seed, seeds.TRAINING_STEP, self.g_updates, self.d_updates
            module.rng.manual_seed(seeds.mix(*key))
            seeds.seed_default(module.device, *key, seeds.DROPOUT)
            rows = torch.randint(len(self.data.samples), (self.data.batch_size,), generator=module.rng)
            real, y = self.data.scale(self.data.samples[rows], module.dtype), self.data.labels[rows]
            reuse, module.reuse_fake = module.reuse_fake, False  # there are no fakes of a preceding update of D
            if networks == "d":
                self.outputs["d"], _ = module.discriminator_step(real, y)
                self.d_updates += 1
            else:
                self.outputs["g"] = module.generator_step(real, y)
                module.finish_step(self.outputs)
                self.g_updates += 1
            module.reuse_fake = reuse
            self.record_frame(module)
            self.release_rng()
        self.acquire_rng()
        self.single_step = not self.rate
        trainer.should_stop = not networks

    def on_train_batch_end(
        self, trainer: Trainer, module: GAN, outputs: dict[str, StepOutput], batch: Any, batch_idx: int
    ) -> None:
        """Record a frame after a requested step, or every ``frame_interval`` steps of continuous training."""
        self.outputs = dict(outputs)
        self.g_updates, self.d_updates = self.g_updates + 1, self.d_updates + module.d_steps
        if self.single_step or self.g_updates % self.frame_interval == 0:
            self.record_frame(module)
        self.release_rng()

    def record_frame(self, module: GAN) -> None:
        """Add a frame to the history.

        Raises:
            UserError: Training has diverged.
        """
        if bad := [
            name for name, value in finite_checks(module, loss_terms(self.outputs)).items() if not torch.isfinite(value)
        ]:
            raise UserError(
                f"Training has diverged: {bad[0]} is not finite. Try a lower learning rate: "
                "model.generator_optimizer.lr, model.discriminator_optimizer.lr"
            )
        fake = module.sample(POINTS)
        real_set, fake_set = (FeatureSet(samples, samples, torch.zeros(len(samples))) for samples in (self.real, fake))
        real_set.centres, real_set.std = self.data.centres(), self.data.std
        scores: Any = Modes()(real_set, {}, fake_set)
        metrics = {name: float(term) for name, term in loss_terms(self.outputs).items()}
        metrics |= {name: scores[name] for name in ("modes", "quality")}
        frame = Frame(self.g_updates, self.d_updates, fake, surface(module, self.extent, self.real, fake), metrics)
        with self.changed:
            self.frames = [*self.frames, frame]  # a new list, since other threads may be reading the old one
            if len(self.frames) > MAX_FRAMES:
                self.frames, self.frame_interval = self.frames[::2], 2 * self.frame_interval
            self.changed.notify_all()


def compose_config(overrides: Sequence[str]) -> DictConfig:
    """Compose the configuration of live training.

    Raises:
        UserError: The overrides are invalid; all errors are listed.
    """
    if unsafe := [error for override in overrides if (error := unsafe_setting(override))]:
        raise UserError(*unsafe)
    errors = [
        f"{override}: belongs to a run; only {', '.join(SETTABLE)} can be set here"
        for override in overrides
        if re.split(r"[.@=/]", override.lstrip("+~"))[0] in RUN_KEYS or override.startswith("-")
    ]
    try:
        fixed = ["~logger", "~callbacks", *(f"{key}={value}" for key, value in FIXED_SETTINGS.items())]
        name, words, _ = check_command_line([*fixed, *(text for text in overrides if text[:1] != "-")])
    except UserError as error:
        raise UserError(*errors, *error.errors) from error
    if errors:
        raise UserError(*errors)
    with initialize_hydra():
        config = compose(name, words)
    if "image_size" in config.data:
        raise UserError("data: needs points in the plane; use data=gaussian_ring, gaussian_grid or gaussian_mixture")
    if "discriminator" not in config.model:
        raise UserError("model: needs a generator and a discriminator; use model=vanilla, for example")
    return config


def unsafe_setting(text: str) -> str:
    """Return the error message of an override with an interpolation or a callable; empty if it is safe."""
    parsed = ""  # the override as parsed by Hydra's grammar, in which a brace may be escaped
    with suppress(HydraException, ValueError):  # which check_command_line reports
        override = parse_override(text)
        parsed = f"{override.key_or_group} {override.package} {override.value()}"
    if "${" in f"{text} {parsed}":
        return f"{text}: ${{...}} is not allowed here, since it may read the environment; type the value itself"
    if call := next((call for call in CALL_KEYS if call in f"{text} {parsed}"), ""):
        return (
            f"{text}: {call} is not allowed here, since it chooses what is called; choose a class by its group, "
            "as optimizer@model.generator_optimizer=sgd does"
        )
    return ""
