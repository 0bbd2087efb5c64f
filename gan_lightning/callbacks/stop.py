"""Signals end a run at a step's edge, with a checkpoint."""

import signal
import threading
from types import FrameType
from typing import Any

from pytorch_lightning import Callback, Trainer

from gan_lightning.model.base import GAN

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


class Stop(Callback):
    """Lets the current step end when SIGTERM, SIGINT or SIGUSR1 comes; a second one ends the run at once.

    So does one that comes before the first step, while others get ready, since there is nothing to save.

    Lightning's own handlers leave with status 0 and no checkpoint, or save in the middle of a step.

    Attributes:
        signum: The signal that came; 0 for none.
    """

    def __init__(self) -> None:
        self.signum, self.stepping = 0, False

    def on_train_start(self, trainer: Trainer, module: GAN) -> None:
        """Take over from Lightning's handlers, which it puts back itself after the run."""
        if threading.current_thread() is threading.main_thread():
            for signum in SIGNALS:
                signal.signal(signum, self.handle)

    def handle(self, signum: int, frame: FrameType | None) -> None:
        """Only take note: anything more would happen in the middle of a step."""
        if self.signum or not self.stepping:
            raise SystemExit(128 + signum)
        self.signum = signum

    def on_train_batch_start(self, *_: Any) -> None:
        """From here on there is something to lose."""
        self.stepping = True

    def on_train_batch_end(self, trainer: Trainer, module: GAN, *_: Any) -> None:
        """Stop here, all ranks at the same step; asking the others costs time, so not at every step."""
        if trainer.world_size > 1:
            if trainer.global_step % 10:
                return
            if trainer.strategy.reduce_boolean_decision(bool(self.signum), all=False):
                self.signum = self.signum or signal.SIGTERM
        trainer.should_stop = trainer.should_stop or bool(self.signum)
