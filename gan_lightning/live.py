"""A game in the plane that is played move by move, in a thread of its own, and remembered."""

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
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from pytorch_lightning import Callback, Trainer
from torch import Tensor

from gan_lightning import seed as seeds
from gan_lightning.build import build
from gan_lightning.callbacks.sample_grid import extent_of, surface
from gan_lightning.callbacks.scalars import finite_checks, loss_terms
from gan_lightning.command_line import check_command_line
from gan_lightning.config.compose import composer, parse_override
from gan_lightning.errors import UserError, first_line
from gan_lightning.learner import StepOutput
from gan_lightning.metric import Seen
from gan_lightning.metric.modes import Modes
from gan_lightning.model.base import GAN

POINTS = 1000  # that are shown and judged
MOST = 400  # frames that are remembered; of more every second one is forgotten
EVERY = 5  # steps of a game that plays by itself between two frames, until some are forgotten
TURN = threading.Lock()  # of whoever draws: the networks' start and dropout follow from the process's own generator
OF_A_RUN = ("trainer", "eval", "callbacks", "logger", "hydra", "debug", "ckpt_path", "init_from", "objective", "force")
OF_A_RUN += ("experiment", "protocol", "feature", "metric", "trust", "run_dir", "found")
OWN = ("model", "loss", "network", "data", "optimizer", "seed")  # sections of what a game is
# Settings come from a page: they choose values, and neither read the environment nor name what is called.
CALLS = ("_target_", "_partial_", "_args_", "_recursive_", "_convert_")
SETTINGS = {  # of every game that is watched
    "trainer.accelerator": "cpu",
    "trainer.max_steps": "1000000",
    "eval.every_n_steps": "null",
}


@dataclass
class Frame:
    """What there was to see after a move.

    Args:
        g_moves: Updates of the generator until then.
        d_moves: Updates of the discriminator.
        fake: Generated points (N, 2) of the same latents in every frame.
        logits: The discriminator's (S, S) over the square that is shown.
        figures: The latest loss terms of both players, modes that are covered, and quality.
    """

    g_moves: int
    d_moves: int
    fake: Tensor
    logits: Tensor
    figures: dict[str, float]

    @property
    def moves(self) -> int:
        """All moves until then, of which no two frames of a game have equally many."""
        return self.g_moves + self.d_moves


class LiveGame(Callback):
    """A run of the trainer that waits before every step until it is told who moves.

    Args:
        typed: Overrides of ``conf/train.yaml``, of a model and of points in the plane.

    Attributes:
        frames: What is remembered, the oldest first; the first is from before any move.
        real: Real points (N, 2).
        data: Where they come from.
        extent: The square [-extent, extent]^2 is shown.
        model: The players.
        error: Why the game has ended; empty while it goes on.

    Raises:
        UserError: With every fault of what was typed.
    """

    def __init__(self, typed: Sequence[str]) -> None:
        self.config = composed(typed)
        self.frames: list[Frame] = []
        self.real, self.error = torch.empty(0, 2), ""
        self.every, self.g_moves, self.d_moves = EVERY, 0, 0
        self.outputs: dict[str, StepOutput] = {}  # of the latest update of each network
        self.asked: deque[str] = deque()  # moves: "d", "g" or "both"
        self.pace, self.due = 0.0, 0.0  # steps a second of a game that plays by itself, and when the next is to be
        self.ending = self.has_turn = False
        self.told = threading.Condition()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()
        with self.told:
            self.told.wait_for(lambda: self.frames or self.error)
        if not self.frames:
            raise UserError(*self.error.splitlines())

    def run(self) -> None:
        """The thread: training without a run directory."""
        error = "the game has ended"
        self.take_turn()
        try:
            experiment = build(self.config, Path(), [self])
            experiment.trainer.fit(experiment.model, experiment.data)
        except UserError as fault:
            error = str(fault)
        except BaseException as fault:  # a thread has nobody else to tell it to
            error = f"{type(fault).__name__}: {first_line(fault)}"
        finally:
            self.give_turn()
            with self.told:
                self.error = error
                self.told.notify_all()

    def take_turn(self) -> None:
        """Wait until no other game draws anything."""
        TURN.acquire()
        self.has_turn = True

    def give_turn(self) -> None:
        """Let others draw."""
        if self.has_turn:
            self.has_turn = False
            TURN.release()

    def play(self, pace: float) -> None:
        """Let it play by itself, so many steps a second."""
        with self.told:
            self.pace, self.due = pace, time.monotonic()
            self.told.notify_all()

    def pause(self) -> None:
        """Wait for the next word; moves that were asked for and are still to come are forgotten."""
        with self.told:
            self.pace = 0.0
            self.asked.clear()

    def move(self, player: str, times: int = 1) -> None:
        """Ask for moves of "d", of "g", or of "both" as a step of the schedule has them."""
        with self.told:
            self.pace = 0.0
            self.asked += [player] * (0 if self.error else times)
            self.told.notify_all()

    def end(self) -> None:
        """Stop the thread after its step."""
        with self.told:
            self.ending = True
            self.told.notify_all()

    @property
    def busy(self) -> bool:
        """Whether moves are being made."""
        return not self.error and bool(self.pace or self.asked)

    def next_move(self) -> str:
        """Wait until somebody moves, and say who; "" for nobody ever again."""
        with self.told:
            while not self.ending:
                if self.asked:
                    return self.asked.popleft()
                late = time.monotonic() - self.due
                if self.pace and late >= 0:
                    self.due += max(1 / self.pace, late)
                    return "both"
                self.told.wait(-late if self.pace else None)
        return ""

    def on_train_start(self, trainer: Trainer, module: GAN) -> None:
        """Show both players as they come to the table."""
        self.data, self.model = trainer.datamodule, module
        self.real, self.extent = self.data.real(POINTS), extent_of(self.data)
        self.show(module)
        self.give_turn()

    def on_train_batch_start(self, trainer: Trainer, module: GAN, batch: Any, batch_idx: int) -> None:
        """Make the moves of a single player, until both shall move, as the step that follows does."""
        while (move := self.next_move()) in ("d", "g"):
            self.take_turn()
            at = module.seed, seeds.GAME, self.g_moves, self.d_moves  # a step of training has a word less
            module.rng.manual_seed(seeds.mix(*at))
            seeds.seed_default(module.device, *at, seeds.DROPOUT)
            rows = torch.randint(len(self.data.samples), (self.data.batch_size,), generator=module.rng)
            real, y = self.data.scale(self.data.samples[rows], module.dtype), self.data.labels[rows]
            reuse, module.reuse_fake = module.reuse_fake, False  # whose fakes D has not just seen
            if move == "d":
                self.outputs["d"], _ = module.discriminator_step(real, y)
                self.d_moves += 1
            else:
                self.outputs["g"] = module.generator_step(real, y)
                module.finish_step(self.outputs)
                self.g_moves += 1
            module.reuse_fake = reuse
            self.show(module)
            self.give_turn()
        self.take_turn()
        self.shown = not self.pace
        trainer.should_stop = not move

    def on_train_batch_end(
        self, trainer: Trainer, module: GAN, outputs: dict[str, StepOutput], batch: Any, batch_idx: int
    ) -> None:
        """Remember a step that was asked for, and of those that came by themselves every so many."""
        self.outputs = dict(outputs)
        self.g_moves, self.d_moves = self.g_moves + 1, self.d_moves + module.d_steps
        if self.shown or self.g_moves % self.every == 0:
            self.show(module)
        self.give_turn()

    def show(self, module: GAN) -> None:
        """Remember how things stand.

        Raises:
            UserError: The game has diverged.
        """
        if bad := [
            name for name, value in finite_checks(module, loss_terms(self.outputs)).items() if not torch.isfinite(value)
        ]:
            raise UserError(
                f"The game has diverged: {bad[0]} is not finite. A lower rate may hold it: "
                "model.generator_optimizer.lr, model.discriminator_optimizer.lr"
            )
        fake = module.sample(POINTS)
        seen = [Seen(samples, samples, torch.zeros(len(samples))) for samples in (self.real, fake)]
        seen[0].centres, seen[0].deviation = self.data.centres(), self.data.deviation
        scores = Modes()(seen[0], {}, seen[1])
        figures = {name: float(term) for name, term in loss_terms(self.outputs).items()}
        figures |= {name: scores[name] for name in ("modes", "quality")}
        frame = Frame(self.g_moves, self.d_moves, fake, surface(module, self.extent), figures)
        with self.told:
            self.frames = [*self.frames, frame]  # whoever reads the list meanwhile keeps a whole one
            if len(self.frames) > MOST:
                self.frames, self.every = self.frames[::2], 2 * self.every
            self.told.notify_all()


def composed(typed: Sequence[str]) -> DictConfig:
    """The configuration of a game that is watched.

    Raises:
        UserError: With every fault.
    """
    if unsafe := [fault for word in typed if (fault := unsafe_setting(word))]:
        raise UserError(*unsafe)
    faults = [
        f"{word}: belongs to a run; here {', '.join(OWN)} may be set"
        for word in typed
        if re.split(r"[.@=/]", word.lstrip("+~"))[0] in OF_A_RUN or word.startswith("-")
    ]
    try:
        settings = [f"{key}={value}" for key, value in SETTINGS.items()]
        name, words, _ = check_command_line(["~logger", "~callbacks", *settings, *(w for w in typed if w[:1] != "-")])
    except UserError as error:
        raise UserError(*faults, *error.faults) from error
    if faults:
        raise UserError(*faults)
    with composer() as hydra:
        config = hydra.config_loader.load_configuration(name, words, RunMode.RUN, from_shell=False)
    del config.hydra
    if "image_size" in config.data:
        raise UserError("data: the game is watched in the plane; data=gaussian_ring, gaussian_grid, gaussian_mixture")
    if "discriminator" not in config.model:
        raise UserError("model: there is no game to watch, since only one learns; model=vanilla, say")
    return config


def unsafe_setting(word: str) -> str:
    """The error of a setting that reads another value or names what is called; empty where it does not."""
    parsed = ""  # the word as Hydra's grammar takes it, in which a brace may be escaped
    with suppress(HydraException, ValueError):  # which check_command_line reports
        override = parse_override(word)
        parsed = f"{override.key_or_group} {override.package} {override.value()}"
    if "${" in f"{word} {parsed}":
        return f"{word}: the page takes no ${{...}}, which may read the environment; type the value itself"
    if call := next((call for call in CALLS if call in f"{word} {parsed}"), ""):
        return (
            f"{word}: the page takes no {call}, which decides what is called; choose a class by its group, "
            "as optimizer@model.generator_optimizer=sgd does"
        )
    return ""
