"""The page's tab on pictures: a trained generator's latents by hand, the way between seeds, a run's past, a sweep."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
import torch

import gan_lightning
from gan_lightning.errors import UserError
from gan_lightning.files import by_step
from gan_lightning.film import film, gif
from gan_lightning.image import data_url, grid, png
from gan_lightning.latent.directions import first_layer
from gan_lightning.latent.interpolate import Interpolate
from gan_lightning.live import TURN
from gan_lightning.record import Reader, Record, directions
from gan_lightning.run import files_named, folders
from gan_lightning.sampler import Sampler

AXES = 6  # directions with a slider
REACH = 6.0
MOST = 24  # runs side by side
FPS = 12
DATE = re.compile(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d[-\d]*")  # of the default run and sweep directories

Update = dict[Any, Any]  # what becomes of components


@dataclass
class Walking:
    """Whether a session's walk is to stop, which another event of the page sets while the walk runs."""

    stopped: bool = False

    def stop(self) -> None:
        """Stop the walk after its current piece."""
        self.stopped = True


class Pictures:
    """Lays the tab out, and says what its controls do.

    Args:
        runs: The folder whose runs can be chosen, and nothing outside it.
    """

    def __init__(self, runs: Path) -> None:
        self.runs = runs
        self.model, self.run = gr.State(None), gr.State(None)
        with gr.Row():
            self.choice = gr.Dropdown(self.found(), value=None, label=f"A run in {runs}", elem_id="run")
            again = gr.Button("Look again", scale=0)
        self.said = gr.HTML("<p>Choose a run.</p>", elem_id="pictures_said")
        with gr.Row():
            with gr.Column(min_width=280):
                self.seed = gr.Number(0, minimum=0, maximum=2**32 - 1, precision=0, label="Seed")
                self.label = gr.Dropdown([], label="Class", visible=False, elem_id="class")
                self.length = gr.Slider(0, 1.5, value=1, step=0.05, label="Length of the latent")
                self.axes = [
                    gr.Slider(-REACH, REACH, value=0, step=0.1, label=f"Direction {number}", elem_id=f"axis{number}")
                    for number in range(1, AXES + 1)
                ]
                back = gr.Button("Back to the seed")
            with gr.Column(min_width=280):
                self.sample = gr.HTML(elem_id="sample", elem_classes="picture")
            with gr.Column(min_width=280):
                with gr.Row():
                    self.other = gr.Number(1, minimum=0, maximum=2**32 - 1, precision=0, label="Another seed")
                    self.steps = gr.Number(16, minimum=2, maximum=200, precision=0, label="Pictures on the way")
                with gr.Row():
                    walk, stop = gr.Button("Walk", min_width=60), gr.Button("Stop", min_width=60)
                self.way = gr.HTML(elem_id="way", elem_classes="picture")
        with gr.Accordion("The same noise over training", open=True):
            self.past = gr.Slider(0, 1, value=0, step=1, label="Picture", interactive=False, elem_id="past")
            self.then = gr.HTML(elem_id="then")
        with gr.Accordion("Runs side by side", open=True):
            self.sweep = gr.Dropdown(self.sweeps(), value=None, label="A folder with several runs", elem_id="sweep")
            self.beside = gr.HTML(elem_id="beside")

        quiet = {"show_progress": "hidden"}
        dragged = quiet | {"trigger_mode": "always_last"}  # or what comes while a picture is drawn would be left out
        of_sample = [self.model, self.seed, self.label, self.length, *self.axes]
        of_run = [self.model, self.run, self.label, self.past, self.then, self.sample, self.way, self.length]
        of_run += [*self.axes, self.said]  # the page sets them in this order: with the message everything is there
        again.click(
            lambda: {self.choice: gr.update(choices=self.found()), self.sweep: gr.update(choices=self.sweeps())},
            None,
            [self.choice, self.sweep],
        )
        self.choice.input(self.choose, [self.choice, self.seed], of_run, trigger_mode="always_last")
        for control in (self.seed, self.label, self.length, *self.axes):
            control.input(self.draw, of_sample, self.sample, **dragged)
        back.click(lambda: [1, *[0] * AXES], None, [self.length, *self.axes], **quiet).then(
            self.draw, of_sample, self.sample, **quiet
        )
        walking = gr.State(Walking())  # a copy for each session
        of_walk = [walking, self.model, self.seed, self.other, self.label, self.steps]
        walk.click(self.walk, of_walk, self.way, show_progress="minimal")
        stop.click(Walking.stop, walking, None, **quiet)
        self.past.input(self.show_past, [self.run, self.past], self.then, **dragged)
        self.sweep.input(self.side_by_side, self.sweep, self.beside, trigger_mode="always_last")

    def found(self) -> list[str]:
        """Runs with a checkpoint, the latest first by the date in their paths, then in natural order."""
        files = files_named(self.runs, "last.ckpt")
        found = self.named(file.parent.parent for file in files if file.parent.name == "checkpoints")
        return sorted(found, key=lambda run: max(DATE.findall(run), default=""), reverse=True)

    def sweeps(self) -> list[str]:
        """Folders with several runs."""
        above = self.named(run.parent for run in folders(self.runs))
        return [folder for folder in dict.fromkeys(above) if above.count(folder) > 1]

    def named(self, folders: Iterable[Path]) -> list[str]:
        """Folders as they are seen from that of the runs; no link leads out of it, and a page is told UTF-8 alone."""
        within = self.runs.resolve()
        inside = [f for f in folders if f.is_relative_to(self.runs) and f.resolve().is_relative_to(within)]
        return [name for name in (str(folder.relative_to(self.runs)) for folder in inside) if name.isprintable()]

    def choose(self, name: str, seed: int) -> Update:
        """Load a run's generator, and show what it draws and what it drew."""
        run = self.runs / name
        try:
            with TURN:  # its networks are drawn before their weights are put in
                model = gan_lightning.load(run / "checkpoints" / "last.ckpt")
            if model.sample(1).ndim != 4:
                raise UserError(f"{name}: makes points in the plane; the other tab is for these.")
        except UserError as error:
            nothing = dict.fromkeys([self.sample, self.then, self.way], "")
            return {self.said: wrong(str(error)), self.model: None, self.run: None} | nothing
        past, axes = by_step(run / "samples"), min(AXES, model.latent_dim)
        names = model.class_names or range(model.num_classes)
        choices = [(str(name), label) for label, name in enumerate(names)]
        label = 0 if choices else None
        return {
            self.model: model,
            self.run: run,
            self.said: f"<p>{escape(name)}: {model.latent_dim} latents, {model.num_classes or 'no'} classes.</p>",
            self.label: gr.update(choices=choices, value=label, visible=bool(choices)),
            self.past: gr.update(maximum=max(len(past) - 1, 1), value=max(len(past) - 1, 0), interactive=len(past) > 1),
            self.then: self.show_past(run, len(past) - 1),
            self.sample: self.draw(model, seed, label, 1.0, *[0.0] * AXES),
            self.way: "",
            self.length: 1,
            **{axis: gr.update(value=0, visible=number < axes) for number, axis in enumerate(self.axes)},
        }

    def draw(self, model: Sampler | None, seed: int, label: int | None, length: float, *shifts: float) -> str:
        """The sample of a latent that was put together by hand: a seed's, made longer or shorter, and moved."""
        if model is None:
            return ""
        z, _ = model.draw_latents(1, seed=int(seed or 0))
        axes = first_layer(model, z, z)[:AXES]
        z = length * z + torch.tensor([shifts[: len(axes)]], dtype=z.dtype) @ axes
        return shown(png(grid(model.generate(z, torch.tensor([label or 0])), 1)), "the sample")

    def walk(
        self, walking: Walking, model: Sampler | None, one: int, other: int, label: int | None, steps: int
    ) -> Iterator[str]:
        """The way from one seed to another and back, as a film; in pieces, so that it can be stopped.

        It yields the message about the stop itself. If another event did, a piece still on its way to the page could
        overwrite the message.
        """
        if model is None:
            yield "<p>Choose a run first.</p>"
            return
        walking.stopped = False
        way, samples = Interpolate([int(one or 0), int(other or 0)], int(steps or 16)).way(model), []
        for piece in way.split(4):
            samples.append(model.generate(piece, torch.full((len(piece),), label or 0)))
            yield f"<p>{sum(map(len, samples))} of {len(way)} pictures …</p>"
            if walking.stopped:
                break
        else:
            made = shown(gif(film([torch.cat(samples)]), FPS), "the way between two seeds", "gif")
        yield "<p>Stopped.</p>" if walking.stopped else made

    def show_past(self, run: Path | None, at: int) -> str:
        """What the run drew from the same noise at one of its steps."""
        past = by_step(run / "samples") if run else []
        if not past:
            return "<p>This run has kept no pictures.</p>"
        step, path = past[max(min(int(at or 0), len(past) - 1), 0)]
        return f'<p>Step {step:,}</p><img alt="samples then" src="{Reader(run).picture(path)}">'

    def side_by_side(self, name: str) -> str:
        """The runs of a folder, each with its last pictures and scores."""
        folder = self.runs / name
        found = [run for run in folders(folder) if run.parent == folder]
        known, figures = directions(), []
        for record in (Record.read(run, folder) for run in found[:MOST]):
            scores = ", ".join(
                f"{escape(cells[0])} {escape(cells[1])}" for cells in record.scores if known.get(cells[0])
            )
            omitted = "".join(f"<br>left out: {escape(line)}" for line in record.omitted)
            caption = f"<b>{escape(record.name)}</b><br>{escape(record.title)}, {escape(record.told)}<br>{scores}"
            image = f'<img alt="" src="{record.grid}">'
            figures.append(f"<figure>{image}<figcaption>{caption}{omitted}</figcaption></figure>")
        more = f"<p>and {len(found) - MOST} more</p>" if len(found) > MOST else ""
        return f'<div class="beside">{"".join(figures)}</div>{more}'


def shown(content: bytes, name: str, kind: str = "png") -> str:
    """A picture's file for the page."""
    return f'<img alt="{name}" src="{data_url(content, kind)}">'


def wrong(faults: str) -> str:
    """Faults, a line each, for the page."""
    return "".join(f'<p class="wrong">{escape(fault)}</p>' for fault in faults.splitlines())
