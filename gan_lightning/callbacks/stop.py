"""Stop a run after the current step when a signal arrives, with a checkpoint."""

import logging
import os
import signal
import subprocess
import threading
from types import FrameType
from typing import Any

from pytorch_lightning import Callback, Trainer

from gan_lightning.learner import Learner
from gan_lightning.signals import INSISTENT, PREEMPTION, SIGNALS, leave, listener

log = logging.getLogger(__name__)


class Stop(Callback):
    """Stops the run after the current step when one of ``gan_lightning.signals.SIGNALS`` arrives.

    A second SIGTERM or SIGINT ends the run at once, and so does any signal before the first step, since there is
    nothing to save. A closed terminal sends SIGHUP twice, and an exhausted limit of CPU time sends SIGXCPU every
    second: a repeated one does not end the run at once.

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
            # nohup has SIGHUP ignored. Shells ignore SIGINT for all that runs in the background, where it may be sent.
            ignored = self.others[signum] == signal.SIG_IGN and signum != signal.SIGINT
            # Where submitit waits for SIGUSR2, it knows that Slurm sends a SIGTERM before, which is no reason to stop.
            passed_on = signum == signal.SIGTERM and any(listener(self.others[one]) for one in PREEMPTION[1:])
            signal.signal(signum, self.others[signum] if ignored or passed_on else self.handle)

    def handle(self, signum: int, frame: FrameType | None) -> None:
        """Only take note: anything more would happen in the middle of a step."""
        if not self.stepping or (self.signum and signum in INSISTENT):
            leave(signum, frame)
        self.signum = self.signum or signum

    def on_train_batch_start(self, *_: Any) -> None:
        """From here on there is something to lose."""
        self.stepping = True

    def on_train_batch_end(self, trainer: Trainer, module: Learner, *_: Any) -> None:
        """Stop here, all ranks at the same step; asking the others costs time, so not at every step."""
        stop = bool(self.signum)
        if trainer.world_size > 1:
            if trainer.global_step % 10:
                return
            stop = trainer.strategy.reduce_boolean_decision(stop, all=False)
            if stop:
                self.signum = self.signum or signal.SIGTERM
        trainer.should_stop = trainer.should_stop or stop

    def ask_again(self) -> None:
        """After the run: ask that a job which makes room for another is run again, by whoever started it.

        submitit's handler puts the job into the queue again and ends this process; without it Slurm is asked.
        """
        if self.signum not in PREEMPTION:
            return
        if handler := listener(self.others[self.signum]):
            handler(self.signum, None)
        elif job := os.environ.get("SLURM_JOB_ID"):
            if array := os.environ.get("SLURM_ARRAY_JOB_ID"):
                job = f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}"
            try:
                subprocess.run(["scontrol", "requeue", job], check=True)
                log.info(f"Slurm has put job {job} into the queue again")
            except (OSError, subprocess.CalledProcessError) as error:
                log.warning(f"scontrol requeue {job}: {error}")
