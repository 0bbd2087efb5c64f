"""Data set of the image files in a directory; its sub-directories are the classes."""

import logging
from collections import Counter
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from gan_lightning.config.constraints import Channels, ImageSize, NonNegativeFloat
from gan_lightning.data.cache import Cache
from gan_lightning.data.datamodule import MAX_HELD_OUT, ImageData
from gan_lightning.data.decode import SUFFIXES, Decoded, warn_of_depth
from gan_lightning.data.layout import LeftOut, files_below, warn_of_layout, without_generated
from gan_lightning.errors import UserError, escape_control, first_and_count

log = logging.getLogger(__name__)

MAX_LISTED_BROKEN = 5  # files in an error message
MAX_LISTED_SUFFIXES, MAX_LISTED_CLASSES = 8, 50  # in the log


class ImageFolder(ImageData):
    """Images below a directory; its sub-directories are the classes, if there are any.

    Each image is centre-cropped to the aspect ratio of ``image_size`` and resized. A summary of the files is logged.

    Args:
        root: The directory.
        image_size: Side, or height and width, in pixels.
        channels: 1 for gray, 3 for colour.
        skip_broken: Skip images that cannot be read, and log their number.
        cache: Directory of the cache of decoded images; None for no cache.
        memory_gb: Limit on the size in memory (1e9 bytes); larger data sets are memory-mapped from the cache.
        **data: Further arguments of :class:`~gan_lightning.data.datamodule.ImageData`.
    """

    class_folders: ClassVar[str | None] = "root"  # the argument whose sub-directories are the classes

    def __init__(
        self,
        root: str | Path,
        image_size: ImageSize = 64,
        channels: Channels = 3,
        skip_broken: bool = False,
        cache: str | Path | None = None,
        memory_gb: NonNegativeFloat = 4,
        **data: Any,
    ) -> None:
        super().__init__(root, image_size, channels, **data)
        self.skip_broken, self.cache = skip_broken, Cache(cache, memory_gb)
        # Paths, labels, class names and the number of all images, for :meth:`held_out`. The paths of the training
        # images are not kept, since millions of them take gigabytes.
        self.beyond: tuple[list[Path], list[int], list[str], int] | None = None
        self.notes: list[str] = []  # files that were left out, to be logged
        self.white: int | None = None  # value mapped to 255 in images above 8 bits, as determined on the training set
        self.extremes = 0, 255

    @property
    def source(self) -> str:
        """Name of the data set in messages."""
        return f"data.root={self.root}"

    def levels(self, images: Tensor) -> tuple[int, int]:
        """Return the values that were determined during decoding, which does not read a memory-mapped file."""
        return self.extremes

    def read(self, rows: slice) -> tuple[Tensor, Tensor, list[str]]:
        """Decode the training images; with ``rows.start``, the held-out images beyond ``limit``.

        Raises:
            UserError: There are no images, or broken ones without ``skip_broken``.
        """
        if rows.start is not None:
            return self.decode_files(*self.beyond)
        paths, labels, class_names = self.find()
        if rows.stop is not None:
            beyond = slice(rows.stop, rows.stop + MAX_HELD_OUT)
            self.beyond = paths[beyond], labels[beyond], class_names, len(paths)
        return self.decode_files(paths[rows], labels[rows], class_names, len(paths))

    def decode_files(
        self, paths: list[Path], labels: list[int], class_names: list[str], of: int
    ) -> tuple[Tensor, Tensor, list[str]]:
        """Decode files; return the images, their labels and the names of the classes that have images.

        Args:
            paths: The files.
            labels: Their labels.
            class_names: Names of all classes.
            of: Number of images in the directory, for the log.

        Raises:
            UserError: Some files are broken without ``skip_broken``, or all are.
        """
        decoded = self.cache.get(paths, self.image_size, self.channels, self.white)
        if decoded.broken:
            self.handle_broken(decoded, paths)
        labels = torch.tensor(labels)[decoded.rows]
        if class_names:
            used, labels = labels.unique(return_inverse=True)
            if gone := len(class_names) - len(used):
                self.notes.append(f"{gone} classes without images")
            class_names = [class_names[label] for label in used]
        self.log_report(decoded, of, labels, class_names)
        self.extremes = decoded.levels if decoded.rows else (0, 255)
        if self.samples is None:  # the training images, not the held-out ones
            self.pages, self.white = decoded.pages, decoded.white
            warn_of_depth(self.source, decoded)
        elif decoded.pages is not None:
            decoded.pages.verify_all()  # their checksums are not verified later
        return decoded.images, labels, class_names

    def find(self) -> tuple[list[Path], list[int], list[str]]:
        """Return paths, labels and class names; the classes alternate, so that ``limit`` takes equally many of each.

        Raises:
            UserError: There are no images.
        """
        if self.root.is_file():
            raise UserError(f"data.root={str(self.root)!r}: is a file, not a folder")
        if not self.root.is_dir():
            raise UserError(f"data.root={str(self.root)!r}: there is no such folder")
        loose: list[Path] = []
        members: dict[str, list[Path]] = {}
        others: Counter[str] = Counter()
        left, images = LeftOut(), []
        for path in files_below(self.root, left):
            if path.suffix.lower() in SUFFIXES:
                images.append(path)
            else:
                others[escape_control(path.suffix.lower()) or "without suffix"] += 1
        generated = self.cache.generated(images)
        if len(generated) < len(images):
            images = without_generated(images, generated, self.root, left)
        elif images:
            log.info(
                f"data.root={escape_control(str(self.root))}: all {len(images):,} images were generated by "
                "gan-lightning; they are used"
            )
        for path in images:
            if path.parent == self.root:
                loose.append(path)
            else:
                members.setdefault(path.relative_to(self.root).parts[0], []).append(path)
        self.notes += left.notes()
        if others:
            kinds = ", ".join(f"{kind} {count}" for kind, count in others.most_common(MAX_LISTED_SUFFIXES))
            self.notes.append(f"{others.total()} other files ({kinds})")
        if members and loose:
            self.notes.append(f"{len(loose)} images beside the sub-folders, which are the classes")
        classes = [escape_control(name) for name in members]
        if warn_of_layout(self.root, len(loose), {name: len(paths) for name, paths in members.items()}):
            classes = []
        rounds = zip_longest(*([(path, label) for path in paths] for label, paths in enumerate(members.values())))
        pairs = [pair for one in rounds for pair in one if pair] or [(path, 0) for path in loose]
        if not pairs:
            contents = ([f"only {kinds}"] if others else []) + [f"left out: {note}" for note in left.notes()]
            problem = f"contains no images, {'; '.join(contents)}" if contents else "is empty"
            raise UserError(f"data.root={str(self.root)!r}: {problem}")
        return [path for path, _ in pairs], [label if classes else 0 for _, label in pairs], classes

    def handle_broken(self, decoded: Decoded, paths: Sequence[Path]) -> None:
        """Raise UserError for files that could not be decoded; with ``skip_broken``, note that they are skipped."""
        broken = (f"{str(paths[row])!r} ({reason})" for row, reason in decoded.broken.items())
        names = first_and_count(broken, MAX_LISTED_BROKEN)
        message = f"{len(decoded.broken)} of {len(paths)} images cannot be read: {names}"
        if self.skip_broken and decoded.rows:
            self.notes.append(message)
            return
        fix = "there are no others" if self.skip_broken else "set data.skip_broken=true to skip them"
        raise UserError(f"{message}; {fix}")

    def log_report(self, decoded: Decoded, of: int, labels: Tensor, class_names: list[str]) -> None:
        """Log the number, sizes and modes of the images, the classes, and the files that were left out."""
        count = len(decoded.rows)
        sizes = sorted(decoded.sizes, key=lambda size: size[0] * size[1])
        if len(sizes) == 1:
            spread = "all {} x {}".format(*sizes[0])
        else:
            (width, height), number = decoded.sizes.most_common(1)[0]
            ends = "{} x {} to {} x {}".format(*sizes[0], *sizes[-1])
            spread = f"{ends}, most often {width} x {height} ({number:,})"
        modes = ", ".join(f"{mode} {number:,}" for mode, number in decoded.modes.most_common())
        limited = f" of {of:,}" if self.limit is not None and self.limit < of else ""
        log.info(f"{count:,} images{limited} in {str(self.root)!r}: {spread}; modes {modes}")
        if class_names:
            counts = zip(class_names, labels.bincount(minlength=len(class_names)).tolist(), strict=True)
            sizes = first_and_count((f"{name} {number:,}" for name, number in counts), MAX_LISTED_CLASSES)
            log.info(f"{len(class_names)} classes: {sizes}")
        for note in self.notes:
            log.info(f"left out: {note}")
        self.notes = []
