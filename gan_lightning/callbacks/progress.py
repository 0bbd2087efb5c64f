"""The progress bar, in generator steps, and an estimate of a run's duration."""

import logging
import statistics
import sys
import time
from itertools import pairwise
from typing import Any

import torch
from pytorch_lightning import Callback
from tqdm import tqdm

from gan_lightning.config.constraints import AtLeastOne, PositiveFloat, Validated
from gan_lightning.io.memory import peak_memory
from gan_lightning.model.base import GenerativeModel, StepOutput
from gan_lightning.trainer import Trainer

log = logging.getLogger(__name__)

WARMUP = 10  # steps that are not timed: memory is allocated, kernels are chosen, CUDA graphs are captured


class Progress(Validated, Callback):
    """Show a progress bar with the remaining time, the number of images and the total loss of each network.

    Args:
        refresh_s: Seconds between two refreshes on a terminal; ten times that in a file.
        estimate_steps: Number of steps after warm-up that are timed to log the expected duration and the peak memory;
            None for no estimate.
    """

    def __init__(self, refresh_s: PositiveFloat = 0.5, estimate_steps: AtLeastOne | None = None) -> None:
        self.refresh_s, self.estimate_steps = refresh_s, estimate_steps
        self.times: list[float] = []  # at which the timed steps ended
        self.num_steps = 0  # of this process
        self.progress_bar: Any = None  # a tqdm during training

    def on_train_start(self, trainer: Trainer, module: GenerativeModel) -> None:
        """Open the progress bar at the step where the run starts or resumes."""
        self.progress_bar = tqdm(
            total=trainer.max_steps,
            initial=trainer.global_step,
            unit="step",
            mininterval=self.refresh_s if sys.stderr.isatty() else 10 * self.refresh_s,
            maxinterval=float("inf"),  # mininterval alone limits refreshes, so that a slow step is shown when it ends
            miniters=1,
            dynamic_ncols=True,
            disable=not trainer.is_global_zero,
        )

    def on_train_batch_end(
        self, trainer: Trainer, module: GenerativeModel, outputs: dict[str, StepOutput], batch: Any, batch_idx: int
    ) -> None:
        """Advance the progress bar; read the losses only when it is redrawn, since this synchronizes the device."""
        progress_bar = self.progress_bar
        if not progress_bar.disable and progress_bar._time() - progress_bar.last_print_t >= progress_bar.mininterval:
            losses = {network: f"{float(sum(output.terms.values())):.3f}" for network, output in outputs.items()}
            images = trainer.global_step * trainer.datamodule.batch_size * module.d_steps
            progress_bar.set_postfix(losses | {"images": f"{images:,}"}, refresh=False)
        progress_bar.update()
        if self.estimate_steps is not None:
            self.time_step(trainer, module, self.estimate_steps)

    def time_step(self, trainer: Trainer, module: GenerativeModel, num_timed: int) -> None:
        """Record the time of a step after warm-up; log the estimate after the last of ``num_timed`` steps.

        The median is taken, since samples are drawn and scores measured after some steps. The steps are those of the
        run, and a device is only waited for, so that training is not changed.
        """
        self.num_steps += 1
        if not WARMUP <= self.num_steps <= WARMUP + num_timed:
            return
        if module.device.type == "cuda":
            torch.cuda.synchronize(module.device)
        self.times.append(time.perf_counter())
        if self.num_steps == WARMUP + num_timed and trainer.is_global_zero:
            seconds = statistics.median(after - before for before, after in pairwise(self.times))
            log.info(estimate(trainer.max_steps - trainer.global_step, seconds, peak_memory(module.device)))

    def teardown(self, trainer: Trainer, module: GenerativeModel, stage: str) -> None:
        """Close the progress bar, so that the next log message starts on a new line."""
        if self.progress_bar is not None:
            self.progress_bar.close()

    def on_exception(self, trainer: Trainer, module: GenerativeModel, exception: BaseException) -> None:
        """Close the progress bar of a run that fails, for which Lightning does not call ``teardown``."""
        self.teardown(trainer, module, "fit")


def estimate(num_steps: int, seconds: float, memory: int | None) -> str:
    """Return the line on the expected duration of a run and its memory.

    Args:
        num_steps: Generator steps that are left.
        seconds: Duration of one.
        memory: Peak memory so far in bytes; None if unknown.
    """
    left = num_steps * seconds
    duration = f"{left / 3600:.1f} h" if left >= 5400 else f"{left / 60:.0f} min" if left >= 90 else f"{left:.0f} s"
    used = f"; peak memory {memory / 1e9:.2f} GB" if memory is not None else ""
    steps = f"{num_steps:,} more steps of {seconds:.3g} s"
    return f"expected duration {duration} for {steps}, without evaluations{used}"
