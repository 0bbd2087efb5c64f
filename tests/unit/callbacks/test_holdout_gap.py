"""HoldoutGap: D's outputs on training and on held-out samples, and the warning about memorization."""

import itertools
import logging
from types import SimpleNamespace

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.data import DataLoader, TensorDataset

from gan_lightning.callbacks import holdout_gap
from gan_lightning.callbacks.holdout_gap import HoldoutGap
from gan_lightning.callbacks.monitor import TrainingMonitor
from gan_lightning.run.checkpoint import read
from gan_lightning.trainer import Trainer

OFTEN = "callbacks.metric_logger.every_n_steps=1", "callbacks.monitor.every_n_steps=1", "callbacks.holdout_gap.num=7"


def gauge_of(trainer) -> HoldoutGap:
    return next(callback for callback in trainer.callbacks if isinstance(callback, HoldoutGap))


@pytest.mark.parametrize("model", ["cgan", "wgan_gp"])
def test_gap_is_difference_of_mean_outputs_in_evaluation_mode(run, tmp_path, model):
    trainer = run(tmp_path, f"model={model}", "network.discriminator.dropout=0.5", *OFTEN)
    gauge, data, module = gauge_of(trainer), trainer.datamodule, trainer.lightning_module
    (training, y), (held_out, y_held_out) = gauge.parts
    assert len(training) == len(held_out) == 7
    assert all((data.samples == sample).flatten(1).all(1).any() for sample in training)
    assert not any((data.samples == sample).flatten(1).all(1).any() for sample in held_out)
    module.discriminator.eval()
    with torch.no_grad():
        a = module.discriminator(data.scale(training), y).double()
        b = module.discriminator(data.scale(held_out), y_held_out).double()
    assert gauge.measured_at == 2
    expected = (a.mean() - b.mean()) / ((a.var() + b.var()) / 2).sqrt()
    assert gauge.effect == pytest.approx(float(expected), rel=1e-9)
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload().Scalars("d/holdout_gap")
    assert [event.step for event in events] == [1, 2]
    assert events[-1].value == pytest.approx(float(a.mean() - b.mean()), rel=1e-6)


def test_gauge_does_not_change_training(run, tmp_path):
    run(tmp_path / "on", "model=dcgan", "trainer.max_steps=4", *OFTEN)
    run(tmp_path / "off", "model=dcgan", "trainer.max_steps=4", "~callbacks.holdout_gap")
    on, off = (read(tmp_path / name / "checkpoints" / "last.ckpt")["state_dict"] for name in ("on", "off"))
    assert all(torch.equal(on[name], value) for name, value in off.items())


@pytest.mark.parametrize("overrides", [["model=vanilla", "data.limit=null"], ["model=vae"]])
def test_nothing_is_measured_without_held_out_samples_or_discriminator(run, tmp_path, overrides):
    gauge = gauge_of(run(tmp_path, *overrides, *OFTEN))
    assert (gauge.parts, gauge.measured_at) == ([], None)


def test_nothing_is_measured_with_plain_data_loader(build):
    model, data = build("model=vanilla")
    gauge = HoldoutGap()
    loader = DataLoader(TensorDataset(data.scale(data.samples), data.labels), batch_size=4)
    trainer = Trainer(max_steps=2, accelerator="cpu", logger=False, callbacks=[gauge])
    trainer.fit(model, loader)
    assert model.history
    assert gauge.measure(trainer, model) == {}


def test_gap_of_points_is_measured(run, tmp_path):
    assert gauge_of(run(tmp_path, "model=vanilla", "data=gaussian_ring", *OFTEN)).measured_at == 2


@pytest.mark.parametrize(
    ("augment", "advice"), [(None, "try augment=diffaugment"), (object(), "a higher augment.prob")]
)
def test_memorization_is_warned_about_once(augment, advice):
    monitor, model = TrainingMonitor(), SimpleNamespace(augment=augment)
    effects = [0.9, 1.2, 0.9, 1.1, 1.1, 1.1, 1.1, 1.3, 2.0]
    warnings = [monitor.check_overfitting(model, effect) for effect in effects]
    assert [len(found) for found in warnings] == [0, 0, 0, 0, 0, 0, 0, 1, 0]
    assert "differ by 1.3 standard deviations" in warnings[7][0]
    assert advice in warnings[7][0]


def test_memorization_in_training_is_warned_about(run, tmp_path, caplog, monkeypatch):
    values = itertools.cycle([torch.tensor([3.0, 4.0]), torch.tensor([1.0, 2.0])])  # of training samples, held out
    monkeypatch.setattr(holdout_gap, "outputs", lambda *_: next(values))
    with caplog.at_level(logging.WARNING):
        run(tmp_path, "model=vanilla", "trainer.max_steps=6", *OFTEN)
    (warning,) = [line for line in caplog.messages if "memorizes" in line]
    assert warning.startswith("health: step 5: D memorizes the training set")
    assert "differ by 2.8 standard deviations" in warning
