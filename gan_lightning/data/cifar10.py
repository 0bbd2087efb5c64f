"""CIFAR-10 (Krizhevsky, 2009, https://www.cs.toronto.edu/~kriz/cifar.html)."""

from functools import partial

import torch
from torch import Tensor
from torchvision import datasets

from gan_lightning.data.base import ImageData, downloaded

FILES = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta")


class CIFAR10(ImageData):
    """50,000 things and animals of 32 x 32 pixels in colour, downloaded."""

    def __init__(self, root: str, image_size: int | list[int] = 32, channels: int = 3, **data: object) -> None:
        super().__init__(root, image_size, channels, **data)

    def read(self, rows: slice) -> tuple[Tensor, Tensor, list[str]]:
        """The training set."""
        return self.fetch(True, rows)

    def test(self) -> tuple[Tensor, Tensor, list[str]]:
        """The 10,000 test pictures."""
        return self.fetch(False, slice(None))

    def fetch(self, train: bool, rows: slice) -> tuple[Tensor, Tensor, list[str]]:
        """One of the two sets, downloaded where it is not there."""
        fetch = partial(datasets.CIFAR10, self.root, train, download=True)
        found = downloaded("cifar10", self.root, "cifar-10-batches-py", FILES, fetch)
        pictures = torch.from_numpy(found.data[rows]).permute(0, 3, 1, 2).contiguous()
        return pictures, torch.tensor(found.targets)[rows], found.classes
