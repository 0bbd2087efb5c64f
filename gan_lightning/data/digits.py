"""The handwritten digits of scikit-learn (Alpaydin & Kaynak, 1998, https://doi.org/10.24432/C50P49)."""

from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import Tensor

from gan_lightning.config.constraints import Channels, ImageSize
from gan_lightning.data.datamodule import ImageData


class Digits(ImageData):
    """1,797 digits of 8 x 8 pixels with 17 gray levels, upscaled to ``image_size``; nothing is downloaded."""

    def __init__(self, root: str = "data", image_size: ImageSize = 32, channels: Channels = 1, **data: Any) -> None:
        super().__init__(root, image_size, channels, **data)

    def read(self, rows: slice) -> tuple[Tensor, Tensor, list[str]]:
        """Return the digits as uint8, their labels and the class names."""
        digits = load_digits()
        images = torch.from_numpy(digits.images)[:, None].mul(255 / 16).round().byte()
        return images[rows], torch.from_numpy(digits.target)[rows], [str(name) for name in digits.target_names]
