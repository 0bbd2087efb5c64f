"""MNIST (LeCun et al., 1998, https://doi.org/10.1109/5.726791)."""

from typing import Any

from torchvision import datasets

from gan_lightning.config.constraints import Channels, ImageSize
from gan_lightning.data.downloaded import Downloaded


class MNIST(Downloaded):
    """60,000 handwritten digits, gray, 28 x 28, downloaded; the test set has 10,000."""

    name, folder, dataset = "mnist", "MNIST/raw", datasets.MNIST
    train_files = "train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"
    test_files = "t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"

    def __init__(self, root: str, image_size: ImageSize = 28, channels: Channels = 1, **data: Any) -> None:
        super().__init__(root, image_size, channels, **data)
