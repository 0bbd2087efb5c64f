"""A cheap look at the user's images before a run is configured: their number, sizes, modes and classes."""

import logging
import statistics
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from PIL import Image

from gan_lightning.data.image_file import FORMATS, ImageFile, to_open
from gan_lightning.data.image_folder import ImageFolder
from gan_lightning.errors import UserError
from gan_lightning.io.progress import progress_bar

MAX_HEADERS = 200  # image files whose headers are read
GRAY_MODES = {"1", "L", "LA", "I", "F", "I;16", "I;16B", "I;16L"}
ROTATED = 5, 6, 7, 8  # values of EXIF's orientation that exchange the sides
TOLERANCE, MOST = 0.1, 0.8  # an aspect ratio is the same within 10 %, for at least so large a share of the files


@dataclass(frozen=True)
class Survey:
    """Facts about the images, collected without decoding them.

    Attributes:
        num_images: Number of images, at most ``data.limit``.
        height: Median height of the files whose headers were read, as a viewer shows them.
        width: Their median width.
        same_ratio: Whether most of them have the median aspect ratio.
        gray: Whether all of them are gray.
        class_sizes: Number of images of each class; empty without classes.
    """

    num_images: int
    height: int
    width: int
    same_ratio: bool
    gray: bool
    class_sizes: tuple[int, ...]


def survey(data: ImageFolder) -> Survey:
    """List the images of a data set and read the headers of at most 200 of them, evenly spaced.

    Args:
        data: The data set, not set up.

    Raises:
        UserError: There are no images, or none of these headers can be read.
    """
    with without_log():  # the run logs the same
        files, labels, class_names = data.find()
    files, labels = files[: data.limit], labels[: data.limit]
    step = -(-len(files) // MAX_HEADERS)
    looked_at = files[::step]
    found = [header for header in map(read_header, progress_bar(looked_at, "image sizes")) if header]
    if not found:
        raise UserError(f"{data.source}: none of {len(looked_at):,} images that were looked at can be read")
    widths, heights, modes = zip(*found, strict=True)
    ratios = [width / height for width, height in zip(widths, heights, strict=True)]
    middle = statistics.median(ratios)
    share = sum(abs(ratio / middle - 1) <= TOLERANCE for ratio in ratios) / len(ratios)
    return Survey(
        num_images=len(files),
        height=round(statistics.median(heights)),
        width=round(statistics.median(widths)),
        same_ratio=share >= MOST,
        gray=set(modes) <= GRAY_MODES,
        class_sizes=class_sizes(labels) if class_names else (),
    )


def class_sizes(labels: Sequence[int]) -> tuple[int, ...]:
    """Return the number of images of each class that occurs, in the order of the classes."""
    counts = Counter(labels)
    return tuple(counts[label] for label in sorted(counts))


def read_header(file: ImageFile) -> tuple[int, int, str] | None:
    """Return width, height (as a viewer shows the image) and mode of a file; None if decoding will report an error."""
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(to_open(file), formats=FORMATS) as image:
            width, height = image.size
            rotated = image.format in ("JPEG", "MPO") and image.getexif().get(0x0112, 1) in ROTATED
            return (height, width, image.mode) if rotated else (width, height, image.mode)
    except (OSError, Image.DecompressionBombError, MemoryError):  # UnidentifiedImageError is an OSError
        return None


@contextmanager
def without_log() -> Iterator[None]:
    """Suppress the log of the modules of data sets."""
    logger = logging.getLogger("gan_lightning.data")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)
