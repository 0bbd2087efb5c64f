"""The gan-play tab for image generators: latents, interpolation, samples during training, comparison of runs."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
import torch

import gan_lightning
from gan_lightning.demo.live_training import RNG_LOCK
from gan_lightning.errors import UserError
from gan_lightning.io.files import samples_by_step
from gan_lightning.io.image import data_url, grid, png
from gan_lightning.latent.directions import first_layer
from gan_lightning.latent.interpolate import Interpolate
from gan_lightning.latent.video import gif, video_frames
from gan_lightning.model.sampling import SamplingMixin
from gan_lightning.report.run_record import Reader, RunRecord, directions
from gan_lightning.run.run_dir import files_named, find_runs

AXES = 6  # number of directions with a slider
MAX_SHIFT = 6.0  # along a direction
MAX_RUNS = 24  # side by side
FPS = 12
DATE = re.compile(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d[-\d]*")  # in the names of default run and sweep directories

Update = dict[Any, Any]  # new values of components


@dataclass
class StopFlag:
    """A flag that stops an animation of a session, set by another event of the page."""

    stopped: bool = False

    def stop(self) -> None:
        """Stop the animation after its current chunk."""
        self.stopped = True


class ImagesTab:
    """The components of the tab and their event handlers.

    Args:
        runs: The directory whose runs can be chosen; nothing outside it is accessible.
    """

    def __init__(self, runs: Path) -> None:
        self.runs = runs
        self.model, self.run = gr.State(None), gr.State(None)
        with gr.Row():
            self.choice = gr.Dropdown(self.found(), value=None, label=f"A run in {runs}", elem_id="run")
            again = gr.Button("Refresh", scale=0)
        self.status = gr.HTML("<p>Choose a run.</p>", elem_id="images_status")
        with gr.Row():
            with gr.Column(min_width=280):
                self.seed = gr.Number(0, minimum=0, maximum=2**32 - 1, precision=0, label="Seed")
                self.label = gr.Dropdown([], label="Class", visible=False, elem_id="class")
                self.length = gr.Slider(0, 1.5, value=1, step=0.05, label="Scale of the latent")
                self.axes = [
                    gr.Slider(
                        -MAX_SHIFT, MAX_SHIFT, value=0, step=0.1, label=f"Direction {number}", elem_id=f"axis{number}"
                    )
                    for number in range(1, AXES + 1)
                ]
                reset = gr.Button("Reset")
            with gr.Column(min_width=280):
                self.sample = gr.HTML(elem_id="sample", elem_classes="image")
            with gr.Column(min_width=280):
                with gr.Row():
                    self.other = gr.Number(1, minimum=0, maximum=2**32 - 1, precision=0, label="Another seed")
                    self.steps = gr.Number(16, minimum=2, maximum=200, precision=0, label="Images between the seeds")
                with gr.Row():
                    walk, stop = gr.Button("Interpolate", min_width=60), gr.Button("Stop", min_width=60)
                self.video = gr.HTML(elem_id="video", elem_classes="image")
        with gr.Accordion("Samples during training", open=True):
            self.past = gr.Slider(0, 1, value=0, step=1, label="Image", interactive=False, elem_id="past")
            self.then = gr.HTML(elem_id="then")
        with gr.Accordion("Compare runs", open=True):
            self.sweep = gr.Dropdown(self.sweeps(), value=None, label="A directory with several runs", elem_id="sweep")
            self.beside = gr.HTML(elem_id="beside")

        quiet: dict[str, Any] = {"show_progress": "hidden"}
        dragged = quiet | {"trigger_mode": "always_last"}  # otherwise events during an update would be lost
        sample_inputs = [self.model, self.seed, self.label, self.length, *self.axes]
        run_outputs = [self.model, self.run, self.label, self.past, self.then, self.sample, self.video, self.length]
        run_outputs += [*self.axes, self.status]  # the page sets them in this order: the status shows completion
        again.click(
            lambda: {self.choice: gr.update(choices=self.found()), self.sweep: gr.update(choices=self.sweeps())},
            None,
            [self.choice, self.sweep],
        )
        self.choice.input(self.choose, [self.choice, self.seed], run_outputs, trigger_mode="always_last")
        controls: list[Any] = [self.seed, self.label, self.length, *self.axes]
        for control in controls:
            control.input(self.draw, sample_inputs, self.sample, **dragged)
        reset.click(lambda: [1, *[0] * AXES], None, [self.length, *self.axes], **quiet).then(
            self.draw, sample_inputs, self.sample, **quiet
        )
        stop_flag = gr.State(StopFlag())  # Gradio copies it for each session
        walk_inputs = [stop_flag, self.model, self.seed, self.other, self.label, self.steps]
        walk.click(self.walk, walk_inputs, self.video, show_progress="minimal")
        stop.click(StopFlag.stop, stop_flag, None, **quiet)
        self.past.input(self.show_past, [self.run, self.past], self.then, **dragged)
        self.sweep.input(self.side_by_side, self.sweep, self.beside, trigger_mode="always_last")

    def found(self) -> list[str]:
        """Return the runs with a checkpoint, the latest first by the date in their paths, then in natural order."""
        files = files_named(self.runs, "last.ckpt")
        found = self.named(file.parent.parent for file in files if file.parent.name == "checkpoints")
        return sorted(found, key=lambda run: max(DATE.findall(run), default=""), reverse=True)

    def sweeps(self) -> list[str]:
        """Return the directories with several runs."""
        parents = self.named(run.parent for run in find_runs(self.runs))
        return [folder for folder in dict.fromkeys(parents) if parents.count(folder) > 1]

    def named(self, folders: Iterable[Path]) -> list[str]:
        """Return printable paths relative to the directory of the runs, without links that lead out of it."""
        root = self.runs.resolve()
        inside = [f for f in folders if f.is_relative_to(self.runs) and f.resolve().is_relative_to(root)]
        return [name for name in (str(folder.relative_to(self.runs)) for folder in inside) if name.isprintable()]

    def choose(self, name: str, seed: int) -> Update:
        """Load the generator of a run, and show samples of it now and during training."""
        run = self.runs / name
        try:
            with RNG_LOCK:  # loading initializes the networks before it sets their weights
                model = gan_lightning.load(run / "checkpoints" / "last.ckpt")
            if model.sample(1).ndim != 4:
                raise UserError(f"{name}: generates points in the plane; use the other tab.")
        except UserError as error:
            cleared = dict.fromkeys([self.sample, self.then, self.video], "")
            return {self.status: error_html(str(error)), self.model: None, self.run: None} | cleared
        past, axes = samples_by_step(run / "samples"), min(AXES, model.latent_dim)
        names = model.class_names or range(model.num_classes)
        choices = [(str(name), label) for label, name in enumerate(names)]
        label = 0 if choices else None
        return {
            self.model: model,
            self.run: run,
            self.status: f"<p>{escape(name)}: {model.latent_dim} latents, {model.num_classes or 'no'} classes.</p>",
            self.label: gr.update(choices=choices, value=label, visible=bool(choices)),
            self.past: gr.update(maximum=max(len(past) - 1, 1), value=max(len(past) - 1, 0), interactive=len(past) > 1),
            self.then: self.show_past(run, len(past) - 1),
            self.sample: self.draw(model, seed, label, 1.0, *[0.0] * AXES),
            self.video: "",
            self.length: 1,
            **{axis: gr.update(value=0, visible=number < axes) for number, axis in enumerate(self.axes)},
        }

    def draw(self, model: SamplingMixin | None, seed: int, label: int | None, length: float, *shifts: float) -> str:
        """Return the sample of a seed's latent, scaled and shifted along the directions."""
        if model is None:
            return ""
        z, _ = model.draw_latents(1, seed=int(seed or 0))
        axes = first_layer(model, z, z)[:AXES]
        z = length * z + torch.tensor([shifts[: len(axes)]], dtype=z.dtype) @ axes
        return image_html(png(grid(model.generate(z, torch.tensor([label or 0])), 1)), "sample")

    def walk(
        self, stop_flag: StopFlag, model: SamplingMixin | None, one: int, other: int, label: int | None, steps: int
    ) -> Iterator[str]:
        """Yield progress messages, then an animation from one seed to another and back.

        Works in chunks, so that it can be stopped. The message about the stop is yielded here, since a progress message
        that is still being sent could overwrite that of another event.
        """
        if model is None:
            yield "<p>Choose a run first.</p>"
            return
        stop_flag.stopped = False
        path, samples = Interpolate([int(one or 0), int(other or 0)], int(steps or 16)).path(model), []
        for latents in path.split(4):
            samples.append(model.generate(latents, torch.full((len(latents),), label or 0)))
            yield f"<p>{sum(map(len, samples))} of {len(path)} images …</p>"
            if stop_flag.stopped:
                break
        else:
            animation = image_html(gif(video_frames([torch.cat(samples)]), FPS), "interpolation", "gif")
        yield "<p>Stopped.</p>" if stop_flag.stopped else animation

    def show_past(self, run: Path | None, at: int) -> str:
        """Return the samples of a run at one of its steps, which all use the same noise."""
        past = samples_by_step(run / "samples") if run else []
        if run is None or not past:
            return "<p>This run has no sample images.</p>"
        step, path = past[max(min(int(at or 0), len(past) - 1), 0)]
        return f'<p>Step {step:,}</p><img alt="samples" src="{Reader(run).image(path)}">'

    def side_by_side(self, name: str) -> str:
        """Return the runs of a directory, each with its last samples and scores."""
        folder = self.runs / name
        runs = [run for run in find_runs(folder) if run.parent == folder]
        known, figures = directions(), []
        for record in (RunRecord.read(run, folder) for run in runs[:MAX_RUNS]):
            scores = ", ".join(
                f"{escape(cells[0])} {escape(cells[1])}" for cells in record.scores if known.get(cells[0])
            )
            omitted = "".join(f"<br>left out: {escape(line)}" for line in record.omitted)
            caption = (
                f"<b>{escape(record.name)}</b><br>{escape(record.title)}, {escape(record.status_line)}<br>{scores}"
            )
            image = f'<img alt="" src="{record.grid}">'
            figures.append(f"<figure>{image}<figcaption>{caption}{omitted}</figcaption></figure>")
        more = f"<p>and {len(runs) - MAX_RUNS} more</p>" if len(runs) > MAX_RUNS else ""
        return f'<div class="beside">{"".join(figures)}</div>{more}'


def image_html(content: bytes, name: str, kind: str = "png") -> str:
    """Return the content of an image file as HTML."""
    return f'<img alt="{name}" src="{data_url(content, kind)}">'


def error_html(messages: str) -> str:
    """Return error messages, one per line, as HTML."""
    return "".join(f'<p class="error">{escape(message)}</p>' for message in messages.splitlines())
