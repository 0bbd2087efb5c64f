"""Layers and base classes that the networks share; initialisation and spectral normalisation of whole networks."""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from gan_lightning.config.constraints import Norm, Validated


class Generator(Validated, nn.Module):
    """Base class of generators, with declarations for :mod:`gan_lightning.config.combinations`."""

    needs_class_aware_discriminator: ClassVar = {"num_classes": 10}
    provides_class_aware_generator: ClassVar = {"num_classes": 10}
    needs_several_samples: ClassVar = {"norm": ("batch",)}
    effective_with: ClassVar[dict[str, Any]] = {"embed_dim": {"num_classes": 10}}


class Discriminator(Validated, nn.Module):
    """Base class of discriminators, with declarations for :mod:`gan_lightning.config.combinations`."""

    head: nn.Module  # maps features (N, feature_dim) to logits (N, 1)

    needs_class_aware_generator: ClassVar = {"num_classes": 10}
    needs_class_aware_discriminator: ClassVar = {"conditioning": ("projection",)}
    provides_class_aware_discriminator: ClassVar = {"num_classes": 10}
    needs_several_samples: ClassVar = {"norm": ("batch",)}
    provides_per_sample_gradients: ClassVar = {"norm": ("none", "layer")}
    provides_lipschitz_critic: ClassVar = {"spectral_norm": (True,)}
    provides_unnormalized_weights: ClassVar = {"spectral_norm": (False,)}
    effective_with: ClassVar[dict[str, Any]] = {"embed_dim": {"num_classes": 10}}

    @abstractmethod
    def features(self, x: Tensor, y: Tensor) -> Tensor:
        """Map samples (N, ...) and labels (N,) to features (N, feature_dim)."""

    def logits(self, features: Tensor, y: Tensor) -> Tensor:
        """Map features (N, feature_dim) and labels (N,) to logits (N,)."""
        return self.head(features).squeeze(1)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Map samples (N, ...) and labels (N,) to logits (N,)."""
        return self.logits(self.features(x, y), y)


def normalisation(norm: Norm, channels: int) -> nn.Module:
    """Return a normalisation layer of feature maps by name; "layer" normalises over a sample's channels and pixels."""
    layers: dict[str, Callable[[], nn.Module]] = {
        "none": nn.Identity,
        "batch": lambda: nn.BatchNorm2d(channels),
        "layer": lambda: nn.GroupNorm(1, channels),
    }
    return layers[norm]()


class ConditionalBatchNorm2d(nn.Module):
    """BatchNorm whose scale and shift depend on the class (Dumoulin et al., 2017, https://arxiv.org/abs/1610.07629)."""

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=num_classes == 0)
        if num_classes:
            self.scale = nn.Embedding.from_pretrained(torch.ones(num_classes, channels), freeze=False)
            self.shift = nn.Embedding.from_pretrained(torch.zeros(num_classes, channels), freeze=False)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Map (N, C, H, W) and labels (N,) to (N, C, H, W)."""
        x = self.norm(x)
        if not hasattr(self, "scale"):
            return x
        return self.scale(y)[:, :, None, None] * x + self.shift(y)[:, :, None, None]


def single_precision(x: Tensor) -> Tensor:
    """Convert a tensor to float32; float32 and float64 are returned unchanged.

    Losses are means of logits. Half precision has 8 (bfloat16) or 11 (float16) significant bits, so the mean of logits
    near 100 would have a resolution of 0.5 or 0.06, and the difference of two means would have no correct digit.
    """
    return x.to(torch.promote_types(x.dtype, torch.float32))


class Head(nn.Linear):
    """Last linear layer of a discriminator or an encoder, computed in float32 or float64 even under autocast.

    In half precision a logit near 100 would be rounded to a multiple of 0.5 (bfloat16) or 0.06 (float16), which no cast
    after the layer could undo. The layer takes a negligible part of a network's computation.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, a) to (N, b)."""
        with torch.autocast(x.device.type, enabled=False):
            weight = single_precision(self.weight)
            return F.linear(x.to(weight), weight, None if self.bias is None else self.bias.to(weight))


class MeanPooledConv2d(nn.Conv2d):
    """A convolution followed by 2 x 2 mean pooling, computed as one convolution of stride 2.

    The kernel is the mean of the four kernels shifted by 0 or 1 in each direction. So 16 multiplications at every
    fourth position replace 9 at every position: the same function with less than half of the computation (Karras et
    al., 2018, in their code, https://arxiv.org/abs/1710.10196).
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, a, H, W) to (N, b, H/2, W/2)."""
        return F.conv2d(x, sum_of_shifts(self.weight, 4), self.bias, stride=2, padding=self.padding)


class UpsampledConv2d(nn.Conv2d):
    """Nearest-neighbour upsampling followed by a convolution, computed as one transposed convolution of stride 2."""

    padding: tuple[int, ...]

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, a, H, W) to (N, b, 2H, 2W)."""
        weight = sum_of_shifts(self.weight.flip(2, 3)).transpose(0, 1)
        return F.conv_transpose2d(x, weight, self.bias, stride=2, padding=self.padding)


def sum_of_shifts(weight: Tensor, divisor: int = 1) -> Tensor:
    """Sum kernels (b, a, K, K) shifted by 0 or 1 in both directions, as (b, a, K + 1, K + 1), and divide."""
    return F.avg_pool2d(weight, 2, stride=1, padding=1) * (4 / divisor)  # instead of divisor_override, which ONNX lacks


class LabelChannel(nn.Module):
    """Concatenates a label to images as one more channel, learned for each class; the identity without classes.

    Args:
        num_classes: Number of classes; 0 for none.
        height: Height of the images.
        width: Width of the images.
    """

    def __init__(self, num_classes: int, height: int, width: int) -> None:
        super().__init__()
        self.channels, self.size = int(num_classes > 0), (1, height, width)
        if num_classes:
            self.embedding = nn.Embedding(num_classes, height * width)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Map images (N, C, H, W) and labels (N,) to (N, C + channels, H, W)."""
        return torch.cat([x, self.embedding(y).unflatten(1, self.size)], dim=1) if self.channels else x


class LabelEmbedding(nn.Module):
    """Concatenates a learned embedding of the label to vectors; the identity without classes.

    Embeddings are initialised with a norm of about one, as a one-hot vector has. With entries as large as those of z
    the label would dominate the generator's input, and the generator would learn to ignore z: all samples of a class
    would be equal.
    """

    def __init__(self, num_classes: int, embed_dim: int) -> None:
        super().__init__()
        self.features = embed_dim if num_classes else 0
        if num_classes:
            self.embedding = nn.Embedding(num_classes, embed_dim)
            nn.init.normal_(self.embedding.weight, std=embed_dim**-0.5)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Map vectors (N, F) and labels (N,) to (N, F + features)."""
        return torch.cat([x, self.embedding(y)], dim=1) if self.features else x


def init_normal_(network: nn.Module, std: float | None) -> None:
    """Initialise weights from N(0, std^2), BatchNorm's from N(1, std^2), as DCGAN does; None changes nothing.

    Radford et al., 2016, section 4; BatchNorm as in the authors' code.
    """
    if std is None:
        return
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.normal_(module.weight, 0.0, std)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d) and module.affine:
            nn.init.normal_(module.weight, 1.0, std)
            nn.init.zeros_(module.bias)


def apply_spectral_norm(network: nn.Module) -> None:
    """Apply spectral normalisation to every layer (Miyato et al., 2018, https://arxiv.org/abs/1802.05957).

    It divides a weight matrix by its largest singular value. Call it after initialisation: afterwards the weights are
    computed from other parameters.
    """
    for module in [*network.modules()]:
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            spectral_norm(module)
