"""Multilayer perceptrons for images and points."""

from collections.abc import Sequence
from itertools import pairwise
from math import prod
from typing import Annotated

from annotated_types import Interval
from torch import Tensor, nn

from gan_lightning.config.constraints import Fraction, NonNegativeInt, Norm, PositiveFloat, PositiveInt
from gan_lightning.network.layers import (
    Discriminator,
    Generator,
    Head,
    LabelEmbedding,
    apply_spectral_norm,
    init_normal_,
)


def normalisation(norm: Norm, width: int) -> list[nn.Module]:
    """Return normalisation layers of vectors by name; "layer" normalises over the units of a sample."""
    layers: dict[str, list[nn.Module]] = {"none": [], "batch": [nn.BatchNorm1d(width)], "layer": [nn.LayerNorm(width)]}
    return layers[norm]


class MLPGenerator(Generator):
    """Generator with ReLU layers; the output has tanh for images and no activation for points.

    Args:
        latent_dim: Size of a latent.
        shape: Shape of a sample, (C, H, W) or (2,).
        width: Units in each hidden layer.
        depth: Number of hidden layers.
        num_classes: Number of classes, whose embedding is concatenated to z; 0 ignores labels.
        embed_dim: Size of the embedding.
        norm: "none", "batch" or "layer", before each activation.
        init_std: Standard deviation of the normal initialisation of weights; None is torch's initialisation.
    """

    provides_convolutional_networks = False

    def __init__(
        self,
        latent_dim: PositiveInt,
        shape: Sequence[int],
        width: PositiveInt = 256,
        depth: Annotated[int, Interval(ge=1, le=1000)] = 3,
        num_classes: NonNegativeInt = 0,
        embed_dim: PositiveInt = 32,
        norm: Norm = "none",
        init_std: PositiveFloat | None = None,
    ) -> None:
        super().__init__()
        self.num_classes, self.shape = num_classes, tuple(shape)
        self.label = LabelEmbedding(num_classes, embed_dim)
        sizes = [latent_dim + self.label.features, *[width] * depth]
        layers = [part for a, b in pairwise(sizes) for part in (nn.Linear(a, b), *normalisation(norm, b), nn.ReLU())]
        self.net = nn.Sequential(*layers, nn.Linear(width, prod(shape)))
        self.output = nn.Tanh() if len(shape) == 3 else nn.Identity()
        init_normal_(self, init_std)

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        """Map latents (N, latent_dim) and labels (N,) to samples (N, *shape)."""
        return self.output(self.net(self.label(z, y))).unflatten(1, self.shape)


class MLPDiscriminator(Discriminator):
    """Discriminator with LeakyReLU layers.

    Args:
        shape: Shape of a sample, (C, H, W) or (2,).
        width: Units in each hidden layer.
        depth: Number of hidden layers.
        num_classes: Number of classes, whose embedding is concatenated to x; 0 ignores labels.
        embed_dim: Size of the embedding.
        norm: "none", "batch" or "layer", before each activation except the first.
        dropout: Dropout probability of hidden units.
        spectral_norm: Apply spectral normalisation to every layer.
        init_std: Standard deviation of the normal initialisation of weights; None is torch's initialisation.
    """

    provides_convolutional_networks = False

    def __init__(
        self,
        shape: Sequence[int],
        width: PositiveInt = 256,
        depth: Annotated[int, Interval(ge=1, le=1000)] = 3,
        num_classes: NonNegativeInt = 0,
        embed_dim: PositiveInt = 32,
        norm: Norm = "none",
        dropout: Fraction = 0.0,
        spectral_norm: bool = False,
        init_std: PositiveFloat | None = None,
    ) -> None:
        super().__init__()
        self.num_classes, self.feature_dim = num_classes, width
        self.label = LabelEmbedding(num_classes, embed_dim)
        sizes = [prod(shape) + self.label.features, *[width] * depth]
        drop = [nn.Dropout(dropout)] * (dropout > 0)
        layers: list[nn.Module] = []
        for i, (a, b) in enumerate(pairwise(sizes)):
            layers += [nn.Linear(a, b), *(normalisation(norm, b) if i else []), nn.LeakyReLU(0.2), *drop]
        self.net = nn.Sequential(*layers)
        self.head = Head(width, 1)
        init_normal_(self, init_std)
        if spectral_norm:
            apply_spectral_norm(self)

    def features(self, x: Tensor, y: Tensor) -> Tensor:
        """Map samples (N, *shape) and labels (N,) to features (N, feature_dim)."""
        return self.net(self.label(x.flatten(1), y))
