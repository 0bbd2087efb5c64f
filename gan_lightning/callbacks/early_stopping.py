"""Early stopping: end a run whose score no longer improves by more than its noise."""

import logging
from typing import Annotated, Any, ClassVar

from annotated_types import Interval
from pytorch_lightning import Callback

from gan_lightning.callbacks.evaluate import Evaluate
from gan_lightning.config.constraints import AtLeastOne, Validated
from gan_lightning.model.base import GenerativeModel
from gan_lightning.trainer import Trainer

log = logging.getLogger(__name__)

NUM_STDS = 2.0  # standard deviations of the noise that an improvement must exceed


class EarlyStopping(Validated, Callback):
    """Stop when the deciding score has not improved by more than its noise within the last ``patience`` evaluations.

    The noise is the standard deviation of the score over samples from other seeds. It is measured once, with the first
    improvement that may be noise, and is then taken to be proportional to the score. ``checkpoints/best.ckpt`` has the
    best model. A run that is resumed after it stopped trains until its next evaluation.

    Args:
        patience: Number of evaluations; None never stops.
        seeds: Seeds of the samples from which the noise is measured.

    Attributes:
        noise: Standard deviation of the score, relative to the score; None before it is measured.
        reason: Why the run was stopped; empty if it was not.
    """

    effective_with: ClassVar = {"patience": "evaluation"}

    def __init__(self, patience: AtLeastOne | None = None, seeds: Annotated[int, Interval(ge=2, le=100)] = 4) -> None:
        self.patience, self.seeds = patience, seeds
        self.noise: float | None = None
        self.reason = ""

    def state_dict(self) -> dict[str, Any]:
        """Return the measured noise."""
        return {"noise": self.noise}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the measured noise."""
        self.noise = state["noise"]

    def on_validation_end(self, trainer: Trainer, module: GenerativeModel) -> None:
        """Compare the best of the last ``patience`` scores with the best before; called after each evaluation."""
        evaluate = next(callback for callback in trainer.callbacks if isinstance(callback, Evaluate))
        history, sign, name = evaluate.history(), evaluate.sign, evaluate.best_by
        if self.patience is None or len(history) <= self.patience:
            return
        earlier = max(sign * value for _, value in history[: -self.patience])
        recent = max(sign * value for _, value in history[-self.patience :])
        threshold = 0.0
        if recent > earlier:
            if self.noise is None:
                self.noise = evaluate.measure_noise(trainer, module, self.seeds)
                log.info(f"early stopping: {name} varies by {self.noise:.1%} between samples of other seeds")
            threshold = NUM_STDS * self.noise * abs(earlier)
        if recent - earlier > threshold:
            return
        step, best = evaluate.best()
        self.reason = (
            f"early stopping: {name} has not improved by more than {threshold:.3g} in {self.patience} evaluations; "
            f"the best is {best:.4g} at step {step:,}"
        )
        trainer.should_stop = True
