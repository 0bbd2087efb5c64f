"""The gan-play tab for interactive training on points in the plane."""

import json
import shlex
from html import escape
from typing import Any

import gradio as gr
import torch
from torch import Tensor

from gan_lightning.demo.images_tab import error_html, image_html
from gan_lightning.demo.live_training import Frame, LiveTraining
from gan_lightning.errors import UserError
from gan_lightning.io.image import png
from gan_lightning.io.plot import curves, scatter

VARIANTS = {  # overrides and description of each variant
    "vanilla": (["model=vanilla"], "D classifies points as real or generated; G is trained to make D err."),
    "dcgan": (
        ["model=vanilla", "model.reuse_fake=true"],
        "DCGAN's networks need images; in the plane only its schedule differs: G is updated on D's last fakes.",
    ),
    "cgan": (
        ["model=cgan"],
        "Both networks get the class, which is the Gaussian; the surface is D's mean over the classes.",
    ),
    "acgan": (["model=acgan"], "D also predicts the class, the Gaussian; G is trained for a correct prediction."),
    "wgan": (["model=wgan"], "A critic with clipped weights; five updates of the critic for each update of G."),
    "wgan_gp": (
        ["model=wgan_gp", "model.gp_weight=0.1"],
        "A critic with a gradient penalty; five updates of the critic for each update of G.",
    ),
}
SHAPES = ("ring", "grid", "drawn")
EXTENT = 2.0  # half width of the drawing board
NETWORKS = {"Update D": "d", "Update G": "g", "Both": "both"}
MAX_GAUSSIANS, MIN_DISTANCE = 40, 0.1  # of the mixture that is made of a drawing
BOARD = f"""\
<p>Draw with the mouse, or <button type="button">clear</button></p>
<canvas width="300" height="300" data-extent="{EXTENT}"></canvas>
"""
DRAW = """\
// The value is a list of points, as JSON.
const canvas = element.querySelector('canvas'), ink = canvas.getContext('2d');
const extent = Number(canvas.dataset.extent);
let places = JSON.parse(props.value), down = false;
const dot = ([x, y]) => ink.fillRect(
  (x / extent + 1) / 2 * canvas.width - 3, (1 - y / extent) / 2 * canvas.height - 3, 6, 6
);
places.forEach(dot);
const draw = event => {
  const box = canvas.getBoundingClientRect();
  const within = share => Math.min(Math.max(share, 0), 1);
  const x = within((event.clientX - box.left) / box.width), y = within((event.clientY - box.top) / box.height);
  places.push([(2 * x - 1) * extent, (1 - 2 * y) * extent]);
  dot(places.at(-1));
};
const done = () => { if (down) { down = false; props.value = JSON.stringify(places); } };
canvas.addEventListener('pointerdown', event => {
  down = true;
  canvas.setPointerCapture(event.pointerId);
  draw(event);
});
canvas.addEventListener('pointermove', event => { if (down) draw(event); });
canvas.addEventListener('pointerup', done);
canvas.addEventListener('pointercancel', done);
element.querySelector('button').addEventListener('click', () => {
  places = [];
  ink.clearRect(0, 0, canvas.width, canvas.height);
  props.value = '[]';
});
"""
ADVICE = """\
**Update D** fifty times: the surface becomes steep between green and black. **Update G** fifty times: all green points
move in the same direction, along the gradient and out of the image. **Both** makes whole training steps. Settings are
overrides: `loss=minimax`, `model.d_steps=5`, `model.generator_optimizer.lr=1e-3`.
"""

Update = dict[Any, Any]  # new values of components


class PointsTab:
    """The components of the tab and their event handlers."""

    def __init__(self) -> None:
        self.live = gr.State(None, delete_callback=lambda live: live and live.stop())  # when the page is closed
        self.note, self.at = gr.State(""), gr.State(None)  # updates of the selected frame; None for the latest
        self.before = gr.State(None)  # what was shown last
        with gr.Row():
            with gr.Column(scale=1, min_width=280):
                variant = gr.Dropdown([*VARIANTS], value="vanilla", label="Variant")
                shape = gr.Radio(SHAPES, value="ring", label="Real points")
                board = gr.HTML("[]", html_template=BOARD, js_on_load=DRAW, visible=False, elem_id="board")
                settings = gr.Textbox(label="Settings", placeholder="loss=minimax seed=1", max_length=1000)
                self.errors = gr.HTML(elem_id="errors")
                start = gr.Button("New training", variant="primary")
                with gr.Row():
                    train = gr.Button("Train", interactive=False, min_width=60)
                    pause = gr.Button("Pause", interactive=False, min_width=60)
                rate = gr.Slider(1, 500, value=100, step=1, label="Steps per second")
                times = gr.Number(1, minimum=1, maximum=1000, precision=0, label="Updates per click")
                with gr.Row():
                    updates = [gr.Button(name, interactive=False, min_width=60, size="md") for name in NETWORKS]
                gr.Markdown(ADVICE)
            with gr.Column(scale=2):
                self.status = gr.HTML("<p>Choose a variant, and start a new training.</p>", elem_id="status")
                self.plot = gr.HTML(elem_id="plot", elem_classes="scatter")
                self.history = gr.Slider(0, 1, value=0, step=1, label="History", interactive=False, elem_id="history")
                latest = gr.Button("Show the latest", interactive=False)
            with gr.Column(scale=1, min_width=300):
                self.curves = gr.HTML(elem_id="curves", elem_classes="scatter")
        self.clock = gr.Timer(0.4, active=False)
        self.controls = [train, pause, *updates, latest]
        self.outputs = [self.status, self.plot, self.curves, self.history, self.before, self.clock, *self.controls]

        quiet: dict[str, Any] = {"show_progress": "hidden"}
        shape.change(lambda chosen: gr.update(visible=chosen == "drawn"), shape, board, **quiet)
        start.click(
            self.start,
            [self.live, variant, shape, board, settings],
            [self.live, self.note, self.at, self.errors, *self.outputs],
        )
        train.click(lambda live, speed: live and live.train(speed), [self.live, rate], None, **quiet)
        rate.release(lambda live, speed: live and live.rate and live.train(speed), [self.live, rate], None, **quiet)
        pause.click(lambda live: live and live.pause(), self.live, None, **quiet)
        for button, chosen in zip(updates, NETWORKS.values(), strict=True):
            button.click(
                lambda live, num, chosen=chosen: live and live.request(chosen, num or 1),
                [self.live, times],
                None,
                **quiet,
            )
        self.history.input(
            lambda live, at: live and live.frames[min(int(at or 0), len(live.frames) - 1)].updates,
            [self.live, self.history],
            self.at,
            trigger_mode="always_last",
            **quiet,
        )
        latest.click(lambda: None, None, self.at, **quiet)
        self.clock.tick(self.show, [self.live, self.note, self.at, self.before], self.outputs, **quiet)

    def start(self, live: LiveTraining | None, variant: str, shape: str, drawn: str, settings: str) -> Update:
        """Start a new training and stop the previous one; or show the errors of the settings."""
        overrides, note = VARIANTS[variant]
        try:
            new = LiveTraining([*overrides, *real_points(shape, drawn), *shlex.split(settings)])
        except (UserError, ValueError) as error:  # a ValueError is an unclosed quotation
            return {self.errors: error_html(str(error))}
        if live is not None:
            live.stop()
        enabled = dict.fromkeys(self.controls, gr.update(interactive=True))
        started = {self.live: new, self.note: note, self.errors: "", self.at: None, self.clock: gr.Timer(active=True)}
        return started | enabled | self.show(new, note, None)

    def show(self, live: LiveTraining | None, note: str, at: int | None, before: Any = None) -> Update:
        """Show the latest or the selected frame, if it is not shown already."""
        if live is None:  # the session has expired, or the server was restarted
            return {self.clock: gr.Timer(active=False), self.status: "<p>Training has ended: start a new one.</p>"}
        frames = live.frames
        last = len(frames) - 1
        at = last if at is None else min((abs(frame.updates - at), index) for index, frame in enumerate(frames))[1]
        frame = frames[at]
        now = id(live), at, frame.g_updates, frame.d_updates, last, live.busy, live.error
        if now == before:
            return {self.before: now}
        state = live.error or ("training" if live.busy else "paused")
        text = status_text(frame, len(live.data.centres()))
        plot = png(scatter(live.real, frame.fake, live.extent, frame.surface, frame.g_updates))
        return {
            self.status: f"<p>{escape(note)}</p><p>{text}<br><i>{escape(state)}</i></p>",
            self.plot: image_html(plot, "points"),
            self.curves: image_html(png(curves(panels(frames), 1, frame.g_updates)), "curves"),
            self.history: gr.update(value=at, maximum=max(last, 1), interactive=True),
            self.before: now,
            **(dict.fromkeys(self.controls[:-1], gr.update(interactive=False)) if live.error else {}),
        }


def real_points(shape: str, drawn: str) -> list[str]:
    """Return the overrides for the real points; a drawing (points as JSON) becomes Gaussians along its lines.

    Raises:
        UserError: The drawing is empty.
    """
    if shape != "drawn":
        return [f"data=gaussian_{shape}"]
    points = torch.tensor(json.loads(drawn), dtype=torch.float32)
    if not len(points):
        raise UserError("The drawing is empty: draw the real points with the mouse, then start a new training.")
    centres = farthest_points(points).mul(1000).round().div(1000)
    return ["data=gaussian_mixture", f"data.centres={json.dumps(centres.tolist(), separators=(',', ':'))}"]


def farthest_points(points: Tensor) -> Tensor:
    """Return a subset of points (N, 2) by farthest point sampling."""
    chosen, distance = [0], (points - points[0]).norm(dim=1)
    while len(chosen) < MAX_GAUSSIANS and distance.max() > MIN_DISTANCE:
        chosen.append(int(distance.argmax()))
        distance = distance.minimum((points - points[chosen[-1]]).norm(dim=1))
    return points[chosen]


def status_text(frame: Frame, modes: int) -> str:
    """Return the numbers of a frame as HTML."""
    terms = ", ".join(f"{name} {value:.3g}" for name, value in frame.metrics.items() if "/" in name)
    scores = f"{frame.metrics['modes']} of {modes} modes, quality {frame.metrics['quality']:.0%}."
    return f"<b>{frame.g_updates:,} updates of G, {frame.d_updates:,} of D. {scores}</b> {terms}"


def panels(frames: list[Frame]) -> dict[str, tuple[list[int], dict[str, list[float]]]]:
    """Return the curves of the history by panel."""
    steps = [frame.g_updates for frame in frames]
    names = {name: None for frame in frames for name in frame.metrics}
    curve = {name: [frame.metrics.get(name, float("nan")) for frame in frames] for name in names}
    losses = {name: values for name, values in curve.items() if "/" in name}
    return {
        **({"losses": (steps, losses)} if losses else {}),
        "modes covered": (steps, {"modes": curve["modes"]}),
        "quality": (steps, {"quality": curve["quality"]}),
    }
