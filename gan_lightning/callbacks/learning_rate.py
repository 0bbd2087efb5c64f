"""A schedule of both players' learning rates."""

from typing import Any

from pytorch_lightning import Callback, Trainer

from gan_lightning.model.base import GAN
from gan_lightning.schedule import SCHEDULES


class LearningRate(Callback):
    """Sets each optimizer's rate before a step, as a pure function of the step: there is no state to resume.

    Args:
        schedule: Name of a function in ``gan_lightning/schedule.py``.
    """

    def __init__(self, schedule: str = "constant") -> None:
        self.schedule = SCHEDULES[schedule]

    def on_train_batch_start(self, trainer: Trainer, module: GAN, *_: Any) -> None:
        """Rate = first rate x schedule(step / budget)."""
        factor = self.schedule(trainer.global_step / trainer.max_steps)
        for optimizer in module.optimizers(use_pl_optimizer=False):
            for group in optimizer.param_groups:
                group["lr"] = group.setdefault("initial_lr", group["lr"]) * factor
