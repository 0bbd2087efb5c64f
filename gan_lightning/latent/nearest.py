"""Samples beside their nearest training images in pixel space."""

import torch
from torch import Tensor

from gan_lightning.config.constraints import PositiveInt, Seed
from gan_lightning.data.datamodule import InMemoryDataModule
from gan_lightning.io.cache import TensorCache
from gan_lightning.io.image import from_uint8, to_uint8
from gan_lightning.latent import (
    Classes,
    Exploration,
    NeedsData,
    Rows,
    alternating_labels,
    captions,
    check_at_most,
    check_images,
    selected_classes,
)
from gan_lightning.metric import knn
from gan_lightning.model.sampling import SamplingMixin

PART, PART_NUMBERS = 2000, 2**25  # images in a block, fewer if they are large: at most 256 MB in float64


class Nearest(NeedsData):
    """Show samples, each beside its nearest training images by the root mean square difference of the pixels.

    Distances of pixels detect little more than exact copies. ``gan-evaluate metric=memorization`` compares features and
    tests whether there are more copies than expected by chance.

    Args:
        num: Number of samples, one row each.
        k: Number of training images beside each.
        seed: Seed of the samples.
        classes: Classes of a conditional model, which alternate; None for the first ten.
    """

    animated = False

    def __init__(self, num: Rows = 8, k: PositiveInt = 6, seed: Seed = 0, classes: Classes | None = None) -> None:
        self.num, self.k, self.seed, self.classes = num, k, seed, classes

    def load_data(self, data: InMemoryDataModule, store: TensorCache) -> None:
        """Store the training images as uint8.

        Raises:
            UserError: The data are points, fewer than ``k`` images, or damaged on the disk.
        """
        check_images("nearest", data.shape)
        check_at_most("k", self.k, len(data.samples), "training images")
        data.verify()
        self.images = data.samples

    def __call__(self, model: SamplingMixin) -> Exploration:
        """Return a row per sample; ``distance`` (in units of 1/255) and ``index`` describe the training images."""
        classes = selected_classes(model, self.classes)
        z, y = model.draw_latents(self.num, alternating_labels(classes, self.num), self.seed)
        samples = model.generate(z, y).cpu()
        squared, index = nearest(to_uint8(samples), self.images, self.k)
        distance = (squared / samples[0].numel()).sqrt()
        rows = [torch.cat([one[None], from_uint8(self.images[near])]) for one, near in zip(samples, index, strict=True)]
        results = {"distance": distance.tolist(), "index": index.tolist()}
        classes_of_rows = [f", {name}" if name else "" for name in captions(model, y.tolist())]
        texts = [f"{float(row[0]):.1f}{name}" for row, name in zip(distance, classes_of_rows, strict=True)]
        return Exploration(rows, texts, results=results)


def nearest(samples: Tensor, images: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return squared distances (N, k) to the nearest images and their indices (N, k), computed block by block."""
    best, index = torch.empty(len(samples), 0, dtype=torch.float64), torch.empty(len(samples), 0, dtype=torch.long)
    size = max(min(PART, PART_NUMBERS // images[0].numel()), 1)
    for start in range(0, len(images), size):
        part = images[start : start + size].flatten(1)
        found = knn.nearest(samples.flatten(1), part, min(k, len(part)), "nearest training images")
        best, order = torch.cat([best, found[0]], 1).sort(stable=True)
        best, index = best[:, :k], torch.cat([index, start + found[1]], 1).gather(1, order[:, :k])
    return best, index
