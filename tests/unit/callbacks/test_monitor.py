"""TrainingMonitor: warnings about diverging, collapsing or worsening runs, and stopping such a run."""

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
from gan_lightning.feature.inception import Inception
from gan_lightning.loss.least_squares import LeastSquares
from gan_lightning.loss.minimax import Minimax
from gan_lightning.loss.wasserstein import Wasserstein
from gan_lightning.metric.fid import FID
from gan_lightning.metric.kid import KID
from gan_lightning.metric.precision_recall import PrecisionRecall
from gan_lightning.model.base import Logits, StepOutput
from gan_lightning.model.gan import GAN
from gan_lightning.run import checkpoint as checkpoints
from gan_lightning.run import summary


class Network(torch.nn.Module):
    """A network of one weight with a gradient."""

    def __init__(self, gradient: float) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(4))
        self.weight.grad = torch.full((4,), gradient / 2)


def training_state(gradient=1.0, real=5.0, fake=-5.0, spread=1.0, loss=None) -> SimpleNamespace:
    noise = torch.randn(64, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    return SimpleNamespace(
        generator=Network(gradient),
        outputs={
            "d": StepOutput({}, spread * noise, Logits(torch.full((8,), real), torch.full((8,), fake))),
            "g": StepOutput({}, spread * noise),
        },
        loss=loss or Minimax(),
    )


REAL = torch.randn(64, 1, 4, 4, generator=torch.Generator().manual_seed(1))


def loss_warnings(states, step=1000) -> list[str]:
    trainer = SimpleNamespace(loggers=[], is_global_zero=True, global_step=step)
    callback, warnings = TrainingMonitor(), []
    for state in states:
        warnings += callback.check_losses(trainer, state, state.outputs, REAL)
    return warnings


def range_warnings(fakes, logits, loss=None, points=False) -> list[str]:
    """The warnings of checks at the steps 1, 50, 100, ... with generated pixels and logits in these ranges."""
    trainer = SimpleNamespace(loggers=[], is_global_zero=True, global_step=1, callbacks=[], strategy=None)
    callback, ends = TrainingMonitor(), torch.linspace(0, 1, 16)
    callback.check_losses = lambda *_: []
    module = SimpleNamespace(loss=loss or Minimax(), history=[], trainer=trainer, optimized_networks={})
    trainer.world_size = 1
    for number, ((low, high), (least, most)) in enumerate(zip(fakes, logits, strict=True)):
        trainer.global_step = 50 * number or 1
        fake, output = low + (high - low) * ends, least + (most - least) * ends
        fake = fake.view(8, 2) if points else fake.view(1, 1, 4, 4)
        outputs = {"g": StepOutput({}, fake), "d": StepOutput({}, fake, Logits(output, output))}
        callback.on_train_batch_end(trainer, module, outputs, (REAL, None), 0)
    return callback.warnings


SIGMOID, TANH = [(0.1, 0.9)] * 6, [(-0.9, 0.9)] * 6


def test_networks_that_end_in_a_sigmoid_have_one_warning_each():
    generator, discriminator = range_warnings(SIGMOID, SIGMOID)
    assert generator == (
        "step 100: generated images have never gone below 0, and the data are in [-1, 1]; if the generator ends in a "
        "sigmoid, replace it by tanh"
    )
    assert discriminator == (
        "step 100: D's outputs have stayed in [0, 1], and the loss expects logits; if the discriminator ends in a "
        "sigmoid, remove it"
    )


def test_outputs_that_were_outside_once_have_no_warning():
    """An untrained network without a sigmoid exceeds [0, 1]; later its images may become white."""
    outside_at_start = [(-0.1, 0.1), *SIGMOID[1:]]
    assert range_warnings(outside_at_start, outside_at_start) == []
    assert range_warnings(TANH, [(0.5, 1.1), *SIGMOID[1:]]) == []
    assert len(range_warnings(SIGMOID, TANH)) == len(range_warnings(TANH, SIGMOID)) == 1


@pytest.mark.parametrize("loss", [LeastSquares(), Wasserstein()])
def test_losses_whose_outputs_may_stay_in_unit_interval_have_no_warning(loss):
    assert range_warnings(TANH, SIGMOID, loss) == []


def test_points_may_be_positive():
    assert range_warnings(SIGMOID, TANH, points=True) == []


def test_healthy_training_has_no_warning():
    assert loss_warnings([training_state(real=0.5, fake=0.5)] * 20) == []
    assert loss_warnings([training_state()] * 20) == [], "an accurate D is no problem while G's gradient is large"


def test_vanishing_gradient_with_perfect_discriminator_is_warned_about_once():
    warnings = loss_warnings([training_state(1.0)] + [training_state(0.001)] * 20)
    assert len(warnings) == 1
    assert "D's accuracy is 100%" in warnings[0]
    assert "G's gradient norm is 0.001, 0.10% of its maximum" in warnings[0]
    assert "loss=non_saturating" in warnings[0]


def test_warning_is_repeated_after_recovery():
    vanishing, healthy = [training_state(0.001)] * 6, [training_state(1.0)]
    assert len(loss_warnings(healthy + vanishing + healthy + vanishing)) == 2
    assert (
        loss_warnings(healthy + vanishing[: monitor.PATIENCE - 1] + healthy + vanishing[: monitor.PATIENCE - 1]) == []
    )


def test_critic_has_no_accuracy_warning():
    assert (
        loss_warnings([training_state(1.0, loss=Wasserstein())] + [training_state(0.001, loss=Wasserstein())] * 20)
        == []
    )


def test_low_diversity_of_batch_is_warned_about():
    (warning,) = loss_warnings([training_state(spread=0.05)] * 20)
    assert "vary 0.0" in warning
    assert "model=wgan_gp" in warning
    assert loss_warnings([training_state(spread=0.05)] * 20, step=100) == [], "first samples are always similar"
    assert loss_warnings([training_state(spread=0.5)] * 20) == []


def test_mode_collapse_in_training_run_is_warned_about(run, tmp_path, caplog, monkeypatch):
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


# --- warnings from evaluation ---------------------------------------------------------------------------------------


def score_warnings(trainer, callback, values, shares=None) -> list[str]:
    warnings = []
    for step in range(1, len(values) + 1):
        details = {} if shares is None else {"class_share_each": shares[step - 1]}
        evaluate = Evaluate(best_by="fid", feature=Inception(), metrics={})
        evaluate.evaluator.available = {"fid": FID()}
        evaluate.evaluator.num_generated, evaluate.evaluator.real = 100, torch.utils.data.Subset([0] * 20, range(20))
        evaluate.evaluator.real.labels = torch.arange(4).repeat(5)
        for i, value in enumerate(values[:step], 1):
            evaluate.add_scores(i, [Score("fid", value, {}, details)])
        trainer.global_step = step * 100
        warnings += callback.check_scores(trainer, evaluate)
    return warnings


def make_trainer(max_steps=10_000) -> SimpleNamespace:
    return SimpleNamespace(max_steps=max_steps, datamodule=SimpleNamespace(class_names=["cat", "dog", "cow", "hen"]))


def test_metric_far_worse_than_best_is_warned_about():
    (warning,) = score_warnings(make_trainer(), TrainingMonitor(), [100.0, 20.0, 30.0, 60.0, 80.0])
    assert "fid is 80, 4.0 times worse than 20 at step 2" in warning
    assert "best.ckpt" in warning
    assert score_warnings(make_trainer(), TrainingMonitor(), [100.0, 20.0, 30.0, 35.0]) == []
    assert score_warnings(make_trainer(), TrainingMonitor(), [100.0, 20.0, 60.0, 35.0, 60.0]) == [], "one may be chance"


def test_lost_class_is_warned_about_by_name():
    even, missing = [0.25] * 4, [0.33, 0.0, 0.33, 0.34]
    (warning,) = score_warnings(make_trainer(), TrainingMonitor(), [1.0] * 3, [even, missing, missing])
    assert "1 of 4 classes are lost: dog (0.0% of the samples)" in warning
    assert score_warnings(make_trainer(), TrainingMonitor(), [1.0], [missing]) == [], (
        "a class may appear later in a run"
    )
    assert len(score_warnings(make_trainer(max_steps=100), TrainingMonitor(), [1.0] * 6, [missing] * 6)) == 1, (
        "a class that never appeared is lost late in a run"
    )


def test_class_missing_by_chance_is_not_lost():
    """2,000 samples of 500 equally frequent classes miss some classes."""
    labels = torch.randint(500, (2000,), generator=torch.Generator().manual_seed(0))
    shares = (labels.bincount(minlength=500) / 2000).tolist()
    assert min(shares) == 0
    evaluate = Evaluate(best_by="fid", feature=Inception(), metrics={})
    evaluate.evaluator.num_generated, evaluate.evaluator.real = 2000, torch.utils.data.Subset([0] * 500, range(500))
    evaluate.evaluator.real.labels = torch.arange(500)
    evaluate.add_scores(1, [Score("fid", 1.0, {}, {"class_share_each": shares})])
    trainer = SimpleNamespace(max_steps=100, global_step=5000, datamodule=SimpleNamespace(class_names=[]))
    assert TrainingMonitor().check_scores(trainer, evaluate) == []


@pytest.mark.parametrize(
    ("name", "metric", "values", "ratio"),
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
def test_times_worse_compares_last_with_best_score(name, metric, values, ratio):
    evaluate = Evaluate(best_by=name, feature=Inception(), metrics={})
    evaluate.evaluator.available = {name: metric}
    card = {"num_generated": 1, "num_real": 1, "data": "x", "split": "train", "feature": "x", "weights": "raw"}
    for step, value in enumerate(values):
        evaluate.add_scores(step, [Score(name, value, card)])
    assert evaluate.times_worse() == pytest.approx(ratio, nan_ok=True)
    lines = evaluate.summary(1.0)
    assert ("much worse" in "".join(lines)) == (ratio > 1.5)


# --- stopping a run -------------------------------------------------------------------------------------------------


def test_evaluation_between_monitor_steps_stops_run(run, tmp_path, monkeypatch):
    values = iter([1.0, 9.0, 9.0, 9.0])
    monkeypatch.setattr(FID, "__call__", lambda *_: {"fid": next(values)})
    overrides = (
        "eval.every_n_steps=1",
        "eval.num_generated=20",
        "callbacks.monitor.every_n_steps=50",
        "callbacks.monitor.stop=true",
    )
    trainer = run(tmp_path, "model=vanilla", *overrides, "trainer.max_steps=4")
    assert trainer.global_step == 3
    assert "9.0 times worse" in summary.exit_status_and_reason(trainer)[1]


def test_non_finite_weights_stop_run_and_keep_checkpoint(run, tmp_path, monkeypatch):
    """The loss can still be finite when a weight is not, so the norm of the weights is checked separately."""

    def step_and_set_nan(self, batch, batch_idx, step=GAN.training_step):
        outputs = step(self, batch, batch_idx)
        if self.global_step == 4:
            next(self.generator.parameters()).data[0] = float("nan")
        return outputs

    monkeypatch.setattr(GAN, "training_step", step_and_set_nan)
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


def test_warnings_are_written_to_tensorboard(run, tmp_path, monkeypatch):
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
    assert any(tag.startswith("eval/fd_") for tag in events.Tags()["scalars"])


def test_exit_status_of_finished_run_is_zero():
    assert summary.exit_status_and_reason(
        SimpleNamespace(callbacks=[TrainingMonitor()], global_step=5, max_steps=5)
    ) == (0, "")
