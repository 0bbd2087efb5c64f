"""The progress bar, in generator steps."""

import sys
from typing import Any

from pytorch_lightning import Callback
from tqdm import tqdm

from gan_lightning.config.constraints import PositiveFloat, Validated
from gan_lightning.model.base import GenerativeModel, StepOutput
from gan_lightning.trainer import Trainer


class Progress(Validated, Callback):
    """Show a progress bar with the remaining time, the number of images and the total loss of each network.

    Args:
        refresh_s: Seconds between two refreshes on a terminal; ten times that in a file.
    """

    def __init__(self, refresh_s: PositiveFloat = 0.5) -> None:
        self.refresh_s = refresh_s
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
        """Advance the bar; the losses are read only when it is redrawn, since that synchronizes with the device."""
        bar = self.progress_bar
        if not bar.disable and bar._time() - bar.last_print_t >= bar.mininterval:
            losses = {network: f"{float(sum(output.terms.values())):.3f}" for network, output in outputs.items()}
            images = trainer.global_step * trainer.datamodule.batch_size * module.d_steps
            bar.set_postfix(losses | {"images": f"{images:,}"}, refresh=False)
        bar.update()

    def teardown(self, trainer: Trainer, module: GenerativeModel, stage: str) -> None:
        """Close the bar, so that the next log message starts on a new line."""
        if self.progress_bar is not None:
            self.progress_bar.close()

    def on_exception(self, trainer: Trainer, module: GenerativeModel, exception: BaseException) -> None:
        """Close the bar of a run that fails, for which Lightning does not call ``teardown``."""
        self.teardown(trainer, module, "fit")
