"""Data set of the images in a directory, an archive or a table, with the sub-directories or labels as classes."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from gan_lightning import seed as seeds
from gan_lightning.config.constraints import Channels, ImageSize, NonNegativeFloat, NonNegativeInt
from gan_lightning.data.cache import Cache
from gan_lightning.data.container import Container
from gan_lightning.data.datamodule import MAX_HELD_OUT, ImageData
from gan_lightning.data.decode import Decoded, Fit, warn_of_depth
from gan_lightning.data.formats import open_container, open_shards
from gan_lightning.data.image_file import ImageFile, name_of
from gan_lightning.data.labels import alternate, labels_of
from gan_lightning.data.layout import LeftOut, warn_of_layout, without_generated
from gan_lightning.errors import UserError, escape_control, first_and_count

log = logging.getLogger(__name__)

MAX_LISTED_BROKEN = 5  # files in an error message
MIN_TO_HOLD_OUT, MAX_SHARE = 200, 1000  # images from which on one in ten is held out, and the largest number of these
MAX_LISTED_SUFFIXES, MAX_LISTED_CLASSES = 8, 50  # in the log


class ImageFolder(ImageData):
    """Images in a directory, a zip or tar archive, a parquet or Arrow file, or several of these in a directory.

    The classes are those of ``labels.csv`` or ``dataset.json``, those that the archive or table has, or the
    sub-directories, if there are any. A summary of the files is logged.

    Args:
        root: The directory, archive or table.
        image_size: Side, or height and width, in pixels.
        channels: 1 for gray, 3 for colour.
        fit: How an image of another aspect ratio is fitted: ``crop`` crops its centre, ``pad`` adds black borders,
            ``stretch`` changes its aspect ratio.
        skip_broken: Skip images that cannot be read, and log their number.
        cache: Directory of the cache of decoded images; None for no cache.
        memory_gb: Limit on the size in memory (1e9 bytes); larger data sets are memory-mapped from the cache.
        held_out: Number of images that are not used in training; None for one in ten, at most 1,000, from 200 images
            on. If ``limit`` leaves images out, these are held out instead.
        **data: Further arguments of :class:`~gan_lightning.data.datamodule.ImageData`.
    """

    how_to_hold_out = "set data.held_out to a number of images, or data.limit"
    class_folders: ClassVar[str | None] = "root"  # the argument whose sub-directories or labels are the classes

    def __init__(
        self,
        root: str | Path,
        image_size: ImageSize = 64,
        channels: Channels = 3,
        fit: Fit = "crop",
        skip_broken: bool = False,
        cache: str | Path | None = None,
        memory_gb: NonNegativeFloat = 4,
        held_out: NonNegativeInt | None = None,
        **data: Any,
    ) -> None:
        super().__init__(root, image_size, channels, **data)
        self.fit, self.num_held_out = fit, held_out
        self.skip_broken, self.cache = skip_broken, Cache(cache, memory_gb)
        # Paths, labels, class names and the number of all images, for :meth:`read_held_out`. The paths of the training
        # images are not kept, since millions of them take gigabytes.
        self.beyond: tuple[list[ImageFile], list[int], list[str], int] | None = None
        self.notes: list[str] = []  # files that were left out, to be logged
        self.white: int | None = None  # value mapped to 255 in images above 8 bits, as determined on the training set
        self.extremes = 0, 255

    @property
    def source(self) -> str:
        """Name of the data set in messages."""
        return f"data.root={self.root}"

    @property
    def place(self) -> str:
        """The source of the images as the log names it."""
        return str(self.root)

    def levels(self, images: Tensor) -> tuple[int, int]:
        """Return the values that were determined during decoding, which does not read a memory-mapped file."""
        return self.extremes

    def read(self, rows: slice) -> tuple[Tensor, Tensor, list[str]]:
        """Decode the training images.

        Raises:
            UserError: There are no images, broken ones without ``skip_broken``, or too few to hold any out.
        """
        paths, labels, class_names = self.find()
        num = len(paths)
        if rows.stop is not None and rows.stop < num:
            training, beyond = range(rows.stop), range(rows.stop, min(rows.stop + MAX_HELD_OUT, num))
        else:
            beyond = self.held_out_rows(labels)
            training = sorted({*range(num)}.difference(beyond)) if beyond else range(num)
        if beyond:
            self.beyond = [paths[row] for row in beyond], [labels[row] for row in beyond], class_names, num
            log.info(f"{len(beyond):,} images are held out of training (data.held_out)")
        return self.decode_files([paths[row] for row in training], [labels[row] for row in training], class_names, num)

    def read_held_out(self, num: int | None) -> tuple[Tensor, Tensor, list[str]] | None:
        """Decode the held-out images, or ``num`` of them; return None if there are none."""
        if not self.beyond:
            return None
        files, labels, class_names, of = self.beyond
        if num is not None and num < len(files):
            generator = torch.Generator().manual_seed(seeds.mix(seeds.HELD_OUT))
            rows = torch.randperm(len(files), generator=generator)[:num].sort().values.tolist()
            files, labels = [files[row] for row in rows], [labels[row] for row in rows]
        return self.decode_files(files, labels, class_names, of)

    def read_all(self) -> tuple[Tensor, Tensor, list[str]]:
        """Decode all images."""
        paths, labels, class_names = self.find()
        return self.decode_files([*paths], [*labels], class_names, len(paths))

    def held_out_rows(self, labels: Sequence[int]) -> list[int]:
        """Return the indices of the images to hold out: the same share of each class, the same in every run.

        Args:
            labels: The classes of all images.

        Raises:
            UserError: ``held_out`` leaves nothing to train on.
        """
        num = len(labels)
        few = num < MIN_TO_HOLD_OUT
        count = self.num_held_out if self.num_held_out is not None else 0 if few else min(num // 10, MAX_SHARE)
        if count >= num:
            raise UserError(f"data.held_out={count}: must be below {num}, the number of images")
        generator = torch.Generator().manual_seed(seeds.mix(seeds.HELD_OUT))
        order = torch.randperm(num, generator=generator).tolist()
        members: dict[int, list[int]] = {}
        for row in order:
            members.setdefault(labels[row], []).append(row)
        ranks = ((i + 0.5) / len(rows) for rows in members.values() for i in range(len(rows)))
        ranked = sorted(zip(ranks, (row for rows in members.values() for row in rows), strict=True))
        return sorted(row for _, row in ranked[:count])

    def decode_files(
        self, paths: list[ImageFile], labels: list[int], class_names: list[str], of: int
    ) -> tuple[Tensor, Tensor, list[str]]:
        """Decode files; return the images, their labels and the names of the classes that have images.

        Args:
            paths: The files.
            labels: Their labels.
            class_names: Names of all classes.
            of: Number of all images, for the log.

        Raises:
            UserError: Some files are broken without ``skip_broken``, or all are.
        """
        decoded = self.cache.get(paths, self.image_size, self.channels, self.white, self.fit)
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

    def open_container(self) -> Container:
        """Return what the images are read from: a folder, an archive or a table.

        Raises:
            UserError: There is nothing at ``root``, or nothing that images are read from.
        """
        return open_container(self.root, self.cache.folder)

    def find(self) -> tuple[list[ImageFile], list[int], list[str]]:
        """Return images, labels and class names; the classes alternate, so that ``limit`` takes equally many of each.

        Raises:
            UserError: There are no images, or their labels are invalid.
        """
        container, left = self.open_container(), LeftOut()
        listing = container.listing(left)
        if listing.shards and not listing.images:
            container = open_shards(container.root, listing.shards, self.cache.folder, left)
            listing = container.listing(left)
        images, others = self.without_generated(container, listing.images, left), listing.others
        self.notes += left.notes()
        labels = labels_of(container, listing, images)
        by_folder = labels is None
        if labels is None:
            labels = [name_of(image, container.root).rpartition("/")[0].partition("/")[0] or None for image in images]
        if others:
            most = others.most_common(MAX_LISTED_SUFFIXES)
            kinds = ", ".join(f"{escape_control(suffix) or 'without suffix'} {count}" for suffix, count in most)
            self.notes.append(f"{others.total()} other files ({kinds})")
        loose = [image for image, label in zip(images, labels, strict=True) if label is None]
        files, numbers, counts = alternate(images, labels, listing.class_names)
        if by_folder and counts and loose:
            self.notes.append(f"{len(loose)} images beside the sub-folders, which are the classes")
        if by_folder and warn_of_layout(container.root, len(loose), counts):
            return files, [0] * len(files), []
        if not images:
            contents = ([f"only {kinds}"] if others else []) + [f"left out: {note}" for note in left.notes()]
            problem = f"contains no images, {'; '.join(contents)}" if contents else "is empty"
            raise UserError(f"{container.key}: {problem}")
        if not files:
            return loose, [0] * len(loose), []
        return files, numbers, [escape_control(name) for name in counts]

    def without_generated(
        self, container: Container, images: Sequence[ImageFile], left: LeftOut
    ) -> Sequence[ImageFile]:
        """Return the images that this package did not generate; all of them if it generated all."""
        generated = self.cache.generated(images)
        if len(generated) < len(images):
            return without_generated(images, generated, container.root, left)
        if images:
            log.info(
                f"{escape_control(self.source)}: all {len(images):,} images were generated by gan-lightning; they are "
                "used"
            )
        return images

    def handle_broken(self, decoded: Decoded, paths: Sequence[ImageFile]) -> None:
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
        log.info(f"{count:,} images{limited} in {self.place!r}: {spread}; modes {modes}")
        if class_names:
            counts = zip(class_names, labels.bincount(minlength=len(class_names)).tolist(), strict=True)
            sizes = first_and_count((f"{name} {number:,}" for name, number in counts), MAX_LISTED_CLASSES)
            log.info(f"{len(class_names)} classes: {sizes}")
        for note in self.notes:
            log.info(f"left out: {note}")
        self.notes = []
