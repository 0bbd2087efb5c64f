"""Fashion-MNIST (Xiao et al., 2017, https://arxiv.org/abs/1708.07747)."""

from torchvision import datasets

from gan_lightning.data.mnist import MNIST


class FashionMNIST(MNIST):
    """60,000 gray images of clothing, 28 x 28, downloaded; the file format is MNIST's."""

    name, folder, dataset = "fashion_mnist", "FashionMNIST/raw", datasets.FashionMNIST
