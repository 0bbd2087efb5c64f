"""An image file as decoding and the cache read it: a path, or a member of an archive or a table."""

from collections.abc import Hashable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import IO, Any, Protocol

from PIL import Image

from gan_lightning.io.image import MARK_WITHIN, has_mark

MAX_IMAGE_BYTES = 1 << 28  # of an encoded image that is not a file of its own, so that a forged size takes no memory

Image.init()
# PostScript files are programs that would be run; the other formats need software outside of Pillow.
FORMATS = tuple(name for name in Image.OPEN if name not in {"EPS", "WMF", "BUFR", "GRIB", "HDF5", "MPEG"})
SUFFIXES = {suffix for suffix, name in Image.registered_extensions().items() if name in FORMATS}


class Reader(Protocol):
    """Object that reads members: an archive or a table.

    Attributes:
        root: Path of the archive or table, as messages name it.
        version: Values that change when its content does, such as size and modification time.
    """

    root: Path
    version: Hashable

    def read(self, where: Any, limit: int = -1) -> bytes:
        """Return the first ``limit`` bytes of a member, or all; several threads may call this at the same time."""


@dataclass(frozen=True, slots=True)
class Member:
    """An image in an archive or a table, which is read as bytes and never written to disk by its name.

    Attributes:
        reader: The archive or table.
        name: Path in it, with ``/``, or the number of its row.
        where: What the reader finds it by.
        label: Name or number of its class, as the archive or table has it; None if it has none.
    """

    reader: Reader
    name: str
    where: Any
    label: str | int | None = None

    @property
    def suffix(self) -> str:
        """Suffix of the name, with the dot."""
        return PurePosixPath(self.name).suffix

    def __str__(self) -> str:
        """Return the path of the archive or table and the name, for messages."""
        return f"{self.reader.root}/{self.name}"


ImageFile = Path | Member


def name_of(file: ImageFile, root: Path) -> str:
    """Return the path of an image relative to its data set, with ``/``."""
    return file.name if isinstance(file, Member) else file.relative_to(root).as_posix()


def to_open(file: ImageFile | IO[bytes]) -> Path | IO[bytes]:
    """Return what Pillow opens: a path or an open file as it is, or the content of a member.

    Raises:
        OSError: The member cannot be read.
    """
    return BytesIO(file.reader.read(file.where)) if isinstance(file, Member) else file


def is_generated(file: ImageFile) -> bool:
    """Return whether this package wrote a PNG or GIF, by the mark in it.

    Raises:
        OSError: The file cannot be read.
    """
    if isinstance(file, Member):
        return has_mark(file.reader.read(file.where, MARK_WITHIN))
    with file.open("rb") as opened:
        return has_mark(opened.read(MARK_WITHIN))


def version_of(file: ImageFile) -> str:
    """Return a text that changes with a file, for the name of a cached result.

    For a path it consists of the absolute path, the size and the modification time.
    """
    if isinstance(file, Member):
        return f"{file}\0{file.reader.version}\0{file.where}"
    try:
        stat = file.stat()
    except OSError:  # a dangling link, which decoding reports
        return f"{file.absolute()}\0None"
    return f"{file.absolute()}\0{(stat.st_size, stat.st_mtime_ns)}"
