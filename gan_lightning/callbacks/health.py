"""Says in plain words when a run goes wrong, with the number that shows it."""

import logging
import math
from typing import Any

import torch
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.loggers import TensorBoardLogger
from scipy.stats import binom
from torch import Tensor

from gan_lightning.callbacks.evaluate import Evaluate
from gan_lightning.callbacks.scalars import accuracies, finite_checks, refuse_divergence
from gan_lightning.config.constraints import PositiveInt, Validated
from gan_lightning.learner import Learner, StepOutput

log = logging.getLogger(__name__)

PATIENCE = 5  # readings in a row before something is told
ACCURATE = 0.99  # of D, on real and on fake
VANISHED = 0.02  # of the largest norm that G's gradient has had
COLLAPSED, WARMED_UP = 0.2, 500  # of the real samples' spread; steps until when a small spread is no sign
LOST, FOUND = 0.1, 0.5  # of a class's share among the real samples
CHANCE = 1e-3  # that no class is lost, and one of many merely rare among the samples
FAR = 2.0  # times the best

ADVICE = {
    "gradient": "G learns nothing more: loss=non_saturating, a lower rate of D "
    "(model.discriminator_optimizer.lr), loss.label_smoothing=0.1 or model=wgan_gp",
    "diversity": "the modes collapse: model=wgan_gp, a lower rate of G (model.generator_optimizer.lr), more D steps "
    "(model.d_steps) or a larger data.batch_size",
    "posterior": "the encoder says nothing of a sample: a lower model.beta or model.deviation",
    "classes": "go back to the best checkpoint, or try model=acgan, model=cgan or model=wgan_gp",
    "metric": "checkpoints/best.ckpt holds the best; callbacks.learning_rate.schedule=linear_decay and "
    "model.ema_decay=0.999 keep a run near it",
}


class Health(Validated, Callback):
    """Looks every n steps, and at every evaluation; what it finds is told once, and again only after it was well.

    It warns of a D that is always right while G's gradient vanishes; of generated batches that vary much less than real
    ones; of classes that are lost; of a metric far above its best. A loss or a weight that is not finite stops the
    run before a checkpoint is written of it.

    Args:
        every_n_steps: Generator steps between two looks.
        stop: Stop the run at the first warning, with a checkpoint and a failure.

    Attributes:
        stopped: The warning that stopped the run; empty for none.
        told: All warnings of this session.
    """

    def __init__(self, every_n_steps: PositiveInt = 50, stop: bool = False) -> None:
        self.every_n_steps, self.stop = every_n_steps, stop
        self.peak = 0.0  # of the norm of G's gradient
        self.ill: dict[str, int] = {}  # readings in a row, by sign
        self.found: set[int] = set()  # classes that have been seen
        self.stopped, self.told = "", []

    def state_dict(self) -> dict[str, Any]:
        """What later readings are compared with."""
        return {"peak": self.peak, "ill": self.ill, "found": sorted(self.found)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self.peak, self.ill, self.found = state["peak"], state["ill"], set(state["found"])

    def on_train_batch_end(
        self, trainer: Trainer, module: Learner, outputs: dict[str, StepOutput], batch: Any, batch_idx: int
    ) -> None:
        """Look, if the step has come."""
        step, warnings = trainer.global_step, []
        looked = step % self.every_n_steps == 0
        if looked:
            refuse_divergence(module, step, finite_checks(module))
            warnings += self.signs_of_game(trainer, module, outputs, batch[0])
        judge = next((guest for guest in trainer.callbacks if isinstance(guest, Evaluate)), None)
        judged = judge is not None and bool(judge.latest) and judge.curve[-1]["step"] == step
        if judged:
            warnings += self.signs_of_scores(trainer, judge)
        if trainer.is_global_zero:
            for warning in warnings:
                self.tell(trainer, f"step {step:,}: {warning}", step)
        if self.stop and (looked or judged):  # at steps that all ranks look at
            self.stopped = "; ".join(warnings)
            if trainer.strategy.reduce_boolean_decision(bool(self.stopped), all=False):
                self.stopped = self.stopped or "another process has warned"
                trainer.should_stop = True

    def signs_of_game(
        self, trainer: Trainer, module: Learner, outputs: dict[str, StepOutput], real: Tensor
    ) -> list[str]:
        """What the latest step shows."""
        warnings = []
        fake = outputs["g"].fake
        spread = float(variety(fake) / variety(real[-len(fake) :]))
        for logger in trainer.loggers if trainer.is_global_zero else []:
            logger.log_metrics({"health/diversity": spread}, trainer.global_step)
        if self.lasting("diversity", trainer.global_step >= WARMED_UP and spread < COLLAPSED):
            advice = ADVICE["diversity" if "d" in outputs else "posterior"]
            warnings.append(f"generated samples vary {spread:.2f} times as much as real ones; {advice}")
        gradients = [p.grad for p in module.generator.parameters() if p.grad is not None]
        norm = float(torch.nn.utils.get_total_norm(gradients)) if gradients else 0.0
        if (right := accuracies(module, outputs)) and math.isfinite(
            norm
        ):  # a gradient scaler tries scales that overflow
            self.peak = max(self.peak, norm)
            accuracy = float(min(right.values()))
            if self.lasting("gradient", accuracy >= ACCURATE and norm < VANISHED * self.peak):
                warnings.append(
                    f"D is right on {accuracy:.0%} and the norm of G's gradient is {norm:.2g}, {norm / self.peak:.2%} "
                    f"of its largest; {ADVICE['gradient']}"
                )
        return warnings

    def signs_of_scores(self, trainer: Trainer, judge: Evaluate) -> list[str]:
        """What the latest evaluation shows."""
        warnings = []
        if self.lasting("metric", (times := judge.times_worse()) > FAR, 2):
            (step, best), (_, last) = judge.best(judge.best_by), judge.history(judge.best_by)[-1]
            warnings.append(
                f"{judge.best_by} is {last:.4g}, {times:.1f} times worse than {best:.4g} at step {step:,}; "
                f"{ADVICE['metric']}"
            )
        shares = next((s.details["class_share_each"] for s in judge.latest if "class_share_each" in s.details), None)
        if shares is not None:
            classes = trainer.datamodule.class_names
            seen = judge.evaluation
            real = (seen.real.labels.bincount(minlength=len(shares)).double() / len(seen.real)).tolist()
            late = trainer.global_step >= max(trainer.max_steps / 2, WARMED_UP)
            gone = [
                i
                for i, (share, law) in enumerate(zip(shares, real, strict=True))
                if share < LOST * law
                and (i in self.found or late)
                and binom.cdf(round(share * seen.num), seen.num, law) < CHANCE / len(shares)
            ]
            self.found |= {i for i, (share, law) in enumerate(zip(shares, real, strict=True)) if share >= FOUND * law}
            if self.lasting("classes", bool(gone), 1):
                named = ", ".join(f"{classes[i]} ({shares[i]:.1%} of the samples)" for i in gone[:5])
                more = f" and {len(gone) - 5} more" if len(gone) > 5 else ""
                warnings.append(f"{len(gone)} of {len(shares)} classes are lost: {named}{more}; {ADVICE['classes']}")
        return warnings

    def lasting(self, sign: str, ill: bool, patience: int = PATIENCE) -> bool:
        """Whether a sign has just lasted long enough to be told."""
        self.ill[sign] = self.ill.get(sign, 0) + 1 if ill else 0
        return self.ill[sign] == patience

    def tell(self, trainer: Trainer, warning: str, step: int) -> None:
        """To the log and to TensorBoard."""
        log.warning(f"health: {warning}")
        self.told.append(warning)
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_text("health", warning, step)


def variety(samples: Tensor) -> Tensor:
    """Mean deviation of an entry over the samples of a batch."""
    return samples.float().std(0).mean()
