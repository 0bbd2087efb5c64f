"""Signals end a run at a step's edge, with a checkpoint."""

import logging
import os
import signal
import subprocess
import threading
from types import FrameType
from typing import Any

from pytorch_lightning import Callback, Trainer

from gan_lightning.learner import Learner

log = logging.getLogger(__name__)

PREEMPTION = (signal.SIGUSR1, signal.SIGUSR2)  # what Slurm is told to send ahead of the end, and submitit's choice
SIGNALS = (signal.SIGTERM, signal.SIGINT, *PREEMPTION)


class Stop(Callback):
    """Lets the current step end when SIGTERM, SIGINT, SIGUSR1 or SIGUSR2 comes; a second one ends the run at once.

    So does one that comes before the first step, while others get ready, since there is nothing to save.

    Lightning's own handlers leave with status 0 and no checkpoint, or save in the middle of a step.

    Attributes:
        signum: The signal that came; 0 for none.
    """

    def __init__(self) -> None:
        self.signum, self.stepping = 0, False
        self.others: dict[int, Any] = {}

    def setup(self, trainer: Trainer, module: Learner, stage: str) -> None:
        """Note who has listened before Lightning does."""
        self.others = {signum: signal.getsignal(signum) for signum in SIGNALS}

    def on_train_start(self, trainer: Trainer, module: Learner) -> None:
        """Take over from Lightning's handlers, which it puts back itself after the run."""
        if threading.current_thread() is not threading.main_thread():
            return
        for signum in SIGNALS:
            # Where submitit waits for SIGUSR2, it knows that Slurm sends a SIGTERM before, which is no reason to stop.
            passed_on = signum == signal.SIGTERM and callable(self.others[signal.SIGUSR2])
            signal.signal(signum, self.others[signum] if passed_on else self.handle)

    def handle(self, signum: int, frame: FrameType | None) -> None:
        """Only take note: anything more would happen in the middle of a step."""
        if self.signum or not self.stepping:
            raise SystemExit(128 + signum)
        self.signum = signum

    def on_train_batch_start(self, *_: Any) -> None:
        """From here on there is something to lose."""
        self.stepping = True

    def on_train_batch_end(self, trainer: Trainer, module: Learner, *_: Any) -> None:
        """Stop here, all ranks at the same step; asking the others costs time, so not at every step."""
        if trainer.world_size > 1:
            if trainer.global_step % 10:
                return
            if trainer.strategy.reduce_boolean_decision(bool(self.signum), all=False):
                self.signum = self.signum or signal.SIGTERM
        trainer.should_stop = trainer.should_stop or bool(self.signum)

    def ask_again(self) -> None:
        """After the run: ask that a job which makes room for another is run again, by whoever started it.

        submitit's handler puts the job into the queue again and ends this process; without it Slurm is asked.
        """
        if self.signum not in PREEMPTION:
            return
        if callable(handler := self.others[self.signum]):
            handler(self.signum, None)
        elif job := os.environ.get("SLURM_JOB_ID"):
            if array := os.environ.get("SLURM_ARRAY_JOB_ID"):
                job = f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}"
            try:
                subprocess.run(["scontrol", "requeue", job], check=True)
                log.info(f"Slurm has put job {job} into the queue again")
            except (OSError, subprocess.CalledProcessError) as error:
                log.warning(f"scontrol requeue {job}: {error}")
