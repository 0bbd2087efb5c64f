"""Checkpoints, counted in generator steps."""

import os
import shutil
from pathlib import Path
from typing import Any

from pytorch_lightning import Trainer, callbacks

from gan_lightning.callbacks.scalars import figures_of, refuse_divergence
from gan_lightning.files import by_age, refuse_full_disk
from gan_lightning.learner import Learner


class Checkpoint(callbacks.Checkpoint):
    """Saves ``checkpoints/step_00001000.ckpt`` every n steps and at the end, and ``last.ckpt``, the newest.

    Lightning's ModelCheckpoint counts as it pleases under manual optimization: it skips the last step of a budget
    that is not a multiple of its interval, and warns at every save.

    Args:
        every_n_steps: Generator steps between two checkpoints.
        keep: How many to keep, the newest; None keeps all.
    """

    def __init__(self, every_n_steps: int = 500, keep: int | None = 3) -> None:
        self.every_n_steps, self.keep = every_n_steps, keep
        self.saved_at: int | None = None

    def on_train_start(self, trainer: Trainer, module: Learner) -> None:
        """Nothing new to save at the step that a run goes on from.

        Raises:
            UserError: There is no room for the checkpoints of this run.
        """
        self.saved_at = trainer.global_step
        if trainer.is_global_zero:
            folder = Path(trainer.default_root_dir)
            there = sum(file.stat().st_size for file in folder.glob("checkpoints/step_*.ckpt"))
            weights = sum(tensor.nbytes for tensor in module.state_dict().values())
            moments = 2 * sum(parameter.nbytes for parameter in module.parameters() if parameter.requires_grad)
            # The best one and the one that is being written besides those that are kept.
            needed = ((self.keep or 1) + 2) * (weights + moments) - there
            way_out = "hydra.run.dir chooses another place, callbacks.checkpoint.keep keeps fewer"
            refuse_full_disk(folder, needed, "the run's checkpoints", way_out)

    def on_train_batch_end(self, trainer: Trainer, module: Learner, *_: Any) -> None:
        """Save if the step has come."""
        if trainer.global_step % self.every_n_steps == 0:
            self.save(trainer, module)

    def on_train_end(self, trainer: Trainer, module: Learner) -> None:
        """Save the last step, that of a run which is asked to stop among them."""
        if self.saved_at != trainer.global_step:
            self.save(trainer, module)

    def save(self, trainer: Trainer, module: Learner) -> None:
        """Save on all ranks together, then let ``last.ckpt`` name the new file.

        Raises:
            UserError: Training has diverged; to save that would push out the last checkpoints that are good.
        """
        refuse_divergence(module, trainer.global_step, figures_of(module))
        folder = Path(trainer.default_root_dir, "checkpoints")
        path = folder / f"step_{trainer.global_step:08d}.ckpt"
        for logger in trainer.loggers:
            logger.save()  # a run that is killed goes on from here, and nothing before may be missing
        trainer.save_checkpoint(path)
        self.saved_at = trainer.global_step
        if trainer.is_global_zero:
            part = folder / f".last.{os.getpid()}.part"
            part.unlink(missing_ok=True)
            try:
                os.link(path, part)
            except OSError:  # a file system without hard links
                shutil.copyfile(path, part)
            part.replace(folder / "last.ckpt")
            # By age: a run that went back to an earlier step has older files of later steps.
            for old in by_age(folder.glob("step_*.ckpt"))[: -self.keep if self.keep else 0]:
                old.unlink()
