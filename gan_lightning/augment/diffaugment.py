"""DiffAugment: Differentiable Augmentation for Data-Efficient GAN Training (Zhao et al., 2020).

https://arxiv.org/abs/2006.10738; ranges as in the authors' code, for images in [-1, 1]. Each operation is a function of
images (N, C, H, W) and of one random number per image, and supports double backward, which gradient penalties need.
"""

from collections.abc import Callable, Sequence
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from annotated_types import MinLen
from torch import Tensor, nn

from gan_lightning.config.constraints import Probability, Validated
from gan_lightning.schedule import Cosine, Schedule

Policy = Annotated[Sequence[Literal["color", "translation", "cutout"]], MinLen(1)]

NUM_OPERATIONS = 5  # brightness, saturation, contrast, translation, cutout
NUM_UNIFORMS = NUM_OPERATIONS + 7  # per image: whether each operation is applied, and their parameters


class DiffAugment(Validated, nn.Module):
    """Brightness, saturation and contrast (``color``), translation by up to an eighth, and cutout of half a side.

    Each operation is applied to each image with the same probability, independently of the others; with probability 1
    this is DiffAugment as published.

    Args:
        policy: The operations.
        probability: Probability of each operation.
        initial_probability: Probability at the first step, from which it changes to ``probability`` at the last step by
            a cosine schedule, as R3GAN does (Huang et al., 2024, appendix D); None for a constant.

    Attributes:
        schedules: Schedules of attributes, by name; the model applies them.
    """

    needs_images = True

    def __init__(
        self,
        policy: Policy = ("color", "translation", "cutout"),
        probability: Probability = 1.0,
        initial_probability: Probability | None = None,
    ) -> None:
        super().__init__()
        self.policy, self.probability = tuple(policy), probability
        self.schedules: dict[str, Schedule] = {}
        if initial_probability is not None:
            self.schedules["probability"] = Cosine(initial_probability, probability)

    def forward(self, x: Tensor, draw: Callable[..., Tensor]) -> Tensor:
        """Augment images (N, C, H, W); see :class:`~gan_lightning.augment.Augmentation`."""
        return self.apply_policy(x, draw, self.current_probability())

    def preview(self, x: Tensor, draw: Callable[..., Tensor]) -> Tensor:
        """Return images with every operation of the policy applied."""
        return self.apply_policy(x, draw, 1.0)

    def apply_policy(self, x: Tensor, draw: Callable[..., Tensor], probability: float | Tensor) -> Tensor:
        """Apply each operation of the policy to each image with a probability."""
        uniforms = draw(torch.rand, len(x), NUM_UNIFORMS)
        applied = uniforms[:, :NUM_OPERATIONS] < probability
        brighter, saturated, contrasted, moved, cut = applied.unbind(1)
        b, s, c, *positions = uniforms[:, NUM_OPERATIONS:].unbind(1)
        if "color" in self.policy:
            x = brightness(x, torch.where(brighter, b - 0.5, 0.0))
            x = saturation(x, torch.where(saturated, 2 * s, 1.0))
            x = contrast(x, torch.where(contrasted, c + 0.5, 1.0))
        if "translation" in self.policy:
            limits = x.shape[2] // 8, x.shape[3] // 8
            shifts = [integers(u, 2 * limit + 1) - limit for u, limit in zip(positions[:2], limits, strict=True)]
            x = translate(x, *(torch.where(moved, shift, 0) for shift in shifts))
        if "cutout" in self.policy:
            # Centres at both edges, so that a rectangle of even sides is as often cut off at the end as at the start.
            counts = [side + 1 - side // 2 % 2 for side in x.shape[2:]]
            row, column = (integers(u, count) for u, count in zip(positions[2:], counts, strict=True))
            x = cutout(x, row, column, cut)
        return x

    def current_probability(self) -> float | Tensor:
        """Return the probability of each operation in this step."""
        return self.probability


def brightness(x: Tensor, offset: Tensor) -> Tensor:
    """Return x + u with offsets u (N,), which DiffAugment draws from U(-0.5, 0.5)."""
    return x + per_image(offset)


def saturation(x: Tensor, factor: Tensor) -> Tensor:
    """Return (x - m) s + m with the mean m over the channels and factors s (N,), drawn from U(0, 2)."""
    mean = x.mean(dim=1, keepdim=True)
    return (x - mean) * per_image(factor) + mean


def contrast(x: Tensor, factor: Tensor) -> Tensor:
    """Return (x - m) s + m with the mean m over the image and factors s (N,), drawn from U(0.5, 1.5)."""
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    return (x - mean) * per_image(factor) + mean


def translate(x: Tensor, down: Tensor, right: Tensor) -> Tensor:
    """Shift images by whole pixels (N,) with zero padding; shifts are at most an eighth of a side.

    Uses indexing, because ``grid_sample`` has no second derivative.
    """
    height, width = x.shape[2:]
    padding = height // 8, width // 8
    x = F.pad(x, (padding[1], padding[1], padding[0], padding[0]))
    rows = torch.arange(height, device=x.device) + padding[0] - down[:, None]
    columns = torch.arange(width, device=x.device) + padding[1] - right[:, None]
    images = torch.arange(len(x), device=x.device)
    return x.permute(0, 2, 3, 1)[images[:, None, None], rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def cutout(x: Tensor, row: Tensor, column: Tensor, applied: Tensor) -> Tensor:
    """Set a rectangle of half the height and half the width around (row, column) to 0, in images where ``applied``.

    ``row``, ``column`` and ``applied`` have the shape (N,). The rectangle may extend beyond the image.
    """
    rows, columns = (half_around(centre, side) for centre, side in ((row, x.shape[2]), (column, x.shape[3])))
    return x * ~(rows[:, None, :, None] & columns[:, None, None, :] & per_image(applied))


def half_around(centre: Tensor, side: int) -> Tensor:
    """Return which of ``side`` positions are in the interval of half that length around each centre (N,)."""
    offset = torch.arange(side, device=centre.device) - centre[:, None] + side // 4
    return (offset >= 0) & (offset < side // 2)


def integers(uniform: Tensor, count: int) -> Tensor:
    """Map random numbers in [0, 1) to integers in [0, count) of equal probability."""
    return (uniform * count).long().clamp(max=count - 1)


def per_image(values: Tensor) -> Tensor:
    """Reshape values (N,) to (N, 1, 1, 1)."""
    return values[:, None, None, None]
