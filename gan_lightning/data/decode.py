"""Picture files of every kind to uint8 tensors of one size, several at a time."""

import math
import os
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from gan_lightning.bar import bar
from gan_lightning.data.pages import Pages
from gan_lightning.errors import printable
from gan_lightning.memory import refuse_too_large

VERSION = 1  # of what is made of a file; to be raised when that changes, so that nothing older is used again
CHUNK, CHUNK_BYTES = 32, 2**24  # files that a thread takes at a time, fewer where what they become is large
AHEAD = 4  # chunks for each thread, in work or waiting to be read
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
        broken: A line for each of the others.
        sizes: How often each (width, height) was met, as a viewer shows it.
        modes: How often each of Pillow's modes was met.
        passing: Which of the others may be read another time.
        pages: The file that ``images`` is a view of; None where they are in memory.
    """

    images: Tensor
    rows: list[int]
    broken: list[str]
    sizes: Counter[tuple[int, int]]
    modes: Counter[str]
    passing: list[int]
    pages: Pages | None = None


@dataclass
class Picture:
    """One file: its pixels, or the reason why there are none, and whether that is the machine's and may pass."""

    pixels: np.ndarray | None = None
    size: tuple[int, int] = (0, 0)
    mode: str = ""
    fault: str = ""
    passing: bool = False


def decode(paths: Sequence[Path], size: tuple[int, int], channels: int) -> Decoded:
    """Decode files into memory, crop their centre to the shape of ``size`` and scale it.

    Args:
        paths: The files.
        size: Height and width.
        channels: 1 for gray, 3 for colour.

    Raises:
        UserError: They do not fit into memory.
    """
    shape = len(paths), channels, *size
    refuse_too_large(f"data.image_size: {len(paths):,} such pictures", math.prod(shape), "a smaller one, or data.limit")
    images = torch.empty(shape, dtype=torch.uint8)
    places = iter(images.numpy())
    decoded = decode_to(lambda pixels: np.copyto(next(places), pixels), paths, size, channels)
    count = len(decoded.rows)
    return replace(decoded, images=images if count == len(paths) else images[:count].clone())


def decode_to(
    take: Callable[[np.ndarray], object], paths: Sequence[Path], size: tuple[int, int], channels: int
) -> Decoded:
    """Decode files and hand over the pixels (C, H, W) of each that could be read, in their order."""
    rows, broken, passing, sizes, modes = [], [], [], Counter(), Counter()
    for row, picture in enumerate(pictures(paths, size, channels)):
        if picture.pixels is None:
            broken.append(f"{str(paths[row])!r} ({picture.fault})")
            passing += [row] * picture.passing
            continue
        take(picture.pixels)
        rows.append(row)
        sizes[picture.size] += 1
        modes[picture.mode] += 1
    return Decoded(torch.empty(0, dtype=torch.uint8), rows, broken, sizes, modes, passing)


def pictures(paths: Sequence[Path], size: tuple[int, int], channels: int) -> Iterator[Picture]:
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
                yield pool.submit(decode_chunk, paths[start : start + step], size, channels)

        waiting = deque(begin(AHEAD * cores))
        while waiting:
            found = waiting.popleft().result()
            waiting.extend(begin(1))
            yield from found
            progress.update(len(found))


def decode_chunk(paths: Sequence[Path], size: tuple[int, int], channels: int) -> list[Picture]:
    """Decode some files, one after the other."""
    return [decode_one(path, size, channels) for path in paths]


def decode_one(path: Path, size: tuple[int, int], channels: int) -> Picture:
    """Decode a file; whatever is wrong with it is a fault of the picture."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            if image.width * image.height > Image.MAX_IMAGE_PIXELS:
                raise Image.DecompressionBombError
            mode, stored = image.mode, image.size
            turned = image.format in ("JPEG", "MPO") and image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
            box, scale = central(stored[::-1] if turned else stored, size)
            if image.format in ("JPEG", "MPO"):
                image.draft(None, tuple(int(DRAFT * side * scale) for side in stored))
            image.load()
            upright = ImageOps.exif_transpose(image)
            # A drafted picture has its size from before; others may be turned by Pillow itself, as TIFF is.
            full = (stored[::-1] if turned else stored) if image.format in ("JPEG", "MPO") else upright.size
            box, _ = central(upright.size, size)
            flat = eight_bits(upright).convert("L" if channels == 1 else "RGB")
            small = flat.resize(size[::-1], Image.Resampling.BICUBIC, box, reducing_gap=DRAFT)
            pixels = np.asarray(small)
            pixels = pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)
            return Picture(np.ascontiguousarray(pixels), full, mode)
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


def eight_bits(image: Image.Image) -> Image.Image:
    """A picture of eight bits a channel, with what is transparent on white."""
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image).astype(np.float64)
        if not np.isfinite(values).all():
            raise ValueError("it holds values that are not numbers")
        low, high = values.min(), values.max()
        if image.mode != "F" and low >= 0 and high <= 65535:
            low, high = 0, 65535  # 16 bits; other measurements have no fixed white, so their own range counts
        levels = (values - low) * (255 / (high - low or 1))
        return Image.fromarray(levels.round().astype(np.uint8))
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        white.alpha_composite(image.convert("RGBA"))
        return white.convert("L" if image.mode in ("L", "LA", "La") else "RGB")
    return image
