"""CIFAR-10 (Krizhevsky, 2009, https://www.cs.toronto.edu/~kriz/cifar.html)."""

from typing import Any

from torchvision import datasets

from gan_lightning.config.constraints import Channels, ImageSize
from gan_lightning.data.downloaded import Downloaded


class CIFAR10(Downloaded):
    """50,000 colour images of ten classes of vehicles and animals, 32 x 32, downloaded; the test set has 10,000."""

    name, folder, dataset = "cifar10", "cifar-10-batches-py", datasets.CIFAR10
    train_files = tuple(f"data_batch_{i}" for i in range(1, 6))
    test_files = "test_batch", "batches.meta"

    def __init__(self, root: str, image_size: ImageSize = 32, channels: Channels = 3, **data: Any) -> None:
        super().__init__(root, image_size, channels, **data)
