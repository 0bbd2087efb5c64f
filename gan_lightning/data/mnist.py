"""MNIST (LeCun et al., 1998, https://doi.org/10.1109/5.726791)."""

from torch import Tensor
from torchvision import datasets

from gan_lightning.data.base import ImageData, downloaded

FILES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)


class MNIST(ImageData):
    """60,000 handwritten digits of 28 x 28 pixels, downloaded."""

    name, folder, dataset = "mnist", "MNIST", datasets.MNIST

    def __init__(self, root: str, image_size: int | list[int] = 28, channels: int = 1, **data: object) -> None:
        super().__init__(root, image_size, channels, **data)

    def fetch(self, train: bool = True) -> datasets.MNIST:
        """The files, downloaded where they are not there."""
        return self.dataset(self.root, train, download=True)

    def read(self, rows: slice) -> tuple[Tensor, Tensor, list[str]]:
        """The training set."""
        found = downloaded(self.name, self.root, f"{self.folder}/raw", FILES, self.fetch)
        return found.data[rows, None], found.targets[rows], [name.partition(" - ")[0] for name in found.classes]

    def test(self) -> tuple[Tensor, Tensor, list[str]]:
        """The 10,000 test digits."""
        found = self.fetch(train=False)
        return found.data[:, None], found.targets, []
