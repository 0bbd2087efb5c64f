"""The residual pair of WGAN-GP's CIFAR-10 experiment (Gulrajani et al., 2017, appendix F).

https://arxiv.org/abs/1704.00028. The paper's networks are for 32 x 32; for other sizes the generator has one block a
doubling, the critic one a halving down to twice the coarsest map, then two at that resolution.
"""

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from gan_lightning.config.constraints import Fraction, NonNegativeInt, Norm, PositiveFloat, PositiveInt
from gan_lightning.geometry import halvings
from gan_lightning.network.layers import (
    ConditionalBatchNorm2d,
    Discriminator,
    Generator,
    Head,
    LabelMap,
    LabelVector,
    MeanPooledConv2d,
    UpsampledConv2d,
    normalisation,
    normalise_spectrum,
    start_from_normal,
)


class UpBlock(nn.Module):
    """(Conditional) BatchNorm, ReLU, upsampling and two convolutions, beside a shortcut.

    Unlike in the authors' code convolutions have no bias, which the BatchNorm that follows each would take away.
    """

    def __init__(self, a: int, b: int, num_classes: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = ConditionalBatchNorm2d(a, num_classes), ConditionalBatchNorm2d(b, num_classes)
        self.conv1 = UpsampledConv2d(a, b, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(b, b, 3, padding=1, bias=False)
        self.shortcut = UpsampledConv2d(a, b, 1, bias=False)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """(N, a, H, W) to (N, b, 2H, 2W)."""
        h = self.conv1(self.relu(self.norm1(x, y)))
        h = self.conv2(self.relu(self.norm2(h, y)))
        return h + self.shortcut(x)


class DownBlock(nn.Module):
    """Two convolutions with normalisation and ReLU before each, mean pooling if asked for, beside a shortcut.

    Args:
        a: Input channels.
        b: Output channels.
        norm: Name of the normalisation.
        down: Halve both sides.
        first: The block that reads the picture, which has no activation before its first convolution.
    """

    def __init__(self, a: int, b: int, norm: str, down: bool, first: bool = False) -> None:
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
        """(N, a, H, W) to (N, b, H, W), or half of that."""
        return self.residual(x) + self.shortcut(x)


class ResNetGenerator(Generator):
    """Latents to pictures in [-1, 1].

    Args:
        latent_dim: Size of a latent.
        shape: Shape of a picture, (C, H, W).
        width: Channels of every hidden map; 128 in the paper.
        num_classes: Classes that choose BatchNorm's scale and shift; 0 ignores labels.
        init_std: Weights start from N(0, init_std^2); None is He's start, as in the paper's code.
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
        levels = halvings(height, base_width)
        self.num_classes = num_classes
        self.base = width, height >> levels, base_width >> levels
        self.project = nn.Linear(latent_dim, width * self.base[1] * self.base[2])
        self.blocks = nn.ModuleList(UpBlock(width, width, num_classes) for _ in range(levels))
        self.output = nn.Sequential(
            nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, channels, 3, padding=1), nn.Tanh()
        )
        start(self, init_std)

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        """(N, latent_dim) and labels (N,) to (N, C, H, W)."""
        x = self.project(z).unflatten(1, self.base)
        for block in self.blocks:
            x = block(x, y)
        return self.output(x)


class ResNetDiscriminator(Discriminator):
    """Pictures to logits.

    Args:
        shape: Shape of a picture, (C, H, W).
        width: Channels of every hidden map; 128 in the paper.
        num_classes: Classes the discriminator is told; 0 ignores labels.
        conditioning: "concat" joins the label to x as one more channel; "projection" adds the inner product of the
            features with a vector learned for the class (Miyato & Koyama, 2018, https://arxiv.org/abs/1802.05637).
        norm: "none", "layer" or "batch".
        dropout: Share of each residual block's outputs that is dropped in training.
        spectral_norm: Bound every layer's largest singular value by one.
        init_std: Weights start from N(0, init_std^2); None is He's start.
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
        self.label = LabelMap(num_classes - projected, height, base_width)
        self.projection = LabelVector(projected, width)
        downs = max(halvings(height, base_width) - 1, 1)
        blocks = [DownBlock(channels + self.label.channels, width, norm, down=True, first=True)]
        blocks += [DownBlock(width, width, norm, down=True) for _ in range(downs - 1)]
        blocks += [DownBlock(width, width, norm, down=False) for _ in range(2)]
        if dropout:
            blocks = [part for block in blocks for part in (block, nn.Dropout(dropout))]
        self.net = nn.Sequential(*blocks, normalisation(norm, width), nn.ReLU())
        self.head = Head(width, 1)
        start(self, init_std)
        if spectral_norm:
            normalise_spectrum(self)

    def features(self, x: Tensor, y: Tensor) -> Tensor:
        """(N, C, H, W) and labels (N,) to (N, feature_dim)."""
        return self.net(self.label(x, y)).mean(dim=(2, 3))

    def logits(self, features: Tensor, y: Tensor) -> Tensor:
        """(N, feature_dim) and labels (N,) to (N,)."""
        logits = self.head(features).squeeze(1)
        if self.projection.features:
            logits = logits + (self.projection.embedding(y) * features).sum(dim=1)
        return logits

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """(N, C, H, W) and labels (N,) to logits (N,)."""
        return self.logits(self.features(x, y), y)


def start(network: nn.Module, init_std: float | None) -> None:
    """He's start (He et al., 2015, https://arxiv.org/abs/1502.01852), or N(0, init_std^2)."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu" if module.weight[0, 0].numel() > 1 else "linear")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    start_from_normal(network, init_std)
