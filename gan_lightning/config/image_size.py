"""Image sizes, and the number of times that convolutional networks can halve them."""

from collections.abc import Sequence


def to_height_width(image_size: int | Sequence[int]) -> tuple[int, int]:
    """Return height and width of an ``image_size`` that is one number or ``[height, width]``."""
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    return height, width


def num_downsamplings(height: int, width: int) -> int:
    """Return how often height and width can be halved to a coarsest feature map of at least 4 x 4.

    The result is 3 for 32 (32 -> 16 -> 8 -> 4) and 2 for 28 (28 -> 14 -> 7).

    Raises:
        ValueError: The size cannot be halved twice (once if a side is below 16 pixels), as the networks require.
    """
    count = 0
    while height % 2 == width % 2 == 0 and min(height, width) >= 8:
        height, width, count = height // 2, width // 2, count + 1
    if count == 0 or (count == 1 and min(height, width) >= 8):
        raise ValueError("both sides must be multiples of 4, from 8 on: 28, 32, 48, 64, 128, [96, 64]")
    return count
