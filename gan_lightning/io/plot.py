"""Plots by matplotlib, as uint8 images: scatter plots of points, and curves over generator steps."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor


def scatter(real: Tensor, fake: Tensor, extent: float, logits: Tensor | None, step: int) -> Tensor:
    """Plot real and generated points (N, 2) over a discriminator's logits, as a uint8 image (3, 480, 480).

    Args:
        real: Real points.
        fake: Generated points.
        extent: Half of the side of the plotted square [-extent, extent]^2.
        logits: Logits (S, S) over the square, rows from low to high y; None for no background.
        step: Generator step, for the title.
    """
    figure = Figure(figsize=(4.8, 4.8), dpi=100, layout="constrained")
    canvas, axes = FigureCanvasAgg(figure), figure.add_subplot()
    if logits is not None:
        image = axes.imshow(logits.numpy(), extent=(-extent, extent) * 2, origin="lower", cmap="coolwarm", alpha=0.6)
        figure.colorbar(image, ax=axes, label="D's logit", shrink=0.8)
    (real_x, real_y), (fake_x, fake_y) = real.T.float().numpy(), fake.T.float().numpy()
    axes.scatter(real_x, real_y, s=3, color="black", alpha=0.4, linewidths=0, label="real")
    axes.scatter(fake_x, fake_y, s=3, color="limegreen", alpha=0.7, linewidths=0, label="generated")
    axes.set(xlim=(-extent, extent), ylim=(-extent, extent), aspect="equal", title=f"step {step:,}")
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
