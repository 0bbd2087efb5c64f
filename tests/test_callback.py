"""The guests of a run: checkpoints, scalars, pictures, rates, the bar and signals."""

import csv
import math
import os
import pickle
import shutil
import signal
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import gan_lightning
from gan_lightning.callbacks.learning_rate import LearningRate
from gan_lightning.callbacks.progress import Progress
from gan_lightning.callbacks.sample_grid import SampleGrid
from gan_lightning.callbacks.scalars import Scalars, accuracies
from gan_lightning.callbacks.stop import SIGNALS, Stop
from gan_lightning.checkpoint import newest, read, refuse_foreign, take_networks
from gan_lightning.errors import UserError
from gan_lightning.image import grid, read_png
from gan_lightning.model.base import GAN
from gan_lightning.train import conclude

EVERY_STEP = "callbacks.scalars.every_n_steps=1"


def steps_of(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return [*csv.DictReader(file)]


@pytest.fixture
def trained(run, tmp_path) -> Path:
    """A checkpoint of two steps."""
    run(tmp_path / "trained", "model=vanilla", "model.ema_decay=0.9")
    return tmp_path / "trained" / "checkpoints" / "last.ckpt"


# Checkpoints


@pytest.mark.parametrize(("keep", "kept"), [("3", [4, 6, 7]), ("1", [7]), ("null", [2, 4, 6, 7])])
def test_checkpoints_are_named_pruned_and_end_with_the_last_step(run, tmp_path, keep, kept):
    words = "model=vanilla", "trainer.max_steps=7", "callbacks.checkpoint.every_n_steps=2"
    run(tmp_path, *words, f"callbacks.checkpoint.keep={keep}")
    assert steps_of(tmp_path) == ["last.ckpt", *(f"step_{step:08d}.ckpt" for step in kept)]
    for step in kept:
        assert read(tmp_path / "checkpoints" / f"step_{step:08d}.ckpt")["global_step"] == step
    assert read(tmp_path / "checkpoints" / "last.ckpt")["global_step"] == 7


def test_newest_falls_back_to_the_one_before(run, tmp_path):
    run(tmp_path, "model=vanilla", "trainer.max_steps=4", "callbacks.checkpoint.every_n_steps=2")
    folder = tmp_path / "checkpoints"
    assert newest(tmp_path)[0].name == "step_00000004.ckpt"
    (folder / "last.ckpt").unlink()
    damaged = folder / "step_00000004.ckpt"
    damaged.write_bytes(damaged.read_bytes()[:-100])
    path, faults = newest(tmp_path)
    assert path.name == "step_00000002.ckpt"
    assert faults == [f"{damaged}: cannot be read (damaged, or no checkpoint at all)"]


def test_a_flipped_byte_is_noticed(trained):
    content = bytearray(trained.read_bytes())
    content[len(content) // 2] ^= 0xFF
    trained.write_bytes(content)
    with pytest.raises(UserError, match="cannot be read"):
        read(trained)


def test_a_checkpoint_rebuilds_the_model_alone(run, tmp_path, variant):
    words = f"model={variant}", "model.ema_decay=0.9", "trainer.max_steps=2"
    model = run(tmp_path / "run", *words).lightning_module
    moved = shutil.copy(tmp_path / "run" / "checkpoints" / "last.ckpt", tmp_path / "moved.ckpt")
    shutil.rmtree(tmp_path / "run")
    loaded = gan_lightning.load(moved)
    assert type(loaded) is type(model)
    assert not loaded.training
    assert loaded.state_dict().keys() == model.state_dict().keys()
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in loaded.state_dict().items())
    assert torch.equal(loaded.sample(5, seed=2), model.sample(5, seed=2))


class Bomb:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.marker),)


def test_unfit_files_are_refused_and_run_nothing(trained, tmp_path):
    whole, path, marker = trained.read_bytes(), tmp_path / "unfit.ckpt", tmp_path / "ran"
    pickle.loads(pickle.dumps(Bomb(tmp_path / "works")))
    assert (tmp_path / "works").is_dir(), "the bomb is none"

    def refused(match: str) -> None:
        with pytest.raises(UserError, match=match) as caught:
            gan_lightning.load(path)
        assert str(path) in str(caught.value)
        with pytest.raises(UserError, match=match):
            gan_lightning.load(path, trust=True)

    for length in (0, 10, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        refused("cannot be read")
    path.write_bytes(b"GIF89a and more")
    refused("cannot be read")
    path.write_bytes(pickle.dumps(Bomb(marker)))
    refused("cannot be read")
    torch.save({"state_dict": {}, "hyper_parameters": {"config": Bomb(marker)}}, path)
    refused("it names code to run")
    checkpoint = read(trained)
    foreign = [
        checkpoint["state_dict"],
        {"state_dict": checkpoint["state_dict"]},
        [1, 2],
        checkpoint | {"hyper_parameters": None},
        checkpoint | {"hyper_parameters": {"width": 3}},
        checkpoint | {"hyper_parameters": {"config": "text"}},
        checkpoint | {"hyper_parameters": {"config": {"model": None}}},
        {key: value for key, value in checkpoint.items() if key != "state_dict"},
    ]
    for content in foreign:
        torch.save(content, path)
        refused("not one of gan-lightning's")
    torch.save(checkpoint | {"state_dict": {"generator.weight": torch.zeros(1)}}, path)
    refused("do not fit")
    path.unlink()
    refused("there is no such checkpoint")
    assert not marker.exists()


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "builtins.eval",
        "gan_lightning.model.base.torch.hub.load",
        "gan_lightning.model.base.LightningModule",
        "gan_lightning.model.base.Terms",
        "gan_lightning.network.layers.pairwise",
        "gan_lightning.model.nowhere.Nothing",
        "gan_lightning.callbacks.stop.subprocess.run",
        "pytorch_lightning.plugins.io.TorchCheckpointIO",
        "pytorch_lightning.loggers.logger.Logger",
        "gan_lightning.train.main",
        "torch.optim.lr_scheduler.LambdaLR",
        "torch.optim.NoSuch",
        "torch.load",
    ],
)
def test_classes_that_are_not_ours_are_refused(trained, target):
    for node in ({"_target_": target}, {"generator": {"a": [{"_target_": target}]}}):
        with pytest.raises(UserError, match="which is no class of this version") as caught:
            refuse_foreign(node, trained)
        assert target in str(caught.value)
    checkpoint = read(trained)
    checkpoint["hyper_parameters"]["config"]["model"]["loss"] = {"_target_": target, "command": "exit 1"}
    torch.save(checkpoint, trained)
    with pytest.raises(UserError, match="gan-sample --trust"):
        gan_lightning.load(trained)


def test_our_own_classes_are_let_in(trained):
    config = read(trained)["hyper_parameters"]["config"]
    refuse_foreign(config["model"], trained)
    for target in ("gan_lightning.model.wgan.WGAN", "gan_lightning.loss.hinge.Hinge", "torch.optim.RMSprop"):
        refuse_foreign({"_target_": target}, trained)


def test_trust_lets_other_classes_in(trained):
    checkpoint = read(trained)
    checkpoint["hyper_parameters"]["config"]["model"]["loss"] = {"_target_": "types.SimpleNamespace", "mark": 7}
    torch.save(checkpoint, trained)
    with pytest.raises(UserError, match=r"types\.SimpleNamespace"):
        gan_lightning.load(trained)
    assert gan_lightning.load(trained, trust=True).loss.mark == 7


def test_take_networks_takes_networks_only(run, build, trained):
    state = read(trained)["state_dict"]
    model, _ = build("model=vanilla", "model.ema_decay=0.5", "seed=3")
    assert not torch.equal(model.generator.net[0].weight, state["generator.net.0.weight"])
    take_networks(model, trained)
    for key, value in model.state_dict().items():
        assert torch.equal(value, state[key.replace("generator_ema.network.", "generator.")]), key
    assert any(not torch.equal(state[f"generator_ema.network.{k}"], state[f"generator.{k}"]) for k in ["net.0.weight"])


def test_init_from_starts_at_step_zero(run, trained, tmp_path):
    trainer = run(tmp_path / "next", "model=vanilla", f"init_from={trained}", "trainer.max_steps=1", EVERY_STEP)
    assert trainer.global_step == 1
    fresh = read(tmp_path / "next" / "checkpoints" / "last.ckpt")
    assert {int(state["step"]) for state in fresh["optimizer_states"][0]["state"].values()} == {1}


@pytest.mark.parametrize(("words", "player"), [(["network.width=8"], "generator"), (["network.depth=2"], "generator")])
def test_networks_that_do_not_fit_are_told(build, trained, words, player):
    model, _ = build("model=vanilla", *words)
    with pytest.raises(UserError, match=rf"init_from={trained}: its {player} does not fit this one: .*net"):
        take_networks(model, trained)


# Scalars

FIGURES = {
    "step",
    "images_seen",
    "images_per_second",
    "d/output_real",
    "d/output_fake",
    "d/adversarial",
    "g/adversarial",
    *(f"{player}/{name}" for player in "gd" for name in ("gradient_norm", "lr")),
}
ACCURACIES = {"d/accuracy_real", "d/accuracy_fake"}  # of a critic there are none
TERMS = {
    "acgan": {"d/class_real", "d/class_fake", "g/class_fake", *ACCURACIES},
    "wgan": set(),
    "wgan_gp": {"d/gradient_penalty"},
    **dict.fromkeys(("vanilla", "dcgan", "cgan"), ACCURACIES),
}


def test_metrics_csv_has_every_figure(run, tmp_path, variant):
    run(tmp_path, f"model={variant}", "trainer.max_steps=7", "callbacks.scalars.every_n_steps=3", "model.d_steps=2")
    lines = table(tmp_path)
    assert [int(line["step"]) for line in lines] == [3, 6, 7]
    columns = set(lines[0])
    assert columns >= FIGURES
    if variant in TERMS:
        assert columns == FIGURES | TERMS[variant]
    for line in lines:
        assert all(math.isfinite(float(value)) for value in line.values())
        assert float(line["images_seen"]) == int(line["step"]) * 2 * 4
        assert 0 <= float(line.get("d/accuracy_real", 0)) <= 1
    found = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert set(found.Tags()["scalars"]) == columns - {"step"}
    for tag in columns - {"step"}:
        assert [event.step for event in found.Scalars(tag)] == [3, 6, 7]
        logged = [event.value for event in found.Scalars(tag)]
        assert logged == pytest.approx([float(line[tag]) for line in lines], rel=1e-6)


def test_figures_are_what_they_are_called(build):
    model, data = build("model=vanilla")
    model.terms = {"d": {"adversarial": torch.tensor(1.5)}, "g": {"adversarial": torch.tensor(0.5)}}
    model.logits = {"real": torch.tensor([1.0, 2.0, -1.0, 4.0]), "fake": torch.tensor([-1.0, 3.0, -1.0, -5.0])}
    optimizers = []
    for network, rate in ((model.generator, 0.1), (model.discriminator, 0.2)):
        for i, parameter in enumerate(network.parameters()):
            parameter.grad = torch.zeros_like(parameter)
            if i < 2:
                parameter.grad.view(-1)[0] = 3.0 + i
        optimizers.append(torch.optim.SGD(network.parameters(), rate))
    model.optimizers = lambda use_pl_optimizer: optimizers
    guest = Scalars()
    guest.then, guest.since = time.perf_counter() - 2, 10
    values = guest.measure(SimpleNamespace(datamodule=data, world_size=1), model, 30)
    assert 0 < values.pop("images_per_second") <= 20 * 4 / 2
    assert values == pytest.approx(
        {
            "images_seen": 30 * 4,
            "d/adversarial": 1.5,
            "g/adversarial": 0.5,
            "d/accuracy_real": 0.75,
            "d/output_real": 1.5,
            "d/accuracy_fake": 0.75,
            "d/output_fake": -1.0,
            "g/gradient_norm": 5.0,
            "d/gradient_norm": 5.0,
            "g/lr": 0.1,
            "d/lr": 0.2,
        }
    )


def test_accuracy_is_about_the_boundary_of_the_loss(build):
    """Least squares parts 1 from 0; a perfect D has half of its fakes above 0."""
    model, _ = build("model=vanilla", "loss=least_squares")
    model.logits = {"real": torch.tensor([1.1, 0.9, 0.4, 1.0]), "fake": torch.tensor([0.1, -0.1, 0.1, -0.1])}
    assert {kind: float(share) for kind, share in accuracies(model).items()} == {"real": 0.75, "fake": 1.0}


def test_a_loss_that_is_not_finite_stops_the_run(run, tmp_path, monkeypatch):
    loss = GAN.generator_loss

    def broken(self: GAN, *args: Any) -> Any:
        terms = loss(self, *args)
        return terms | {"extra": terms["adversarial"] * (math.nan if self.global_step == 2 else 1.0)}

    monkeypatch.setattr(GAN, "generator_loss", broken)
    with pytest.raises(UserError, match=r"step 3: g/extra is nan"):
        run(tmp_path, "model=vanilla", "trainer.max_steps=5", EVERY_STEP, "callbacks.checkpoint.every_n_steps=1")
    assert [int(line["step"]) for line in table(tmp_path)] == [1, 2]
    assert steps_of(tmp_path)[-1] == "step_00000002.ckpt", "a checkpoint of what has diverged"


def test_what_has_diverged_is_not_saved(run, tmp_path, monkeypatch):
    """Checkpoints may be due more often than figures; they must not push out the good ones."""
    loss = GAN.discriminator_loss

    def broken(self: GAN, *args: Any) -> Any:
        return {name: term * (math.inf if self.global_step >= 2 else 1.0) for name, term in loss(self, *args).items()}

    monkeypatch.setattr(GAN, "discriminator_loss", broken)
    words = "model=vanilla", "trainer.max_steps=9", "callbacks.checkpoint.every_n_steps=2"
    with pytest.raises(UserError, match=r"step 3: d/adversarial is (inf|nan)"):
        run(tmp_path, *words, "callbacks.checkpoint.keep=1")
    assert steps_of(tmp_path) == ["last.ckpt", "step_00000002.ckpt"]


# Pictures


@pytest.mark.parametrize("name", ["vanilla", "cgan"])
def test_pictures_at_round_steps_and_the_last(run, tmp_path, name):
    trainer = run(tmp_path, f"model={name}", "trainer.max_steps=12")
    folder = tmp_path / "samples"
    steps = [1, 2, 5, 10, 12]
    drawn = [f"step_{step:08d}.png" for step in steps]
    assert sorted(path.name for path in folder.iterdir()) == ["real.png", *drawn, "timeline.png"]
    labels = torch.arange(10).repeat_interleave(8) if name == "cgan" else None
    rows = 10 if name == "cgan" else 8
    expected = grid(trainer.lightning_module.sample(8 * rows, labels, seed=0), columns=8)
    assert expected.shape == (3, rows * 18 + 2, 8 * 18 + 2)
    assert torch.equal(read_png(folder / drawn[-1]), expected)
    assert not torch.equal(read_png(folder / drawn[0]), expected)
    real = trainer.datamodule.real(8 * rows, labels)
    assert torch.equal(read_png(folder / "real.png"), grid(real, columns=8))
    found = EventAccumulator(str(tmp_path / "tensorboard"), size_guidance={"images": 0}).Reload()
    assert [event.step for event in found.Images("samples")] == steps
    assert [event.step for event in found.Images("real")] == [0]


def test_the_timeline_grows_and_holds_the_same_noise(run, tmp_path):
    heights = []
    for steps in (1, 2, 5):
        run(tmp_path / str(steps), "model=vanilla", f"trainer.max_steps={steps}")
        heights.append(read_png(tmp_path / str(steps) / "samples" / "timeline.png").shape[1])
    row = 16 + 2 * 2
    assert heights == [row, 2 * row, 3 * row]
    folder = tmp_path / "5" / "samples"
    timeline, picture = read_png(folder / "timeline.png"), read_png(folder / "step_00000002.png")
    assert torch.equal(timeline[:, row : 2 * row, -picture.shape[2] :], picture[:, :row])


def test_points_give_a_scatter(run, tmp_path):
    run(tmp_path, "model=wgan_gp", "data=gaussian_ring", "trainer.max_steps=2")
    first, second = (read_png(tmp_path / "samples" / f"step_{step:08d}.png") for step in (1, 2))
    assert first.shape == second.shape == (3, 480, 480)
    assert not torch.equal(first, second)
    assert len(first.flatten(1).unique(dim=1).T) > 50, "hardly anything is drawn"
    assert (tmp_path / "samples" / "timeline.png").exists()


def test_watching_puts_modes_back(build):
    """Also those of single layers, as of one that is held in evaluation mode on purpose."""
    model, _ = build("model=dcgan")
    model.train()
    model.generator.project.eval()
    before = [module.training for module in model.modules()]
    model.sample(2)
    assert [module.training for module in model.modules()] == before


# Rates, bar, signals


@pytest.mark.parametrize(("schedule", "factors"), [("linear_decay", [1, 0.75, 0.5, 0.25]), ("constant", [1] * 4)])
def test_rates_by_hand(run, tmp_path, schedule, factors):
    words = "model=wgan_gp", "trainer.max_steps=4", EVERY_STEP, f"callbacks.learning_rate.schedule={schedule}"
    run(tmp_path, *words, "model.discriminator_optimizer.lr=4e-3")
    lines = table(tmp_path)
    assert [float(line["g/lr"]) for line in lines] == pytest.approx([1e-4 * factor for factor in factors])
    assert [float(line["d/lr"]) for line in lines] == pytest.approx([4e-3 * factor for factor in factors])


def test_a_rate_is_a_function_of_the_step_alone():
    optimizers = [torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr) for lr in (0.1, 0.2)]
    module = SimpleNamespace(optimizers=lambda use_pl_optimizer: optimizers)
    guest = LearningRate("linear_decay")
    guest.on_fit_start(SimpleNamespace(), module)
    for step in (7, 2, 2, 9):
        guest.on_train_batch_start(SimpleNamespace(global_step=step, max_steps=10), module)
        rates = [optimizer.param_groups[0]["lr"] for optimizer in optimizers]
        assert rates == pytest.approx([0.1 * (1 - step / 10), 0.2 * (1 - step / 10)])


def test_the_bar_counts_generator_steps(run, tmp_path, capsys):
    words = "model=wgan", "trainer.max_steps=5", "callbacks.progress.refresh_s=1e-9"
    trainer = run(tmp_path, *words, "callbacks.checkpoint.every_n_steps=2")
    (bar,) = [guest.bar for guest in trainer.callbacks if isinstance(guest, Progress)]
    assert (bar.initial, bar.n, bar.total) == (0, 5, 5)
    told = capsys.readouterr().err
    assert "5/5" in told
    assert f"images={5 * 5 * 4}" in told
    assert "d=" in told
    assert "g=" in told
    trainer = run(tmp_path, *words, ckpt_path=tmp_path / "checkpoints" / "step_00000002.ckpt")
    (bar,) = [guest.bar for guest in trainer.callbacks if isinstance(guest, Progress)]
    assert (bar.initial, bar.n, bar.total) == (2, 5, 5)
    assert "2/5" in capsys.readouterr().err


def test_the_bar_of_a_run_that_fails_is_closed(run, tmp_path, monkeypatch):
    closed = []
    monkeypatch.setattr("tqdm.tqdm.close", lambda bar: closed.append(bar))
    monkeypatch.setattr(GAN, "generator_loss", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(tmp_path, "model=vanilla")
    assert closed


def test_signal_handlers_are_put_back(run, tmp_path):
    before = [signal.getsignal(signum) for signum in SIGNALS]
    trainer = run(tmp_path, "model=vanilla")
    assert [signal.getsignal(signum) for signum in SIGNALS] == before
    assert [guest.signum for guest in trainer.callbacks if isinstance(guest, Stop)] == [0]


def test_a_second_signal_ends_at_once():
    stop = Stop()
    stop.on_train_batch_start()
    stop.handle(signal.SIGTERM, None)
    with pytest.raises(SystemExit) as caught:
        stop.handle(signal.SIGINT, None)
    assert caught.value.code == 130
    trainer = SimpleNamespace(world_size=1, global_step=3, should_stop=False)
    stop.on_train_batch_end(trainer, None)
    assert trainer.should_stop


# The end of a run


def test_tensorboard_has_hparams_config_and_pictures(run, compose, tmp_path):
    words = "model=vanilla", "trainer.max_steps=2", EVERY_STEP
    trainer = run(tmp_path, *words)
    metrics = conclude(compose(*words), trainer, tmp_path, time.time())["metrics"]
    assert metrics["images_seen"] == 8
    found = EventAccumulator(str(tmp_path / "tensorboard"), size_guidance={"images": 0, "tensors": 0}).Reload()
    (text,) = found.Tensors("config/text_summary")
    assert b"max_steps: 2" in text.tensor_proto.string_val[0]
    (grid_event, _) = found.Images("samples")
    assert grid_event.width == 8 * 18 + 2
    data = found.summary_metadata
    assert "_hparams_/session_start_info" in data
    from tensorboard.plugins.hparams import plugin_data_pb2

    start = plugin_data_pb2.HParamsPluginData.FromString(data["_hparams_/session_start_info"].plugin_data.content)
    told = start.session_start_info.hparams
    assert told["model.d_steps"].number_value == 1
    assert told["model.generator_optimizer.lr"].number_value == 2e-4
    assert told["seed"].number_value == 0
    info = plugin_data_pb2.HParamsPluginData.FromString(data["_hparams_/experiment"].plugin_data.content)
    for metric in info.experiment.metric_infos:
        last = found.Scalars(metric.name.tag)[-1]
        assert last.value == pytest.approx(metrics[metric.name.tag.removeprefix("final/")], rel=1e-6)
    for tag in metrics:
        assert [event.step for event in found.Scalars(tag)] == [1, 2], "the final figures stand at a step of their own"


def test_a_guest_can_be_built_in_plain_python():
    assert Scalars().every_n_steps == 50
    assert SampleGrid().columns == 8
    assert LearningRate().schedule(0.5) == 1
    assert Progress().bar is None
