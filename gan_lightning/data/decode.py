"""Decoding of image files, by several threads: any format, mode and bit depth to uint8 of one size."""

import logging
import math
import os
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import IO, Any, Literal

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from gan_lightning.data.image_file import FORMATS, ImageFile, to_open
from gan_lightning.data.pages import MappedFile
from gan_lightning.data.validate import usual_levels
from gan_lightning.errors import escape_control
from gan_lightning.io.memory import check_fits_in_memory
from gan_lightning.io.progress import progress_bar

log = logging.getLogger(__name__)

VERSION = 5  # of the decoder; increase it when the result for a file changes, which invalidates cached images
CHUNK, CHUNK_BYTES = 32, 2**24  # files in a thread's task, and the limit on the bytes of their decoded images
AHEAD = 4  # chunks per thread that are being decoded or wait for the consumer
WHITE = 65535  # maximum of images with integers of more than 8 bits per pixel
DEPTHS = 8, 10, 12, 14, 16  # bits per pixel of the sensors that write such images
COARSE = 63  # of 255: the high byte of an image that uses 14 bits of 16
DRAFT = 3  # JPEGs are decoded at a reduced size of at least this multiple of the target size

Fit = Literal["crop", "pad", "stretch"]  # how an image of another aspect ratio is fitted


@dataclass
class Decoded:
    """Images decoded from a list of files, and statistics of the files.

    Attributes:
        images: Images (n, C, H, W) as uint8, of the files that could be read.
        rows: Indices of these files.
        broken: Error message of each other file, by its index.
        sizes: Number of files of each (width, height), as a viewer shows them.
        modes: Number of files of each mode of Pillow.
        transient: Indices of the other files whose error may not occur again.
        levels: Lowest and highest decoded value, without outliers; (0, 0) without images.
        deep: Number of images with integers of more than 8 bits, in 0 to 65,535.
        peak: Highest value of these.
        dark: Number of these that use less than a quarter of the range up to ``white``.
        white: The value that is mapped to 255 in these.
        stretched: Number of images with floats or other integers, each of which was scaled by its own range.
        high_byte: Highest high byte of colour with 16 bits per channel; None without such images.
        pages: The memory-mapped file that ``images`` is a view of; None if they are in memory.
    """

    images: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.uint8))
    rows: list[int] = field(default_factory=list)
    broken: dict[int, str] = field(default_factory=dict)
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    modes: Counter[str] = field(default_factory=Counter)
    transient: list[int] = field(default_factory=list)
    levels: tuple[int, int] = (0, 0)
    deep: int = 0
    peak: int = 0
    dark: int = 0
    white: int = WHITE
    stretched: int = 0
    high_byte: int | None = None
    pages: MappedFile | None = None

    def add(self, row: int, image: "DecodedImage") -> None:
        """Add the result of the file with index ``row`` to the statistics, except ``levels``."""
        if image.pixels is None:
            self.broken[row] = image.error
            self.transient += [row] * image.transient
            return
        self.rows.append(row)
        self.sizes[image.size] += 1
        self.modes[image.mode] += 1
        self.stretched += image.stretched
        if image.peak is not None:
            self.deep, self.peak = self.deep + 1, max(self.peak, image.peak)
            self.dark += 0 < image.peak < (self.white + 1) // 4
        if image.high_byte is not None:
            self.high_byte = max(image.high_byte, self.high_byte or 0)


@dataclass
class DecodedImage:
    """Result of decoding one file.

    Attributes:
        pixels: Array (C, H, W) as uint8; None if the file could not be decoded.
        peak: Highest value of integers of more than 8 bits; None for other images.
        stretched: Whether the image was scaled by its own range.
        high_byte: Highest high byte of colour with 16 bits per channel; None for other images.
        size: Width and height of the file, as a viewer shows it.
        mode: Mode of Pillow.
        error: Why the file could not be decoded.
        transient: Whether the error may not occur again, such as insufficient memory.
    """

    pixels: np.ndarray | None = None
    peak: int | None = None
    stretched: bool = False
    high_byte: int | None = None
    size: tuple[int, int] = (0, 0)
    mode: str = ""
    error: str = ""
    transient: bool = False


def decode(
    paths: Sequence[ImageFile], size: tuple[int, int], channels: int, white: int | None = None, fit: Fit = "crop"
) -> Decoded:
    """Decode files into memory, resized to ``size``.

    Args:
        paths: The files.
        size: Height and width.
        channels: 1 for gray, 3 for colour.
        white: As in :func:`decode_to`.
        fit: ``crop`` crops the centre to the aspect ratio of ``size``; ``pad`` resizes the whole image to fit into
            ``size`` and adds black borders; ``stretch`` changes the aspect ratio.

    Raises:
        UserError: The images do not fit into memory.
    """
    shape = len(paths), channels, *size
    advice = "use a smaller data.image_size or data.limit"
    check_fits_in_memory(f"data.image_size: {len(paths):,} images of this size", math.prod(shape), advice)
    images = torch.empty(shape, dtype=torch.uint8)

    def start() -> Callable[[np.ndarray], object]:
        targets = iter(images.numpy())
        return lambda pixels: np.copyto(next(targets), pixels)

    decoded = decode_to(start, paths, size, channels, white, fit)
    count = len(decoded.rows)
    return replace(decoded, images=images if count == len(paths) else images[:count].clone())


def decode_to(
    start: Callable[[], Callable[[np.ndarray], object]],
    paths: Sequence[ImageFile],
    size: tuple[int, int],
    channels: int,
    white: int | None = None,
    fit: Fit = "crop",
) -> Decoded:
    """Decode files in order, and pass the pixels (C, H, W) of each that could be read to a function.

    Image formats with more than 8 bits per pixel do not store how many bits are used. The bit depth is determined once
    for all files, so that their brightness stays comparable; a second pass decodes the files again if it is below 16.

    Args:
        start: Called at the start of each pass over the files; returns the function that receives the pixels.
        paths: The files.
        size: Height and width.
        channels: 1 for gray, 3 for colour.
        white: The value that is mapped to 255 in integers of more than 8 bits; None determines it from the files.
        fit: As in :func:`decode`.
    """
    decoded = decode_pass(start(), paths, size, channels, white or WHITE, fit)
    if white is None and white_of(decoded.peak) != WHITE:
        decoded = decode_pass(start(), paths, size, channels, white_of(decoded.peak), fit)
    return decoded


def decode_pass(
    take: Callable[[np.ndarray], object],
    paths: Sequence[ImageFile],
    size: tuple[int, int],
    channels: int,
    white: int,
    fit: Fit,
) -> Decoded:
    """Decode files in one pass, as :func:`decode_to` does."""
    decoded, lowest, highest = Decoded(white=white), bytearray(), bytearray()
    for row, image in enumerate(decoded_images(paths, size, channels, white, fit)):
        decoded.add(row, image)
        if image.pixels is not None:
            take(image.pixels)
            lowest.append(int(image.pixels.min()))
            highest.append(int(image.pixels.max()))
    return replace(decoded, levels=usual_levels(lowest, highest))


def white_of(peak: int) -> int:
    """Return the maximum of the smallest bit depth that represents ``peak``; ``WHITE`` if all images are black."""
    return next(2**bits - 1 for bits in DEPTHS if peak < 2**bits) if peak else WHITE


def warn_of_depth(source: str, decoded: Decoded) -> None:
    """Log warnings about images whose range of values was estimated, because their format does not define it.

    Args:
        source: The data set as messages name it.
        decoded: The statistics of its images.
    """
    deep, dark, white, high_byte = decoded.deep, decoded.dark, decoded.white, decoded.high_byte
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
    if decoded.stretched:
        log.warning(
            f"{source}: {decoded.stretched:,} images hold floats, negative values or values above {WHITE:,}; each is "
            "scaled by its own range, so their brightness is not comparable; save them with 8 or 16 bits a pixel to "
            "keep it"
        )
    if high_byte is not None and high_byte <= COARSE:  # Pillow reads only the high byte
        log.warning(
            f"{source}: 16-bit colour is read by its high byte and reaches only {high_byte} of 255; save it with "
            "8 bits a channel"
        )


def decoded_images(
    paths: Sequence[ImageFile], size: tuple[int, int], channels: int, white: int, fit: Fit
) -> Iterator[DecodedImage]:
    """Yield the decoded files in order; they are decoded by one thread per core, at most ``AHEAD`` chunks ahead each.

    Pillow releases the GIL while it decodes and resizes, so threads are sufficient. They share an open archive, from
    which each reads the members that it decodes.
    """
    step = max(1, min(CHUNK, CHUNK_BYTES // (channels * math.prod(size))))
    starts = iter(range(0, len(paths), step))
    cores = os.cpu_count() or 1
    # Warning filters are shared by all threads of the process, so they are set here and not in the tasks.
    with (
        warnings.catch_warnings(),
        ThreadPoolExecutor(cores) as pool,
        progress_bar(what="reading images", total=len(paths), unit="") as progress,
    ):
        warnings.simplefilter("ignore")

        def decode_chunk(chunk: Sequence[ImageFile]) -> list[DecodedImage]:
            return [decode_one(path, size, channels, white, fit) for path in chunk]

        def submit(limit: int) -> Iterator[Future[list[DecodedImage]]]:
            for start in islice(starts, limit):
                yield pool.submit(decode_chunk, paths[start : start + step])

        waiting = deque(submit(AHEAD * cores))
        while waiting:
            found = waiting.popleft().result()
            waiting.extend(submit(1))
            yield from found
            progress.update(len(found))


def decode_one(
    path: ImageFile | IO[bytes], size: tuple[int, int], channels: int, white: int = WHITE, fit: Fit = "crop"
) -> DecodedImage:
    """Decode a file; errors are returned in :attr:`DecodedImage.error`."""
    try:
        with Image.open(to_open(path), formats=FORMATS) as image:
            if Image.MAX_IMAGE_PIXELS is not None and image.width * image.height > Image.MAX_IMAGE_PIXELS:
                raise Image.DecompressionBombError
            mode, stored_size = image.mode, image.size
            deep_colour = len(image.getbands()) > 1 and any(";16" in str(tile) for tile in image.tile)
            is_jpeg = image.format in ("JPEG", "MPO")
            rotated = is_jpeg and image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
            full_size = stored_size[::-1] if rotated else stored_size
            if is_jpeg:  # draft mode reduces the size
                scale = (min if fit == "pad" else max)(size[1] / full_size[0], size[0] / full_size[1])
                width, height = (int(DRAFT * side * scale) for side in stored_size)
                image.draft(None, (width, height))
            image.load()
            upright = ImageOps.exif_transpose(image)
            if not is_jpeg:  # Pillow itself may rotate other formats, such as TIFF
                full_size = upright.size
            flat, peak, stretched = to_8_bit(upright, white)
            flat = flat.convert("L" if channels == 1 else "RGB")
            pixels = np.asarray(fitted(flat, size, fit))
            pixels = pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)
            extrema: Any = upright.getextrema() if deep_colour else None
            high_byte = max(high for _, high in extrema[:3]) if deep_colour else None
            return DecodedImage(np.ascontiguousarray(pixels), peak, stretched, high_byte, full_size, mode)
    except Image.DecompressionBombError:
        return DecodedImage(error=f"more than {Image.MAX_IMAGE_PIXELS:,} pixels")
    except UnidentifiedImageError:
        return DecodedImage(error="not an image, or of an unknown format")
    except OSError as error:
        return DecodedImage(error=error.strerror or escape_control(str(error)), transient=error.errno is not None)
    except MemoryError:
        return DecodedImage(error="not enough memory", transient=True)
    except Exception as error:  # decoders raise many types of errors for broken files
        return DecodedImage(error=escape_control(str(error)) or type(error).__name__)


def fitted(image: Image.Image, size: tuple[int, int], fit: Fit) -> Image.Image:
    """Resize an image to ``size``, height and width, as :func:`decode` describes for each ``fit``."""
    (width, height), (h, w) = image.size, size
    if fit == "pad":
        scale = min(w / width, h / height)
        inner = max(1, round(width * scale)), max(1, round(height * scale))
        canvas = Image.new(image.mode, (w, h))
        resized = image.resize(inner, Image.Resampling.BICUBIC, reducing_gap=DRAFT)
        canvas.paste(resized, ((w - inner[0]) // 2, (h - inner[1]) // 2))
        return canvas
    box = center_crop_box(image.size, size) if fit == "crop" else None
    return image.resize((w, h), Image.Resampling.BICUBIC, box, reducing_gap=DRAFT)


def center_crop_box(stored_size: tuple[int, int], size: tuple[int, int]) -> tuple[float, float, float, float]:
    """Return the largest centred box with the aspect ratio of ``size``: left, top, right, bottom in pixels.

    Args:
        stored_size: Width and height of the image.
        size: Target height and width.
    """
    (width, height), (h, w) = stored_size, size
    scale = max(w / width, h / height)
    left, top = (width - w / scale) / 2, (height - h / scale) / 2
    return max(left, 0), max(top, 0), min(width - left, width), min(height - top, height)


def to_8_bit(image: Image.Image, white: int) -> tuple[Image.Image, int | None, bool]:
    """Convert an image to 8 bits per channel, with transparent parts on white.

    Args:
        image: An image of any mode.
        white: The value that is mapped to 255 if the values are integers within 16 bits.

    Returns:
        The image, and ``peak`` and ``stretched`` of :class:`DecodedImage`.
    """
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image).astype(np.float64)
        if not np.isfinite(values).all():
            raise ValueError("it has values that are NaN or infinite")
        low, high = values.min(), values.max()
        # Floats and measurements have no defined maximum, so their own range is used.
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
