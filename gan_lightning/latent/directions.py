"""Directions along which samples change most."""

from typing import Literal

import torch
from torch import Tensor, nn

from gan_lightning.config.constraints import Seed
from gan_lightning.latent import (
    Classes,
    Distance,
    Explorer,
    Found,
    NumSamples,
    Rows,
    Steps,
    captions,
    in_turn,
    refuse_more,
    shown_classes,
)
from gan_lightning.sampler import Sampler

RANDOM = 32  # directions that others are compared with
MEASURED = 64  # samples that are moved along each


class Directions(Explorer):
    """One latent, moved along directions of length one, and how much more each changes samples than a random one does.

    Args:
        method: "first_layer", the singular vectors of the weights that a latent meets first (Shen & Zhou, 2021,
            equation 5, https://arxiv.org/abs/2007.06600); "pca", the principal components of samples, carried back to
            latents by regression (Härkönen et al., 2020, section 3.2, https://arxiv.org/abs/2004.02546); "random".
        num: The first directions, one row each.
        reach: How far to either side.
        steps: Samples in a row.
        samples: Of the principal components; they should be many times as many as the latent has numbers.
        seed: Of all latents.
        classes: Of a conditional model, the first is shown and all are measured; None for the first ten.
    """

    def __init__(
        self,
        method: Literal["first_layer", "pca", "random"] = "first_layer",
        num: Rows = 4,
        reach: Distance = 3.0,
        steps: Steps = 9,
        samples: NumSamples = 2000,
        seed: Seed = 0,
        classes: Classes | None = None,
    ) -> None:
        self.method, self.num, self.reach, self.steps = method, num, reach, steps
        self.samples, self.seed, self.classes = samples, seed, classes

    def __call__(self, model: Sampler) -> Found:
        """A row a direction; ``against_random`` has how many times as much it changes samples as random directions."""
        classes = shown_classes(model, self.classes)
        z, _ = model.draw_latents(self.samples, seed=self.seed)
        y, random = in_turn(classes, self.samples), random_directions(model, self.seed)
        found = {"first_layer": first_layer, "pca": principal, "random": lambda *_: random}[self.method](model, z, y)
        refuse_more("num", self.num, len(found), "directions")
        found = found[: self.num]
        moved = z[:MEASURED], y[:MEASURED]
        at_random = sum(change(model, *moved, one) for one in random) / RANDOM
        scores = [change(model, *moved, one) / at_random for one in found]
        way = torch.linspace(-self.reach, self.reach, self.steps)[:, None]
        labels = torch.full((self.steps,), classes[0])
        rows = [model.generate(z[0] + way * one, labels) for one in found]
        figures = {"against_random": scores, "directions": found.tolist()}
        beside = f", {captions(model, classes)[0]}" if model.num_classes else ""
        return Found(rows, [f"{i + 1}: x {score:.1f}{beside}" for i, score in enumerate(scores)], figures=figures)


def random_directions(model: Sampler, seed: int) -> Tensor:
    """Directions (RANDOM, latent_dim) of length one."""
    generator = torch.Generator().manual_seed(seed)
    return nn.functional.normalize(torch.randn(RANDOM, model.latent_dim, generator=generator), dim=1)


def first_layer(model: Sampler, z: Tensor, y: Tensor) -> Tensor:
    """Right singular vectors (K, latent_dim) of the first layer's weights, the largest first."""
    layer = next(part for part in model.sampler().modules() if isinstance(part, nn.Linear | nn.ConvTranspose2d))
    weight = layer.weight.detach().float().cpu()
    matrix = weight if isinstance(layer, nn.Linear) else weight.flatten(1).T
    return torch.linalg.svd(matrix[:, : model.latent_dim], full_matrices=False).Vh


def principal(model: Sampler, z: Tensor, y: Tensor) -> Tensor:
    """Directions (K, latent_dim) of latents along the principal components of their samples, the largest first."""
    samples = model.generate(z, y).flatten(1).float().cpu()
    for label in y.unique():  # what a class changes is no latent's doing
        samples[y == label] -= samples[y == label].mean(0)
    components = torch.linalg.svd(samples, full_matrices=False).U[:, : model.latent_dim]
    slopes = torch.linalg.lstsq(z - z.mean(0), components, driver="gelsd").solution  # of fewer samples the shortest
    return nn.functional.normalize(slopes.T, dim=1)


def change(model: Sampler, z: Tensor, y: Tensor, direction: Tensor) -> float:
    """Root of the mean squared change of a sample's numbers when its latent moves by a direction of length one."""
    apart = model.generate(z + direction / 2, y) - model.generate(z - direction / 2, y)
    return float(apart.float().square().mean().sqrt())
