"""The student: a small convolutional network. Its features are projected means and standard deviations of its stages.

``Student`` is trained with BatchNorm. ``fused`` returns the network that is stored: convolutions and one linear layer.
"""

import copy
import json
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import safetensors.torch
import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from gan_lightning.io.files import atomic_write
from gan_lightning.io.image import from_uint8, with_channels

WIDTHS, DEPTHS = (32, 64, 128, 128), (1, 2, 2, 1)
BATCH = 250


class Student(nn.Module):
    """Maps images (N, 3, side, side) in [-1, 1] to features (N, dim).

    The first convolution has kernels of 4 x 4 pixels and a stride of 2, which keep the finest detail in its channels.
    Each stage is a convolution with a stride of 2, and residual ones that keep the size. The mean and the
    standard deviation of each channel of each stage are normalised and projected to the features.

    Args:
        side: Side of the input in pixels.
        dim: Number of features.
        widths: Channels of the stages.
        depths: Residual convolutions of the stages.
    """

    def __init__(
        self, side: int = 64, dim: int = 192, widths: Sequence[int] = WIDTHS, depths: Sequence[int] = DEPTHS
    ) -> None:
        super().__init__()
        self.settings = {"side": side, "dim": dim, "widths": [*widths], "depths": [*depths]}
        self.side = side
        stages, channels = [], 3
        for number, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            first = Block(channels, width, 3 if number else 4, 2)
            stages.append(nn.Sequential(first, *(Block(width, width, 3, 1) for _ in range(depth))))
            channels = width
        self.stages = nn.ModuleList(stages)
        self.norm: nn.Module = nn.BatchNorm1d(2 * sum(widths), affine=False)
        self.head = nn.Linear(2 * sum(widths), dim)
        self.to(memory_format=torch.channels_last)

    def pooled(self, images: Tensor) -> Tensor:
        """Return the normalised means and standard deviations (N, 2 * sum(widths)) of all stages."""
        found = []
        for stage in self.stages:
            images = stage(images)
            mean = images.mean((2, 3))
            variance = (images.square().mean((2, 3)) - mean.square()).clamp(min=0)
            found += [mean, (variance + 1e-5).sqrt()]
        return self.norm(torch.cat(found, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Return features (N, dim)."""
        return self.head(self.pooled(images))

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """Return features (N, dim) of uint8 images (N, 1 or 3, H, W), in evaluation mode."""
        return torch.cat([self(to_input(batch, self.side)) for batch in images.split(BATCH)])


class Block(nn.Module):
    """Convolution, BatchNorm and ReLU, added to the input if the stride is 1."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=1, bias=False)
        self.norm: nn.Module = nn.BatchNorm2d(outputs)
        self.residual = stride == 1

    def forward(self, images: Tensor) -> Tensor:
        """Return feature maps (N, outputs, H, W), of half the size with a stride of 2."""
        found = F.relu(self.norm(self.conv(images)))
        return images + found if self.residual else found


def to_input(images: Tensor, side: int) -> Tensor:
    """Convert uint8 images (N, 1 or 3, H, W) to (N, 3, side, side) in [-1, 1], bilinear with antialiasing."""
    values = from_uint8(with_channels(images, 3)).contiguous(memory_format=torch.channels_last)
    if values.shape[-2:] == (side, side):
        return values
    return F.interpolate(values, (side, side), mode="bilinear", antialias=True)


def fused(student: Student) -> Student:
    """Return a copy in evaluation mode, whose BatchNorm layers are part of the convolutions and the linear layer."""
    network = copy.deepcopy(student).eval().requires_grad_(False)
    for block in network.modules():
        if isinstance(block, Block):
            block.conv, block.norm = fuse_conv_bn_eval(block.conv, block.norm), nn.Identity()
    norm, head = network.norm, network.head
    if isinstance(norm, nn.BatchNorm1d):
        scale = (norm.running_var + norm.eps).rsqrt()
        head.bias.copy_(head.bias - head.weight @ (scale * norm.running_mean))
        head.weight.mul_(scale)
        network.norm = nn.Identity()
    return network.to(memory_format=torch.channels_last)


def save_student(path: Path, network: Student, **description: Any) -> None:
    """Write a fused network as safetensors in float16, with its settings."""
    tensors = {name: value.half().contiguous() for name, value in network.state_dict().items()}
    metadata = {"settings": json.dumps(network.settings), "description": json.dumps(description)}
    with atomic_write(path) as file:
        file.write(safetensors.torch.save(tensors, metadata))


def load_student(path: Path) -> Student:
    """Read a network that :func:`save_student` wrote, in float32 and evaluation mode."""
    with safe_open(path, "pt") as file:
        settings = json.loads(file.metadata()["settings"])
    network = fused(Student(**settings))
    network.load_state_dict(safetensors.torch.load_file(path))
    return network


def images_per_second(network: Student, side: int = 32, seconds: float = 5) -> float:
    """Return the rate at which uint8 images of a side are resized and read, the median over batches."""
    images = torch.randint(256, (BATCH, 3, side, side), dtype=torch.uint8)
    network.features(images)
    times, start = [], time.perf_counter()
    while time.perf_counter() - start < seconds or len(times) < 3:
        since = time.perf_counter()
        network.features(images)
        times.append(time.perf_counter() - since)
    return BATCH / median(times)


def projection(features: Tensor, dim: int, whitening: float) -> tuple[Tensor, Tensor, Tensor]:
    """Fit a principal component projection to features (N, D), in float64.

    Args:
        features: Features of the teacher.
        dim: Number of components, those of the largest variance.
        whitening: Power of its standard deviation by which a component is divided: 0 for none, 1 for unit variance.

    Returns:
        The mean (D,), a matrix (D, dim) by which centred features are multiplied, and the factors (dim,) that turn the
        products back into components. The products have a mean square of 1 over all components.
    """
    features = features.double()
    mean = features.mean(0)
    covariance = (features - mean).T @ (features - mean) / (len(features) - 1)
    variance, vectors = torch.linalg.eigh(covariance)
    variance, vectors = variance.flip(0)[:dim].clamp(min=1e-12), vectors.flip(1)[:, :dim]
    # The sign of an eigenvector is arbitrary; the largest entry is made positive.
    vectors = vectors * vectors.gather(0, vectors.abs().argmax(0, keepdim=True)).sign()
    scale = variance.sqrt() ** -whitening
    scale = scale / (variance * scale.square()).mean().sqrt()
    return mean, vectors * scale, 1 / scale


def project(features: Tensor, mean: Tensor, matrix: Tensor) -> Tensor:
    """Return the projection (N, dim) of features (N, D), in float32."""
    return ((features.double() - mean) @ matrix).float()
