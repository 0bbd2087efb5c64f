"""MNIST (LeCun et al., 1998, https://doi.org/10.1109/5.726791)."""

from functools import partial
from typing import Any

from torch import Tensor
from torchvision import datasets

from gan_lightning.config.constraints import Channels, ImageSize
from gan_lightning.data.datamodule import ImageData, download_or_explain, find_data_root
from gan_lightning.data.validate import check_samples

FILES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)


class MNIST(ImageData):
    """60,000 handwritten digits, gray, 28 x 28, downloaded."""

    name, folder, dataset = "mnist", "MNIST", datasets.MNIST

    def __init__(self, root: str, image_size: ImageSize = 28, channels: Channels = 1, **data: Any) -> None:
        super().__init__(root, image_size, channels, **data)

    @property
    def source(self) -> str:
        """Name of the data set in messages, with the directory of its files."""
        return f"data={self.name} ({self.root / self.folder / 'raw'})"

    def fetch(self, train: bool = True) -> datasets.MNIST:
        """Read the files with torchvision, which downloads them if they are missing."""
        return self.dataset(self.root, train, download=True)

    def read_split(self, train: bool) -> tuple[Tensor, Tensor, list[str]]:
        """Return all images of a split, their labels and the class names; validated before ``limit`` is applied.

        Raises:
            UserError: The files are missing, damaged, or of different data sets.
        """
        subfolder = f"{self.folder}/raw"
        self.root = find_data_root(self.root, subfolder, FILES[0])
        found = download_or_explain(self.name, self.root, subfolder, FILES, partial(self.fetch, train))
        names = [name.partition(" - ")[0] for name in found.classes]
        files = " and ".join(name.removesuffix(".gz") for name in (FILES[:2] if train else FILES[2:]))
        return check_samples(f"{self.source}, {files}", (found.data[:, None], found.targets, names), True)

    def read(self, rows: slice) -> tuple[Tensor, Tensor, list[str]]:
        """Return the training set."""
        images, labels, names = self.read_split(train=True)
        return images[rows], labels[rows], names

    def test(self) -> tuple[Tensor, Tensor, list[str]]:
        """Return the 10,000 images of the test set."""
        return self.read_split(train=False)
