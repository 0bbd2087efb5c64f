"""Image functions: conversion between uint8 and [-1, 1], resizing, grids with captions, PNG files."""

import base64
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo
from torch import Tensor
from torchvision.utils import make_grid

from gan_lightning.io.class_names import CAPTION_LENGTH, caption, font, replace_undrawable, truncate_text
from gan_lightning.io.files import atomic_write

# Mark in every image that is written, so that a later run does not use it as data. It is in the first bytes, as the
# PNG text "Software" or as a GIF comment, so that searching a directory of thousands of images is fast.
MARK, MARK_WITHIN, MARKED_SUFFIXES = "gan-lightning", 2048, (".png", ".gif")
PADDING = 2  # pixels between the images of a grid
SHEET_PIXELS = 900  # of the longer side of a sheet, approximately: legible on a slide
TITLE_HEIGHT = 24  # pixels
LUMA = 0.299, 0.587, 0.114  # ITU-R BT.601, as in Pillow's conversion to gray


def from_uint8(images: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Convert uint8 in 0 to 255 to floats in [-1, 1]."""
    return images.to(dtype).mul_(1 / 127.5).sub_(1)


def to_uint8(images: Tensor) -> Tensor:
    """Convert [-1, 1] to uint8, rounded and clipped; the inverse of :func:`from_uint8`."""
    return images.float().add(1).mul_(127.5).round_().clamp_(0, 255).to(torch.uint8)


def resize(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize uint8 images (N, C, H, W) to (N, C, *size), bicubic with antialiasing, unless they have that size."""
    if tuple(images.shape[-2:]) == size:
        return images
    chunks = [F.interpolate(chunk, size, mode="bicubic", antialias=True) for chunk in images.split(1024)]
    return torch.cat(chunks)


def with_channels(images: Tensor, channels: int) -> Tensor:
    """Convert uint8 images (N, 1 or 3, H, W) to gray (1 channel) or colour (3 channels)."""
    if images.shape[1] == channels:
        return images
    if channels == 3:
        return images.expand(-1, 3, -1, -1)
    weights = torch.tensor(LUMA)[:, None, None]
    return torch.cat([(chunk * weights).sum(1, keepdim=True).round().byte() for chunk in images.split(1024)])


def grid(images: Tensor, columns: int) -> Tensor:
    """Arrange images (N, C, H, W) in [-1, 1] row by row in one uint8 image (3, H', W')."""
    return make_grid(to_uint8(images).cpu(), nrow=columns, padding=PADDING, pad_value=255)


def enlarge(image: Tensor, scale: int) -> Tensor:
    """Enlarge a uint8 image (3, H, W) by an integer, without interpolation."""
    return image.repeat_interleave(scale, 1).repeat_interleave(scale, 2) if scale > 1 else image


def fitting_scale(height: int, width: int, pixels: int = SHEET_PIXELS) -> int:
    """Return the integer by which an image is enlarged, so that its longer side has about this number of pixels."""
    return max(1, round(pixels / max(height, width)))


def contact_sheet(image: Tensor, captions: Sequence[str] = (), scale: int | None = None) -> Tensor:
    """Enlarge a grid, and write a caption at the left of each of its rows, whose text is not enlarged.

    Args:
        image: A grid (3, H, W) by :func:`grid`.
        captions: Caption of each row; empty for none.
        scale: Factor; None for a longer side of about ``SHEET_PIXELS``.
    """
    factor = scale or fitting_scale(*image.shape[1:])
    if not captions:
        return enlarge(image, factor)
    height = (image.shape[1] - PADDING) // len(captions)
    rows = [*image[:, : height * (len(captions) - 1)].split(height, 1), image[:, height * (len(captions) - 1) :]]
    return strip([enlarge(row, factor) for row in rows if row.shape[1]], captions)


def class_rows(
    images: Tensor, labels: Sequence[int], names: Sequence[str], columns: int
) -> tuple[Tensor, int, list[str]]:
    """Sort images into rows of one class: return images, columns and captions for :func:`contact_sheet`.

    If each class has a single image, a row has several classes, which its caption lists.

    Args:
        images: Images (N, C, H, W) in [-1, 1].
        labels: Their classes (N,).
        names: Names of all classes; empty if they are unknown.
        columns: Maximum number of images in a row.
    """
    members: dict[int, list[int]] = {}
    for i, label in enumerate(labels):
        members.setdefault(label, []).append(i)
    rows = [group[i : i + columns] for group in members.values() for i in range(0, len(group), columns)]
    if len(rows) == len(labels):
        rows = [[*range(start, min(start + columns, len(labels)))] for start in range(0, len(labels), columns)]
    width = max(map(len, rows))
    white = torch.ones_like(images[:1])
    padded = [torch.cat([images[row], white.expand(width - len(row), -1, -1, -1)]) for row in rows]
    captions = [", ".join(dict.fromkeys(caption(names, labels[i]) for i in row)) for row in rows]
    return torch.cat(padded), width, [truncate_text(text, 2 * CAPTION_LENGTH) for text in captions]


def write_png(path: Path, image: Tensor, sync: bool = True) -> None:
    """Write a uint8 image (3, H, W) as PNG, atomically; ``sync``: see :func:`~gan_lightning.io.files.atomic_write`."""
    with atomic_write(path, sync=sync) as file:
        file.write(png(image))


def png(image: Tensor) -> bytes:
    """Encode a uint8 image (3, H, W) as PNG."""
    content, text = io.BytesIO(), PngInfo()
    text.add_text("Software", MARK)
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(content, format="png", pnginfo=text)
    return content.getvalue()


def has_mark(start: bytes) -> bool:
    """Return whether this package wrote a PNG or GIF, by the mark in its first ``MARK_WITHIN`` bytes."""
    return f"Software\0{MARK}".encode() in start or f"Software: {MARK}".encode() in start


def data_url(content: bytes, kind: str = "png") -> str:
    """Return the content of an image file as a data URL."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def strip(images: Sequence[Tensor], captions: Sequence[str]) -> Tensor:
    """Stack uint8 images (3, H, W) vertically in one image (3, H', W'), with a caption at the left of each."""
    captions = [*map(replace_undrawable, captions)]
    is_ascii = "".join(captions).isascii()  # Pillow's font has no other characters
    typeface = ImageFont.load_default() if is_ascii else ImageFont.truetype(font().fname, 10)
    margin = 8 + max(max(7 * len(text), round(typeface.getlength(text))) for text in captions)
    height, width = sum(image.shape[1] for image in images), margin + max(image.shape[2] for image in images)
    canvas = Image.new("RGB", (width, height), "white")
    draw, top = ImageDraw.Draw(canvas), 0
    for image, text in zip(images, captions, strict=True):
        canvas.paste(Image.fromarray(image.permute(1, 2, 0).numpy()), (margin, top))
        draw.text((4, top + image.shape[1] // 2 - 6), text, fill="black", font=typeface)
        top += image.shape[1]
    return torch.from_numpy(np.array(canvas)).permute(2, 0, 1)


def animated_gif(frames: Sequence[Image.Image], durations: int | list[int]) -> bytes:
    """Encode frames of the same size as a looping GIF.

    Args:
        frames: The frames. Those of mode L keep their levels of gray; others get up to 256 colours each.
        durations: Milliseconds of all frames or of each, in steps of ten and at least 20, the least in browsers.
    """
    content = io.BytesIO()
    options = {"duration": durations, "loop": 0, "comment": f"Software: {MARK}"}
    frames[0].save(content, "GIF", save_all=True, append_images=frames[1:], **options)
    return content.getvalue()


def titled(image: Tensor, title: str) -> Tensor:
    """Write a title above a uint8 image (3, H, W)."""
    canvas = Image.new("RGB", (image.shape[2], TITLE_HEIGHT), "white")
    typeface = ImageFont.load_default(TITLE_HEIGHT - 8)
    ImageDraw.Draw(canvas).text((image.shape[2] // 2, TITLE_HEIGHT // 2), title, "black", typeface, anchor="mm")
    return torch.cat([torch.from_numpy(np.array(canvas)).permute(2, 0, 1), image], dim=1)


def read_png(path: Path) -> Tensor:
    """Read a PNG as a uint8 image (3, H, W)."""
    with Image.open(path) as image:
        return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)
