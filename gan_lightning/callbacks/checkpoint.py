"""Checkpoints, counted in generator steps."""

import logging
import os
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Trainer, callbacks

from gan_lightning.callbacks.scalars import ended_after_step, finite_checks, refuse_divergence
from gan_lightning.config.constraints import AtLeastOne, PositiveInt, Validated
from gan_lightning.errors import UserError, cannot_write
from gan_lightning.files import by_step, refuse_full_disk, replace
from gan_lightning.learner import Learner

log = logging.getLogger(__name__)


class Checkpoint(Validated, callbacks.Checkpoint):
    """Saves ``checkpoints/step_00001000.ckpt`` every n steps and at the end, and ``last.ckpt``, the newest.

    Lightning's ModelCheckpoint counts as it pleases under manual optimization: it skips the last step of a budget
    that is not a multiple of its interval, and warns at every save.

    A run directory holds one history. Files of steps after the one that has just been saved belong to a continuation
    that was abandoned by resuming from an earlier step, and are removed with the next checkpoint.

    Args:
        every_n_steps: Generator steps between two checkpoints.
        keep: How many to keep, those of the highest steps; None keeps all.

    Attributes:
        started: When the run began, in seconds, moved back by the duration of earlier commands.
    """

    def __init__(self, every_n_steps: PositiveInt = 500, keep: AtLeastOne | None = 3) -> None:
        self.every_n_steps, self.keep = every_n_steps, keep
        self.saved_at: int | None = None
        self.started = time.time()

    def state_dict(self) -> dict[str, Any]:
        """The run's duration so far, over all commands."""
        return {"seconds": time.time() - self.started}

    def on_train_start(self, trainer: Trainer, module: Learner) -> None:
        """Nothing new to save at the step that a run goes on from.

        Raises:
            UserError: There is no room for the checkpoints of this run.
        """
        self.saved_at = trainer.global_step
        if trainer.is_global_zero:
            folder = Path(trainer.default_root_dir)
            files = by_step(folder / "checkpoints", ".ckpt")
            there = sum(file.stat().st_size for _, file in files)
            if abandoned := [step for step, _ in files if step > trainer.global_step]:
                steps = ", ".join(f"{step:,}" for step in abandoned)
                log.warning(
                    f"{folder / 'checkpoints'}: checkpoints of steps {steps} are later than the one resumed from; the "
                    "next checkpoint replaces them"
                )
            weights = sum(tensor.nbytes for tensor in module.state_dict().values())
            moments = 2 * sum(parameter.nbytes for parameter in module.parameters() if parameter.requires_grad)
            # The best one and the one that is being written besides those that are kept.
            needed = ((self.keep or 1) + 2) * (weights + moments) - there
            way_out = "hydra.run.dir chooses another place, callbacks.checkpoint.keep keeps fewer"
            refuse_full_disk(folder, needed, "the run's checkpoints", way_out)

    def on_train_batch_end(self, trainer: Trainer, module: Learner, *_: Any) -> None:
        """Save if the step is due, or looks like the last.

        The last step is saved here rather than in ``on_train_end``, so that another callback whose last hooks fail
        does not cost it: Lightning calls this callback after all others.
        """
        step = trainer.global_step
        last = step == trainer.max_steps or (trainer.should_stop and step >= (trainer.min_steps or 0))
        if step % self.every_n_steps == 0 or last:
            self.save(trainer, module)

    def on_train_end(self, trainer: Trainer, module: Learner) -> None:
        """Save the last step where nothing announced that it was the last."""
        if self.saved_at != trainer.global_step:
            self.save(trainer, module)

    def on_exception(self, trainer: Trainer, module: Learner, exception: BaseException) -> None:
        """Save the last step if a hook after it failed, such as another callback's ``on_train_batch_end``."""
        if self.saved_at in (None, trainer.global_step) or not ended_after_step(trainer, exception):
            return
        try:
            refuse_divergence(module, trainer.global_step, finite_checks(module))
            with suppress(Exception):  # a logger may be what has failed
                self.flush_loggers(trainer)
            self.write(trainer)
        except (UserError, OSError) as error:  # Lightning raises the first exception afterwards
            reason = cannot_write(error) if isinstance(error, OSError) else error
            log.warning(f"step {trainer.global_step:,} is not saved: {reason}")

    def save(self, trainer: Trainer, module: Learner) -> None:
        """Save on all ranks together, then let ``last.ckpt`` name the new file.

        Raises:
            DivergedError: Training has diverged; to save that would push out the last checkpoints that are good.
        """
        refuse_divergence(module, trainer.global_step, finite_checks(module))
        self.flush_loggers(trainer)
        self.write(trainer)

    def flush_loggers(self, trainer: Trainer) -> None:
        """Write what loggers have buffered, since a killed run resumes from here and logs no earlier step again."""
        for logger in trainer.loggers:
            logger.save()

    def write(self, trainer: Trainer) -> None:
        """Write the checkpoint of the current step, replace ``last.ckpt`` and remove superseded files."""
        folder = Path(trainer.default_root_dir, "checkpoints")
        path = folder / f"step_{trainer.global_step:08d}.ckpt"
        trainer.save_checkpoint(path)
        self.saved_at = trainer.global_step
        if trainer.is_global_zero:
            part = folder / f".last.{os.getpid()}.part"
            part.unlink(missing_ok=True)
            try:
                os.link(path, part)
            except OSError:  # a file system without hard links
                shutil.copyfile(path, part)
            replace(part, folder / "last.ckpt")
            files = by_step(folder, ".ckpt")
            of_this = [file for step, file in files if step <= trainer.global_step]
            abandoned = [file for step, file in files if step > trainer.global_step]
            for old in abandoned + of_this[: -self.keep if self.keep else 0]:
                old.unlink(missing_ok=True)


def saved_step(path: Path) -> int:
    """Return the step of a checkpoint, read without its weights; -1 where the file is missing or damaged."""
    step = without_weights(path).get("global_step")
    return step if isinstance(step, int) else -1


def without_weights(path: Path) -> dict[str, Any]:
    """Return a checkpoint's content, its tensors left on the disk; empty where it cannot be read.

    Only a regular file is opened: a named pipe would block for ever.
    """
    try:
        content = torch.load(path, "cpu", weights_only=True, mmap=True) if path.is_file() else {}
    except Exception:  # damaged files make torch raise a dozen kinds
        return {}
    return content if isinstance(content, dict) else {}
