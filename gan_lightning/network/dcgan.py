"""Convolutional networks of DCGAN (Radford et al., 2016, section 3, https://arxiv.org/abs/1511.06434).

The number of levels depends on the image size: height and width are halved until the coarsest feature map is about
4 x 4, so 64 x 64 has the paper's four levels. Channels double with every level, from ``width`` up to 8 * ``width``.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

from torch import Tensor, nn

from gan_lightning.config.constraints import Fraction, NonNegativeInt, Norm, PositiveFloat, PositiveInt
from gan_lightning.config.image_size import num_downsamplings
from gan_lightning.network.layers import (
    Discriminator,
    Generator,
    Head,
    LabelChannel,
    LabelEmbedding,
    apply_spectral_norm,
    init_normal_,
    normalisation,
)


class DCGANGenerator(Generator):
    """Generator of images in [-1, 1]: transposed convolutions, normalisation, ReLU, tanh at the output.

    Args:
        latent_dim: Size of a latent.
        shape: Shape of an image, (C, H, W).
        width: Channels of the finest hidden feature map; 64 in the paper's 64 x 64 networks.
        num_classes: Number of classes, whose embedding is concatenated to z; 0 ignores labels.
        embed_dim: Size of the embedding.
        norm: "batch", "layer" or "none", before each activation.
        upsample: "conv_transpose" for transposed convolutions, or "nearest" for nearest-neighbour upsampling and a
            3 x 3 convolution, which avoids checkerboard artefacts (Odena et al., 2016,
            https://distill.pub/2016/deconv-checkerboard/).
        init_std: Standard deviation of the normal initialisation of weights; None is torch's initialisation.
    """

    needs_images = True
    needs_halved_sides = True
    provides_convolutional_networks = True

    def __init__(
        self,
        latent_dim: PositiveInt,
        shape: Sequence[int],
        width: PositiveInt = 64,
        num_classes: NonNegativeInt = 0,
        embed_dim: PositiveInt = 32,
        norm: Norm = "batch",
        upsample: Literal["conv_transpose", "nearest"] = "conv_transpose",
        init_std: PositiveFloat | None = 0.02,
    ) -> None:
        super().__init__()
        channels, height, base_width = shape
        levels = num_downsamplings(height, base_width)
        self.num_classes = num_classes
        self.label = LabelEmbedding(num_classes, embed_dim)
        widths = [width * min(2**level, 8) for level in reversed(range(levels))]
        base = height >> levels, base_width >> levels
        bias = norm == "none"
        self.project = nn.Sequential(
            nn.ConvTranspose2d(latent_dim + self.label.features, widths[0], base, bias=bias),
            normalisation(norm, widths[0]),
            nn.ReLU(),
        )
        layers: list[nn.Module] = []
        for a, b in pairwise(widths):
            layers += [*upsampling_layers(upsample, a, b, bias), normalisation(norm, b), nn.ReLU()]
        self.net = nn.Sequential(*layers, *upsampling_layers(upsample, widths[-1], channels, bias=True), nn.Tanh())
        init_normal_(self, init_std)

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        """Map latents (N, latent_dim) and labels (N,) to images (N, C, H, W)."""
        return self.net(self.project(self.label(z, y)[:, :, None, None]))


def upsampling_layers(upsample: str, a: int, b: int, bias: bool) -> list[nn.Module]:
    """Return layers that map ``a`` to ``b`` channels and double the resolution."""
    if upsample == "conv_transpose":
        return [nn.ConvTranspose2d(a, b, 4, 2, 1, bias=bias)]
    return [nn.Upsample(scale_factor=2, mode="nearest"), nn.Conv2d(a, b, 3, 1, 1, bias=bias)]


class DCGANDiscriminator(Discriminator):
    """Discriminator of images: strided convolutions, normalisation except in the first layer, LeakyReLU.

    Args:
        shape: Shape of an image, (C, H, W).
        width: Channels of the finest hidden feature map.
        num_classes: Number of classes, which are concatenated to x as a label channel; 0 ignores labels.
        norm: "batch", "layer" or "none", before each activation except the first.
        dropout: Dropout probability after every hidden layer.
        spectral_norm: Apply spectral normalisation to every layer.
        init_std: Standard deviation of the normal initialisation of weights; None is torch's initialisation.
    """

    needs_images = True
    needs_halved_sides = True
    provides_convolutional_networks = True

    def __init__(
        self,
        shape: Sequence[int],
        width: PositiveInt = 64,
        num_classes: NonNegativeInt = 0,
        norm: Norm = "batch",
        dropout: Fraction = 0.0,
        spectral_norm: bool = False,
        init_std: PositiveFloat | None = 0.02,
    ) -> None:
        super().__init__()
        channels, height, base_width = shape
        levels = num_downsamplings(height, base_width)
        self.num_classes = num_classes
        self.label = LabelChannel(num_classes, height, base_width)
        widths = [width * min(2**level, 8) for level in range(levels)]
        drop = [nn.Dropout(dropout)] * (dropout > 0)
        layers = [nn.Conv2d(channels + self.label.channels, width, 4, 2, 1), nn.LeakyReLU(0.2), *drop]
        for a, b in pairwise(widths):
            layers += [nn.Conv2d(a, b, 4, 2, 1, bias=norm == "none"), normalisation(norm, b), nn.LeakyReLU(0.2), *drop]
        self.net = nn.Sequential(*layers, nn.Flatten())
        self.feature_dim = widths[-1] * (height >> levels) * (base_width >> levels)
        self.head = Head(self.feature_dim, 1)  # the paper flattens the last map into a single output
        init_normal_(self, init_std)
        if spectral_norm:
            apply_spectral_norm(self)

    def features(self, x: Tensor, y: Tensor) -> Tensor:
        """Map images (N, C, H, W) and labels (N,) to features (N, feature_dim)."""
        return self.net(self.label(x, y))
