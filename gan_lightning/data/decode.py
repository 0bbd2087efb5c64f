"""Picture files of every kind to uint8 tensors of one size, several at a time."""

import logging
import math
import os
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import IO

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from gan_lightning.bar import bar
from gan_lightning.data.pages import Pages
from gan_lightning.data.validate import usual_levels
from gan_lightning.errors import printable
from gan_lightning.memory import refuse_too_large

log = logging.getLogger(__name__)

VERSION = 4  # of what is made of a file; to be raised when that changes, so that nothing older is used again
CHUNK, CHUNK_BYTES = 32, 2**24  # files that a thread takes at a time, fewer where what they become is large
AHEAD = 4  # chunks for each thread, in work or waiting to be read
WHITE = 65535  # of images with integers of more than 8 bits a pixel
DEPTHS = 8, 10, 12, 14, 16  # bits a pixel of the sensors that write such images
COARSE = 63  # of 255, which 14 bits of 16 reach
DRAFT = 3  # a large JPEG may be decoded at an eighth of its size if that is so many times what is wanted

Image.init()
# PostScript is a program and would be run; the others need software outside of Pillow.
FORMATS = tuple(name for name in Image.OPEN if name not in {"EPS", "WMF", "BUFR", "GRIB", "HDF5", "MPEG"})
SUFFIXES = {suffix for suffix, name in Image.registered_extensions().items() if name in FORMATS}


@dataclass
class Decoded:
    """What became of some files.

    Attributes:
        images: Pictures (n, C, H, W) as uint8, of those files that could be read.
        rows: Which files these are.
        broken: The reason for each of the others, by its row.
        sizes: How often each (width, height) was met, as a viewer shows it.
        modes: How often each of Pillow's modes was met.
        passing: Which of the others may be read another time.
        levels: Lowest and highest of the decoded values, outliers aside; (0, 0) without images.
        deep: How many images hold integers of more than 8 bits, in 0 to 65,535.
        dark: How many of these use less than a quarter of the range up to ``white``.
        white: The value that became 255 in these.
        stretched: How many hold floats or other integers, of which each was scaled by its own range.
        high_byte: The highest value of colour with 16 bits a channel, as Pillow keeps it; None without such images.
        pages: The file that ``images`` is a view of; None where they are in memory.
    """

    images: Tensor
    rows: list[int]
    broken: dict[int, str]
    sizes: Counter[tuple[int, int]]
    modes: Counter[str]
    passing: list[int]
    levels: tuple[int, int] = (0, 0)
    deep: int = 0
    dark: int = 0
    white: int = WHITE
    stretched: int = 0
    high_byte: int | None = None
    pages: Pages | None = None


@dataclass
class Picture:
    """One file: its pixels, or the reason why there are none, and whether that is the machine's and may pass.

    ``peak`` is the highest value of integers of more than 8 bits, where it is within 16 bits; ``stretched`` says that
    the image was scaled by its own range; ``high_byte`` is the highest value of 16-bit colour.
    """

    pixels: np.ndarray | None = None
    peak: int | None = None
    stretched: bool = False
    high_byte: int | None = None
    size: tuple[int, int] = (0, 0)
    mode: str = ""
    fault: str = ""
    passing: bool = False


def decode(paths: Sequence[Path], size: tuple[int, int], channels: int, white: int | None = None) -> Decoded:
    """Decode files into memory, crop their centre to the shape of ``size`` and scale it.

    Args:
        paths: The files.
        size: Height and width.
        channels: 1 for gray, 3 for colour.
        white: As in :func:`decode_to`.

    Raises:
        UserError: They do not fit into memory.
    """
    shape = len(paths), channels, *size
    refuse_too_large(f"data.image_size: {len(paths):,} such pictures", math.prod(shape), "a smaller one, or data.limit")
    images = torch.empty(shape, dtype=torch.uint8)

    def begin() -> Callable[[np.ndarray], object]:
        places = iter(images.numpy())
        return lambda pixels: np.copyto(next(places), pixels)

    decoded = decode_to(begin, paths, size, channels, white)
    count = len(decoded.rows)
    return replace(decoded, images=images if count == len(paths) else images[:count].clone())


def decode_to(
    begin: Callable[[], Callable[[np.ndarray], object]],
    paths: Sequence[Path],
    size: tuple[int, int],
    channels: int,
    white: int | None = None,
) -> Decoded:
    """Decode files and hand over the pixels (C, H, W) of each that could be read, in their order.

    Images with more than 8 bits a pixel do not say how many of them are used. That is decided once for all files, since
    they have to stay comparable, so files with 12 bits in 16 are read twice.

    Args:
        begin: Called at the start of a pass over the files; returns what takes the pixels.
        paths: The files.
        size: Height and width.
        channels: 1 for gray, 3 for colour.
        white: The value that becomes 255 in integers of more than 8 bits; None finds it.
    """
    decoded, peak = decode_pass(begin(), paths, size, channels, white or WHITE)
    if white is None and peak and white_of(peak) != WHITE:
        decoded, _ = decode_pass(begin(), paths, size, channels, white_of(peak))
    return decoded


def decode_pass(
    take: Callable[[np.ndarray], object], paths: Sequence[Path], size: tuple[int, int], channels: int, white: int
) -> tuple[Decoded, int]:
    """Decode files once; returns the highest value of integers of more than 8 bits as well."""
    decoded, peak = Decoded(torch.empty(0, dtype=torch.uint8), [], {}, Counter(), Counter(), [], white=white), 0
    lowest, highest, high_bytes = bytearray(), bytearray(), []
    for row, picture in enumerate(pictures(paths, size, channels, white)):
        if picture.pixels is None:
            decoded.broken[row] = picture.fault
            decoded.passing += [row] * picture.passing
            continue
        take(picture.pixels)
        decoded.rows.append(row)
        decoded.sizes[picture.size] += 1
        decoded.modes[picture.mode] += 1
        decoded.stretched += picture.stretched
        if picture.peak is not None:
            decoded.deep, peak = decoded.deep + 1, max(peak, picture.peak)
            decoded.dark += is_dark(picture.peak, white)
        if picture.high_byte is not None:
            high_bytes = [max([picture.high_byte, *high_bytes])]
        lowest.append(int(picture.pixels.min()))
        highest.append(int(picture.pixels.max()))
    return replace(decoded, levels=usual_levels(lowest, highest), high_byte=max(high_bytes, default=None)), peak


def white_of(peak: int) -> int:
    """The highest value of the smallest bit depth that holds ``peak``."""
    return next(2**bits - 1 for bits in DEPTHS if peak < 2**bits)


def is_dark(peak: int, white: int) -> bool:
    """Return whether an image that is not black uses less than a quarter of the range from 0 to ``white``."""
    return 0 < peak < (white + 1) // 4


def warn_of_depth(source: str, deep: int, dark: int, white: int, stretched: int, high_byte: int | None) -> None:
    """Log a warning where the range of values was found in the files, and not given by their format.

    Args:
        source: The data set as messages name it.
        deep: Number of images with integers of more than 8 bits.
        dark: Number of these that use less than a quarter of the range up to ``white``.
        white: What became 255 in these.
        stretched: Number of images that were scaled by their own range.
        high_byte: The highest value of colour with 16 bits a channel, of which Pillow keeps the high byte.
    """
    if deep and white != WHITE:
        log.warning(
            f"{source}: {deep:,} images in a format of 16 or 32 bits a pixel use {white.bit_length()} of them, so "
            f"{white:,} becomes white; if white is another value, scale the files to 0 to {WHITE:,}, or save them with "
            "8 bits"
        )
    if 2 * dark > deep:
        log.warning(
            f"{source}: {dark:,} of {deep:,} images with more than 8 bits a pixel use less than a quarter of 0 to "
            f"{white:,}, which the brightest image needs, and become dark; remove images of another range and hot "
            "pixels, or scale the files"
        )
    if stretched:
        log.warning(
            f"{source}: {stretched:,} images hold floats, negative values or values above {WHITE:,}; each is scaled by "
            "its own range, so their brightness is not comparable; save them with 8 or 16 bits a pixel to keep it"
        )
    if high_byte is not None and high_byte <= COARSE:
        log.warning(
            f"{source}: 16-bit colour is read by its high byte and reaches only {high_byte} of 255; save it with "
            "8 bits a channel"
        )


def pictures(paths: Sequence[Path], size: tuple[int, int], channels: int, white: int) -> Iterator[Picture]:
    """Each file decoded, in their order, by as many threads as there are cores.

    Pillow lets go of the interpreter while it decodes and scales, so threads are enough. They are never more than a few
    chunks ahead of who reads.
    """
    step = max(1, min(CHUNK, CHUNK_BYTES // (channels * math.prod(size))))
    starts = iter(range(0, len(paths), step))
    cores = os.cpu_count() or 1
    # Filters of warnings belong to the process and not to a thread, so they are set here for all threads.
    with (
        warnings.catch_warnings(),
        ThreadPoolExecutor(cores) as pool,
        bar(what="reading pictures", total=len(paths), unit="") as progress,
    ):
        warnings.simplefilter("ignore")

        def begin(most: int) -> Iterator[Future[list[Picture]]]:
            for start in islice(starts, most):
                yield pool.submit(decode_chunk, paths[start : start + step], size, channels, white)

        waiting = deque(begin(AHEAD * cores))
        while waiting:
            found = waiting.popleft().result()
            waiting.extend(begin(1))
            yield from found
            progress.update(len(found))


def decode_chunk(paths: Sequence[Path], size: tuple[int, int], channels: int, white: int) -> list[Picture]:
    """Decode some files, one after the other."""
    return [decode_one(path, size, channels, white) for path in paths]


def decode_one(path: Path | IO[bytes], size: tuple[int, int], channels: int, white: int = WHITE) -> Picture:
    """Decode a file; whatever is wrong with it is a fault of the picture."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            if image.width * image.height > Image.MAX_IMAGE_PIXELS:
                raise Image.DecompressionBombError
            mode, stored = image.mode, image.size
            deep_colour = len(image.getbands()) > 1 and any(";16" in str(tile) for tile in image.tile)
            turned = image.format in ("JPEG", "MPO") and image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
            box, scale = central(stored[::-1] if turned else stored, size)
            if image.format in ("JPEG", "MPO"):
                image.draft(None, tuple(int(DRAFT * side * scale) for side in stored))
            image.load()
            upright = ImageOps.exif_transpose(image)
            # A drafted picture has its size from before; others may be turned by Pillow itself, as TIFF is.
            full = (stored[::-1] if turned else stored) if image.format in ("JPEG", "MPO") else upright.size
            box, _ = central(upright.size, size)
            flat, peak, stretched = eight_bits(upright, white)
            flat = flat.convert("L" if channels == 1 else "RGB")
            small = flat.resize(size[::-1], Image.Resampling.BICUBIC, box, reducing_gap=DRAFT)
            pixels = np.asarray(small)
            pixels = pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)
            high_byte = max(high for _, high in upright.getextrema()[:3]) if deep_colour else None
            return Picture(np.ascontiguousarray(pixels), peak, stretched, high_byte, full, mode)
    except Image.DecompressionBombError:
        return Picture(fault=f"more than {Image.MAX_IMAGE_PIXELS:,} pixels")
    except UnidentifiedImageError:
        return Picture(fault="not a picture, or of an unknown format")
    except OSError as error:
        return Picture(fault=error.strerror or printable(str(error)), passing=error.errno is not None)
    except MemoryError:
        return Picture(fault="not enough memory", passing=True)
    except Exception as error:  # decoders of broken files raise a dozen kinds
        return Picture(fault=printable(str(error)) or type(error).__name__)


def central(stored: tuple[int, int], size: tuple[int, int]) -> tuple[tuple[float, float, float, float], float]:
    """The largest central box of the shape of ``size`` (height, width) in a picture (width, height), and its scale."""
    (width, height), (h, w) = stored, size
    scale = max(w / width, h / height)
    left, top = (width - w / scale) / 2, (height - h / scale) / 2
    return (max(left, 0), max(top, 0), min(width - left, width), min(height - top, height)), scale


def eight_bits(image: Image.Image, white: int) -> tuple[Image.Image, int | None, bool]:
    """An image of 8 bits a channel, with transparency on white; :class:`Picture`'s ``peak``, and ``stretched``.

    Args:
        image: Of any mode.
        white: What becomes 255 where the values are integers within 16 bits.
    """
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image).astype(np.float64)
        if not np.isfinite(values).all():
            raise ValueError("it holds values that are not numbers")
        low, high = values.min(), values.max()
        # Floats and measurements have no fixed white, so their own range counts.
        stretched = bool(image.mode == "F" or low < 0 or high > WHITE)
        peak = None if stretched else int(high)
        if not stretched:
            low, high = 0, white
        levels = ((values - low) * (255 / (high - low or 1))).round().clip(0, 255)
        return Image.fromarray(levels.astype(np.uint8)), peak, stretched
    if image.has_transparency_data:
        flat = Image.new("RGBA", image.size, "white")
        flat.alpha_composite(image.convert("RGBA"))
        return flat.convert("L" if image.mode in ("L", "LA", "La") else "RGB"), None, False
    return image, None, False
