"""Plots that matplotlib draws."""

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor


def scatter(real: Tensor, fake: Tensor, extent: float, logits: Tensor | None, step: int) -> Tensor:
    """Real and generated points (N, 2), over a discriminator's logits, as a uint8 picture (3, 480, 480).

    Args:
        real: Real points.
        fake: Generated points.
        extent: Of the picture: it shows the square [-extent, extent]^2.
        logits: Logits (S, S) over the square, rows from low to high y; None for none.
        step: Generator step, for the title.
    """
    figure = Figure(figsize=(4.8, 4.8), dpi=100, layout="constrained")
    canvas, axes = FigureCanvasAgg(figure), figure.add_subplot()
    if logits is not None:
        image = axes.imshow(logits.numpy(), extent=(-extent, extent) * 2, origin="lower", cmap="coolwarm", alpha=0.6)
        figure.colorbar(image, ax=axes, label="D's logit", shrink=0.8)
    axes.scatter(*real.T.float().numpy(), s=3, color="black", alpha=0.4, linewidths=0, label="real")
    axes.scatter(*fake.T.float().numpy(), s=3, color="limegreen", alpha=0.7, linewidths=0, label="generated")
    axes.set(xlim=(-extent, extent), ylim=(-extent, extent), aspect="equal", title=f"step {step:,}")
    axes.legend(loc="upper right", markerscale=4)
    canvas.draw()
    return torch.from_numpy(np.asarray(canvas.buffer_rgba())[..., :3].copy()).permute(2, 0, 1)


def points(samples: Tensor) -> Tensor:
    """Points (N, 2) in the plane, as a uint8 picture (3, 480, 480)."""
    figure = Figure(figsize=(4.8, 4.8), dpi=100, layout="constrained")
    canvas, axes = FigureCanvasAgg(figure), figure.add_subplot()
    axes.scatter(*samples.T.float().numpy(), s=3, color="tab:green", linewidths=0)
    axes.set(aspect="equal", title=f"{len(samples):,} samples")
    canvas.draw()
    return torch.from_numpy(np.asarray(canvas.buffer_rgba())[..., :3].copy()).permute(2, 0, 1)
