"""CIFAR-10 (Krizhevsky, 2009, https://www.cs.toronto.edu/~kriz/cifar.html)."""

import torch
from torch import Tensor
from torchvision import datasets

from gan_lightning.data.base import ImageData, downloaded

FILES = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta")


class CIFAR10(ImageData):
    """50,000 things and animals of 32 x 32 pixels in colour, downloaded."""

    def __init__(self, root: str, image_size: int | list[int] = 32, channels: int = 3, **data: object) -> None:
        super().__init__(root, image_size, channels, **data)

    def read(self) -> tuple[Tensor, Tensor, list[str]]:
        """The training set."""
        folder = self.root / "cifar-10-batches-py"
        found = downloaded("cifar10", folder, FILES, lambda: datasets.CIFAR10(self.root, download=True))
        return torch.from_numpy(found.data).permute(0, 3, 1, 2).contiguous(), torch.tensor(found.targets), found.classes
