"""A folder of the user's own pictures."""

import logging
from collections import Counter
from collections.abc import Sequence
from itertools import islice, zip_longest
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from gan_lightning.config.constraints import Channels, ImageSize, NonNegativeFloat
from gan_lightning.data.base import MOST_HELD_OUT, ImageData
from gan_lightning.data.cache import Cache
from gan_lightning.data.decode import SUFFIXES, Decoded, warn_of_depth
from gan_lightning.data.layout import Left, files_below, warn_of_layout, without_generated
from gan_lightning.errors import UserError, printable

log = logging.getLogger(__name__)

NAMED = 5  # broken pictures that an error names
MAX_LISTED_SUFFIXES, MAX_LISTED_CLASSES = 8, 50  # in the report


class ImageFolder(ImageData):
    """Pictures below a folder, its sub-folders as classes if there are any.

    Each is centre-cropped to the shape of ``image_size`` and scaled. What was found is told before training.

    Args:
        root: The folder.
        image_size: A side, or height and width.
        channels: 1 for gray, 3 for colour.
        skip_broken: Leave out pictures that cannot be read, and count them.
        cache: Folder in which what has been decoded is kept for later runs; None keeps nothing.
        memory_gb: Pictures that take more stay in the cache's file, which is mapped (1e9 bytes).
        **data: Further arguments of :class:`~gan_lightning.data.base.ImageData`.
    """

    class_folders: ClassVar[str | None] = "root"  # the setting that names the folder whose sub-folders are the classes

    def __init__(
        self,
        root: str | Path,
        image_size: ImageSize = 64,
        channels: Channels = 3,
        skip_broken: bool = False,
        cache: str | Path | None = None,
        memory_gb: NonNegativeFloat = 4,
        **data: object,
    ) -> None:
        super().__init__(root, image_size, channels, **data)
        self.skip_broken, self.cache = skip_broken, Cache(cache, memory_gb)
        # Paths, labels, class names and the number of all images, for :meth:`held_out`. The other paths are released:
        # millions of them take gigabytes.
        self.beyond: tuple[list[Path], list[int], list[str], int] | None = None
        self.notes: list[str] = []  # what was left out, for the next report
        self.white: int | None = None  # what becomes 255 in images with more than 8 bits, found in the training set
        self.extremes = 0, 255

    @property
    def source(self) -> str:
        """The data set as messages name it."""
        return f"data.root={self.root}"

    def levels(self, images: Tensor) -> tuple[int, int]:
        """Lowest and highest value, as found when the images were decoded; a mapped file is not read for it."""
        return self.extremes

    def read(self, rows: slice) -> tuple[Tensor, Tensor, list[str]]:
        """Decode the training images, or else those beyond ``limit``.

        Raises:
            UserError: There are no pictures, or broken ones that are not to be skipped.
        """
        if rows.start is not None:
            return self.decoded(*self.beyond)
        paths, labels, class_names = self.find()
        if rows.stop is not None:
            beyond = slice(rows.stop, rows.stop + MOST_HELD_OUT)
            self.beyond = paths[beyond], labels[beyond], class_names, len(paths)
        return self.decoded(paths[rows], labels[rows], class_names, len(paths))

    def decoded(
        self, paths: list[Path], labels: list[int], class_names: list[str], of: int
    ) -> tuple[Tensor, Tensor, list[str]]:
        """Pictures of files, their labels, and the names of the classes that are left.

        Raises:
            UserError: Some are broken and not to be skipped, or all are.
        """
        decoded = self.cache.get(paths, self.image_size, self.channels, self.white)
        if decoded.broken:
            self.tell_broken(decoded, paths)
        labels = torch.tensor(labels)[decoded.rows]
        if class_names:
            kept, labels = labels.unique(return_inverse=True)
            if gone := len(class_names) - len(kept):
                self.notes.append(f"{gone} classes of which no picture is left")
            class_names = [class_names[label] for label in kept]
        self.report(decoded, of, labels, class_names)
        self.extremes = decoded.levels if decoded.rows else (0, 255)
        if self.samples is None:  # and not those held out
            self.pages, self.white = decoded.pages, decoded.white
            found = decoded.deep, decoded.dark, decoded.white, decoded.stretched, decoded.high_byte
            warn_of_depth(self.source, *found)
        elif decoded.pages is not None:
            decoded.pages.verify_all()  # nothing verifies them later
        return decoded.images, labels, class_names

    def find(self) -> tuple[list[Path], list[int], list[str]]:
        """Paths, labels and class names; classes take turns, so that a limit takes as many of each.

        Raises:
            UserError: There are no pictures.
        """
        if self.root.is_file():
            raise UserError(f"data.root={str(self.root)!r}: is a file, and should be a folder")
        if not self.root.is_dir():
            raise UserError(f"data.root={str(self.root)!r}: there is no such folder")
        loose, members = [], {}
        others: Counter[str] = Counter()
        left, images = Left(), []
        for path in files_below(self.root, left):
            if path.suffix.lower() in SUFFIXES:
                images.append(path)
            else:
                others[printable(path.suffix.lower()) or "without a suffix"] += 1
        generated = self.cache.generated(images)
        if len(generated) < len(images):
            images = without_generated(images, generated, self.root, left)
        elif images:
            log.info(
                f"data.root={printable(str(self.root))}: all {len(images):,} images were generated by gan-lightning; "
                "they are used"
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
            self.notes.append(f"{len(loose)} pictures beside the sub-folders, which are the classes")
        classes = [printable(name) for name in members]
        if warn_of_layout(self.root, len(loose), {name: len(paths) for name, paths in members.items()}):
            classes = []
        turns = zip_longest(*([(path, label) for path in paths] for label, paths in enumerate(members.values())))
        pairs = [pair for turn in turns for pair in turn if pair] or [(path, 0) for path in loose]
        if not pairs:
            there = ([f"only {kinds}"] if others else []) + [f"left out: {note}" for note in left.notes()]
            found = f"holds no pictures, {'; '.join(there)}" if there else "is empty"
            raise UserError(f"data.root={str(self.root)!r}: {found}")
        return [path for path, _ in pairs], [label if classes else 0 for _, label in pairs], classes

    def tell_broken(self, decoded: Decoded, paths: Sequence[Path]) -> None:
        """Raise UserError for broken images, or note that they are skipped."""
        first = [f"{str(paths[row])!r} ({reason})" for row, reason in islice(decoded.broken.items(), NAMED)]
        more = f" and {len(decoded.broken) - NAMED} more" if len(decoded.broken) > NAMED else ""
        message = f"{len(decoded.broken)} of {len(paths)} pictures cannot be read: {', '.join(first)}{more}"
        if self.skip_broken and decoded.rows:
            self.notes.append(message)
            return
        fix = "no picture is left" if self.skip_broken else "data.skip_broken=true leaves them out"
        raise UserError(f"{message}; {fix}")

    def report(self, decoded: Decoded, of: int, labels: Tensor, class_names: list[str]) -> None:
        """Tell what was found."""
        count = len(decoded.rows)
        sizes = sorted(decoded.sizes, key=lambda size: size[0] * size[1])
        if len(sizes) == 1:
            spread = "all {} x {}".format(*sizes[0])
        else:
            often, times = decoded.sizes.most_common(1)[0]
            ends = "{} x {} to {} x {}".format(*sizes[0], *sizes[-1])
            spread = f"{ends}, most often {often[0]} x {often[1]} ({times:,})"
        modes = ", ".join(f"{mode} {number:,}" for mode, number in decoded.modes.most_common())
        limited = f" of {of:,}" if self.limit is not None and self.limit < of else ""
        log.info(f"{count:,} pictures{limited} in {str(self.root)!r}: {spread}; modes {modes}")
        if class_names:
            counts = zip(class_names, labels.bincount(minlength=len(class_names)).tolist(), strict=True)
            lines = [f"{name} {number:,}" for name, number in counts]
            more = f" and {len(lines) - MAX_LISTED_CLASSES} more" if len(lines) > MAX_LISTED_CLASSES else ""
            log.info(f"{len(lines)} classes: {', '.join(lines[:MAX_LISTED_CLASSES])}{more}")
        for note in self.notes:
            log.info(f"left out: {note}")
        self.notes = []
