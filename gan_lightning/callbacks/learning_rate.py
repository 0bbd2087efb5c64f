"""Learning-rate schedules."""

from typing import Any, Literal

from pytorch_lightning import Callback, Trainer

from gan_lightning.config.constraints import Validated
from gan_lightning.model.base import GenerativeModel
from gan_lightning.schedule import SCHEDULES


class LearningRate(Validated, Callback):
    """Set each optimizer's learning rate before a step, as a pure function of the step without state to resume.

    The initial rates are those of the configuration, so that a run can be resumed with other ones.

    Args:
        schedule: Name of a function in ``gan_lightning/schedule/__init__.py``.
    """

    def __init__(self, schedule: Literal["constant", "linear_decay"] = "constant") -> None:
        self.schedule = SCHEDULES[schedule]

    def on_fit_start(self, trainer: Trainer, module: GenerativeModel) -> None:
        """Store the configured rates."""
        self.rates = [[group["lr"] for group in optimizer.param_groups] for optimizer in trainer.optimizers]

    def on_train_batch_start(self, trainer: Trainer, module: GenerativeModel, *_: Any) -> None:
        """Set every rate to configured rate x schedule(step / budget)."""
        factor = self.schedule(trainer.global_step / trainer.max_steps)
        for optimizer, rates in zip(trainer.optimizers, self.rates, strict=True):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * factor
