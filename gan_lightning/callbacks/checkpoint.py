"""The checkpoint callback, and functions that read a checkpoint without its weights."""

import logging
import os
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import callbacks

from gan_lightning.callbacks.metric_logger import check_finite, ended_after_step
from gan_lightning.config.constraints import AtLeastOne, PositiveInt, Validated
from gan_lightning.errors import UserError, write_error_message
from gan_lightning.io.files import check_free_space, part_of, replace, samples_by_step, set_aside
from gan_lightning.model.base import GenerativeModel
from gan_lightning.trainer import Trainer

log = logging.getLogger(__name__)


class Checkpoint(Validated, callbacks.Checkpoint):
    """Save ``checkpoints/step_00001000.ckpt`` every n steps and at the end, and link the latest to ``last.ckpt``.

    Lightning's ModelCheckpoint does not fit manual optimization: it skips the last step of a budget that is not a
    multiple of its interval, and warns at every save.

    A run directory holds one history. Checkpoints of later steps than the one being saved belong to a continuation
    that was abandoned by resuming from an earlier step, and are removed after saving.

    Args:
        every_n_steps: Generator steps between two checkpoints.
        keep: Number of checkpoints to keep, those of the highest steps; None keeps all.

    Attributes:
        started: Start time of the run in seconds since the epoch, moved back by the duration of earlier commands.
    """

    def __init__(self, every_n_steps: PositiveInt = 500, keep: AtLeastOne | None = 3) -> None:
        self.every_n_steps, self.keep = every_n_steps, keep
        self.saved_at: int | None = None
        self.started = time.time()

    def state_dict(self) -> dict[str, Any]:
        """Return the duration of the run so far, over all commands."""
        return {"seconds": time.time() - self.started}

    def on_train_start(self, trainer: Trainer, module: GenerativeModel) -> None:
        """Check the free disk space and warn of checkpoints that will be replaced.

        Raises:
            UserError: The disk is too full for the checkpoints of this run.
        """
        self.saved_at = trainer.global_step
        if trainer.is_global_zero:
            folder = Path(trainer.default_root_dir)
            files = samples_by_step(folder / "checkpoints", ".ckpt")
            existing = sum(file.stat().st_size for _, file in files)
            if abandoned := [step for step, _ in files if step > trainer.global_step]:
                steps = ", ".join(f"{step:,}" for step in abandoned)
                log.warning(
                    f"{folder / 'checkpoints'}: checkpoints of steps {steps} are later than the one resumed from; the "
                    "next checkpoint replaces them"
                )
            weights = sum(tensor.nbytes for tensor in module.state_dict().values())
            moments = 2 * sum(parameter.nbytes for parameter in module.parameters() if parameter.requires_grad)
            # Besides the checkpoints that are kept: best.ckpt and the temporary file of the one being written.
            needed = ((self.keep or 1) + 2) * (weights + moments) - existing
            advice = "hydra.run.dir chooses another directory, callbacks.checkpoint.keep keeps fewer"
            check_free_space(folder, needed, "the run's checkpoints", advice)

    def on_train_batch_end(self, trainer: Trainer, module: GenerativeModel, *_: Any) -> None:
        """Save every ``every_n_steps`` steps and at the last step.

        The last step is saved here rather than in ``on_train_end``, so that it is saved even if another callback's
        ``on_train_end`` fails. Lightning calls checkpoint callbacks after all others.
        """
        step = trainer.global_step
        last = step == trainer.max_steps or (trainer.should_stop and step >= (trainer.min_steps or 0))
        if step % self.every_n_steps == 0 or last:
            self.save(trainer, module)

    def on_train_end(self, trainer: Trainer, module: GenerativeModel) -> None:
        """Save the last step if ``on_train_batch_end`` has not saved it."""
        if self.saved_at != trainer.global_step:
            self.save(trainer, module)

    def on_exception(self, trainer: Trainer, module: GenerativeModel, exception: BaseException) -> None:
        """Save the last step if a hook after it failed, such as another callback's ``on_train_batch_end``."""
        if self.saved_at in (None, trainer.global_step) or not ended_after_step(trainer, exception):
            return
        try:
            check_finite(module)
            with suppress(Exception):  # the exception may come from a logger
                self.flush_loggers(trainer)
            self.write(trainer)
        except (UserError, OSError) as error:  # Lightning re-raises the original exception afterwards
            reason = write_error_message(error) if isinstance(error, OSError) else error
            log.warning(f"step {trainer.global_step:,} is not saved: {reason}")

    def save(self, trainer: Trainer, module: GenerativeModel) -> None:
        """Save a checkpoint; called on all ranks.

        Raises:
            DivergedError: Training has diverged; saving would displace the last finite checkpoints.
        """
        check_finite(module)
        self.flush_loggers(trainer)
        self.write(trainer)

    def flush_loggers(self, trainer: Trainer) -> None:
        """Flush the loggers, since a run that resumes from this checkpoint does not log earlier steps again."""
        for logger in trainer.loggers:
            logger.save()

    def write(self, trainer: Trainer) -> None:
        """Write the checkpoint of the current step, replace ``last.ckpt`` and remove superseded files."""
        folder = Path(trainer.default_root_dir, "checkpoints")
        path = folder / f"step_{trainer.global_step:08d}.ckpt"
        trainer.save_checkpoint(path)
        self.saved_at = trainer.global_step
        if trainer.is_global_zero:
            self.link(path, folder / "last.ckpt")
            files = samples_by_step(folder, ".ckpt")
            current = [file for step, file in files if step <= trainer.global_step]
            abandoned = [file for step, file in files if step > trainer.global_step]
            for old in abandoned + current[: -self.keep if self.keep else 0]:
                old.unlink(missing_ok=True)

    def link(self, path: Path, last: Path) -> None:
        """Replace ``last.ckpt`` atomically by a hard link to a checkpoint, or by a copy of it."""
        set_aside(last)
        part = part_of(last)
        try:
            part.unlink(missing_ok=True)
            try:
                os.link(path, part)
            except OSError:  # a file system without hard links
                shutil.copyfile(path, part)
            replace(part, last)
        except OSError as error:
            error.filename = str(last)
            raise
        finally:
            part.unlink(missing_ok=True)


def saved_step(path: Path) -> int:
    """Return the step of a checkpoint without reading its weights; -1 if the file is missing or damaged."""
    step = without_weights(path).get("global_step")
    return step if isinstance(step, int) else -1


def without_weights(path: Path) -> dict[str, Any]:
    """Return the content of a checkpoint with memory-mapped tensors, or an empty dictionary if it cannot be read.

    Only a regular file is opened, since opening a named pipe would block.
    """
    try:
        content = torch.load(path, "cpu", weights_only=True, mmap=True) if path.is_file() else {}
    except Exception:  # torch raises many types of exceptions for damaged files
        return {}
    return content if isinstance(content, dict) else {}
