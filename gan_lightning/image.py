"""Pictures: uint8 to [-1, 1] and back, sizes, grids and PNG files."""

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

from gan_lightning.class_names import CAPTION, caption, drawable, font, shortened
from gan_lightning.files import whole

# Marks every image that is written, so that it is not taken for data of a later run. It stands in the first bytes, as
# text of the PNG's keyword Software or as a GIF's comment, so a folder of thousands is searched quickly.
MARK, MARK_WITHIN, MARKED_SUFFIXES = "gan-lightning", 2048, (".png", ".gif")
PADDING = 2  # of a grid
LUMA = 0.299, 0.587, 0.114  # ITU-R BT.601, as Pillow makes gray


def from_uint8(images: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Uint8 in 0 to 255 to floats in [-1, 1]."""
    return images.to(dtype).mul_(1 / 127.5).sub_(1)


def to_uint8(images: Tensor) -> Tensor:
    """[-1, 1] to uint8, rounded to the nearest level and clipped; the inverse of :func:`from_uint8`."""
    return images.float().add(1).mul_(127.5).round_().clamp_(0, 255).to(torch.uint8)


def resize(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Uint8 (N, C, H, W) to (N, C, *size), bicubic with antialiasing; untouched where the size is right."""
    if tuple(images.shape[-2:]) == size:
        return images
    chunks = [F.interpolate(chunk, size, mode="bicubic", antialias=True) for chunk in images.split(1024)]
    return torch.cat(chunks)


def with_channels(pictures: Tensor, channels: int) -> Tensor:
    """Uint8 (N, 1 or 3, H, W) as gray (1) or colour (3)."""
    if pictures.shape[1] == channels:
        return pictures
    if channels == 3:
        return pictures.expand(-1, 3, -1, -1)
    weights = torch.tensor(LUMA)[:, None, None]
    return torch.cat([(chunk * weights).sum(1, keepdim=True).round().byte() for chunk in pictures.split(1024)])


def grid(images: Tensor, columns: int) -> Tensor:
    """Pictures (N, C, H, W) in [-1, 1] as one uint8 picture (3, H', W'), row by row."""
    return make_grid(to_uint8(images).cpu(), nrow=columns, padding=PADDING, pad_value=255)


def captioned(images: Tensor, columns: int, captions: Sequence[str]) -> Tensor:
    """Pictures (N, C, H, W) as :func:`grid` makes them, with a caption at the left of each row."""
    picture, height = grid(images, columns), images.shape[-2] + PADDING
    rows = [picture[:, top : top + height] for top in range(0, picture.shape[1] - PADDING, height)]
    rows[-1] = picture[:, (len(rows) - 1) * height :]
    return strip(rows, captions)


def class_rows(
    images: Tensor, labels: Sequence[int], names: Sequence[str], columns: int
) -> tuple[Tensor, int, list[str]]:
    """Arrange images by class: images, columns and captions for :func:`captioned`, in which a row has one class.

    Where each class has one image alone, a row has several, which its caption names.

    Args:
        images: Images (N, C, H, W) in [-1, 1].
        labels: Their classes.
        names: Names of all classes; empty where they are unknown.
        columns: Images in a row at most.
    """
    members: dict[int, list[int]] = {}
    for i, label in enumerate(labels):
        members.setdefault(label, []).append(i)
    rows = [of[i : i + columns] for of in members.values() for i in range(0, len(of), columns)]
    if len(rows) == len(labels):
        rows = [[*range(start, min(start + columns, len(labels)))] for start in range(0, len(labels), columns)]
    width = max(map(len, rows))
    white = torch.ones_like(images[:1])
    filled = [torch.cat([images[row], white.expand(width - len(row), -1, -1, -1)]) for row in rows]
    named = [", ".join(dict.fromkeys(caption(names, labels[i]) for i in row)) for row in rows]
    return torch.cat(filled), width, [shortened(text, 2 * CAPTION) for text in named]


def write_png(path: Path, picture: Tensor, sync: bool = True) -> None:
    """Write uint8 (3, H, W) as PNG, whole or not at all; ``sync`` as of :func:`~gan_lightning.files.whole`."""
    with whole(path, sync=sync) as file:
        file.write(png(picture))


def png(picture: Tensor) -> bytes:
    """Uint8 (3, H, W) as the content of a PNG."""
    content, text = io.BytesIO(), PngInfo()
    text.add_text("Software", MARK)
    Image.fromarray(picture.permute(1, 2, 0).numpy()).save(content, format="png", pnginfo=text)
    return content.getvalue()


def is_generated(path: Path) -> bool:
    """Return whether this package wrote a PNG or GIF, by its mark.

    Raises:
        OSError: The file cannot be read.
    """
    with path.open("rb") as file:
        start = file.read(MARK_WITHIN)
    return f"Software\0{MARK}".encode() in start or f"Software: {MARK}".encode() in start


def data_url(content: bytes, kind: str = "png") -> str:
    """A picture's file in a place where a page wants a URL."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def strip(pictures: Sequence[Tensor], captions: Sequence[str]) -> Tensor:
    """Uint8 pictures (3, H, W) one below the other, each with its caption at the left, as one (3, H', W')."""
    captions = [*map(drawable, captions)]
    font = font_for("".join(captions))
    margin = 8 + max(max(7 * len(text), round(font.getlength(text))) for text in captions)
    height, width = sum(p.shape[1] for p in pictures), margin + max(p.shape[2] for p in pictures)
    canvas = Image.new("RGB", (width, height), "white")
    draw, top = ImageDraw.Draw(canvas), 0
    for picture, text in zip(pictures, captions, strict=True):
        canvas.paste(Image.fromarray(picture.permute(1, 2, 0).numpy()), (margin, top))
        draw.text((4, top + picture.shape[1] // 2 - 6), text, fill="black", font=font)
        top += picture.shape[1]
    return torch.from_numpy(np.array(canvas)).permute(2, 0, 1)


def font_for(text: str) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return Pillow's font, or matplotlib's for characters outside ASCII; :func:`drawable` replaces what that lacks."""
    return ImageFont.load_default() if text.isascii() else ImageFont.truetype(font().fname, 10)


def read_png(path: Path) -> Tensor:
    """A PNG as uint8 (3, H, W)."""
    with Image.open(path) as image:
        return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)
