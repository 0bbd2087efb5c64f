"""Graceful shutdown: stop after the current step when a signal arrives, save a checkpoint, and requeue the job."""

import logging
import os
import signal
import subprocess
import threading
from types import FrameType
from typing import Any

from pytorch_lightning import Callback, Trainer

from gan_lightning.io.signals import INSISTENT, PREEMPTION, SIGNALS, leave, listener
from gan_lightning.model.base import GenerativeModel

log = logging.getLogger(__name__)


class GracefulStop(Callback):
    """Stop the run after the current step when one of ``gan_lightning.io.signals.SIGNALS`` arrives.

    A second SIGTERM or SIGINT ends the run at once, and so does any signal before the first step, since there is
    nothing to save. Other repeated signals do not, since a closed terminal sends SIGHUP twice, and an exceeded CPU time
    limit sends SIGXCPU every second.

    Lightning's own handlers exit with status 0 without a checkpoint, or save one in the middle of a step.

    Attributes:
        signum: The signal that was received; 0 for none.
    """

    def __init__(self) -> None:
        self.signum, self.stepping = 0, False
        self.previous: dict[int, Any] = {}  # handlers by signal

    def setup(self, trainer: Trainer, module: GenerativeModel, stage: str) -> None:
        """Store the handlers that were installed before Lightning's."""
        self.previous = {signum: signal.getsignal(signum) for signum in SIGNALS}

    def on_train_start(self, trainer: Trainer, module: GenerativeModel) -> None:
        """Replace Lightning's handlers; Lightning restores the original ones after the run."""
        if threading.current_thread() is not threading.main_thread():
            return
        for signum in SIGNALS:
            # nohup ignores SIGHUP, which stays ignored. Shells ignore SIGINT for background processes, to which it may
            # still be sent deliberately, so it is handled.
            ignored = self.previous[signum] == signal.SIG_IGN and signum != signal.SIGINT
            # submitit handles SIGUSR2 and ignores the SIGTERM that Slurm sends before it, so that its handler is kept.
            passed_on = signum == signal.SIGTERM and any(listener(self.previous[one]) for one in PREEMPTION[1:])
            signal.signal(signum, self.previous[signum] if ignored or passed_on else self.handle)

    def handle(self, signum: int, frame: FrameType | None) -> None:
        """Record the signal, since a handler runs in the middle of a step; raise if the run has to end at once."""
        if not self.stepping or (self.signum and signum in INSISTENT):
            leave(signum, frame)
        self.signum = self.signum or signum

    def on_train_batch_start(self, *_: Any) -> None:
        """Record that training has begun, so that a signal no longer ends the run at once."""
        self.stepping = True

    def on_train_batch_end(self, trainer: Trainer, module: GenerativeModel, *_: Any) -> None:
        """Stop all ranks at the same step; they are synchronized every 10 steps, since that costs time."""
        stop = bool(self.signum)
        if trainer.world_size > 1:
            if trainer.global_step % 10:
                return
            stop = trainer.strategy.reduce_boolean_decision(stop, all=False)
            if stop:
                self.signum = self.signum or signal.SIGTERM
        trainer.should_stop = trainer.should_stop or stop

    def requeue(self) -> None:
        """Requeue a preempted job after the run.

        submitit's handler requeues the job and ends this process; without submitit ``scontrol requeue`` is run.
        """
        if self.signum not in PREEMPTION:
            return
        if handler := listener(self.previous[self.signum]):
            handler(self.signum, None)
        elif job := os.environ.get("SLURM_JOB_ID"):
            if array := os.environ.get("SLURM_ARRAY_JOB_ID"):
                job = f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}"
            try:
                subprocess.run(["scontrol", "requeue", job], check=True)
                log.info(f"Slurm job {job} has been requeued")
            except (OSError, subprocess.CalledProcessError) as error:
                log.warning(f"scontrol requeue {job}: {error}")
