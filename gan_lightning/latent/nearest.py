"""Samples beside the training pictures that are nearest to them."""

import torch
from torch import Tensor

from gan_lightning.config.constraints import PositiveInt, Seed
from gan_lightning.data.base import StepData
from gan_lightning.image import from_uint8, to_uint8
from gan_lightning.latent import (
    Classes,
    Found,
    OfData,
    Rows,
    captions,
    in_turn,
    refuse_more,
    refuse_points,
    shown_classes,
)
from gan_lightning.metric import neighbours
from gan_lightning.sampler import Sampler
from gan_lightning.store import Store

PART, PART_NUMBERS = 2000, 2**25  # training images in a block, fewer where they are large: in float64 a quarter GB


class Nearest(OfData):
    """A sample a row, then its nearest training pictures by their pixels (root of the mean squared difference).

    Pixels find copies, and little else: ``gan-evaluate metric=memorization`` tells whether there are more than chance
    allows, by features.

    Args:
        num: Samples.
        k: Training pictures beside each.
        seed: Of the samples.
        classes: Of a conditional model, which take turns; None for the first ten.
    """

    moves = False

    def __init__(self, num: Rows = 8, k: PositiveInt = 6, seed: Seed = 0, classes: Classes | None = None) -> None:
        self.num, self.k, self.seed, self.classes = num, k, seed, classes

    def see(self, data: StepData, store: Store) -> None:
        """Take the training pictures, uint8.

        Raises:
            UserError: The data are points, fewer pictures than were asked for, or damaged on the disk.
        """
        refuse_points("nearest", data.shape)
        refuse_more("k", self.k, len(data.samples), "training pictures")
        data.verify()
        self.pictures = data.samples

    def __call__(self, model: Sampler) -> Found:
        """``distance`` has those of each row, in levels of 255, and ``index`` where the pictures stand in the data."""
        classes = shown_classes(model, self.classes)
        z, _ = model.draw_latents(self.num, seed=self.seed)
        y = in_turn(classes, self.num)
        samples = model.generate(z, y).cpu()
        squared, index = nearest(to_uint8(samples), self.pictures, self.k)
        distance = (squared / samples[0].numel()).sqrt()
        rows = [torch.cat([one[None], from_uint8(self.pictures[at])]) for one, at in zip(samples, index, strict=True)]
        figures = {"distance": distance.tolist(), "index": index.tolist()}
        beside = [f", {name}" if name else "" for name in captions(model, y.tolist())]
        told = [f"{float(row[0]):.1f}{name}" for row, name in zip(distance, beside, strict=True)]
        return Found(rows, told, figures=figures)


def nearest(samples: Tensor, pictures: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Squared distances (N, k) to the nearest pictures, and where these stand (N, k), part by part of the pictures."""
    best, where = torch.empty(len(samples), 0, dtype=torch.float64), torch.empty(len(samples), 0, dtype=torch.long)
    size = max(min(PART, PART_NUMBERS // pictures[0].numel()), 1)
    for start in range(0, len(pictures), size):
        part = pictures[start : start + size].flatten(1)
        found = neighbours.nearest(samples.flatten(1), part, min(k, len(part)), "nearest training pictures")
        best, order = torch.cat([best, found[0]], 1).sort(stable=True)
        best, where = best[:, :k], torch.cat([where, start + found[1]], 1).gather(1, order[:, :k])
    return best, where
