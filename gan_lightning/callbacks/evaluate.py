"""Evaluation during training: the learning curve of every score, and the best checkpoint by one of them."""

import json
import logging
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from pytorch_lightning import Callback
from pytorch_lightning.loggers import TensorBoardLogger

from gan_lightning.callbacks.checkpoint import saved_step
from gan_lightning.callbacks.metric_logger import check_finite
from gan_lightning.config.constraints import AtLeastOne, Validated
from gan_lightning.errors import UnavailableError, UserError
from gan_lightning.evaluation.evaluator import Evaluator
from gan_lightning.evaluation.score import Score
from gan_lightning.io.files import add_path_to_errors, atomic_write, report_damaged, set_aside
from gan_lightning.model.base import GenerativeModel
from gan_lightning.trainer import Trainer

log = logging.getLogger(__name__)

MUCH_WORSE = 1.5  # ratio of the last to the best score above which the summary warns


class Evaluate(Validated, Callback):
    """Evaluate from the same noise every n steps and at the last step, and keep ``checkpoints/best.ckpt``.

    Every score is written with its protocol card to ``evaluation.jsonl`` and to later checkpoints, and logged as
    ``eval/fd_CARDHASH``. If the metrics are unavailable, a warning gives the reason and a remedy, and training
    continues without evaluation.

    Args:
        every_n_steps: Generator steps between two evaluations; None for none.
        best_by: Score by which the best checkpoint is chosen; None for the first one that is measured.
        **evaluation: Arguments of :class:`~gan_lightning.evaluation.evaluator.Evaluator`.

    Attributes:
        latest: The scores of the latest evaluation in this process.
        seconds: Total duration of the evaluations of this run, in seconds.
    """

    provides_evaluation: ClassVar = {"every_n_steps": 500}

    def __init__(self, every_n_steps: AtLeastOne | None = 500, best_by: str | None = None, **evaluation: Any) -> None:
        self.every_n_steps, self.best_by = every_n_steps, best_by
        self.evaluator = Evaluator(**evaluation)
        self.curve: list[dict[str, Any]] = []  # step, value and card hash by score, oldest first
        self.cards: dict[str, dict[str, Any]] = {}
        self.latest: list[Score] = []
        self.kept_step: int | None = None  # of best.ckpt
        self.on, self.seconds = False, 0.0

    def scores(self) -> list[str]:
        """Return the names of the scores of the configured metrics; empty if evaluation is off."""
        found = self.evaluator.directions_of(self.evaluator.metrics.values())
        return [*found] if self.every_n_steps is not None else []

    def state_dict(self) -> dict[str, Any]:
        """Return the scores so far, with their protocol cards."""
        return {"curve": self.curve, "cards": self.cards, "seconds": self.seconds}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the scores of a checkpoint."""
        self.curve, self.cards, self.seconds = state["curve"], state["cards"], state.get("seconds", 0.0)

    def setup(self, trainer: Trainer, module: GenerativeModel, stage: str) -> None:
        """Set the paths of the files that are written."""
        self.path = Path(trainer.default_root_dir, "evaluation.jsonl")
        self.best_path = Path(trainer.default_root_dir, "checkpoints", "best.ckpt")

    def on_train_start(self, trainer: Trainer, module: GenerativeModel) -> None:
        """Extract the features of the real samples, and remove the lines of steps after the one being resumed."""
        if trainer.is_global_zero:
            self.truncate_after(trainer.global_step)
        self.publish(trainer)
        if self.every_n_steps is None or trainer.global_step >= trainer.max_steps:
            return
        if self.curve:
            self.kept_step = trainer.strategy.broadcast(self.step_of_best(trainer.global_step))
        began = time.perf_counter()
        names = self.scores()
        if self.best_by and self.best_by not in names:  # checked before a classifier is trained for minutes
            hint = self.evaluator.name_hint(self.best_by)
            raise UserError(f"eval.best_by={self.best_by}: must be one of {', '.join(names)}{hint}")
        reason, left_out = "", {}
        try:
            left_out = self.evaluator.setup(trainer.datamodule, module.num_classes > 0, module.device)
        except UnavailableError as error:
            reason = str(error)
        if trainer.strategy.reduce_boolean_decision(bool(reason), all=False):
            log.warning(f"evaluation is off: {reason or 'another process cannot evaluate'}")
            return
        self.set_best_by(left_out)
        self.check_same_features(trainer)
        self.on = True
        self.seconds += time.perf_counter() - began
        if left_out and trainer.is_global_zero:
            log.info("not measured: " + "; ".join(f"{name}, since {cause}" for name, cause in left_out.items()))

    def step_of_best(self, step: int) -> int | None:
        """Return the step of ``best.ckpt``; None if there is none that belongs to this run's history.

        A best checkpoint of a later step than the one being resumed belongs to an abandoned continuation.
        """
        saved = saved_step(self.best_path)
        return saved if 0 <= saved <= step else None

    def on_train_batch_end(self, trainer: Trainer, module: GenerativeModel, *_: Any) -> None:
        """Evaluate every ``every_n_steps`` steps and at the last step."""
        step = trainer.global_step
        if self.on and (step % self.every_n_steps == 0 or step == trainer.max_steps):
            self.evaluate(trainer, module)

    def evaluate(self, trainer: Trainer, module: GenerativeModel) -> None:
        """Measure and log all scores, and save the checkpoint if it is the best so far."""
        began, step = time.perf_counter(), trainer.global_step
        check_finite(module)
        if trainer.world_size > 1:  # BatchNorm's statistics, which DDP broadcasts from rank 0 before the next step
            for buffer in module.generator.buffers():
                torch.distributed.broadcast(buffer, 0)
        fake = self.evaluator.draw(module, trainer.global_rank, trainer.world_size, module.all_gather)
        scores = self.evaluator.score(fake, self.evaluator.generation_card(module)) if trainer.is_global_zero else []
        scores = trainer.strategy.broadcast(scores)
        self.add_scores(step, scores)
        self.publish(trainer)
        if len(self.curve) == 1 and trainer.is_global_zero:
            for note in self.notes():
                log.warning(note)
        if trainer.is_global_zero:
            with add_path_to_errors(self.path), self.path.open("a", encoding="utf-8") as file:
                file.writelines(json.dumps({"step": step} | score.line()) + "\n" for score in scores)
            for logger in trainer.loggers:
                logger.log_metrics({f"eval/{score.name}_{score.hash[:6]}": score.value for score in scores}, step)
                if isinstance(logger, TensorBoardLogger):
                    if len(self.curve) == 1:
                        cards = json.dumps(self.cards, indent=2)
                        logger.experiment.add_text("eval/cards", f"```json\n{cards}\n```", step)
                    if lines := self.evaluator.histogram(scores):
                        logger.experiment.add_text("eval/classes", "```text\n" + "\n".join(lines) + "\n```", step)
        if self.is_best(step):
            self.kept_step = step
            trainer.save_checkpoint(self.best_path)
        self.seconds += time.perf_counter() - began
        for callback in trainer.callbacks:  # since evaluation does not run in Lightning's validation loop
            callback.on_validation_end(trainer, module)

    def measure_noise(self, trainer: Trainer, module: GenerativeModel, seeds: int) -> float:
        """Return the standard deviation of the ``best_by`` score over samples of other seeds, relative to its mean.

        Args:
            trainer: The trainer.
            module: The model.
            seeds: Number of seeds.
        """
        values, evaluator = [], self.evaluator
        for seed in range(evaluator.seed + 1, evaluator.seed + 1 + seeds):
            fake = evaluator.draw(module, trainer.global_rank, trainer.world_size, module.all_gather, seed)
            values.append(evaluator.value(fake, self.best_by) if trainer.is_global_zero else 0.0)
        values = torch.tensor(trainer.strategy.broadcast(values), dtype=torch.float64)
        return float(values.std() / values.mean().abs())

    def publish(self, trainer: Trainer) -> None:
        """Publish the latest scores in ``trainer.callback_metrics``, which EarlyStopping and others monitor."""
        scores = self.curve[-1]["scores"] if self.curve else {}
        trainer.callback_metrics.update({f"eval/{name}": torch.tensor(value) for name, (value, _) in scores.items()})

    def notes(self) -> list[str]:
        """Return the warnings that the latest scores carry, such as too few samples."""
        return [*dict.fromkeys(note for score in self.latest for note in score.notes)]

    def set_best_by(self, left_out: Mapping[str, str]) -> None:
        """Set the score by which the best checkpoint is chosen.

        Raises:
            UserError: ``best_by`` is not measured.
        """
        names = [*self.evaluator.directions]
        self.best_by = self.best_by or names[0]
        if self.best_by not in names:
            reasons = "".join(f"; {name} is not measured, since {cause}" for name, cause in left_out.items())
            raise UserError(f"eval.best_by={self.best_by}: must be one of {', '.join(names)}{reasons}")

    def check_same_features(self, trainer: Trainer) -> None:
        """Raise UserError if the ranks have different feature networks, as when a cache is not shared."""
        card = self.evaluator.feature.card()
        if trainer.strategy.reduce_boolean_decision(card != trainer.strategy.broadcast(card), all=False):
            raise UserError("eval.cache: the processes have different feature networks; set a folder that all share")

    def is_best(self, step: int) -> bool:
        """Return whether this step's score is better than that of ``best.ckpt``."""
        history = {at: self.sign * value for at, value in self.history()}
        return step in history and (self.kept_step not in history or history[step] > history[self.kept_step])

    @property
    def sign(self) -> int:
        """Return 1 if a higher ``best_by`` score is better, -1 if a lower one is."""
        return self.evaluator.directions.get(self.best_by, -1)

    def times_worse(self) -> float:
        """Return how many times worse the last ``best_by`` score is than the best; NaN if that is undefined."""
        if not (history := self.history()):
            return math.nan
        (_, best), (_, last) = self.best(), history[-1]
        if self.sign < 0:
            return last / best if best > 0 else math.nan
        return best / last if last > 0 else math.inf if best > 0 else math.nan

    def add_scores(self, step: int, scores: list[Score]) -> None:
        """Add the scores of a step to the curve."""
        self.latest = scores
        self.cards |= {score.hash: score.card for score in scores}
        self.curve.append({"step": step, "scores": {score.name: [score.value, score.hash] for score in scores}})

    def history(self) -> list[tuple[int, float]]:
        """Return steps and finite values of the ``best_by`` score under the latest protocol card, oldest first."""
        curve = [(at["step"], *at["scores"][self.best_by]) for at in self.curve if self.best_by in at["scores"]]
        return [(step, value) for step, value, card in curve if math.isfinite(value) and card == curve[-1][2]]

    def best(self) -> tuple[int, float]:
        """Return the step and value of the best ``best_by`` score of a non-empty history."""
        return max(self.history(), key=lambda entry: (self.sign * entry[1], -entry[0]))

    def worst(self) -> tuple[int, float]:
        """Return the step and value of the worst ``best_by`` score of a non-empty history."""
        return min(self.history(), key=lambda entry: (self.sign * entry[1], entry[0]))

    def last(self, step: int) -> dict[str, tuple[float, str]]:
        """Return the scores of a step with their cards' hashes; empty if it is not the step of the last evaluation."""
        scores = self.curve[-1]["scores"] if self.curve and self.curve[-1]["step"] == step else {}
        return {name: (value, card) for name, (value, card) in scores.items()}

    def truncate_after(self, step: int) -> None:
        """Remove the lines of later steps, an incomplete last line, and damaged lines."""
        set_aside(self.path)
        if not self.path.exists():
            return
        lines = self.path.read_bytes().split(b"\n")[:-1]
        steps = [step_of(line) for line in lines]
        damaged = [number for number, at in enumerate(steps, 1) if at is None]
        report_damaged(self.path, damaged, len(lines) - len(damaged))
        with atomic_write(self.path) as file:
            kept = (line for line, at in zip(lines, steps, strict=True) if at is not None and at <= step)
            file.writelines(line + b"\n" for line in kept)

    def summary(self, seconds: float) -> list[str]:
        """Return lines for the log: best, last and worst ``best_by`` score, the protocol, and the cost of evaluation.

        Args:
            seconds: Duration of the run.
        """
        if not (history := self.history()):
            return []
        name, extremes = self.best_by, {"best": self.best(), "last": history[-1], "worst": self.worst()}
        card = next(entry["scores"][name][1] for entry in reversed(self.curve) if name in entry["scores"])
        protocol = self.cards[card]
        lines = [
            f"{name}  " + ", ".join(f"{what} {value:.4g} at step {step:,}" for what, (step, value) in extremes.items()),
            f"      {protocol['num_generated']:,} generated against {protocol['num_real']:,} of {protocol['data']} "
            f"({protocol['split']}), {protocol['feature']}, {protocol['weights']} weights; card {card}; "
            f"evaluation took {self.seconds:.0f} s, {self.seconds / seconds:.0%} of the time",
        ]
        lines += [f"note  {note}" for score in self.latest if score.name == name for note in score.notes]
        (best_step, best), (_, last), times = extremes["best"], extremes["last"], self.times_worse()
        if times > MUCH_WORSE:
            kept = "" if self.kept_step != best_step else f" {self.best_path} holds that one."
            lines.append(
                f"The last checkpoint is much worse than the best: {name} {last:.4g} against {best:.4g} at step "
                f"{best_step:,}, {times:.1f} times.{kept}"
            )
        return lines


def step_of(line: bytes) -> int | None:
    """Return the step of a line of ``evaluation.jsonl``; None if the line is damaged."""
    try:
        step = json.loads(line.decode())["step"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return step if isinstance(step, int) else None
