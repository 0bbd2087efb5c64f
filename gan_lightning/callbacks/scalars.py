"""Figures of a run, every n-th step, to the loggers and to ``metrics.csv``."""

import csv
import errno
import math
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, Trainer

from gan_lightning import csv_rows
from gan_lightning.config.constraints import PositiveInt, Validated
from gan_lightning.errors import UserError
from gan_lightning.files import naming, report_damaged, set_aside, whole
from gan_lightning.learner import Learner, StepOutput


class DivergedError(UserError):
    """Training has diverged: a loss, a gradient or a weight is NaN or infinite."""


class Scalars(Validated, Callback):
    """Logs every term of every loss, a discriminator's logits, gradient norms, rates and speed.

    Args:
        every_n_steps: Generator steps between two lines; reading a number makes the host wait for the device.

    Attributes:
        last: The latest figures by name.
    """

    def __init__(self, every_n_steps: PositiveInt = 50) -> None:
        self.every_n_steps = every_n_steps
        self.last: dict[str, float] = {}
        self.read_at: int | None = None  # the step of ``last``; None before training
        self.outputs: dict[str, StepOutput] = {}  # of the latest step

    def setup(self, trainer: Trainer, module: Learner, stage: str) -> None:
        """Find the file."""
        self.path = Path(trainer.default_root_dir, "metrics.csv")

    def on_load_checkpoint(self, trainer: Trainer, module: Learner, checkpoint: dict[str, Any]) -> None:
        """Take up the figures of the checkpoint's step, also where nothing is left to do."""
        self.keep_lines_until(checkpoint["global_step"], trainer)

    def on_train_start(self, trainer: Trainer, module: Learner) -> None:
        """Drop what a life that was killed has written after this step, be it the first; start the clock."""
        self.keep_lines_until(trainer.global_step, trainer)
        self.then, self.since = time.perf_counter(), trainer.global_step
        self.read_at = trainer.global_step

    def keep_lines_until(self, step: int, trainer: Trainer) -> None:
        """Keep the lines up to a step; what came after will be written again."""
        if not trainer.is_global_zero:
            return
        set_aside(self.path)
        if not self.path.exists():
            return
        columns, rows = self.read()
        kept = [row for row in rows if int(row["step"]) <= step]
        self.write(kept, dict.fromkeys(columns) if kept else ["step"])
        if kept:
            self.last = {name: float(value) for name, value in kept[-1].items() if name != "step" and value}

    def read(self) -> tuple[list[str], list[dict[str, str]]]:
        """Return the columns and the intact rows of the file; a file without any is renamed, not overwritten."""
        # Bytes that are not UTF-8 become characters that are not part of a number.
        text = self.path.read_bytes().decode("utf-8", errors="replace")
        columns, rows, damaged = csv_rows.parse(text)
        report_damaged(self.path, damaged, len(rows))
        return columns, rows

    def write(self, rows: Iterable[Mapping[str, Any]], columns: Iterable[str]) -> None:
        """Write the whole file; what a row lacks is left empty."""
        with whole(self.path, "w") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(rows)

    def add(self, row: dict[str, Any]) -> None:
        """Write one more line; where it has figures that those before lack, as of another loss, they get a column."""
        columns: list[str] = []
        if self.path.exists():
            with self.path.open(newline="", encoding="utf-8", errors="replace") as file:
                columns = next(csv.reader(file), [])
        if row.keys() <= {*columns}:
            with naming(self.path), self.path.open("a", newline="", encoding="utf-8") as file:
                csv.DictWriter(file, columns).writerow(row)
        else:
            columns, rows = self.read() if columns else ([], [])
            self.write([*rows, row], dict.fromkeys([*(columns if rows else []), *row]))

    def on_train_batch_end(
        self, trainer: Trainer, module: Learner, outputs: dict[str, StepOutput], batch: Any, batch_idx: int
    ) -> None:
        """Read the figures if their step has come."""
        step, self.outputs = trainer.global_step, outputs
        if step % self.every_n_steps == 0 or step == trainer.max_steps:
            self.log_step(trainer, module, step)

    def on_train_end(self, trainer: Trainer, module: Learner) -> None:
        """Read the figures of the last step, whatever ended the run."""
        if self.read_at != trainer.global_step:
            self.log_step(trainer, module, trainer.global_step)

    def on_exception(self, trainer: Trainer, module: Learner, exception: BaseException) -> None:
        """Read the figures of a step after which another callback failed, since its checkpoint is saved."""
        if self.read_at not in (None, trainer.global_step) and ended_after_step(trainer, exception):
            with suppress(Exception):  # Lightning raises the first exception afterwards
                self.log_step(trainer, module, trainer.global_step)

    def log_step(self, trainer: Trainer, module: Learner, step: int) -> None:
        """Read the figures of the step that has just ended, and write them to the loggers and the file."""
        self.last, self.read_at = self.measure(trainer, module, step), step
        # A gradient scaler tries scales that overflow, and skips such a step.
        scaled = getattr(trainer.precision_plugin, "scaler", None) is not None
        passing = ("images_per_second", *(f"{player}/gradient_norm" for player in module.players if scaled))
        refuse_divergence(module, step, {name: value for name, value in self.last.items() if name not in passing})
        if not trainer.is_global_zero:
            return
        self.add({"step": step} | {name: f"{value:.9g}" for name, value in self.last.items()})
        for logger in trainer.loggers:
            logger.log_metrics(self.last, step)

    def measure(self, trainer: Trainer, module: Learner, step: int) -> dict[str, float]:
        """All figures of the step that has just ended."""
        per_step = trainer.datamodule.batch_size * module.d_steps
        values: dict[str, Any] = {"images_seen": step * per_step}
        of_batch = loss_terms(self.outputs)
        if "d" in self.outputs:
            of_batch |= {
                f"d/output_{kind}": logits.mean() for kind, logits in self.outputs["d"].logits._asdict().items()
            }
        of_batch |= {f"d/accuracy_{kind}": share for kind, share in accuracies(module, self.outputs).items()}
        if trainer.world_size > 1:  # each rank has seen its share of the batch
            means = trainer.strategy.reduce(
                torch.stack([*map(torch.Tensor.double, of_batch.values())]), reduce_op="mean"
            )
            of_batch = dict(zip(of_batch, means, strict=True))
        values |= of_batch
        for player, optimizer in zip(module.players, trainer.optimizers, strict=True):
            gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
            values |= {f"{player}/gradient_norm": torch.nn.utils.get_total_norm(gradients)}
            values |= {f"{player}/lr": optimizer.param_groups[0]["lr"]}
        now = time.perf_counter()
        values["images_per_second"] = (step - self.since) * per_step / (now - self.then)
        self.then, self.since = now, step
        return {name: float(value) for name, value in values.items()}


def ended_after_step(trainer: Trainer, exception: BaseException) -> bool:
    """Return whether an exception came after a whole step, as of a callback, so that this step can be recorded.

    Other processes would not take part in recording it, so several record nothing. A signal that ends a run at once is
    not delayed. A full disk has no room for more, and what has diverged is not kept.
    """
    batches = trainer.fit_loop.epoch_loop.batch_progress.current
    complete = batches.started == batches.processed  # otherwise some networks have been updated and others not
    full = isinstance(exception, OSError) and exception.errno in (errno.ENOSPC, errno.EDQUOT)
    failed_hook = isinstance(exception, Exception) and not isinstance(exception, DivergedError) and not full
    return complete and failed_hook and trainer.world_size == 1


def accuracies(module: Learner, outputs: Mapping[str, StepOutput]) -> dict[str, torch.Tensor]:
    """Share of the real and of the generated samples of a step that the discriminator classifies correctly.

    Empty for a critic, whose loss has no decision boundary, and without a discriminator.
    """
    boundary = getattr(module.loss, "boundary", None) if "d" in outputs else None
    if boundary is None:
        return {}
    real, fake = outputs["d"].logits
    return {"real": (real > boundary).float().mean(), "fake": (fake < boundary).float().mean()}


def loss_terms(outputs: Mapping[str, StepOutput]) -> dict[str, torch.Tensor]:
    """The terms of all losses of a step, as ``d/adversarial``."""
    return named({network: output.terms for network, output in outputs.items()})


def named(terms: Mapping[str, Mapping[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Terms by network and name, one level deep."""
    return {f"{network}/{name}": term for network, of in terms.items() for name, term in of.items()}


def finite_checks(module: Learner, terms: Mapping[str, torch.Tensor] | None = None) -> dict[str, torch.Tensor]:
    """The values that must be finite before anything of a step is saved: all loss terms and the norms of the weights.

    Args:
        module: The model.
        terms: The loss terms; those of the latest complete step by default.
    """
    if terms is None:
        terms = named(module.history[-1][1]) if module.history else {}
    return dict(terms) | {
        f"{network}/weights": torch.nn.utils.get_total_norm([weight.detach() for weight in module.weights_of(network)])
        for network in module.players
    }


def refuse_divergence(module: Learner, step: int, figures: Mapping[str, float | torch.Tensor]) -> None:
    """Raise DivergedError where a figure is not finite, with the step and the term where that began, if they are known.

    All ranks together, or none: who stopped alone would leave the others waiting.
    """
    well = all(math.isfinite(value) for value in figures.values())
    if module.trainer.world_size > 1:
        well = module.trainer.strategy.reduce_boolean_decision(well)
    if well:
        return
    began = None
    for at, values in (*((at, named(terms)) for at, terms in module.history), (step, figures)):
        bad = [(at, name, float(value)) for name, value in values.items() if not math.isfinite(value)]
        began = (began or bad[0]) if bad else None  # a gradient scaler passes over a step that overflows
    at, name, value = began or (step, "a figure of another process", math.nan)
    rates = ", ".join(f"model.{optimizer}.lr" for optimizer in module.optimizer_fns)
    raise DivergedError(
        f"step {at}: {name} is {value}. Training has diverged; what was saved before is kept. "
        f"A lower rate ({rates}) may hold it."
    )
