"""Latent directions along which samples change most."""

from typing import Literal

import torch
from torch import Tensor, nn

from gan_lightning.config.constraints import Seed
from gan_lightning.latent import (
    Classes,
    Distance,
    Exploration,
    LatentExplorer,
    NumSamples,
    Rows,
    Steps,
    alternating_labels,
    captions,
    check_at_most,
    selected_classes,
)
from gan_lightning.model.sampling import SamplingMixin

RANDOM = 32  # number of random directions for comparison
MEASURED = 64  # number of latents that are moved along each direction


class Directions(LatentExplorer):
    """Move one latent along unit directions, and compare the change of samples with that of random directions.

    Args:
        method: "first_layer", the singular vectors of the weights of the first layer (Shen & Zhou, 2021,
            equation 5, https://arxiv.org/abs/2007.06600); "pca", the principal components of samples, mapped to
            latents by regression (Härkönen et al., 2020, section 3.2, https://arxiv.org/abs/2004.02546); "random".
        num: Number of directions, one row each.
        strength: Length of the path to either side.
        steps: Samples in a row.
        samples: Number of samples for the principal components; use many times the latent dimension.
        seed: Seed of all latents.
        classes: Classes of a conditional model: the first is shown, all are measured; None for the first ten.
    """

    def __init__(
        self,
        method: Literal["first_layer", "pca", "random"] = "first_layer",
        num: Rows = 4,
        strength: Distance = 3.0,
        steps: Steps = 9,
        samples: NumSamples = 2000,
        seed: Seed = 0,
        classes: Classes | None = None,
    ) -> None:
        self.method, self.num, self.strength, self.steps = method, num, strength, steps
        self.samples, self.seed, self.classes = samples, seed, classes

    def __call__(self, model: SamplingMixin) -> Exploration:
        """Return a row per direction; ``against_random`` is its change of samples relative to random directions."""
        classes = selected_classes(model, self.classes)
        z, y = model.draw_latents(self.samples, alternating_labels(classes, self.samples), self.seed)
        random = random_directions(model, self.seed)
        method = {"first_layer": first_layer, "pca": principal, "random": lambda *_: random}[self.method]
        directions = method(model, z, y)
        check_at_most("num", self.num, len(directions), "directions")
        directions = directions[: self.num]
        moved = z[:MEASURED], y[:MEASURED]
        at_random = sum(change(model, *moved, one) for one in random) / RANDOM
        scores = [change(model, *moved, one) / at_random for one in directions]
        path = torch.linspace(-self.strength, self.strength, self.steps)[:, None]
        labels = torch.full((self.steps,), classes[0])
        rows = [model.generate(z[0] + path * one, labels) for one in directions]
        results = {"against_random": scores, "directions": directions.tolist()}
        label = f", {captions(model, classes)[0]}" if model.num_classes else ""
        return Exploration(rows, [f"{i + 1}: x {score:.1f}{label}" for i, score in enumerate(scores)], results=results)


def random_directions(model: SamplingMixin, seed: int) -> Tensor:
    """Return random unit directions (RANDOM, latent_dim)."""
    generator = torch.Generator().manual_seed(seed)
    return nn.functional.normalize(torch.randn(RANDOM, model.latent_dim, generator=generator), dim=1)


def first_layer(model: SamplingMixin, z: Tensor, y: Tensor) -> Tensor:
    """Return right singular vectors (K, latent_dim) of the first layer's weights, by descending singular value."""
    layer = next(part for part in model.sampler().modules() if isinstance(part, nn.Linear | nn.ConvTranspose2d))
    weight = layer.weight.detach().float().cpu()
    matrix = weight if isinstance(layer, nn.Linear) else weight.flatten(1).T
    return torch.linalg.svd(matrix[:, : model.latent_dim], full_matrices=False).Vh


def principal(model: SamplingMixin, z: Tensor, y: Tensor) -> Tensor:
    """Return latent directions (K, latent_dim) of the principal components of samples, by descending variance."""
    samples = model.generate(z, y).flatten(1).float().cpu()
    for label in y.unique():  # remove the differences between classes, which do not depend on the latent
        samples[y == label] -= samples[y == label].mean(0)
    components = torch.linalg.svd(samples, full_matrices=False).U[:, : model.latent_dim]
    coefficients = torch.linalg.lstsq(z - z.mean(0), components, driver="gelsd").solution  # minimum norm
    return nn.functional.normalize(coefficients.T, dim=1)


def change(model: SamplingMixin, z: Tensor, y: Tensor, direction: Tensor) -> float:
    """Return the root mean square change of samples along a unit direction."""
    difference = model.generate(z + direction / 2, y) - model.generate(z - direction / 2, y)
    return float(difference.float().square().mean().sqrt())
