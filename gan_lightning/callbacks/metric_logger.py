"""Scalar metrics every n steps, written to the loggers and to ``metrics.csv``, and checks that they are finite."""

import csv
import errno
import math
import time
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback

from gan_lightning.callbacks.holdout_gap import HoldoutGap
from gan_lightning.config.constraints import PositiveInt, Validated
from gan_lightning.errors import UserError
from gan_lightning.io import csv_rows
from gan_lightning.io.files import add_path_to_errors, atomic_write, report_damaged, set_aside
from gan_lightning.model.base import GenerativeModel, StepOutput
from gan_lightning.trainer import Trainer


class DivergedError(UserError):
    """Training has diverged: a loss, a gradient or a weight is NaN or infinite."""


class MetricLogger(Validated, Callback):
    """Log all loss terms, the discriminator's mean logits and accuracy, gradient norms, learning rates and speed.

    Args:
        every_n_steps: Generator steps between two rows; reading a value synchronizes the host with the device.

    Attributes:
        last: The latest values by name.
    """

    def __init__(self, every_n_steps: PositiveInt = 50) -> None:
        self.every_n_steps = every_n_steps
        self.last: dict[str, float] = {}
        self.read_at: int | None = None  # the step of ``last``; None before training
        self.outputs: dict[str, StepOutput] = {}  # of the latest step

    def setup(self, trainer: Trainer, module: GenerativeModel, stage: str) -> None:
        """Set the path of the file."""
        self.path = Path(trainer.default_root_dir, "metrics.csv")

    def on_load_checkpoint(self, trainer: Trainer, module: GenerativeModel, checkpoint: dict[str, Any]) -> None:
        """Restore the values of the checkpoint's step, even if no steps are left to train."""
        self.truncate_after(checkpoint["global_step"], trainer)

    def on_train_start(self, trainer: Trainer, module: GenerativeModel) -> None:
        """Remove rows that a killed run wrote after this step, and start the clock."""
        self.truncate_after(trainer.global_step, trainer)
        self.then, self.since = time.perf_counter(), trainer.global_step
        self.read_at = trainer.global_step

    def truncate_after(self, step: int, trainer: Trainer) -> None:
        """Remove the rows of later steps, which will be written again."""
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
        """Return the columns and the intact rows of the file; a file without intact rows is renamed."""
        # Invalid UTF-8 is replaced by characters that are not part of a number.
        text = self.path.read_bytes().decode("utf-8", errors="replace")
        columns, rows, damaged = csv_rows.parse(text)
        report_damaged(self.path, damaged, len(rows))
        return columns, rows

    def write(self, rows: Iterable[Mapping[str, Any]], columns: Collection[str]) -> None:
        """Write the whole file; values that a row lacks are left empty."""
        with atomic_write(self.path, "w") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(rows)

    def add(self, row: dict[str, Any]) -> None:
        """Append a row; names that earlier rows lack, such as those of another loss, become new columns."""
        columns: list[str] = []
        if self.path.exists():
            with self.path.open(newline="", encoding="utf-8", errors="replace") as file:
                columns = next(csv.reader(file), [])
        if row.keys() <= {*columns}:
            with add_path_to_errors(self.path), self.path.open("a", newline="", encoding="utf-8") as file:
                csv.DictWriter(file, columns).writerow(row)
        else:
            columns, rows = self.read() if columns else ([], [])
            self.write([*rows, row], dict.fromkeys([*(columns if rows else []), *row]))

    def on_train_batch_end(
        self, trainer: Trainer, module: GenerativeModel, outputs: dict[str, StepOutput], batch: Any, batch_idx: int
    ) -> None:
        """Log every ``every_n_steps`` steps and at the last step."""
        step, self.outputs = trainer.global_step, outputs
        if step % self.every_n_steps == 0 or step == trainer.max_steps:
            self.log_step(trainer, module)

    def on_train_end(self, trainer: Trainer, module: GenerativeModel) -> None:
        """Log the last step, whatever ended the run."""
        if self.read_at != trainer.global_step:
            self.log_step(trainer, module)

    def on_exception(self, trainer: Trainer, module: GenerativeModel, exception: BaseException) -> None:
        """Log a step after which another callback failed, since a checkpoint of it is saved."""
        if self.read_at not in (None, trainer.global_step) and ended_after_step(trainer, exception):
            with suppress(Exception):  # Lightning re-raises the original exception afterwards
                self.log_step(trainer, module)

    def log_step(self, trainer: Trainer, module: GenerativeModel) -> None:
        """Measure the step that has just ended, and write the values to the loggers and the file."""
        step = self.read_at = trainer.global_step
        self.last = self.measure(trainer, module, step)
        unchecked = {"images_per_second"}
        if getattr(trainer.precision_plugin, "scaler", None) is not None:  # tries scales that overflow, and skips steps
            unchecked |= {f"{network}/gradient_norm" for network in module.optimized_networks}
        check_finite(module, {name: value for name, value in self.last.items() if name not in unchecked})
        if not trainer.is_global_zero:
            return
        self.add({"step": step} | {name: f"{value:.9g}" for name, value in self.last.items()})
        for logger in trainer.loggers:
            logger.log_metrics(self.last, step)

    def measure(self, trainer: Trainer, module: GenerativeModel, step: int) -> dict[str, float]:
        """Return all values of the step that has just ended, by name."""
        per_step = trainer.datamodule.batch_size * module.d_steps
        values: dict[str, Any] = {"images_seen": step * per_step}
        batch_values = loss_terms(self.outputs)
        logits = self.outputs["d"].logits._asdict() if "d" in self.outputs else {}
        batch_values |= {f"d/output_{kind}": logit.mean() for kind, logit in logits.items()}
        batch_values |= {f"d/accuracy_{kind}": share for kind, share in accuracies(module, self.outputs).items()}
        if trainer.world_size > 1:  # each rank computes its slice of the batch
            stacked = torch.stack([*map(torch.Tensor.double, batch_values.values())])
            batch_values = dict(zip(batch_values, trainer.strategy.reduce(stacked, reduce_op="mean"), strict=True))
        values |= batch_values
        for network, optimizer in zip(module.optimized_networks, trainer.optimizers, strict=True):
            gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
            values |= {f"{network}/gradient_norm": torch.nn.utils.get_total_norm(gradients)}
            values |= {f"{network}/lr": optimizer.param_groups[0]["lr"]}
        if (probability := getattr(getattr(module, "augment", None), "current_probability", None)) is not None:
            values["d/augment_probability"] = probability()
        for gauge in (callback for callback in trainer.callbacks if isinstance(callback, HoldoutGap)):
            values |= gauge.measure(trainer, module)
        now = time.perf_counter()
        values["images_per_second"] = (step - self.since) * per_step / (now - self.then)
        self.then, self.since = now, step
        return {name: float(value) for name, value in values.items()}


def ended_after_step(trainer: Trainer, exception: BaseException) -> bool:
    """Return whether an exception was raised after a complete step, as by a callback, so that the step can be saved.

    False for several processes, since the others would not take part in saving; for a signal that ends the run at once;
    for a full disk; and if training has diverged.
    """
    batches: Any = trainer.fit_loop.epoch_loop.batch_progress.current
    complete = batches.started == batches.processed  # otherwise some networks have been updated and others not
    full = isinstance(exception, OSError) and exception.errno in (errno.ENOSPC, errno.EDQUOT)
    failed_hook = isinstance(exception, Exception) and not isinstance(exception, DivergedError) and not full
    return complete and failed_hook and trainer.world_size == 1


def accuracies(module: GenerativeModel, outputs: Mapping[str, StepOutput]) -> dict[str, torch.Tensor]:
    """Return the discriminator's accuracy on the real and on the generated samples of a step.

    Empty for a critic, whose loss has no decision boundary, and without a discriminator.
    """
    boundary = getattr(module.loss, "boundary", None) if "d" in outputs else None
    if boundary is None:
        return {}
    real, fake = outputs["d"].logits
    return {"real": (real > boundary).float().mean(), "fake": (fake < boundary).float().mean()}


def loss_terms(outputs: Mapping[str, StepOutput]) -> dict[str, torch.Tensor]:
    """Return the loss terms of all networks of a step, named like ``d/adversarial``."""
    return named({network: output.terms for network, output in outputs.items()})


def named(terms: Mapping[str, Mapping[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Flatten terms by network and name into one dictionary with names like ``d/adversarial``."""
    return {f"{network}/{name}": term for network, own in terms.items() for name, term in own.items()}


def finite_checks(module: GenerativeModel, terms: Mapping[str, torch.Tensor] | None = None) -> dict[str, torch.Tensor]:
    """Return the values that must be finite before a step is saved: all loss terms and the norms of the weights.

    Args:
        module: The model.
        terms: The loss terms; those of the latest complete step by default.
    """
    if terms is None:
        terms = named(module.history[-1][1]) if module.history else {}
    weights = {name: [w.detach() for w in module.optimized_parameters(name)] for name in module.optimized_networks}
    return dict(terms) | {f"{name}/weights": torch.nn.utils.get_total_norm(w) for name, w in weights.items()}


def check_finite(module: GenerativeModel, values: Mapping[str, float | torch.Tensor] | None = None) -> None:
    """Raise DivergedError if a value is not finite, naming the first such step and term in the recorded history.

    All ranks raise together, since ranks that continued would wait for the others.

    Args:
        module: The model.
        values: Values of the step that has just ended; those of :func:`finite_checks` by default.
    """
    step, values = module.trainer.global_step, finite_checks(module) if values is None else values
    finite = all(math.isfinite(value) for value in values.values())
    if module.trainer.world_size > 1:
        finite = module.trainer.strategy.reduce_boolean_decision(finite)
    if finite:
        return
    began = None
    for at, recorded in (*((at, named(terms)) for at, terms in module.history), (step, values)):
        bad = [(at, name, float(value)) for name, value in recorded.items() if not math.isfinite(value)]
        began = (began or bad[0]) if bad else None  # a gradient scaler skips a step that overflows
    at, name, value = began or (step, "a value of another process", math.nan)
    rates = ", ".join(f"model.{optimizer}.lr" for optimizer in module.optimizer_fns)
    raise DivergedError(
        f"step {at}: {name} is {value}. Training has diverged; earlier checkpoints are kept. "
        f"Try a lower learning rate ({rates})."
    )
