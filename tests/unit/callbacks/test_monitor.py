"""Warnings of a run that goes wrong: each with its number and with advice, told once, and a stop that was asked for."""

import logging
import math
from types import SimpleNamespace

import pytest
import torch

from gan_lightning.callbacks import monitor
from gan_lightning.callbacks.evaluate import Evaluate
from gan_lightning.callbacks.monitor import TrainingMonitor
from gan_lightning.errors import UserError
from gan_lightning.evaluation.score import Score
from gan_lightning.loss.minimax import Minimax
from gan_lightning.loss.wasserstein import Wasserstein
from gan_lightning.metric.fid import FID
from gan_lightning.metric.kid import KID
from gan_lightning.metric.precision_recall import PrecisionRecall
from gan_lightning.model.base import Logits, StepOutput
from gan_lightning.model.gan import GAN
from gan_lightning.run import checkpoint as checkpoints
from gan_lightning.run import summary


class Player(torch.nn.Module):
    """One weight with a gradient."""

    def __init__(self, gradient: float) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(4))
        self.weight.grad = torch.full((4,), gradient / 2)


def game(gradient=1.0, real=5.0, fake=-5.0, spread=1.0, loss=None) -> SimpleNamespace:
    noise = torch.randn(64, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    return SimpleNamespace(
        generator=Player(gradient),
        outputs={
            "d": StepOutput({}, spread * noise, Logits(torch.full((8,), real), torch.full((8,), fake))),
            "g": StepOutput({}, spread * noise),
        },
        loss=loss or Minimax(),
    )


REAL = torch.randn(64, 1, 4, 4, generator=torch.Generator().manual_seed(1))


def readings(games, step=1000) -> list[str]:
    trainer = SimpleNamespace(loggers=[], is_global_zero=True, global_step=step)
    guest, told = TrainingMonitor(), []
    for one in games:
        told += guest.check_losses(trainer, one, one.outputs, REAL)
    return told


def test_a_healthy_game_is_not_commented():
    assert readings([game(real=0.5, fake=0.5)] * 20) == []
    assert readings([game()] * 20) == [], "a D that is right is no fault while G still learns"


def test_a_vanishing_gradient_under_a_perfect_discriminator_is_told_once():
    told = readings([game(1.0)] + [game(0.001)] * 20)
    assert len(told) == 1
    assert "D's accuracy is 100%" in told[0]
    assert "G's gradient norm is 0.001, 0.10% of its maximum" in told[0]
    assert "loss=non_saturating" in told[0]


def test_it_is_told_again_after_it_was_well():
    ill, well = [game(0.001)] * 6, [game(1.0)]
    assert len(readings(well + ill + well + ill)) == 2
    assert readings(well + ill[: monitor.PATIENCE - 1] + well + ill[: monitor.PATIENCE - 1]) == []


def test_a_critic_has_no_accuracy():
    assert readings([game(1.0, loss=Wasserstein())] + [game(0.001, loss=Wasserstein())] * 20) == []


def test_a_collapsing_batch_is_told_with_its_spread():
    (told,) = readings([game(spread=0.05)] * 20)
    assert "vary 0.0" in told
    assert "model=wgan_gp" in told
    assert readings([game(spread=0.05)] * 20, step=100) == [], "at the start all samples are alike"
    assert readings([game(spread=0.5)] * 20) == []


def test_real_runs_collapse_where_the_generator_is_made_to(run, tmp_path, caplog, monkeypatch):
    """A real run whose generator has one output."""
    monkeypatch.setattr(monitor, "WARMED_UP", 0)
    with caplog.at_level(logging.WARNING):
        run(
            tmp_path,
            "model=vanilla",
            "callbacks.monitor.every_n_steps=1",
            "model.generator_optimizer.lr=10.0",
            "network.generator.norm=none",
            "trainer.max_steps=12",
        )
    assert "health: step" in caplog.text
    assert "mode collapse" in caplog.text


# --- what evaluation shows ------------------------------------------------------------------------------------------


def scores(trainer, guest, values, shares=None) -> list[str]:
    told = []
    for step in range(1, len(values) + 1):
        details = {} if shares is None else {"class_share_each": shares[step - 1]}
        judge = Evaluate(best_by="fid", feature=None, metrics={})
        judge.evaluator.available = {"fid": FID()}
        judge.evaluator.num_generated, judge.evaluator.real = 100, torch.utils.data.Subset([0] * 20, range(20))
        judge.evaluator.real.labels = torch.arange(4).repeat(5)
        for i, value in enumerate(values[:step], 1):
            judge.add_scores(i, [Score("fid", value, {}, details)])
        trainer.global_step = step * 100
        told += guest.check_scores(trainer, judge)
    return told


def place(max_steps=10_000) -> SimpleNamespace:
    return SimpleNamespace(max_steps=max_steps, datamodule=SimpleNamespace(class_names=["cat", "dog", "cow", "hen"]))


def test_a_metric_far_above_its_best_is_told():
    (told,) = scores(place(), TrainingMonitor(), [100.0, 20.0, 30.0, 60.0, 80.0])
    assert "fid is 80, 4.0 times worse than 20 at step 2" in told
    assert "best.ckpt" in told
    assert scores(place(), TrainingMonitor(), [100.0, 20.0, 30.0, 35.0]) == []
    assert scores(place(), TrainingMonitor(), [100.0, 20.0, 60.0, 35.0, 60.0]) == [], "a single one may be chance"


def test_a_lost_class_is_told_by_name():
    even, lost = [0.25] * 4, [0.33, 0.0, 0.33, 0.34]
    (told,) = scores(place(), TrainingMonitor(), [1.0] * 3, [even, lost, lost])
    assert "1 of 4 classes are lost: dog (0.0% of the samples)" in told
    assert scores(place(), TrainingMonitor(), [1.0], [lost]) == [], "not found yet, early in a run"
    assert len(scores(place(max_steps=100), TrainingMonitor(), [1.0] * 6, [lost] * 6)) == 1, (
        "never found, late in a run"
    )


def test_a_class_that_is_rare_by_chance_is_not_lost():
    """Of 500 classes 2,000 samples leave some out, though all are made equally often."""
    labels = torch.randint(500, (2000,), generator=torch.Generator().manual_seed(0))
    shares = (labels.bincount(minlength=500) / 2000).tolist()
    assert min(shares) == 0
    judge = Evaluate(best_by="fid", feature=None, metrics={})
    judge.evaluator.num_generated, judge.evaluator.real = 2000, torch.utils.data.Subset([0] * 500, range(500))
    judge.evaluator.real.labels = torch.arange(500)
    judge.add_scores(1, [Score("fid", 1.0, {}, {"class_share_each": shares})])
    trainer = SimpleNamespace(max_steps=100, global_step=5000, datamodule=SimpleNamespace(class_names=[]))
    assert TrainingMonitor().check_scores(trainer, judge) == []


@pytest.mark.parametrize(
    ("name", "metric", "values", "times"),
    [
        ("fid", FID(), [4.0, 2.0, 3.0], 1.5),
        ("recall", PrecisionRecall(), [0.2, 0.6, 0.3], 2.0),
        ("recall", PrecisionRecall(), [0.2, 0.6, 0.0], math.inf),
        ("recall", PrecisionRecall(), [0.0, 0.0], math.nan),
        ("fid", FID(), [0.0, 1.0], math.nan),
        ("kid", KID(), [-0.1, 1.0], math.nan),
        ("fid", FID(), [math.nan, 2.0, 4.0], 2.0),
        ("fid", FID(), [math.nan], math.nan),
    ],
)
def test_how_many_times_worse_the_last_is(name, metric, values, times):
    judge = Evaluate(best_by=name, feature=None, metrics={})
    judge.evaluator.available = {name: metric}
    card = {"num_generated": 1, "num_real": 1, "data": "x", "split": "train", "feature": "x", "weights": "raw"}
    for step, value in enumerate(values):
        judge.add_scores(step, [Score(name, value, card)])
    assert judge.times_worse() == pytest.approx(times, nan_ok=True)
    told = judge.summary(1.0)
    assert ("much worse" in "".join(told)) == (times > 1.5)


# --- a run that is stopped ------------------------------------------------------------------------------------------


def test_what_an_evaluation_shows_between_two_looks_stops_the_run_too(run, tmp_path, monkeypatch):
    values = iter([1.0, 9.0, 9.0, 9.0])
    monkeypatch.setattr(FID, "__call__", lambda *_: {"fid": next(values)})
    words = (
        "eval.every_n_steps=1",
        "eval.num_generated=20",
        "callbacks.monitor.every_n_steps=50",
        "callbacks.monitor.stop=true",
    )
    trainer = run(tmp_path, "model=vanilla", *words, "trainer.max_steps=4")
    assert trainer.global_step == 3
    assert "9.0 times worse" in summary.exit_status_and_reason(trainer)[1]


def test_weights_that_are_not_finite_stop_the_run_and_keep_the_checkpoint(run, tmp_path, monkeypatch):
    """The loss is still finite when a weight is not: the norm of the weights is looked at by itself."""

    def step_and_spoil(self, batch, batch_idx, step=GAN.training_step):
        outputs = step(self, batch, batch_idx)
        if self.global_step == 4:
            next(self.generator.parameters()).data[0] = float("nan")
        return outputs

    monkeypatch.setattr(GAN, "training_step", step_and_spoil)
    with pytest.raises(UserError, match=r"step 4: g/weights is nan"):
        run(
            tmp_path,
            "model=vanilla",
            "trainer.max_steps=10",
            "callbacks.checkpoint.every_n_steps=3",
            "callbacks.metric_logger.every_n_steps=100",
            "callbacks.monitor.every_n_steps=1",
        )
    assert checkpoints.read(tmp_path / "checkpoints" / "last.ckpt")["global_step"] == 3


def test_warnings_go_to_tensorboard(run, tmp_path, monkeypatch):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    values = iter([1.0, 9.0, 9.0])
    monkeypatch.setattr(FID, "__call__", lambda *_: {"fid": next(values)})
    run(
        tmp_path,
        "model=vanilla",
        "eval.every_n_steps=1",
        "eval.num_generated=20",
        "trainer.max_steps=3",
        "callbacks.monitor.every_n_steps=1",
    )
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    (text,) = events.Tensors("health/text_summary")
    assert b"9.0 times worse" in text.tensor_proto.string_val[0]
    assert "health/diversity" in events.Tags()["scalars"]
    assert any(tag.startswith("eval/fid_") for tag in events.Tags()["scalars"])


def test_stopping_is_told_apart_from_signals():
    assert summary.exit_status_and_reason(
        SimpleNamespace(callbacks=[TrainingMonitor()], global_step=5, max_steps=5)
    ) == (0, "")
