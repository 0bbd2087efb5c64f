"""Monitoring: warnings about vanishing gradients, mode collapse, lost classes and a deteriorating score."""

import logging
import math
from typing import Any

import torch
from pytorch_lightning import Callback
from pytorch_lightning.loggers import TensorBoardLogger
from scipy.stats import binom
from torch import Tensor

from gan_lightning.callbacks.evaluate import Evaluate
from gan_lightning.callbacks.holdout_gap import HoldoutGap
from gan_lightning.callbacks.metric_logger import accuracies, check_finite
from gan_lightning.config.constraints import PositiveInt, Validated
from gan_lightning.model.base import GenerativeModel, StepOutput
from gan_lightning.trainer import Trainer

log = logging.getLogger(__name__)

PATIENCE = 5  # consecutive checks that must agree before a warning
ACCURATE = 0.99  # D's accuracy, on real and on generated samples
VANISHED = 0.02  # G's gradient norm, relative to the largest one so far
COLLAPSED, WARMED_UP = 0.2, 500  # diversity relative to real samples; steps before which low diversity is normal
LOST, FOUND = 0.1, 0.5  # share of a class, relative to its share among the real samples
CHANCE = 1e-3  # significance level, over all classes, of the test that a class is lost rather than rare by chance
FAR = 2.0  # ratio of the last to the best score
MEMORIZED = 1.0  # standard deviations by which D's outputs on training and on held-out samples differ

UNFIT = 2  # checks after which outputs that have stayed in [0, 1] since the first step are reported

ADVICE = {
    "gradient": "G's gradient vanishes: try loss=non_saturating, a lower learning rate of D "
    "(model.discriminator_optimizer.lr), loss.label_smoothing=0.1 or model=wgan_gp",
    "diversity": "mode collapse: try model=wgan_gp, a lower learning rate of G (model.generator_optimizer.lr), "
    "more D steps (model.d_steps) or a larger data.batch_size",
    "posterior": "posterior collapse: try a lower model.beta or model.output_std",
    "classes": "use the best checkpoint, or try model=acgan, model=cgan or model=wgan_gp",
    "overfitting": "try augment=diffaugment or augment=ada",
    "augmented": "try a higher augment.probability or more operations in augment.policy, or end the run earlier "
    "(callbacks.early_stopping.patience)",
    "metric": "checkpoints/best.ckpt holds the best; callbacks.learning_rate.schedule=linear_decay and "
    "model.ema_decay=0.999 keep a run near it",
}


class TrainingMonitor(Validated, Callback):
    """Check training every n steps and at every evaluation; warn once when a problem appears or reappears.

    Warns if the networks' outputs stay in [0, 1], as after a sigmoid, if D's accuracy is close to 1 while G's gradient
    vanishes, if generated batches are much less diverse than real ones, if D memorizes the training set, if classes are
    lost, and if a score is far from its best. A loss or a weight that is not finite stops the run before a checkpoint
    is saved.

    Args:
        every_n_steps: Generator steps between two checks.
        stop: Stop the run at the first warning, with a checkpoint and an exit status that reports failure.

    Attributes:
        stopped: The warning that stopped the run; empty for none.
        warnings: All warnings of this process.
    """

    def __init__(self, every_n_steps: PositiveInt = 50, stop: bool = False) -> None:
        self.every_n_steps, self.stop = every_n_steps, stop
        self.peak = 0.0  # largest norm of G's gradient
        self.ill: dict[str, int] = {}  # consecutive checks that found a problem, by its name
        self.found: set[int] = set()  # classes that have been generated often enough
        self.lowest_pixel = math.inf  # of generated images since the first step of this process
        self.logit_range = math.inf, -math.inf  # of D's logits, likewise
        self.stopped = ""
        self.warnings: list[str] = []

    def state_dict(self) -> dict[str, Any]:
        """Return what later checks are compared with."""
        return {"peak": self.peak, "ill": self.ill, "found": sorted(self.found)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what later checks are compared with."""
        self.peak, self.ill, self.found = state["peak"], state["ill"], set(state["found"])

    def on_train_batch_end(
        self, trainer: Trainer, module: GenerativeModel, outputs: dict[str, StepOutput], batch: Any, batch_idx: int
    ) -> None:
        """Check the losses every ``every_n_steps`` steps, and the scores after an evaluation."""
        step, warnings = trainer.global_step, []
        due = step % self.every_n_steps == 0
        if due or self.lowest_pixel == math.inf:
            self.observe_ranges(outputs)
        if due:
            warnings += self.check_ranges(module, outputs)
            check_finite(module)
            warnings += self.check_losses(trainer, module, outputs, batch[0])
        gauge = next((callback for callback in trainer.callbacks if isinstance(callback, HoldoutGap)), None)
        if gauge is not None and gauge.measured_at == step:
            warnings += self.check_overfitting(module, gauge.effect)
        evaluate = next((callback for callback in trainer.callbacks if isinstance(callback, Evaluate)), None)
        evaluated = evaluate is not None and bool(evaluate.latest) and evaluate.curve[-1]["step"] == step
        if evaluated:
            warnings += self.check_scores(trainer, evaluate)
        if trainer.is_global_zero:
            for warning in warnings:
                self.warn(trainer, f"step {step:,}: {warning}", step)
        if self.stop and (due or evaluated):  # a collective operation, at steps that all ranks check
            self.stopped = "; ".join(warnings)
            if trainer.strategy.reduce_boolean_decision(bool(self.stopped), all=False):
                self.stopped = self.stopped or "another process has warned"
                trainer.should_stop = True

    def check_losses(
        self, trainer: Trainer, module: GenerativeModel, outputs: dict[str, StepOutput], real: Tensor
    ) -> list[str]:
        """Return warnings about the latest step: low diversity, vanishing gradient."""
        warnings = []
        fake = outputs["g"].fake
        diversity = float(mean_std(fake) / mean_std(real[-len(fake) :]))
        for logger in trainer.loggers if trainer.is_global_zero else []:
            logger.log_metrics({"health/diversity": diversity}, trainer.global_step)
        if self.persisted("diversity", trainer.global_step >= WARMED_UP and diversity < COLLAPSED):
            advice = ADVICE["diversity" if "d" in outputs else "posterior"]
            warnings.append(f"generated samples vary {diversity:.2f} times as much as real ones; {advice}")
        gradients = [p.grad for p in module.generator.parameters() if p.grad is not None]
        norm = float(torch.nn.utils.get_total_norm(gradients)) if gradients else 0.0
        accuracy_by_kind = accuracies(module, outputs)
        if accuracy_by_kind and math.isfinite(norm):  # a gradient scaler tries scales that overflow
            self.peak = max(self.peak, norm)
            accuracy = float(min(accuracy_by_kind.values()))
            if self.persisted("gradient", accuracy >= ACCURATE and norm < VANISHED * self.peak):
                warnings.append(
                    f"D's accuracy is {accuracy:.0%} and G's gradient norm is {norm:.2g}, {norm / self.peak:.2%} of "
                    f"its maximum; {ADVICE['gradient']}"
                )
        return warnings

    def observe_ranges(self, outputs: dict[str, StepOutput]) -> None:
        """Update the range of generated pixels and of logits. An untrained network without a sigmoid exceeds [0, 1]."""
        self.lowest_pixel = min(self.lowest_pixel, float(outputs["g"].fake.min()))
        logits = outputs["d"].logits if "d" in outputs else None
        for values in (logits.real, logits.fake) if logits is not None else ():
            if values is not None:
                low, high = self.logit_range
                self.logit_range = min(low, float(values.min())), max(high, float(values.max()))

    def check_ranges(self, module: GenerativeModel, outputs: dict[str, StepOutput]) -> list[str]:
        """Return warnings about user-supplied networks that end in a sigmoid.

        Logits are checked for losses with the decision boundary 0. Least squares and critics may stay in [0, 1].
        """
        warnings = []
        is_image = outputs["g"].fake.ndim == 4
        if self.persisted("generator_range", is_image and self.lowest_pixel >= 0, UNFIT):
            warnings.append(
                "generated images have never gone below 0, and the data are in [-1, 1]; if the generator ends in a "
                "sigmoid, replace it by tanh"
            )
        low, high = self.logit_range
        has_boundary = getattr(getattr(module, "loss", None), "boundary", None) == 0
        if self.persisted("discriminator_range", has_boundary and 0 <= low <= high <= 1, UNFIT):
            warnings.append(
                "D's outputs have stayed in [0, 1], and the loss expects logits; if the discriminator ends in a "
                "sigmoid, remove it"
            )
        return warnings

    def check_overfitting(self, module: GenerativeModel, effect: float) -> list[str]:
        """Return a warning if D's outputs on training and held-out samples differ by ``effect`` standard deviations."""
        if not self.persisted("overfitting", effect > MEMORIZED):
            return []
        advice = ADVICE["overfitting" if getattr(module, "augment", None) is None else "augmented"]
        return [
            f"D memorizes the training set: its outputs on training and on held-out samples differ by {effect:.1f} "
            f"standard deviations; {advice}"
        ]

    def check_scores(self, trainer: Trainer, evaluate: Evaluate) -> list[str]:
        """Return warnings about the latest evaluation: a score far from its best, lost classes."""
        warnings = []
        if self.persisted("metric", (times := evaluate.times_worse()) > FAR, 2):
            (step, best), (_, last) = evaluate.best(), evaluate.history()[-1]
            warnings.append(
                f"{evaluate.best_by} is {last:.4g}, {times:.1f} times worse than {best:.4g} at step {step:,}; "
                f"{ADVICE['metric']}"
            )
        shares = next((s.details["class_share_each"] for s in evaluate.latest if "class_share_each" in s.details), None)
        if shares is not None:
            classes = trainer.datamodule.class_names
            num, samples = evaluate.evaluator.num_generated, evaluate.evaluator.real
            real = (samples.labels.bincount(minlength=len(shares)).double() / len(samples)).tolist()
            late = trainer.global_step >= max(trainer.max_steps / 2, WARMED_UP)
            lost = [
                i
                for i, (share, expected) in enumerate(zip(shares, real, strict=True))
                if share < LOST * expected
                and (i in self.found or late)
                and binom.cdf(round(share * num), num, expected) < CHANCE / len(shares)
            ]
            self.found |= {i for i, (share, of) in enumerate(zip(shares, real, strict=True)) if share >= FOUND * of}
            if self.persisted("classes", bool(lost), 1):
                named = ", ".join(f"{classes[i]} ({shares[i]:.1%} of the samples)" for i in lost[:5])
                more = f" and {len(lost) - 5} more" if len(lost) > 5 else ""
                warnings.append(f"{len(lost)} of {len(shares)} classes are lost: {named}{more}; {ADVICE['classes']}")
        return warnings

    def persisted(self, problem: str, found: bool, patience: int = PATIENCE) -> bool:
        """Count consecutive checks that found a problem, and return whether there have just been ``patience``."""
        self.ill[problem] = self.ill.get(problem, 0) + 1 if found else 0
        return self.ill[problem] == patience

    def warn(self, trainer: Trainer, warning: str, step: int) -> None:
        """Write a warning to the log and to TensorBoard."""
        log.warning(f"health: {warning}")
        self.warnings.append(warning)
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_text("health", warning, step)


def mean_std(samples: Tensor) -> Tensor:
    """Return the standard deviation over a batch, averaged over the entries of a sample."""
    return samples.float().std(0).mean()
