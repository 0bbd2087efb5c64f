"""Layers that the networks share, and what is done to a whole network: its start, spectral normalisation."""

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from gan_lightning.config.constraints import Norm, Validated


class Generator(Validated, nn.Module):
    """Base class of generators: what they need of other parts and provide."""

    needs_class_aware_discriminator: ClassVar = {"num_classes": 10}
    provides_class_aware_generator: ClassVar = {"num_classes": 10}
    needs_several_samples: ClassVar = {"norm": ("batch",)}
    effective_with: ClassVar[dict[str, Any]] = {"embed_dim": {"num_classes": 10}}


class Discriminator(Validated, nn.Module):
    """Base class of discriminators: what they need of other parts and provide."""

    needs_class_aware_generator: ClassVar = {"num_classes": 10}
    needs_class_aware_discriminator: ClassVar = {"conditioning": ("projection",)}
    provides_class_aware_discriminator: ClassVar = {"num_classes": 10}
    needs_several_samples: ClassVar = {"norm": ("batch",)}
    provides_per_sample_gradients: ClassVar = {"norm": ("none", "layer")}
    provides_lipschitz_critic: ClassVar = {"spectral_norm": (True,)}
    provides_unnormalized_weights: ClassVar = {"spectral_norm": (False,)}
    effective_with: ClassVar[dict[str, Any]] = {"embed_dim": {"num_classes": 10}}


def normalisation(norm: Norm, channels: int) -> nn.Module:
    """A normalisation of feature maps by name; "layer" is over all of a sample's channels and pixels."""
    return {"none": nn.Identity, "batch": lambda: nn.BatchNorm2d(channels), "layer": lambda: nn.GroupNorm(1, channels)}[
        norm
    ]()


class ConditionalBatchNorm2d(nn.Module):
    """BatchNorm whose scale and shift depend on the class (Dumoulin et al., 2017, https://arxiv.org/abs/1610.07629)."""

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=num_classes == 0)
        if num_classes:
            self.scale = nn.Embedding.from_pretrained(torch.ones(num_classes, channels), freeze=False)
            self.shift = nn.Embedding.from_pretrained(torch.zeros(num_classes, channels), freeze=False)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """(N, C, H, W) and labels (N,) to (N, C, H, W)."""
        x = self.norm(x)
        if not hasattr(self, "scale"):
            return x
        return self.scale(y)[:, :, None, None] * x + self.shift(y)[:, :, None, None]


def single_precision(x: Tensor) -> Tensor:
    """Return a tensor in float32, or unchanged where its type is at least as precise.

    Losses are means of logits. Half precision has 8 or 11 significant bits, so the mean of logits near 100 would have
    steps of 0.5 or 0.06, and the difference of two means no correct digit.
    """
    return x.to(torch.promote_types(x.dtype, torch.float32))


class Head(nn.Linear):
    """The last linear layer of a discriminator or an encoder, in single precision or better also under autocast.

    In half precision a logit near 100 would be rounded to a multiple of 0.5 (bfloat16) or 0.06 (float16), which no cast
    after the layer could undo. Its arithmetic is a negligible part of a network's.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(N, a) to (N, b)."""
        with torch.autocast(x.device.type, enabled=False):
            weight = single_precision(self.weight)
            return F.linear(x.to(weight), weight, None if self.bias is None else self.bias.to(weight))


class MeanPooledConv2d(nn.Conv2d):
    """A convolution and the mean over 2 x 2 after it, as one convolution of stride 2.

    Its kernel is the mean of the four that the shifts within 2 x 2 make, so it has 16 taps at every fourth place
    instead of 9 at each: the same function in less than half of the arithmetic (Karras et al., 2018, in their code,
    https://arxiv.org/abs/1710.10196).
    """

    def forward(self, x: Tensor) -> Tensor:
        """(N, a, H, W) to (N, b, H/2, W/2)."""
        return F.conv2d(x, shifted(self.weight, 4), self.bias, stride=2, padding=self.padding)


class UpsampledConv2d(nn.Conv2d):
    """Nearest-neighbour upsampling and a convolution after it, as one transposed convolution of stride 2."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, a, H, W) to (N, b, 2H, 2W)."""
        weight = shifted(self.weight.flip(2, 3)).transpose(0, 1)
        return F.conv_transpose2d(x, weight, self.bias, stride=2, padding=self.padding)


def shifted(weight: Tensor, divisor: int = 1) -> Tensor:
    """Kernels (b, a, K, K) as the sum (b, a, K + 1, K + 1) of the four shifts by 0 or 1 both ways, divided."""
    return F.avg_pool2d(weight, 2, stride=1, padding=1) * (4 / divisor)  # ONNX has no divisor_override


class LabelMap(nn.Module):
    """Joins a label to a picture as one more channel, a learned map a class; without classes a picture stays as it is.

    Args:
        num_classes: Number of classes; 0 for none.
        height: Height of the pictures.
        width: Width of the pictures.
    """

    def __init__(self, num_classes: int, height: int, width: int) -> None:
        super().__init__()
        self.channels, self.size = int(num_classes > 0), (1, height, width)
        if num_classes:
            self.embedding = nn.Embedding(num_classes, height * width)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C + channels, H, W)."""
        return torch.cat([x, self.embedding(y).unflatten(1, self.size)], dim=1) if self.channels else x


class LabelVector(nn.Module):
    """Joins a label to a vector as further entries, learned for each class; without classes it stays as it is.

    The entries start with the length of a one-hot vector, about one. Were each of them as large as an entry of z, the
    generator would see little but the label at first, and come to ignore z: all samples of a class the same.
    """

    def __init__(self, num_classes: int, embed_dim: int) -> None:
        super().__init__()
        self.features = embed_dim if num_classes else 0
        if num_classes:
            self.embedding = nn.Embedding(num_classes, embed_dim)
            nn.init.normal_(self.embedding.weight, std=embed_dim**-0.5)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """(N, F) to (N, F + features)."""
        return torch.cat([x, self.embedding(y)], dim=1) if self.features else x


def start_from_normal(network: nn.Module, std: float | None) -> None:
    """Draw weights from N(0, std^2), those of BatchNorm from N(1, std^2), as DCGAN does; None leaves torch's own start.

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


def normalise_spectrum(network: nn.Module) -> None:
    """Divide every weight matrix by its largest singular value (Miyato et al., 2018, https://arxiv.org/abs/1802.05957).

    Call it after the weights have their start: from then on they are computed.
    """
    for module in [*network.modules()]:
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            spectral_norm(module)
