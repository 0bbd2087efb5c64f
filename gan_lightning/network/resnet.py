"""Residual networks of WGAN-GP's CIFAR-10 experiment (Gulrajani et al., 2017, appendix F).

https://arxiv.org/abs/1704.00028. The paper's networks are for 32 x 32. For other sizes the generator has one block for
each doubling of the resolution; the critic has one for each halving, down to twice the size of the coarsest feature
map, and two more at that resolution.
"""

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from gan_lightning.config.constraints import Fraction, NonNegativeInt, Norm, PositiveFloat, PositiveInt
from gan_lightning.config.image_size import num_downsamplings
from gan_lightning.network.layers import (
    ConditionalBatchNorm2d,
    Discriminator,
    Generator,
    Head,
    LabelChannel,
    LabelEmbedding,
    MeanPooledConv2d,
    UpsampledConv2d,
    apply_spectral_norm,
    init_normal_,
    normalisation,
)


class UpBlock(nn.Module):
    """Residual block of (conditional) BatchNorm, ReLU, upsampling and two convolutions.

    Unlike in the authors' code the convolutions have no bias, since the BatchNorm after each of them would remove it.
    """

    def __init__(self, a: int, b: int, num_classes: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = ConditionalBatchNorm2d(a, num_classes), ConditionalBatchNorm2d(b, num_classes)
        self.conv1 = UpsampledConv2d(a, b, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(b, b, 3, padding=1, bias=False)
        self.shortcut = UpsampledConv2d(a, b, 1, bias=False)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Map (N, a, H, W) and labels (N,) to (N, b, 2H, 2W)."""
        h = self.conv1(self.relu(self.norm1(x, y)))
        h = self.conv2(self.relu(self.norm2(h, y)))
        return h + self.shortcut(x)


class DownBlock(nn.Module):
    """Residual block of two convolutions with normalisation and ReLU before each, and optional mean pooling.

    Args:
        a: Input channels.
        b: Output channels.
        norm: Name of the normalisation.
        down: Halve the resolution by mean pooling.
        first: Whether this is the first block, which has no normalisation and no activation before its first
            convolution, since its input is the image.
    """

    def __init__(self, a: int, b: int, norm: Norm, down: bool, first: bool = False) -> None:
        super().__init__()
        before = nn.Identity() if first else nn.Sequential(normalisation(norm, a), nn.ReLU())
        convolution = MeanPooledConv2d if down else nn.Conv2d
        self.residual = nn.Sequential(
            before,
            nn.Conv2d(a, b, 3, padding=1),
            normalisation("none" if first else norm, b),
            nn.ReLU(),
            convolution(b, b, 3, padding=1),
        )
        self.shortcut = nn.Sequential(nn.Identity(), convolution(a, b, 1)) if a != b or down else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, a, H, W) to (N, b, H, W), or to (N, b, H/2, W/2) with ``down``."""
        return self.residual(x) + self.shortcut(x)


class ResNetGenerator(Generator):
    """Residual generator of images in [-1, 1].

    Args:
        latent_dim: Size of a latent.
        shape: Shape of an image, (C, H, W).
        width: Channels of every hidden feature map; 128 in the paper.
        num_classes: Number of classes for conditional BatchNorm; 0 ignores labels.
        init_std: Standard deviation of the normal initialisation of weights; None is He's initialisation, as in the
            paper's code.
    """

    needs_images = True
    needs_halved_sides = True
    provides_convolutional_networks = True

    def __init__(
        self,
        latent_dim: PositiveInt,
        shape: Sequence[int],
        width: PositiveInt = 128,
        num_classes: NonNegativeInt = 0,
        init_std: PositiveFloat | None = None,
    ) -> None:
        super().__init__()
        channels, height, base_width = shape
        levels = num_downsamplings(height, base_width)
        self.num_classes = num_classes
        self.base = width, height >> levels, base_width >> levels
        self.project = nn.Linear(latent_dim, width * self.base[1] * self.base[2])
        self.blocks = nn.ModuleList(UpBlock(width, width, num_classes) for _ in range(levels))
        self.output = nn.Sequential(
            nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, channels, 3, padding=1), nn.Tanh()
        )
        init_weights_(self, init_std)

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        """Map latents (N, latent_dim) and labels (N,) to images (N, C, H, W)."""
        x = self.project(z).unflatten(1, self.base)
        for block in self.blocks:
            x = block(x, y)
        return self.output(x)


class ResNetDiscriminator(Discriminator):
    """Residual discriminator of images.

    Args:
        shape: Shape of an image, (C, H, W).
        width: Channels of every hidden feature map; 128 in the paper.
        num_classes: Number of classes; 0 ignores labels.
        conditioning: "concat" concatenates a label channel to x; "projection" adds the inner product of the features
            with an embedding of the class (Miyato & Koyama, 2018, https://arxiv.org/abs/1802.05637).
        norm: "none", "layer" or "batch".
        dropout: Dropout probability after each residual block.
        spectral_norm: Apply spectral normalisation to every layer.
        init_std: Standard deviation of the normal initialisation of weights; None is He's initialisation.
    """

    needs_images = True
    needs_halved_sides = True
    provides_convolutional_networks = True

    def __init__(
        self,
        shape: Sequence[int],
        width: PositiveInt = 128,
        num_classes: NonNegativeInt = 0,
        conditioning: Literal["concat", "projection"] = "concat",
        norm: Norm = "none",
        dropout: Fraction = 0.0,
        spectral_norm: bool = False,
        init_std: PositiveFloat | None = None,
    ) -> None:
        super().__init__()
        channels, height, base_width = shape
        self.num_classes, self.feature_dim = num_classes, width
        projected = num_classes if conditioning == "projection" else 0
        self.label = LabelChannel(num_classes - projected, height, base_width)
        self.projection = LabelEmbedding(projected, width)
        downs = max(num_downsamplings(height, base_width) - 1, 1)
        blocks = [DownBlock(channels + self.label.channels, width, norm, down=True, first=True)]
        blocks += [DownBlock(width, width, norm, down=True) for _ in range(downs - 1)]
        blocks += [DownBlock(width, width, norm, down=False) for _ in range(2)]
        if dropout:
            blocks = [part for block in blocks for part in (block, nn.Dropout(dropout))]
        self.net = nn.Sequential(*blocks, normalisation(norm, width), nn.ReLU())
        self.head = Head(width, 1)
        init_weights_(self, init_std)
        if spectral_norm:
            apply_spectral_norm(self)

    def features(self, x: Tensor, y: Tensor) -> Tensor:
        """Map images (N, C, H, W) and labels (N,) to features (N, feature_dim)."""
        return self.net(self.label(x, y)).mean(dim=(2, 3))

    def logits(self, features: Tensor, y: Tensor) -> Tensor:
        """Map features (N, feature_dim) and labels (N,) to logits (N,)."""
        logits = super().logits(features, y)
        if self.projection.features:
            logits = logits + (self.projection.embedding(y) * features).sum(dim=1)
        return logits


def init_weights_(network: nn.Module, init_std: float | None) -> None:
    """Initialise weights as He et al. (2015, https://arxiv.org/abs/1502.01852), or from N(0, init_std^2)."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu" if module.weight[0, 0].numel() > 1 else "linear")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    init_normal_(network, init_std)
