"""Plots by matplotlib, as uint8 images: scatter plots of points, and curves over generator steps."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

# Pixels of scatter plots. They are fixed, so that plots of all steps can be put side by side.
SCATTER_HEIGHT, COLOUR_BAR_WIDTH = 480, 80
AXES = 48, 44, 444, 440  # left, top, right, bottom
TICKS = -4, -2, -1, 0, 1, 2, 4  # of the colour bar, relative to the centre


class Surface(NamedTuple):
    """A discriminator's output over a square of the plane.

    Attributes:
        values: Output (S, S) relative to ``centre``, rows from low to high y: positive is real, negative is generated.
        label: Label of the colour bar.
        centre: The output at which ``values`` are 0, for the ticks of the colour bar.
    """

    values: Tensor
    label: str
    centre: float = 0.0


def scatter(real: Tensor, fake: Tensor, extent: float, surface: Surface | None, step: int) -> Tensor:
    """Plot real and generated points (N, 2) over a discriminator's output, as a uint8 image.

    The colours are the same in all plots: white at the centre of the surface, red above and blue below it, and linear
    in the sigmoid of the values, which for logits is D's probability that a point is real.

    Args:
        real: Real points.
        fake: Generated points.
        extent: Half of the side of the plotted square [-extent, extent]^2.
        surface: The discriminator's output over the square; None for no background.
        step: Generator step, for the title.

    Returns:
        The plot (3, 480, 560), or (3, 480, 480) without a surface, with the axes at ``AXES``.
    """
    height, width = SCATTER_HEIGHT, SCATTER_HEIGHT + (COLOUR_BAR_WIDTH if surface else 0)
    figure = Figure(figsize=(width / 100, height / 100), dpi=100)

    def at(left: int, top: int, right: int, bottom: int) -> Axes:
        return figure.add_axes((left / width, 1 - bottom / height, (right - left) / width, (bottom - top) / height))

    canvas, axes = FigureCanvasAgg(figure), at(*AXES)
    if surface:
        colours = (surface.values / 2).tanh().numpy()  # tanh(x / 2) = 2 sigmoid(x) - 1
        image = axes.imshow(
            colours,
            "coolwarm",
            interpolation="bilinear",
            alpha=0.8,
            vmin=-1,
            vmax=1,
            origin="lower",
            extent=(-extent, extent, -extent, extent),
        )
        bar = figure.colorbar(image, cax=at(AXES[2] + 14, AXES[1], AXES[2] + 30, AXES[3]))
        bar.set_label(surface.label, labelpad=5)
        bar.set_ticks(np.tanh(np.array(TICKS) / 2).tolist(), labels=[f"{tick + surface.centre:g}" for tick in TICKS])
    (real_x, real_y), (fake_x, fake_y) = real.T.float().numpy(), fake.T.float().numpy()
    axes.scatter(real_x, real_y, s=3, color="black", alpha=0.4, linewidths=0, label="real")
    axes.scatter(fake_x, fake_y, s=3, color="limegreen", alpha=0.7, linewidths=0, label="generated")
    axes.set(xlim=(-extent, extent), ylim=(-extent, extent))
    axes.set_title(f"step {step:,}", fontsize=16)
    axes.legend(loc="upper right", markerscale=4)
    return rendered(canvas)


def points(samples: Tensor) -> Tensor:
    """Plot points (N, 2), as a uint8 image (3, 480, 480)."""
    figure = Figure(figsize=(4.8, 4.8), dpi=100, layout="constrained")
    canvas, axes = FigureCanvasAgg(figure), figure.add_subplot()
    x, y = samples.T.float().numpy()
    axes.scatter(x, y, s=3, color="tab:green", linewidths=0)
    axes.set(aspect="equal", title=f"{len(samples):,} samples")
    return rendered(canvas)


def curves(
    panels: Mapping[str, tuple[Sequence[int], Mapping[str, Sequence[float]]]], columns: int, at: int | None = None
) -> Tensor:
    """Plot curves over generator steps, as a uint8 image (3, H, W).

    Args:
        panels: Steps and named values of each panel, by its title.
        columns: Number of panels in a row.
        at: A step to mark with a vertical line; None for no mark.
    """
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(4 * columns, 2.6 * rows), dpi=90, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    for position, (title, (steps, named)) in enumerate(panels.items(), 1):
        axes = figure.add_subplot(rows, columns, position, title=title)
        for name, values in named.items():
            marker = "." if len(steps) < 30 else ""
            axes.plot(steps, np.array(values, dtype=float), label=name, marker=marker, linewidth=1)
        if at is not None:
            axes.axvline(at, color="gray", linewidth=0.8)
        if len(named) > 1:
            axes.legend(fontsize=8)
        axes.grid(alpha=0.3)
    return rendered(canvas)


def rendered(canvas: FigureCanvasAgg) -> Tensor:
    """Render a figure to a uint8 image (3, H, W)."""
    canvas.draw()
    return torch.from_numpy(np.asarray(canvas.buffer_rgba())[..., :3].copy()).permute(2, 0, 1)
