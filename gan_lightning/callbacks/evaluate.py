"""Metrics of a run while it trains, and the checkpoint that is best by one of them."""

import json
import logging
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.loggers import TensorBoardLogger

from gan_lightning.callbacks.checkpoint import saved_step
from gan_lightning.callbacks.scalars import finite_checks, refuse_divergence
from gan_lightning.card import Score
from gan_lightning.config.constraints import AtLeastOne, Validated
from gan_lightning.errors import UnavailableError, UserError
from gan_lightning.evaluation import Evaluation
from gan_lightning.files import naming, report_damaged, set_aside, whole
from gan_lightning.learner import Learner

log = logging.getLogger(__name__)

MUCH_WORSE = 1.5  # times the best, from where the last is told to be much worse


class Evaluate(Validated, Callback):
    """Evaluates from the same noise every n steps and at the last, and keeps ``checkpoints/best.ckpt``.

    Every score goes with its card to ``evaluation.jsonl``, into the checkpoints that follow, and as
    ``eval/fid_CARDHASH`` to the loggers. Where the metrics cannot be had, a sentence says what would help, and
    training goes on without them.

    Args:
        every_n_steps: Generator steps between two evaluations; None for none.
        best_by: The score that decides which checkpoint is the best; None for the first that is measured.
        **evaluation: Arguments of :class:`~gan_lightning.evaluation.Evaluation`.

    Attributes:
        latest: The scores of the latest evaluation in this process.
        seconds: How long evaluation has taken so far in this run.
    """

    def __init__(self, every_n_steps: AtLeastOne | None = 500, best_by: str | None = None, **evaluation: Any) -> None:
        self.every_n_steps, self.best_by = every_n_steps, best_by
        self.evaluation = Evaluation(**evaluation)
        self.curve: list[dict[str, Any]] = []  # step, value and card hash by score, oldest first
        self.cards: dict[str, dict[str, Any]] = {}
        self.latest: list[Score] = []
        self.kept_step: int | None = None  # of best.ckpt
        self.on, self.seconds = False, 0.0

    def scores(self) -> list[str]:
        """Names of the scores that are going to be measured."""
        every = [name for metric in self.evaluation.metrics.values() for name in (*metric.lower, *metric.higher)]
        return every if self.every_n_steps is not None else []

    def state_dict(self) -> dict[str, Any]:
        """The scores so far, with their cards."""
        return {"curve": self.curve, "cards": self.cards, "seconds": self.seconds}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with the scores of the checkpoint."""
        self.curve, self.cards, self.seconds = state["curve"], state["cards"], state.get("seconds", 0.0)

    def setup(self, trainer: Trainer, module: Learner, stage: str) -> None:
        """Find the files."""
        self.path = Path(trainer.default_root_dir, "evaluation.jsonl")
        self.best_path = Path(trainer.default_root_dir, "checkpoints", "best.ckpt")

    def on_train_start(self, trainer: Trainer, module: Learner) -> None:
        """See the real samples; drop lines that were written after the step that the run goes on from."""
        if trainer.is_global_zero:
            self.keep_lines_until(trainer.global_step)
        self.publish(trainer)
        if self.every_n_steps is None or trainer.global_step >= trainer.max_steps:
            return
        if self.curve:
            self.kept_step = trainer.strategy.broadcast(self.step_of_best(trainer.global_step))
        began = time.perf_counter()
        known = self.scores()
        if self.best_by and self.best_by not in known:  # before a classifier is trained for minutes
            raise UserError(f"eval.best_by={self.best_by}: must be one of {', '.join(known)}")
        why_not, left_out = "", {}
        try:
            left_out = self.evaluation.get_ready(trainer.datamodule, module.num_classes > 0, module.device)
        except UnavailableError as error:
            why_not = str(error)
        if trainer.strategy.reduce_boolean_decision(bool(why_not), all=False):
            log.warning(f"evaluation is off: {why_not or 'another process cannot evaluate'}")
            return
        self.decide(left_out)
        self.refuse_unlike_ranks(trainer)
        self.on = True
        self.seconds += time.perf_counter() - began
        if left_out and trainer.is_global_zero:
            log.info("not measured: " + "; ".join(f"{name}, since {why}" for name, why in left_out.items()))

    def step_of_best(self, step: int) -> int | None:
        """The step of the checkpoint that is kept; None where the next evaluation has to write it anew.

        One of a later step than the run goes on from is of a life that it has left.
        """
        kept = saved_step(self.best_path)
        return kept if 0 <= kept <= step else None

    def on_train_batch_end(self, trainer: Trainer, module: Learner, *_: Any) -> None:
        """Evaluate if the step has come."""
        step = trainer.global_step
        if self.on and (step % self.every_n_steps == 0 or step == trainer.max_steps):
            self.evaluate(trainer, module)

    def evaluate(self, trainer: Trainer, module: Learner) -> None:
        """Measure, write down, and keep the checkpoint if it is the best so far."""
        began, step = time.perf_counter(), trainer.global_step
        refuse_divergence(module, step, finite_checks(module))
        if trainer.world_size > 1:  # BatchNorm's statistics, which the next step takes from rank 0 in any case
            for buffer in module.generator.buffers():
                torch.distributed.broadcast(buffer, 0)
        fake = self.evaluation.draw(module, trainer.global_rank, trainer.world_size, module.all_gather)
        scores = self.evaluation.judge(fake, self.evaluation.made_by(module)) if trainer.is_global_zero else []
        scores = trainer.strategy.broadcast(scores)
        self.note(step, scores)
        self.publish(trainer)
        if len(self.curve) == 1 and trainer.is_global_zero:
            for note in self.notes():
                log.warning(note)
        if trainer.is_global_zero:
            with naming(self.path), self.path.open("a", encoding="utf-8") as file:
                file.writelines(json.dumps({"step": step} | score.line()) + "\n" for score in scores)
            for logger in trainer.loggers:
                logger.log_metrics({f"eval/{score.name}_{score.hash[:6]}": score.value for score in scores}, step)
                if isinstance(logger, TensorBoardLogger):
                    if len(self.curve) == 1:
                        cards = json.dumps(self.cards, indent=2)
                        logger.experiment.add_text("eval/cards", f"```json\n{cards}\n```", step)
                    if lines := self.evaluation.histogram(scores):
                        logger.experiment.add_text("eval/classes", "```text\n" + "\n".join(lines) + "\n```", step)
        if self.is_best(step):
            self.kept_step = step
            trainer.save_checkpoint(self.best_path)
        self.seconds += time.perf_counter() - began
        for callback in trainer.callbacks:  # evaluation does not run in Lightning's validation loop
            callback.on_validation_end(trainer, module)

    def publish(self, trainer: Trainer) -> None:
        """Put the latest scores where Lightning's callbacks look for what they monitor, such as EarlyStopping."""
        scores = self.curve[-1]["scores"] if self.curve else {}
        trainer.callback_metrics.update({f"eval/{name}": torch.tensor(value) for name, (value, _) in scores.items()})

    def notes(self) -> list[str]:
        """What a reader of the latest scores has to be told of them."""
        return [*dict.fromkeys(note for score in self.latest for note in score.notes)]

    def decide(self, left_out: Mapping[str, str]) -> None:
        """By which score the best is the best.

        Raises:
            UserError: The one that was named is not measured.
        """
        names = [*self.evaluation.directions]
        self.best_by = self.best_by or names[0]
        if self.best_by not in names:
            reasons = "".join(f"; {name} is not measured, since {why}" for name, why in left_out.items())
            raise UserError(f"eval.best_by={self.best_by}: must be one of {', '.join(names)}{reasons}")

    def refuse_unlike_ranks(self, trainer: Trainer) -> None:
        """Raise UserError where another process looks through another network, as where a cache is not shared."""
        mine = self.evaluation.feature.card()
        if trainer.strategy.reduce_boolean_decision(mine != trainer.strategy.broadcast(mine), all=False):
            raise UserError("eval.cache: must be a folder that all processes share; their feature networks differ")

    def is_best(self, step: int) -> bool:
        """Whether this step's checkpoint is better than the one that is kept."""
        history = {at: self.sign * value for at, value in self.history(self.best_by)}
        return step in history and (self.kept_step not in history or history[step] > history[self.kept_step])

    @property
    def sign(self) -> int:
        """1 where more of the score that decides is better, -1 where less is."""
        return self.evaluation.directions.get(self.best_by, -1)

    def times_worse(self) -> float:
        """How many times worse the last is than the best, by the score that decides; not a number without a ratio."""
        history = self.history(self.best_by)
        if not history:
            return math.nan
        (_, best), (_, last) = self.best(self.best_by), history[-1]
        if self.sign < 0:
            return last / best if best > 0 else math.nan
        return best / last if last > 0 else math.inf if best > 0 else math.nan

    def note(self, step: int, scores: list[Score]) -> None:
        """Take the scores of a step into the curve."""
        self.latest = scores
        self.cards |= {score.hash: score.card for score in scores}
        self.curve.append({"step": step, "scores": {score.name: [score.value, score.hash] for score in scores}})

    def history(self, name: str) -> list[tuple[int, float]]:
        """Steps and values of a score, oldest first; those that are not finite or that another card has left aside."""
        found = [(entry["step"], *entry["scores"][name]) for entry in self.curve if name in entry["scores"]]
        return [(step, value) for step, value, card in found if math.isfinite(value) and card == found[-1][2]]

    def best(self, name: str) -> tuple[int, float]:
        """Step and value of the best of a history that is not empty."""
        sign = self.evaluation.directions.get(name, -1)
        return max(self.history(name), key=lambda entry: (sign * entry[1], -entry[0]))

    def worst(self, name: str) -> tuple[int, float]:
        """Step and value of the worst of a history that is not empty."""
        sign = self.evaluation.directions.get(name, -1)
        return min(self.history(name), key=lambda entry: (sign * entry[1], entry[0]))

    def last(self, step: int) -> dict[str, tuple[float, str]]:
        """The scores of a step, each with the hash of its card; none where it was not the last to be evaluated."""
        scores = self.curve[-1]["scores"] if self.curve and self.curve[-1]["step"] == step else {}
        return {name: (value, card) for name, (value, card) in scores.items()}

    def keep_lines_until(self, step: int) -> None:
        """Remove the lines of later steps, an incomplete last line, and damaged lines."""
        set_aside(self.path)
        if not self.path.exists():
            return
        kept, damaged, intact = [], [], 0
        *lines, _ = self.path.read_bytes().split(b"\n")
        for number, line in enumerate(lines, 1):
            try:
                of = json.loads(line.decode())["step"]
            except (ValueError, KeyError, TypeError, RecursionError):
                of = None
            if not isinstance(of, int):
                damaged.append(number)
                continue
            intact += 1
            if of <= step:
                kept.append(line)
        report_damaged(self.path, damaged, intact)
        with whole(self.path) as file:
            file.writelines(line + b"\n" for line in kept)

    def summary(self, seconds: float) -> list[str]:
        """The end of a run in sentences: best, last and worst of the score that counts, and what evaluation cost.

        Args:
            seconds: Duration of the run.
        """
        name = self.best_by
        if not self.curve or not self.history(name):
            return []
        told = {"best": self.best(name), "last": self.history(name)[-1], "worst": self.worst(name)}
        card = next(entry["scores"][name][1] for entry in reversed(self.curve) if name in entry["scores"])
        of = self.cards[card]
        lines = [
            f"{name}  " + ", ".join(f"{what} {value:.4g} at step {step:,}" for what, (step, value) in told.items()),
            f"      {of['num_generated']:,} generated against {of['num_real']:,} of {of['data']} ({of['split']}), "
            f"{of['feature']}, {of['weights']} weights; card {card}; evaluation took {self.seconds:.0f} s, "
            f"{self.seconds / seconds:.0%} of the time",
        ]
        lines += [f"note  {note}" for score in self.latest if score.name == name for note in score.notes]
        (best_step, best), (_, last), times = told["best"], told["last"], self.times_worse()
        if times > MUCH_WORSE:
            kept = "" if self.kept_step != best_step else f" {self.best_path} holds that one."
            lines.append(
                f"The last checkpoint is much worse than the best: {name} {last:.4g} against {best:.4g} at step "
                f"{best_step:,}, {times:.1f} times.{kept}"
            )
        return lines
