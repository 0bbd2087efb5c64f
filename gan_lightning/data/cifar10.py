"""CIFAR-10 (Krizhevsky, 2009, https://www.cs.toronto.edu/~kriz/cifar.html)."""

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torchvision import datasets

from gan_lightning.config.constraints import Channels, ImageSize
from gan_lightning.data.datamodule import ImageData, download_or_explain, find_data_root
from gan_lightning.data.validate import check_samples

FOLDER = "cifar-10-batches-py"
FILES = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta")


class CIFAR10(ImageData):
    """50,000 colour images of ten classes of vehicles and animals, 32 x 32, downloaded."""

    def __init__(self, root: str, image_size: ImageSize = 32, channels: Channels = 3, **data: Any) -> None:
        super().__init__(root, image_size, channels, **data)

    @property
    def source(self) -> str:
        """Name of the data set in messages, with the directory of its files."""
        return f"data=cifar10 ({self.root / FOLDER})"

    def read(self, rows: slice) -> tuple[Tensor, Tensor, list[str]]:
        """Return the training set."""
        images, labels, names = self.read_split(train=True)
        return images[rows].contiguous(), labels[rows], names

    def test(self) -> tuple[Tensor, Tensor, list[str]]:
        """Return the 10,000 images of the test set."""
        images, labels, names = self.read_split(train=False)
        return images.contiguous(), labels, names

    def read_split(self, train: bool) -> tuple[Tensor, Tensor, list[str]]:
        """Return all images of a split, their labels and the class names; validated before ``limit`` is applied.

        Raises:
            UserError: The files are missing, damaged, or of different data sets.
        """
        self.root = find_data_root(self.root, FOLDER, FILES[0])
        fetch = partial(datasets.CIFAR10, self.root, train, download=True)
        found = download_or_explain("cifar10", self.root, FOLDER, FILES, fetch)
        images = torch.from_numpy(found.data).permute(0, 3, 1, 2)
        files = "data_batch_1 to data_batch_5" if train else "test_batch"
        return check_samples(f"{self.source}, {files}", (images, found.targets, found.classes), True)
