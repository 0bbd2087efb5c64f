"""Callbacks: metrics, sample images, learning rates, the progress bar, signals and the last checkpoint."""

import csv
import errno
import logging
import math
import signal
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image, ImageSequence
from pytorch_lightning import Callback
from pytorch_lightning.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from gan_lightning.callbacks import sample_grid
from gan_lightning.callbacks.checkpoint import Checkpoint
from gan_lightning.callbacks.graceful_stop import SIGNALS, GracefulStop
from gan_lightning.callbacks.learning_rate import LearningRate
from gan_lightning.callbacks.metric_logger import MetricLogger, accuracies
from gan_lightning.callbacks.progress import WARMUP, Progress, estimate
from gan_lightning.callbacks.sample_grid import SampleGrid, surface
from gan_lightning.config.instantiate import instantiate
from gan_lightning.errors import UserError
from gan_lightning.io import plot
from gan_lightning.io.files import samples_by_step
from gan_lightning.io.image import (
    contact_sheet,
    enlarge,
    fitting_scale,
    grid,
    has_mark,
    read_png,
    to_uint8,
    write_png,
)
from gan_lightning.io.plot import AXES, Surface, scatter
from gan_lightning.model.base import GenerativeModel, Logits, StepOutput
from gan_lightning.model.gan import GAN
from gan_lightning.run.checkpoint import read
from gan_lightning.run.fit import train
from gan_lightning.run.run_dir import last_metrics
from gan_lightning.run.summary import exit_status_and_reason, log_summary

EVERY_STEP = "callbacks.metric_logger.every_n_steps=1"
UNSCALED = "callbacks.sample_grid.scale=1"


def steps_of(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


def read_metrics(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return [*csv.DictReader(file)]


# Metrics

METRICS = {
    "step",
    "images_seen",
    "images_per_second",
    "d/output_real",
    "d/output_fake",
    "d/holdout_gap",
    "d/adversarial",
    "g/adversarial",
    *(f"{network}/{name}" for network in "gd" for name in ("gradient_norm", "lr")),
}


ACCURACIES = {"d/accuracy_real", "d/accuracy_fake"}  # a critic has none
TERMS = {
    "acgan": {"d/class_real", "d/class_fake", "g/class_fake", *ACCURACIES},
    "wgan": set(),
    "wgan_gp": {"d/gradient_penalty"},
    **dict.fromkeys(("vanilla", "dcgan", "cgan"), ACCURACIES),
}


def test_metrics_csv_has_every_metric(run, tmp_path, variant):
    run(
        tmp_path,
        f"model={variant}",
        "trainer.max_steps=7",
        "callbacks.metric_logger.every_n_steps=3",
        "model.d_steps=2",
    )
    lines = read_metrics(tmp_path)
    assert [int(line["step"]) for line in lines] == [3, 6, 7]
    columns = set(lines[0])
    assert columns >= METRICS
    if variant in TERMS:
        assert columns == METRICS | TERMS[variant]
    for line in lines:
        assert all(math.isfinite(float(value)) for value in line.values())
        assert float(line["images_seen"]) == int(line["step"]) * 2 * 4
        assert 0 <= float(line.get("d/accuracy_real", 0)) <= 1
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert set(events.Tags()["scalars"]) == columns - {"step"}
    for tag in columns - {"step"}:
        assert [event.step for event in events.Scalars(tag)] == [3, 6, 7]
        logged = [event.value for event in events.Scalars(tag)]
        assert logged == pytest.approx([float(line[tag]) for line in lines], rel=1e-6)


def test_logged_metrics_have_expected_values(build):
    model, data = build("model=vanilla")
    logits = Logits(torch.tensor([1.0, 2.0, -1.0, 4.0]), torch.tensor([-1.0, 3.0, -1.0, -5.0]))
    fake = torch.zeros(4, *data.shape)
    optimizers = []
    for network, rate in ((model.generator, 0.1), (model.discriminator, 0.2)):
        for i, parameter in enumerate(network.parameters()):
            parameter.grad = torch.zeros_like(parameter)
            if i < 2:
                parameter.grad.view(-1)[0] = 3.0 + i
        optimizers.append(torch.optim.SGD(network.parameters(), rate))
    callback = MetricLogger()
    callback.outputs = {
        "d": StepOutput({"adversarial": torch.tensor(1.5)}, fake, logits),
        "g": StepOutput({"adversarial": torch.tensor(0.5)}, fake, Logits(None, logits.fake)),
    }
    callback.then, callback.since = time.perf_counter() - 2, 10
    trainer = SimpleNamespace(datamodule=data, world_size=1, optimizers=optimizers, callbacks=[])
    values = callback.measure(trainer, model, 30)
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


def test_accuracy_uses_decision_boundary_of_loss(build):
    """Least squares has its boundary between 0 and 1; a perfect D has half of its fakes above 0."""
    model, _ = build("model=vanilla", "loss=least_squares")
    logits = Logits(torch.tensor([1.1, 0.9, 0.4, 1.0]), torch.tensor([0.1, -0.1, 0.1, -0.1]))
    outputs = {"d": StepOutput({}, torch.zeros(4, 2), logits)}
    assert {kind: float(share) for kind, share in accuracies(model, outputs).items()} == {"real": 0.75, "fake": 1.0}


def test_non_finite_loss_stops_run(run, tmp_path, monkeypatch):
    loss = GAN.generator_loss

    def non_finite_loss(self: GAN, *args: Any) -> Any:
        terms, logits = loss(self, *args)
        return terms | {"extra": terms["adversarial"] * (math.nan if self.global_step == 2 else 1.0)}, logits

    monkeypatch.setattr(GAN, "generator_loss", non_finite_loss)
    with pytest.raises(UserError, match=r"step 3: g/extra is nan"):
        run(tmp_path, "model=vanilla", "trainer.max_steps=5", EVERY_STEP, "callbacks.checkpoint.every_n_steps=1")
    assert [int(line["step"]) for line in read_metrics(tmp_path)] == [1, 2]
    assert steps_of(tmp_path)[-1] == "step_00000002.ckpt", "a checkpoint with a non-finite loss was saved"


def test_diverged_run_is_not_saved(run, tmp_path, monkeypatch):
    """Checkpoints may be saved more often than metrics are logged; they must not replace valid ones."""
    loss = GAN.discriminator_loss

    def non_finite_loss(self: GAN, *args: Any) -> Any:
        terms, logits = loss(self, *args)
        return {name: term * (math.inf if self.global_step >= 2 else 1.0) for name, term in terms.items()}, logits

    monkeypatch.setattr(GAN, "discriminator_loss", non_finite_loss)
    overrides = "model=vanilla", "trainer.max_steps=9", "callbacks.checkpoint.every_n_steps=2"
    with pytest.raises(UserError, match=r"step 3: d/adversarial is (inf|nan)"):
        run(tmp_path, *overrides, "callbacks.checkpoint.keep=1")
    assert steps_of(tmp_path) == ["last.ckpt", "step_00000002.ckpt"]


# Images


def gif_frames(run_dir: Path) -> list[torch.Tensor]:
    """The frames of a run's GIF, as uint8 images (3, H, W)."""
    with Image.open(run_dir / "samples" / "training.gif") as gif:
        frames = [np.array(frame.convert("RGB")) for frame in ImageSequence.Iterator(gif)]
    return [torch.from_numpy(frame).permute(2, 0, 1) for frame in frames]


@pytest.mark.parametrize("name", ["vanilla", "cgan"])
def test_sample_grids_are_saved_at_round_steps_and_last_step(run, tmp_path, name):
    trainer = run(tmp_path, f"model={name}", "trainer.max_steps=12")
    folder = tmp_path / "samples"
    steps = [1, 2, 5, 10, 12]
    files = [f"step_{step:08d}.png" for step in steps]
    assert sorted(path.name for path in folder.iterdir()) == ["real.png", *files, "timeline.png", "training.gif"]
    labels = torch.arange(10).repeat_interleave(8) if name == "cgan" else None
    rows = 10 if name == "cgan" else 8
    expected = grid(trainer.lightning_module.sample(8 * rows, labels, seed=0), columns=8)
    assert expected.shape == (3, rows * 18 + 2, 8 * 18 + 2)
    real = grid(trainer.datamodule.real(8 * rows, labels), columns=8)
    scale = 5 if name == "cgan" else 6  # 182 or 146 pixels become about 900
    expected, real = enlarge(expected, scale), enlarge(real, scale)
    if name == "cgan":  # class names are written at the left
        captions = read_png(folder / files[-1])[:, :, : -expected.shape[2]]
        assert all((captions[:, 90 * row : 90 * row + 90] < 128).any() for row in range(rows))
        expected, real = (torch.cat([captions, image], dim=2) for image in (expected, real))
    assert torch.equal(read_png(folder / files[-1]), expected)
    assert not torch.equal(read_png(folder / files[0]), expected)
    assert torch.equal(read_png(folder / "real.png"), real)
    events = EventAccumulator(str(tmp_path / "tensorboard"), size_guidance={"images": 0}).Reload()
    assert [event.step for event in events.Images("samples")] == steps
    assert [event.step for event in events.Images("real")] == [0]


def test_augmented_images_are_shown_beside_real_ones(compose, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    train(compose("model=vanilla", "augment=ada", "callbacks.sample_grid.scale=1"), tmp_path)
    real, augmented = (read_png(tmp_path / "samples" / f"{name}.png") for name in ("real", "augmented"))
    assert augmented.shape == real.shape == (3, 8 * 18 + 2, 8 * 18 + 2)
    assert torch.equal(augmented[:, :, :18], real[:, :, :18])
    assert not any(torch.equal(augmented[:, :, 18 * c : 18 * c + 18], real[:, :, :18]) for c in range(1, 8))
    events = EventAccumulator(str(tmp_path / "tensorboard"), size_guidance={"images": 0}).Reload()
    assert [event.step for event in events.Images("augmented")] == [0]
    assert "VanillaGAN on 26 samples of 1 x 16 x 16, 10 classes" in caplog.messages
    assert not any("augment=" in line for line in caplog.messages)


@pytest.mark.parametrize(("model", "recommended"), [("vanilla", True), ("vae", False)])
def test_augmentation_is_recommended_for_few_images(compose, tmp_path, caplog, model, recommended):
    caplog.set_level(logging.INFO)
    train(compose(f"model={model}"), tmp_path)
    found = [line for line in caplog.messages if "augment=" in line]
    expected = "26 images: with fewer than 20,000, a discriminator tends to memorize them"
    assert [line.startswith(expected) for line in found] == [True] * recommended


def test_sample_grids_of_abandoned_continuation_are_removed(run, compose, tmp_path):
    overrides = "model=vanilla", "trainer.max_steps=10"
    run(tmp_path, *overrides, "callbacks.checkpoint.every_n_steps=1", "callbacks.checkpoint.keep=null")
    stale = tmp_path / "samples" / "step_00000003.png"
    stale.write_bytes(b"of another continuation")
    (tmp_path / "samples" / "mine.png").touch()
    first = tmp_path / "checkpoints" / "step_00000001.ckpt"

    class StoppingCallback(Callback):
        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            trainer.should_stop = trainer.global_step == 3

    train(compose(*overrides), tmp_path, first, more_callbacks=[StoppingCallback()])
    names = ["mine.png", "real.png", *(f"step_{step:08d}.png" for step in (1, 2, 3)), "timeline.png", "training.gif"]
    assert sorted(path.name for path in (tmp_path / "samples").iterdir()) == names
    assert read_png(stale).shape == (3, 6 * (8 * 18 + 2), 6 * (8 * 18 + 2)), "the sample grid was not replaced"


def test_timeline_has_one_row_per_step_of_same_noise(run, tmp_path):
    heights = []
    for steps in (1, 2, 5):
        run(tmp_path / str(steps), "model=vanilla", f"trainer.max_steps={steps}", UNSCALED)
        heights.append(read_png(tmp_path / str(steps) / "samples" / "timeline.png").shape[1])
    row = 16 + 2 * 2
    assert heights == [row, 2 * row, 3 * row]
    folder = tmp_path / "5" / "samples"
    timeline, image = read_png(folder / "timeline.png"), read_png(folder / "step_00000002.png")
    assert torch.equal(timeline[:, row : 2 * row, -image.shape[2] :], image[:, :row])


@pytest.mark.parametrize("content", [b"", b"text", None])
def test_damaged_sample_grid_is_left_out_of_timeline(run, tmp_path, caplog, content):
    run(tmp_path, "model=vanilla", "trainer.max_steps=2", UNSCALED)
    path = tmp_path / "samples" / "step_00000001.png"
    path.write_bytes(path.read_bytes()[:-100] if content is None else content)
    last = tmp_path / "checkpoints" / "last.ckpt"
    assert run(tmp_path, "model=vanilla", "trainer.max_steps=5", UNSCALED, ckpt_path=last).global_step == 5
    assert read_png(tmp_path / "samples" / "timeline.png").shape[1] == 2 * (16 + 2 * 2)
    assert len(gif_frames(tmp_path)) == 2
    assert caplog.text.count(f"{path}: cannot be read and is left out of timeline.png and training.gif") == 1


def test_conditional_timeline_has_first_sample_of_each_class(run, tmp_path):
    trainer = run(tmp_path, "model=cgan", "trainer.max_steps=2", UNSCALED)
    labels = torch.arange(10).repeat_interleave(8)
    images = trainer.lightning_module.sample(80, labels, seed=0)
    timeline = read_png(tmp_path / "samples" / "timeline.png")
    row = timeline[:, -18:, -10 * 20 :]
    for label in range(10):
        drawn = row[:, 2:18, label * 20 + 2 : label * 20 + 18]
        assert torch.equal(drawn, to_uint8(images[8 * label]).expand(3, -1, -1))


def test_class_names_of_every_script_are_drawn_beside_rows(run, tmp_path):
    """Not every font has all characters of these names, and the line break must be escaped."""
    names = "cats", "été", "猫", "a\nb", "x" * 100
    for number, name in enumerate(names):
        write_png(tmp_path / "photos" / name / "a.png", torch.full((3, 16, 16), 40 * number, dtype=torch.uint8))
    overrides = "model=cgan", "data=image_folder", f"data.root={tmp_path}/photos", "data.batch_size=2"
    trainer = run(tmp_path / "run", *overrides, "trainer.max_steps=1", UNSCALED)
    assert len(trainer.lightning_module.class_names) == 5
    assert trainer.lightning_module.class_names == [
        name.replace("\n", "\\n") for name in trainer.datamodule.class_names
    ]
    image = read_png(tmp_path / "run" / "samples" / "step_00000001.png")
    captions = image[:, :, : -(8 * 18 + 2)]
    assert len({captions[:, 18 * row : 18 * row + 18].numpy().tobytes() for row in range(5)}) == 5


def test_points_are_drawn_as_scatter_plot(run, tmp_path):
    run(tmp_path, "model=wgan_gp", "data=gaussian_ring", "trainer.max_steps=2")
    first, second = (read_png(tmp_path / "samples" / f"step_{step:08d}.png") for step in (1, 2))
    assert first.shape == second.shape == (3, 480, 560)
    assert not torch.equal(first, second)
    assert len(first.flatten(1).unique(dim=1).T) > 50, "the scatter plot is nearly empty"
    assert (tmp_path / "samples" / "timeline.png").exists()


def test_timeline_of_points_is_a_row_of_plots_with_one_colour_bar(run, tmp_path):
    run(tmp_path, "model=vanilla", "data=gaussian_ring", "trainer.max_steps=5")
    left, _, right, bottom = AXES
    timeline = read_png(tmp_path / "samples" / "timeline.png")
    width = (right - left + 16) // 2
    assert timeline.shape == (3, bottom // 2, 2 * width + (560 - left + 8) // 2)
    for i, step in enumerate((1, 2, 5)):
        plot = read_png(tmp_path / "samples" / f"step_{step:08d}.png")
        part = plot[:, 8 : bottom + 8, left - 8 : right + 8].float()
        half = F.interpolate(part[None], (bottom // 2, width), mode="area")[0]
        found = timeline[:, :, i * width : (i + 1) * width].float()
        assert (half - found).abs().mean() < 4, "the plot of this step is not at its place"


def test_timeline_of_many_plots_has_several_rows():
    callback = SampleGrid()
    callback.is_image = False
    plots = [torch.full((3, 480, 560), 10 * i, dtype=torch.uint8) for i in range(10)]
    timeline = callback.timeline(dict(enumerate(plots)))
    height, width = AXES[3] // 2, (AXES[2] - AXES[0] + 16) // 2
    assert timeline.shape == (3, 2 * height, 8 * width)
    levels = timeline[0, [height // 2, 3 * height // 2]][:, width // 2 :: width].tolist()
    assert levels == [[0, 10, 20, 30, 40, 50, 60, 70], [80, 90, *[255] * 6]]


# D's surface


class Plane(torch.nn.Module):
    """A discriminator with a linear output."""

    num_classes = 0

    def forward(self, points, y):
        return 3 * points[:, 0] + 7


@pytest.mark.parametrize(
    ("loss", "centre"), [("non_saturating", 0), ("hinge", 0), ("minimax", 0), ("least_squares", 0.5)]
)
def test_surface_is_centred_at_the_boundary_of_the_loss(build, loss, centre):
    model, data = build("model=vanilla", "data=gaussian_ring", f"loss={loss}")
    model.discriminator = Plane()
    points = data.real(10)
    found = surface(model, 2.0, points, points + 100, side=5)
    assert found.centre == centre
    assert f"above {centre:g} real" in found.label
    torch.testing.assert_close(found.values, (3 * torch.linspace(-2, 2, 5) + 7 - centre).expand(5, 5))


def test_surface_of_critic_is_relative_to_its_outputs_on_points(build):
    """The Wasserstein loss does not change with the critic's zero, and clipped weights make its unit arbitrary."""
    model, _ = build("model=wgan", "data=gaussian_ring")
    model.discriminator = Plane()
    real, fake = torch.tensor([[1.0, 0], [1, 5]]), torch.tensor([[-1.0, 0], [-1, 5]])
    found = surface(model, 2.0, real, fake, side=5)
    expected = torch.linspace(-2, 2, 5) / torch.tensor([1.0, 1, -1, -1]).std()
    torch.testing.assert_close(found.values, expected.expand(5, 5))
    assert found.centre == 0
    assert "standard deviations from its mean" in found.label
    model.discriminator.forward = lambda points, y: torch.ones(len(points))
    assert torch.equal(surface(model, 2.0, real, fake, side=5).values, torch.zeros(5, 5)), "constant, but coloured"


def test_surface_has_the_same_colours_in_every_plot():
    """The same output has the same colour, whatever the minimum and maximum of a step; 0 is neither red nor blue."""
    values, none = torch.zeros(100, 100), torch.zeros(0, 2)

    def colours(least: float, most: float) -> list[list[int]]:
        values[:, :20], values[:, 20:40], values[:, 40:60], values[:, 60:80], values[:, 80:] = least, -1, 0, 1, most
        image = scatter(none, none, 1.0, Surface(values, "D's logit"), 3)
        left, _, right, bottom = AXES
        return [image[:, bottom - 30, left + (right - left) * share // 10].tolist() for share in (1, 3, 5, 7, 9)]

    (_, *one, _), (lowest, *other, highest) = colours(-2, 2), colours(-50, 9)
    assert one == other
    blue, neutral, red = one
    assert max(neutral) - min(neutral) < 5
    assert blue[2] > blue[0] + 20
    assert red[0] > red[2] + 20
    assert lowest[2] > lowest[0] + 40
    assert highest[0] > highest[2] + 40


def test_colour_bar_has_ticks_of_the_output(monkeypatch):
    """With the boundary 0.5, the tick in the middle is 0.5."""
    figures = []
    monkeypatch.setattr(plot, "rendered", lambda canvas: figures.append(canvas.figure) or torch.empty(0))
    none = torch.zeros(0, 2)
    scatter(none, none, 1.0, Surface(torch.zeros(9, 9), "D's logit", 0.5), 3)
    bar = figures[0].axes[1]
    assert [text.get_text() for text in bar.get_yticklabels()] == ["-3.5", "-1.5", "-0.5", "0.5", "1.5", "2.5", "4.5"]
    assert bar.get_yticks() == pytest.approx([math.tanh(tick / 2) for tick in (-4, -2, -1, 0, 1, 2, 4)])
    assert bar.get_ylim() == (-1, 1)


# Interval, scale and GIF


def test_samples_are_drawn_at_an_interval_besides_round_steps(run, tmp_path):
    interval = "callbacks.sample_grid.every_n_steps=3"
    run(tmp_path / "with", "model=vanilla", "trainer.max_steps=11", interval, UNSCALED)
    run(tmp_path / "without", "model=vanilla", "trainer.max_steps=11", UNSCALED)
    drawn, usual = ([step for step, _ in samples_by_step(tmp_path / name / "samples")] for name in ("with", "without"))
    assert drawn == [1, 2, 3, 5, 6, 9, 10, 11]
    assert usual == [1, 2, 5, 10, 11]
    timelines = [read_png(tmp_path / name / "samples" / "timeline.png") for name in ("with", "without")]
    assert torch.equal(*timelines), "the timeline has further steps"
    assert len(gif_frames(tmp_path / "with")) == 8


def test_timeline_of_stopped_run_ends_with_its_last_step(run, compose, tmp_path):
    class StoppingCallback(Callback):
        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            trainer.should_stop = trainer.global_step == 3

    interval = "callbacks.sample_grid.every_n_steps=3"
    config = compose("model=vanilla", "trainer.max_steps=9", interval, UNSCALED)
    train(config, tmp_path, more_callbacks=[StoppingCallback()])
    timeline, image = (read_png(tmp_path / "samples" / f"{name}.png") for name in ("timeline", "step_00000003"))
    assert timeline.shape[1] == 3 * 20
    assert torch.equal(timeline[:, 40:, -image.shape[2] :], image[:, :20])
    assert len(gif_frames(tmp_path)) == 3


def test_images_of_finished_run_are_complete_when_its_checkpoint_is_saved(run, tmp_path, monkeypatch):
    """A run that is killed then has no steps left, and would not write them when it is resumed."""
    found = []
    monkeypatch.setattr(
        Checkpoint, "save", lambda *_: found.append(sorted(path.name for path in (tmp_path / "samples").iterdir()))
    )
    run(tmp_path, "model=vanilla", "trainer.max_steps=3")
    steps = [f"step_{step:08d}.png" for step in (1, 2, 3)]
    assert found[0] == ["real.png", *steps, "timeline.png", "training.gif"]
    assert read_png(tmp_path / "samples" / "timeline.png").shape[1] == 6 * 3 * 20, "146 pixels become about 900"


def test_resumed_run_has_the_same_images_as_an_uninterrupted_one(run, tmp_path):
    words = "model=dcgan", "callbacks.sample_grid.every_n_steps=4", UNSCALED
    run(tmp_path / "whole", *words, "trainer.max_steps=13")
    run(tmp_path / "parts", *words, "trainer.max_steps=7")
    assert len(gif_frames(tmp_path / "parts")) == 5
    last = tmp_path / "parts" / "checkpoints" / "last.ckpt"
    run(tmp_path / "parts", *words, "trainer.max_steps=13", ckpt_path=last)
    whole = {path.name: path.read_bytes() for path in (tmp_path / "whole" / "samples").iterdir()}
    parts = {path.name: path.read_bytes() for path in (tmp_path / "parts" / "samples").iterdir()}
    assert parts.pop("step_00000007.png")
    assert parts == whole
    assert len(gif_frames(tmp_path / "parts")) == 8, "expected steps 1, 2, 4, 5, 8, 10, 12 and 13"


def test_gif_of_abandoned_continuation_is_removed(run, compose, tmp_path):
    overrides = "model=vanilla", "callbacks.checkpoint.every_n_steps=1", "callbacks.checkpoint.keep=null"
    run(tmp_path, *overrides, "trainer.max_steps=5")
    assert (tmp_path / "samples" / "training.gif").exists()

    class FailingCallback(Callback):
        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            if trainer.global_step == 3:
                raise UserError("killed")

    first = tmp_path / "checkpoints" / "step_00000001.ckpt"
    with pytest.raises(UserError, match="killed"):
        train(compose(*overrides, "trainer.max_steps=5"), tmp_path, first, more_callbacks=[FailingCallback()])
    assert not (tmp_path / "samples" / "training.gif").exists()


@pytest.mark.parametrize("name", ["vanilla", "cgan", "points"])
def test_gif_has_a_frame_per_sample_image(run, tmp_path, name):
    kind = ["model=vanilla", "data=gaussian_ring"] if name == "points" else [f"model={name}"]
    run(tmp_path, *kind, "trainer.max_steps=5")
    frames = gif_frames(tmp_path)
    content = (tmp_path / "samples" / "training.gif").read_bytes()
    assert has_mark(content[:2048]), "a later run would use it as data"
    with Image.open(tmp_path / "samples" / "training.gif") as gif:
        assert gif.info["loop"] == 0
        assert [frame.info["duration"] for frame in ImageSequence.Iterator(gif)] == [500, 500, 2000]
    for step, frame in zip((1, 2, 5), frames, strict=True):
        saved = read_png(tmp_path / "samples" / f"step_{step:08d}.png")
        if name == "points":
            assert frame.shape == saved.shape
            assert (frame.float() - saved.float()).abs().mean() < 4
        else:
            side = 8 * 18 + 2
            height = (10 if name == "cgan" else 8) * 18 + 2
            factor = round(500 / max(side, height))
            assert frame.shape[1] == 24 + factor * height
            shown = frame[:, 24::factor, -factor * side :: factor]
            scale = saved.shape[1] // height
            assert (shown.int() - saved[:, ::scale, -scale * side :: scale].int()).abs().max() <= 2
            assert (frame[:, :24] < 128).any(), "there is no title"


def test_gif_of_points_keeps_the_colour_of_few_generated_points():
    callback = SampleGrid()
    callback.is_image = False
    values = torch.linspace(-4, 4, 100).expand(100, 100)
    plot = scatter(torch.zeros(1, 2), torch.full((200, 2), 0.5), 1.0, Surface(values, "D's logit"), 1)
    frame = torch.from_numpy(np.array(callback.frame(1, plot).convert("RGB"))).permute(2, 0, 1)
    left, top, right, bottom = AXES
    row, column = top + (bottom - top) // 4, left + (right - left) * 3 // 4
    shown, drawn = (
        image[:, row - 1 : row + 2, column - 1 : column + 2].float().mean((1, 2)) for image in (frame, plot)
    )
    assert drawn[1] > drawn[0] + 60, "the point is not where the test looks"
    assert (shown - drawn).abs().max() < 20
    assert (frame.float() - plot.float()).abs().mean() < 4


def test_gif_of_many_samples_has_a_limited_number_of_frames(run, tmp_path, monkeypatch):
    monkeypatch.setattr(sample_grid, "GIF_FRAMES", 4)
    run(tmp_path, "model=vanilla", "trainer.max_steps=10", "callbacks.sample_grid.every_n_steps=1", UNSCALED)
    frames = gif_frames(tmp_path)
    assert len(frames) == 4
    for step, frame in zip((1, 4, 7, 10), frames, strict=True):
        saved = read_png(tmp_path / "samples" / f"step_{step:08d}.png")
        assert (frame[:, 24::3, ::3].int() - saved.int()).abs().max() <= 2, step


def test_gif_of_large_images_is_reduced(run, tmp_path):
    run(tmp_path, "model=vanilla", "data.image_size=128", "callbacks.sample_grid.scale=2", "trainer.max_steps=1")
    assert read_png(tmp_path / "samples" / "step_00000001.png").shape == (3, 2 * 1042, 2 * 1042)
    assert gif_frames(tmp_path)[0].shape == (3, 24 + 521, 521)


def test_samples_with_another_layout_are_left_out(run, tmp_path, caplog):
    run(tmp_path, "model=vanilla", "trainer.max_steps=2")
    last = tmp_path / "checkpoints" / "last.ckpt"
    more = "callbacks.sample_grid.columns=5", "callbacks.sample_grid.scale=2"
    run(tmp_path, "model=vanilla", "trainer.max_steps=5", *more, ckpt_path=last)
    for step in (1, 2):
        assert f"step_{step:08d}.png: cannot be read and is left out of timeline.png and training.gif" in caplog.text
    assert len(gif_frames(tmp_path)) == 1


def test_samples_of_another_scale_are_in_gif_and_timeline(run, tmp_path, caplog):
    run(tmp_path, "model=cgan", "trainer.max_steps=2", "callbacks.sample_grid.scale=3")
    last = tmp_path / "checkpoints" / "last.ckpt"
    run(tmp_path, "model=cgan", "trainer.max_steps=5", UNSCALED, ckpt_path=last)
    assert [read_png(path).shape[1] for _, path in samples_by_step(tmp_path / "samples")] == [546, 546, 182]
    assert "cannot be read" not in caplog.text
    assert len(gif_frames(tmp_path)) == 3
    assert read_png(tmp_path / "samples" / "timeline.png").shape[1] == 3 * 18


def test_killed_write_leaves_the_previous_gif(run, tmp_path, monkeypatch):
    run(tmp_path, "model=vanilla", "trainer.max_steps=2")
    path = tmp_path / "samples" / "training.gif"
    before = path.read_bytes()
    monkeypatch.setattr(sample_grid, "animated_gif", lambda *_: "not bytes")
    last = tmp_path / "checkpoints" / "last.ckpt"
    with pytest.raises(TypeError):
        run(tmp_path, "model=vanilla", "trainer.max_steps=3", ckpt_path=last)
    assert path.read_bytes() == before


def test_finished_run_without_steps_left_keeps_its_gif(run, tmp_path):
    run(tmp_path, "model=vanilla", "trainer.max_steps=2")
    path = tmp_path / "samples" / "training.gif"
    before = path.stat().st_mtime_ns
    run(tmp_path, "model=vanilla", "trainer.max_steps=2", ckpt_path=tmp_path / "checkpoints" / "last.ckpt")
    assert path.stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("height", "width", "scale"),
    [(242, 242, 4), (274, 274, 3), (530, 530, 2), (82, 82, 11), (1042, 9, 1), (2000, 2000, 1)],
)
def test_sheets_are_enlarged_to_about_900_pixels(height, width, scale):
    assert fitting_scale(height, width) == scale
    assert contact_sheet(torch.zeros(3, height, width, dtype=torch.uint8)).shape == (3, scale * height, scale * width)


def test_captions_of_enlarged_sheet_keep_their_size():
    images = grid(torch.linspace(-1, 1, 6)[:, None, None, None].expand(6, 1, 5, 5), columns=2)
    small, large = (contact_sheet(images, ["cats", "dogs", "m"], scale) for scale in (1, 4))
    margin = small.shape[2] - images.shape[2]
    assert large.shape == (3, 4 * images.shape[1], margin + 4 * images.shape[2])
    assert torch.equal(large[:, :, margin:], enlarge(images, 4))
    assert torch.equal(enlarge(images, 4)[:, ::4, ::4], images)
    assert int((large[:, :, :margin] < 128).sum()) >= int((small[:, :, :margin] < 128).sum()) > 0


def test_sample_restores_training_mode(build):
    """The mode of a single layer is restored too: a user may keep one in eval mode."""
    model, _ = build("model=dcgan")
    model.train()
    model.generator.project.eval()
    before = [module.training for module in model.modules()]
    model.sample(2)
    assert [module.training for module in model.modules()] == before


# Learning rates, progress bar, signals


@pytest.mark.parametrize(("schedule", "factors"), [("linear_decay", [1, 0.75, 0.5, 0.25]), ("constant", [1] * 4)])
def test_learning_rate_schedules_have_expected_values(run, tmp_path, schedule, factors):
    overrides = "model=wgan_gp", "trainer.max_steps=4", EVERY_STEP, f"callbacks.learning_rate.schedule={schedule}"
    run(tmp_path, *overrides, "model.discriminator_optimizer.lr=4e-3")
    lines = read_metrics(tmp_path)
    assert [float(line["g/lr"]) for line in lines] == pytest.approx([1e-4 * factor for factor in factors])
    assert [float(line["d/lr"]) for line in lines] == pytest.approx([4e-3 * factor for factor in factors])


def test_learning_rate_depends_only_on_step():
    optimizers = [torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr) for lr in (0.1, 0.2)]
    trainer, module = SimpleNamespace(optimizers=optimizers, max_steps=10), SimpleNamespace()
    callback = LearningRate("linear_decay")
    callback.on_fit_start(trainer, module)
    for step in (7, 2, 2, 9):
        trainer.global_step = step
        callback.on_train_batch_start(trainer, module)
        rates = [optimizer.param_groups[0]["lr"] for optimizer in optimizers]
        assert rates == pytest.approx([0.1 * (1 - step / 10), 0.2 * (1 - step / 10)])


def test_progress_bar_counts_generator_steps(run, tmp_path, capsys):
    overrides = "model=wgan", "trainer.max_steps=5", "callbacks.progress.refresh_s=1e-9"
    trainer = run(tmp_path, *overrides, "callbacks.checkpoint.every_n_steps=2")
    (progress_bar,) = [callback.progress_bar for callback in trainer.callbacks if isinstance(callback, Progress)]
    assert (progress_bar.initial, progress_bar.n, progress_bar.total) == (0, 5, 5)
    output = capsys.readouterr().err
    assert "5/5" in output
    assert f"images={5 * 5 * 4}" in output
    assert "d=" in output
    assert "g=" in output
    trainer = run(tmp_path, *overrides, ckpt_path=tmp_path / "checkpoints" / "step_00000002.ckpt")
    (progress_bar,) = [callback.progress_bar for callback in trainer.callbacks if isinstance(callback, Progress)]
    assert (progress_bar.initial, progress_bar.n, progress_bar.total) == (2, 5, 5)
    assert "2/5" in capsys.readouterr().err


def test_progress_bar_of_failed_run_is_closed(run, tmp_path, monkeypatch):
    closed = []
    monkeypatch.setattr("tqdm.tqdm.close", lambda progress_bar: closed.append(progress_bar))
    monkeypatch.setattr(GAN, "generator_loss", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(tmp_path, "model=vanilla")
    assert closed


def test_signal_handlers_are_restored(run, tmp_path):
    before = [signal.getsignal(signum) for signum in SIGNALS]
    trainer = run(tmp_path, "model=vanilla")
    assert [signal.getsignal(signum) for signum in SIGNALS] == before
    assert [callback.signum for callback in trainer.callbacks if isinstance(callback, GracefulStop)] == [0]


def test_second_signal_exits_immediately():
    stop = GracefulStop()
    stop.on_train_batch_start()
    stop.handle(signal.SIGTERM, None)
    with pytest.raises(SystemExit) as caught:
        stop.handle(signal.SIGINT, None)
    assert caught.value.code == 130
    trainer = SimpleNamespace(world_size=1, global_step=3, should_stop=False)
    stop.on_train_batch_end(trainer, None)
    assert trainer.should_stop


def test_repeated_automatic_signals_do_not_exit_immediately():
    """A closed terminal sends SIGHUP twice, and SIGXCPU is sent every second."""
    for signum in (signal.SIGHUP, signal.SIGXCPU, signal.SIGUSR1):
        stop = GracefulStop()
        stop.on_train_batch_start()
        for _ in range(3):
            stop.handle(signum, None)
        assert stop.signum == signum
        with pytest.raises(SystemExit) as caught:
            stop.handle(signal.SIGTERM, None)
        assert caught.value.code == 143


def test_ignored_sighup_stays_ignored_and_sigint_does_not(run, tmp_path, monkeypatch):
    """nohup ignores SIGHUP. A shell ignores SIGINT of background jobs, where kill -INT should still stop the run."""
    handlers = {}
    monkeypatch.setattr(
        GracefulStop,
        "on_train_batch_start",
        lambda *_: handlers.update({signum: signal.getsignal(signum) for signum in SIGNALS}),
    )
    before = {signum: signal.signal(signum, signal.SIG_IGN) for signum in (signal.SIGHUP, signal.SIGINT)}
    try:
        run(tmp_path, "model=vanilla")
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
    assert handlers[signal.SIGHUP] == signal.SIG_IGN
    assert callable(handlers[signal.SIGINT])
    assert callable(handlers[signal.SIGXCPU])


class FailingHooks(Callback):
    """Raises in the given hooks."""

    def __init__(self, *hooks: str) -> None:
        for hook in hooks:
            setattr(self, hook, self.fail)

    def fail(self, *_: Any, **__: Any) -> None:
        raise ZeroDivisionError


@pytest.mark.parametrize(
    "hooks",
    [
        ("on_train_end",),
        ("on_train_epoch_end",),
        ("on_fit_end",),
        ("teardown",),
        ("on_train_end", "on_exception"),
        ("on_train_epoch_end", "on_exception", "teardown"),
    ],
)
def test_last_checkpoint_is_saved_if_last_hooks_fail(compose, tmp_path, hooks):
    overrides = "model=vanilla", "trainer.max_steps=3", "callbacks.metric_logger.every_n_steps=2"
    handlers = [signal.getsignal(signum) for signum in SIGNALS]
    with pytest.raises(ZeroDivisionError):
        train(compose(*overrides), tmp_path, more_callbacks=[FailingHooks(*hooks)])
    assert [signal.getsignal(signum) for signum in SIGNALS] == handlers, "Ctrl-C would no longer work in a notebook"
    assert steps_of(tmp_path) == ["last.ckpt", "step_00000003.ckpt"]
    assert read(tmp_path / "checkpoints" / "last.ckpt")["global_step"] == 3


@pytest.mark.parametrize("hook", ["on_train_batch_end", "on_train_epoch_end"])
def test_last_checkpoint_is_saved_if_late_stop_and_hook_fails(compose, tmp_path, hook):
    class StoppingLate(FailingHooks):
        pass

    def stop(self: Any, trainer: Any, *_: Any) -> None:
        trainer.should_stop = trainer.global_step >= 2

    setattr(StoppingLate, hook, stop)
    overrides = "model=vanilla", "trainer.max_steps=4" if hook == "on_train_batch_end" else "trainer.max_steps=2"
    with pytest.raises(ZeroDivisionError):
        train(compose(*overrides), tmp_path, more_callbacks=[StoppingLate("on_train_end")])
    assert read(tmp_path / "checkpoints" / "last.ckpt")["global_step"] == 2


def test_checkpoint_is_saved_if_hook_fails_between_steps(compose, tmp_path):
    """An exception within a step leaves partly updated weights, one between two steps does not."""

    class FailingCallback(Callback):
        def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
            if trainer.global_step == 2:
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train(compose("model=vanilla", "trainer.max_steps=4"), tmp_path, more_callbacks=[FailingCallback()])
    assert read(tmp_path / "checkpoints" / "last.ckpt")["global_step"] == 2


FAILURES = (
    ZeroDivisionError(),
    UserError("eval: cannot be measured"),
    OSError(errno.ENOENT, "No such file or directory", "curve"),
)


@pytest.mark.parametrize("error", FAILURES, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("step", [2, 4])
def test_checkpoint_is_saved_if_callback_fails_after_step(compose, tmp_path, error, step):
    """Lightning then calls no further callback at this step, so not the Checkpoint callback either."""

    class FailingCallback(Callback):
        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            if trainer.global_step == step:
                raise error

    overrides = "model=vanilla", "trainer.max_steps=4"
    with pytest.raises(type(error)) as caught:
        train(compose(*overrides), tmp_path, more_callbacks=[FailingCallback()])
    assert caught.value is error
    last = tmp_path / "checkpoints" / "last.ckpt"
    assert read(last)["global_step"] == step
    assert [int(line["step"]) for line in read_metrics(tmp_path)] == [step], (
        "metrics and checkpoint differ in their step"
    )
    assert last_metrics(tmp_path)["step"] == step
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("d/adversarial")] == [step]
    assert train(compose(*overrides), tmp_path, ckpt_path=last).global_step == 4


def test_error_within_step_saves_no_partial_step(compose, tmp_path, monkeypatch):
    backward_terms = GenerativeModel.backward_terms

    def fail(self: GenerativeModel, network: str, *args: Any) -> Any:
        if network == "g" and self.global_step == 2:  # D has been updated
            raise ZeroDivisionError
        return backward_terms(self, network, *args)

    monkeypatch.setattr(GenerativeModel, "backward_terms", fail)
    with pytest.raises(ZeroDivisionError):
        train(compose("model=vanilla", "trainer.max_steps=4", "callbacks.checkpoint.every_n_steps=1"), tmp_path)
    assert steps_of(tmp_path) == ["last.ckpt", "step_00000001.ckpt", "step_00000002.ckpt"]


def test_checkpoint_is_saved_if_logger_fails(compose, tmp_path, monkeypatch):
    """A logger fails if somebody has removed its folder."""

    def fail(*_: Any) -> None:
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", "events")

    def fail_at_step_3(self: Any, metrics: Any, step: int) -> None:
        if step == 3:
            monkeypatch.setattr(TensorBoardLogger, "save", fail)
            fail()

    monkeypatch.setattr(TensorBoardLogger, "log_metrics", fail_at_step_3)
    with pytest.raises(FileNotFoundError):
        train(compose("model=vanilla", "trainer.max_steps=4", "callbacks.metric_logger.every_n_steps=3"), tmp_path)
    assert steps_of(tmp_path) == ["last.ckpt", "step_00000003.ckpt"]
    assert [int(line["step"]) for line in read_metrics(tmp_path)] == [3]


def test_nothing_is_saved_to_full_disk(compose, tmp_path):
    class FailingCallback(Callback):
        def on_train_batch_end(self, *_: Any) -> None:
            raise OSError(errno.ENOSPC, "No space left on device", "curve")

    with pytest.raises(OSError, match="No space left"):
        train(compose("model=vanilla", "trainer.max_steps=4"), tmp_path, more_callbacks=[FailingCallback()])
    assert not (tmp_path / "checkpoints").exists()


def test_error_is_raised_if_checkpoint_cannot_be_written(compose, tmp_path, monkeypatch, caplog):
    class FailingCallback(Callback):
        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            monkeypatch.setattr(trainer, "save_checkpoint", self.fail_to_write)
            raise ZeroDivisionError

        def fail_to_write(self, path: Path) -> None:
            raise OSError(errno.EACCES, "Permission denied", str(path))

    with pytest.raises(ZeroDivisionError):
        train(compose("model=vanilla", "trainer.max_steps=4"), tmp_path, more_callbacks=[FailingCallback()])
    assert "step_00000001.ckpt: cannot be written (Permission denied)" in caplog.text


def test_metrics_are_logged_at_last_step(compose, tmp_path):
    class StoppingCallback(Callback):
        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            trainer.should_stop = trainer.global_step == 5

    config = compose("model=vanilla", "trainer.max_steps=20", "callbacks.metric_logger.every_n_steps=3")
    trainer = train(config, tmp_path, more_callbacks=[StoppingCallback()])
    lines = read_metrics(tmp_path)
    assert [int(line["step"]) for line in lines] == [3, 5]
    assert lines[-1]["images_seen"] == "20"
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("d/adversarial")] == [3, 5]
    ended = log_summary(config, trainer, tmp_path, time.time())
    assert ended["metrics"] == pytest.approx({name: float(lines[-1][name]) for name in lines[-1] if name != "step"})
    assert read(tmp_path / "checkpoints" / "last.ckpt")["global_step"] == 5
    assert exit_status_and_reason(trainer) == (0, "a callback set trainer.should_stop")


# End of a run


def test_tensorboard_has_hparams_config_and_images(run, compose, tmp_path):
    overrides = "model=vanilla", "trainer.max_steps=2", EVERY_STEP
    trainer = run(tmp_path, *overrides)
    metrics = log_summary(compose(*overrides), trainer, tmp_path, time.time())["metrics"]
    assert metrics["images_seen"] == 8
    events = EventAccumulator(str(tmp_path / "tensorboard"), size_guidance={"images": 0, "tensors": 0}).Reload()
    (text,) = events.Tensors("config/text_summary")
    assert b"max_steps: 2" in text.tensor_proto.string_val[0]
    (grid_event, _) = events.Images("samples")
    assert grid_event.width == 6 * (8 * 18 + 2), "146 pixels become about 900"
    data = events.summary_metadata
    assert "_hparams_/session_start_info" in data
    from tensorboard.plugins.hparams import plugin_data_pb2

    start = plugin_data_pb2.HParamsPluginData.FromString(data["_hparams_/session_start_info"].plugin_data.content)
    hparams = start.session_start_info.hparams
    assert hparams["model.d_steps"].number_value == 1
    assert hparams["model.generator_optimizer.lr"].number_value == 2e-4
    assert hparams["seed"].number_value == 0
    info = plugin_data_pb2.HParamsPluginData.FromString(data["_hparams_/experiment"].plugin_data.content)
    for metric in info.experiment.metric_infos:
        last = events.Scalars(metric.name.tag)[-1]
        assert last.value == pytest.approx(metrics[metric.name.tag.removeprefix("final/")], rel=1e-6)
    for tag in metrics:
        assert [event.step for event in events.Scalars(tag)] == [1, 2], "final values need tags or steps of their own"


def test_estimate_times_steps_after_warmup_by_their_median(caplog, monkeypatch):
    now, callback = [0.0], Progress(estimate_steps=3)
    monkeypatch.setattr("gan_lightning.callbacks.progress.time.perf_counter", lambda: now[0])
    monkeypatch.setattr("gan_lightning.callbacks.progress.peak_memory", lambda device: 2_500_000_000)
    trainer, module = SimpleNamespace(max_steps=1000, is_global_zero=True), SimpleNamespace(device=torch.device("cpu"))
    with caplog.at_level("INFO"):
        for step, seconds in enumerate([*[9.0] * WARMUP, 2.0, 50.0, 2.0, 9.0], 1):
            now[0] += seconds
            trainer.global_step = step
            callback.time_step(trainer, module, 3)
    assert caplog.messages == [
        "expected duration 33 min for 987 more steps of 2 s, without evaluations; peak memory 2.50 GB"
    ]


def test_estimate_is_logged_by_rank_zero(caplog):
    trainer, module = SimpleNamespace(max_steps=99, global_step=11), SimpleNamespace(device=torch.device("cpu"))
    for is_global_zero in (False, True):
        trainer.is_global_zero, callback = is_global_zero, Progress(estimate_steps=1)
        with caplog.at_level("INFO"):
            for _ in range(WARMUP + 5):
                callback.time_step(trainer, module, 1)
        assert len(caplog.messages) == is_global_zero


@pytest.mark.parametrize(
    ("steps", "seconds", "duration"),
    [(20, 0.1, "2 s"), (800, 0.1, "80 s"), (901, 0.1, "2 min"), (5400, 1, "1.5 h"), (100_000, 0.26, "7.2 h")],
)
def test_expected_duration_is_in_readable_units(steps, seconds, duration):
    assert estimate(steps, seconds, None) == (
        f"expected duration {duration} for {steps:,} more steps of {seconds} s, without evaluations"
    )


def test_callbacks_can_be_constructed_in_python():
    assert MetricLogger().every_n_steps == 50
    assert SampleGrid().columns == 8
    assert LearningRate().schedule(0.5) == 1
    assert Progress().progress_bar is None


def test_interrupted_notification_does_not_block_tensorboard(compose, tmp_path):
    """A signal between release and removal of a waiter leaves it in the queue's list; the next notification is lost.

    TensorBoard's thread then waits for its next flush, two minutes by default.
    """
    config = compose("model=vanilla", "logger=tensorboard")
    config.run_dir = str(tmp_path)
    logger = instantiate(config.logger.tensorboard, "logger.tensorboard")
    logger.log_metrics({"a": 1.0}, 1)
    logger.experiment.flush()
    queue = logger.experiment.file_writer.event_writer._async_writer._byte_queue
    waiter = threading.Lock()
    waiter.acquire()
    with queue.mutex:
        queue.not_empty._waiters.appendleft(waiter)
    closing = threading.Thread(target=logger.finalize, args=("failed",), daemon=True)
    closing.start()
    closing.join(60)
    assert not closing.is_alive()
