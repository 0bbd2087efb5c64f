"""Containers of images behind one interface: a folder, archives, tables.

A container lists its images in an order that does not depend on its kind: by path where there is one, else by row.
Classes, decoding and the cache work on that list, so the same images give the same run whatever they are stored in.
"""

import tempfile
import threading
import weakref
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from gan_lightning.data.image_file import SUFFIXES, ImageFile, Member
from gan_lightning.data.layout import LeftOut, files_below, walk_order
from gan_lightning.errors import UserError
from gan_lightning.io.paths import LABEL_FILES, SHARD_SUFFIXES

MAX_LABELS_BYTES = 1 << 28  # of labels.csv or dataset.json
# Decompressed content may have so many bytes in any case, and beyond that so many times the bytes of the file.
FREE_BYTES, MAX_RATIO = 1 << 28, 200


@dataclass
class Listing:
    """The content of a container.

    Attributes:
        images: Its images, in the order of their paths, or of their rows if ``by_row``.
        others: Number of other files of each suffix.
        by_row: Whether the images have no paths.
        has_folders: Whether their paths have sub-folders, which may be the classes; not those of a table.
        class_names: Names of the classes that labels number; empty if the labels are names, or there are none.
        shards: Archives and tables in a folder, of which the data set consists if there are no images.
    """

    images: Sequence[ImageFile] = ()
    others: Counter[str] = field(default_factory=Counter)
    by_row: bool = False
    has_folders: bool = True
    class_names: list[str] = field(default_factory=list)
    shards: list[Path] = field(default_factory=list)


class Container(ABC):
    """Source of the images of a data set.

    Attributes:
        root: Its path; names of images are relative to it.
    """

    root: Path

    @property
    def key(self) -> str:
        """The setting that names the container, for messages."""
        return f"data.root={str(self.root)!r}"

    @abstractmethod
    def listing(self, left: LeftOut) -> Listing:
        """Return the images, except those that ``left`` receives.

        Raises:
            UserError: The container is damaged or hostile.
        """

    def label_file(self, name: str) -> bytes | None:
        """Return the content of a file beside the images that has their labels; None if there is no such file.

        Raises:
            UserError: It is too large.
        """
        return None


class Folder(Container):
    """A folder and its sub-folders."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def listing(self, left: LeftOut) -> Listing:
        """Return the image files below the folder."""
        images: list[ImageFile] = []
        listing = Listing(images)
        for path in files_below(self.root, left):
            suffix = path.suffix.lower()
            if suffix in SUFFIXES:
                images.append(path)
                continue
            if path.parent == self.root and path.name in LABEL_FILES:
                continue
            listing.others[suffix] += 1
            if suffix in SHARD_SUFFIXES:
                listing.shards.append(path)
        return listing

    def label_file(self, name: str) -> bytes | None:
        """Return the content of a file directly in the folder."""
        path = self.root / name
        if not path.is_file():
            return None
        check_label_file(path, path.stat().st_size)
        return path.read_bytes()


class Shards(Container):
    """Several archives or tables that together are one data set.

    Args:
        root: The folder that contains them.
        parts: The archives or tables, in natural order.
    """

    def __init__(self, root: Path, parts: Sequence[Container]) -> None:
        self.root, self.parts = root, parts

    def listing(self, left: LeftOut) -> Listing:
        """Return the images of all parts: in the order of their paths, or part by part if any has none.

        Raises:
            UserError: A part is damaged or hostile, or the parts number different classes.
        """
        listings = [part.listing(left) for part in self.parts]
        others = sum((listing.others for listing in listings), Counter[str]())
        by_row, class_names = any(listing.by_row for listing in listings), listings[0].class_names
        if any(listing.class_names != class_names for listing in listings):
            raise UserError(f"{self.key}: its files have different class names; use those of one set")
        images = [image for listing in listings for image in listing.images]
        images = images if by_row else in_walk_order(images)
        return Listing(images, others, by_row, all(one.has_folders for one in listings), class_names)


def in_walk_order(members: Iterable[ImageFile]) -> list[ImageFile]:
    """Sort members by their paths, as a folder with these files would be; equal paths keep their order."""
    return sorted(members, key=lambda member: walk_order(member.name if isinstance(member, Member) else str(member)))


def check_label_file(path: Path, num_bytes: int) -> None:
    """Raise UserError if a file of labels is too large to be read into memory."""
    if num_bytes > MAX_LABELS_BYTES:
        raise UserError(f"{path}: larger than {MAX_LABELS_BYTES:,} bytes, so it is no list of labels; remove it")


def max_decompressed(num_bytes: int) -> int:
    """Return the number of bytes that a file of ``num_bytes`` may be decompressed to; more is a decompression bomb."""
    return max(FREE_BYTES, MAX_RATIO * num_bytes)


class SharedFile:
    """An open file that several threads read at any position; it is closed with the last reference.

    Args:
        file: The file, opened for reading.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.lock = file, threading.Lock()
        weakref.finalize(self, file.close)

    def read(self, start: int, num_bytes: int) -> bytes:
        """Return the bytes at a position.

        Raises:
            OSError: The file ends before, or cannot be read.
        """
        with self.lock:
            self.file.seek(start)
            content = self.file.read(num_bytes)
        if len(content) < num_bytes:
            raise OSError("the file ends within it")
        return content


def temporary_file(folder: Path | None) -> IO[bytes]:
    """Open a temporary file without a name, which the system removes with the process.

    Compressed archives and tables can only be read in order, and images are needed in another order.

    Args:
        folder: The cache, which is on a disk with space for images; None for the system's temporary folder.

    Raises:
        OSError: It cannot be created.
    """
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    return tempfile.TemporaryFile(dir=folder)
