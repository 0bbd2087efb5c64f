"""The page's tab on the game in the plane: who moves, what there is to see, and what there was."""

import json
import shlex
from html import escape
from typing import Any

import gradio as gr
import torch
from torch import Tensor

from gan_lightning.errors import UserError
from gan_lightning.image import png
from gan_lightning.live import Frame, LiveGame
from gan_lightning.pictures import shown, wrong
from gan_lightning.plot import curves, scatter

VARIANTS = {  # of each the words that choose it, and what it is in the plane
    "vanilla": (["model=vanilla"], "The game itself: D tells real from generated, G makes D err."),
    "dcgan": (
        ["model=vanilla", "model.reuse_fake=true"],
        "DCGAN's networks want pictures; in the plane its schedule is left: G plays the fakes that D has just seen.",
    ),
    "cgan": (
        ["model=cgan"],
        "Both are told the class, the Gaussian; the surface is D's mean over the classes.",
    ),
    "acgan": (["model=acgan"], "D also names the class, the Gaussian, and G gains by being recognised."),
    "wgan": (["model=wgan"], "A critic whose weights are clipped moves five times for each move of G."),
    "wgan_gp": (
        ["model=wgan_gp", "model.gp_weight=0.1"],
        "A critic whose slopes a penalty draws to 1 moves five times for each move of G.",
    ),
}
SHAPES = ("ring", "grid", "drawn")
EXTENT = 2.0  # of the plane that can be drawn on, to either side
PLAYERS = {"D alone": "d", "G alone": "g", "Both": "both"}
PLACES, APART = 40, 0.1  # Gaussians that a drawing becomes at most, and how near two of them may be
BOARD = f"""\
<p>Draw with the mouse, or <button type="button">wipe</button></p>
<canvas width="300" height="300" data-extent="{EXTENT}"></canvas>
"""
DRAW = """\
// The value is a list of places in the plane, as JSON.
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
**D alone**, fifty times: the surface grows steep between green and black. **G alone**, fifty times: all green points
run the same way, up the slope and out of the picture. **Both** take turns, as in training. Settings are words of the
command line: `loss=minimax`, `model.d_steps=5`, `model.generator_optimizer.lr=1e-3`.
"""

Update = dict[Any, Any]  # what becomes of components


class Plane:
    """Lays the tab out, and says what its buttons do."""

    def __init__(self) -> None:
        self.game = gr.State(None, delete_callback=lambda game: game and game.end())  # when its page is closed
        self.note, self.at = gr.State(""), gr.State(None)  # moves of the frame that is looked at; None for the latest
        self.before = gr.State(None)  # what was shown last
        with gr.Row():
            with gr.Column(scale=1, min_width=280):
                variant = gr.Dropdown([*VARIANTS], value="vanilla", label="Variant")
                shape = gr.Radio(SHAPES, value="ring", label="Real points")
                board = gr.HTML("[]", html_template=BOARD, js_on_load=DRAW, visible=False, elem_id="board")
                settings = gr.Textbox(label="Settings", placeholder="loss=minimax seed=1", max_length=1000)
                self.faults = gr.HTML(elem_id="faults")
                begin = gr.Button("New game", variant="primary")
                with gr.Row():
                    go, wait = (
                        gr.Button("Play", interactive=False, min_width=60),
                        gr.Button("Pause", interactive=False, min_width=60),
                    )
                pace = gr.Slider(1, 500, value=100, step=1, label="Steps a second")
                times = gr.Number(1, minimum=1, maximum=1000, precision=0, label="Moves a click")
                with gr.Row():
                    moves = [gr.Button(name, interactive=False, min_width=60, size="md") for name in PLAYERS]
                gr.Markdown(ADVICE)
            with gr.Column(scale=2):
                self.said = gr.HTML("<p>Choose, and start a new game.</p>", elem_id="said")
                self.seen = gr.HTML(elem_id="seen", elem_classes="scatter")
                self.history = gr.Slider(0, 1, value=0, step=1, label="History", interactive=False, elem_id="history")
                latest = gr.Button("Follow the game", interactive=False)
            with gr.Column(scale=1, min_width=300):
                self.curves = gr.HTML(elem_id="curves", elem_classes="scatter")
        self.clock = gr.Timer(0.4, active=False)
        self.controls = [go, wait, *moves, latest]
        self.shown = [self.said, self.seen, self.curves, self.history, self.before, self.clock, *self.controls]

        quiet = {"show_progress": "hidden"}
        shape.change(lambda chosen: gr.update(visible=chosen == "drawn"), shape, board, **quiet)
        begin.click(
            self.start,
            [self.game, variant, shape, board, settings],
            [self.game, self.note, self.at, self.faults, *self.shown],
        )
        go.click(lambda game, speed: game and game.play(speed), [self.game, pace], None, **quiet)
        pace.release(lambda game, speed: game and game.pace and game.play(speed), [self.game, pace], None, **quiet)
        wait.click(lambda game: game and game.pause(), self.game, None, **quiet)
        for button, player in zip(moves, PLAYERS.values(), strict=True):
            button.click(
                lambda game, num, player=player: game and game.move(player, num or 1), [self.game, times], None, **quiet
            )
        self.history.input(
            lambda game, at: game and game.frames[min(int(at or 0), len(game.frames) - 1)].moves,
            [self.game, self.history],
            self.at,
            trigger_mode="always_last",
            **quiet,
        )
        latest.click(lambda: None, None, self.at, **quiet)
        self.clock.tick(self.show, [self.game, self.note, self.at, self.before], self.shown, **quiet)

    def start(self, game: LiveGame | None, variant: str, shape: str, drawn: str, settings: str) -> Update:
        """Begin another game and end the one before; or say what is wrong with what was asked for."""
        words, note = VARIANTS[variant]
        try:
            new = LiveGame([*words, *real_points(shape, drawn), *shlex.split(settings)])
        except (UserError, ValueError) as error:  # the latter of a quote that does not end
            return {self.faults: wrong(str(error))}
        if game is not None:
            game.end()
        ready = dict.fromkeys(self.controls, gr.update(interactive=True))
        begun = {
            self.game: new,
            self.note: note,
            self.faults: "",
            self.at: None,
            self.clock: gr.Timer(active=True),
        }
        return begun | ready | self.show(new, note, None)

    def show(self, game: LiveGame | None, note: str, at: int | None, before: Any = None) -> Update:
        """The latest frame, or the one that is looked at; nothing where that is what there is to see already."""
        if game is None:  # the page has been away for long, or its server was started anew
            return {self.clock: gr.Timer(active=False), self.said: "<p>The game has ended: start a new one.</p>"}
        frames = game.frames
        last = len(frames) - 1
        at = last if at is None else min(range(last + 1), key=lambda place: abs(frames[place].moves - at))
        frame = frames[at]
        now = id(game), at, frame.g_moves, frame.d_moves, last, game.busy, game.error
        if now == before:
            return {self.before: now}
        state = game.error or ("playing" if game.busy else "waiting for a move")
        return {
            self.said: f"<p>{escape(note)}</p><p>{told(frame, len(game.data.centres()))}<br><i>{escape(state)}</i></p>",
            self.seen: shown(png(scatter(game.real, frame.fake, game.extent, frame.logits, frame.g_moves)), "points"),
            self.curves: shown(png(curves(panels(frames), 1, frame.g_moves)), "curves"),
            self.history: gr.update(value=at, maximum=max(last, 1), interactive=True),
            self.before: now,
            **(dict.fromkeys(self.controls[:-1], gr.update(interactive=False)) if game.error else {}),
        }


def real_points(shape: str, drawn: str) -> list[str]:
    """The words for the real points; a drawing, a list of places as JSON, becomes Gaussians along its lines.

    Raises:
        UserError: Nothing is drawn.
    """
    if shape != "drawn":
        return [f"data=gaussian_{shape}"]
    places = torch.tensor(json.loads(drawn), dtype=torch.float32)
    if not len(places):
        raise UserError("Nothing is drawn yet: draw the real points with the mouse, then start a new game.")
    centres = spread(places).mul(1000).round().div(1000)
    return ["data=gaussian_mixture", f"data.centres={json.dumps(centres.tolist(), separators=(',', ':'))}"]


def spread(places: Tensor) -> Tensor:
    """Some of the places (N, 2), each the farthest from all before it."""
    chosen, far = [0], (places - places[0]).norm(dim=1)
    while len(chosen) < PLACES and far.max() > APART:
        chosen.append(int(far.argmax()))
        far = far.minimum((places - places[chosen[-1]]).norm(dim=1))
    return places[chosen]


def told(frame: Frame, modes: int) -> str:
    """A frame in a sentence."""
    terms = ", ".join(f"{name} {value:.3g}" for name, value in frame.figures.items() if "/" in name)
    found = f"{frame.figures['modes']} of {modes} modes, {frame.figures['quality']:.0%} good."
    return f"<b>G has moved {frame.g_moves:,} times, D {frame.d_moves:,}. {found}</b> {terms}"


def panels(frames: list[Frame]) -> dict[str, tuple[list[int], dict[str, list[float]]]]:
    """The history's curves."""
    steps = [frame.g_moves for frame in frames]
    names = {name: None for frame in frames for name in frame.figures}
    curve = {name: [frame.figures.get(name, float("nan")) for frame in frames] for name in names}
    losses = {name: values for name, values in curve.items() if "/" in name}
    return {
        **({"losses": (steps, losses)} if losses else {}),
        "modes covered": (steps, {"modes": curve["modes"]}),
        "quality": (steps, {"quality": curve["quality"]}),
    }
