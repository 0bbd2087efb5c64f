"""Sizes of pictures, and how often a convolutional network can halve them."""

from collections.abc import Sequence


def sides(image_size: int | Sequence[int]) -> tuple[int, int]:
    """Height and width of ``image_size``, a side or ``[height, width]``."""
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    return height, width


def halvings(height: int, width: int) -> int:
    """How often both sides halve down to a coarsest map of at least 4 x 4 pixels.

    32 -> 16 -> 8 -> 4 are three, 28 -> 14 -> 7 two.

    Raises:
        ValueError: The sides do not halve twice (once below 16 pixels), so no network is made for them.
    """
    count = 0
    while height % 2 == width % 2 == 0 and min(height, width) >= 8:
        height, width, count = height // 2, width // 2, count + 1
    if count == 0 or (count == 1 and min(height, width) >= 8):
        raise ValueError("both sides must be multiples of 4, from 8 on: 28, 32, 48, 64, 128, [96, 64]")
    return count
