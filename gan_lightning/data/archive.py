"""Zip and tar archives of images, which are read in place: no member is ever extracted to disk by its name.

An archive is rejected as a whole if it has what no data set needs and what attacks programs that extract it: absolute
paths, ``..``, links, devices, archives in the archive, duplicates, decompression bombs.
"""

import bz2
import gzip
import json
import lzma
import re
import stat
import struct
import tarfile
import weakref
import zipfile
import zlib
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import IO, Any, ClassVar, NamedTuple

from gan_lightning.data.container import (
    Container,
    Listing,
    SharedFile,
    check_label_file,
    in_walk_order,
    max_decompressed,
    temporary_file,
)
from gan_lightning.data.image_file import MAX_IMAGE_BYTES, SUFFIXES, ImageFile, Member
from gan_lightning.data.layout import MAX_CONFIG_BYTES, SYSTEM_FILES, LeftOut, is_split, skip_reason
from gan_lightning.errors import UserError
from gan_lightning.io.paths import LABEL_FILES

MAX_MEMBERS = 5_000_000
MAX_DEPTH = 100  # folders of a path
MAX_LABEL_BYTES = 1 << 20  # of a file with the label of one image, key.cls or key.json
MACOS = "__MACOSX"  # folder that macOS adds to zip archives
SIDECARS = ".cls", ".json"
DRIVE = re.compile(r"[A-Za-z]:/")
NESTED = {  # suffixes of archives, compressed files and tables
    *(".zip", ".tar", ".gz", ".tgz", ".bz2", ".tbz2", ".xz", ".txz", ".lzma", ".lz4", ".zst", ".7z", ".rar"),
    *(".parquet", ".arrow"),
}
DAMAGED = (  # errors that the standard library raises for damaged archives
    *(OSError, EOFError, ValueError, OverflowError, RuntimeError, MemoryError),
    *(struct.error, zlib.error, lzma.LZMAError, zipfile.BadZipFile, tarfile.TarError),
)


class Found(NamedTuple):
    """A file in an archive: what its reader finds it by, and its size in bytes."""

    where: Any
    num_bytes: int


class Archive(Container):
    """An archive of images; a subclass for each format lists and reads the files in it.

    Args:
        path: The archive.
        inside: Folder in it that is the data set; empty for the whole archive.
        scratch: Directory of a temporary file, for archives that cannot be read in any order.
        is_shard: Whether the rest of the data set is in other archives, so that a single folder may be a class.

    Raises:
        UserError: The archive is damaged or hostile, or has no such folder.
    """

    kind: ClassVar[str]  # for messages

    def __init__(self, path: Path, inside: str = "", scratch: Path | None = None, is_shard: bool = False) -> None:
        self.path, self.root = path, path / inside
        self.members: dict[str, Found] = {}  # by their paths in the archive
        self.folders: set[str] = set()
        try:
            found = path.stat()
            self.version: Hashable = found.st_size, found.st_mtime_ns
            self.max_bytes = max_decompressed(found.st_size)
            self.open(scratch)
            total = 0
            for name, member in self.files():
                total += member.num_bytes
                self.add(name, member, total)
        except DAMAGED as error:
            raise self.error(f"cannot be read as a {self.kind} archive ({reason(error)})") from error
        self.enter(inside, is_shard)

    @abstractmethod
    def open(self, scratch: Path | None) -> None:
        """Open the archive."""

    @abstractmethod
    def files(self) -> Iterator[tuple[str, Found]]:
        """Yield the name of each regular file, and where it is."""

    @abstractmethod
    def read(self, where: Any, limit: int = -1) -> bytes:
        """Return the first ``limit`` bytes of a file, or all; several threads may call this at the same time.

        Raises:
            OSError: The file is damaged.
        """

    def error(self, problem: str) -> UserError:
        """Return an error that names the archive."""
        return UserError(f"data.root={str(self.path)!r}: {problem}")

    def rejection(self, name: str, problem: str) -> UserError:
        """Return the error for an archive with a file that is not accepted."""
        return self.error(f"{name!r} in it {problem}; nothing is read from such an archive, pack the images again")

    def add(self, name: str, member: Found, total: int) -> None:
        """Add a file to ``members``.

        Args:
            name: Its name in the archive.
            member: Where it is.
            total: Bytes of all files up to this one.

        Raises:
            UserError: It is not accepted.
        """
        path = self.checked_path(name)
        suffix = PurePosixPath(path).suffix.lower()
        if path in self.members:
            raise self.rejection(name, "occurs twice")
        if suffix in NESTED:
            raise self.rejection(name, "is an archive itself")
        if suffix in SUFFIXES and member.num_bytes > MAX_IMAGE_BYTES:
            raise self.rejection(name, f"has {member.num_bytes:,} bytes, more than the limit of {MAX_IMAGE_BYTES:,}")
        if total > self.max_bytes:
            raise self.rejection(name, f"exceeds the limit of {self.max_bytes:,} decompressed bytes")
        if len(self.members) == MAX_MEMBERS:
            raise self.error(f"has more than {MAX_MEMBERS:,} files; split it")
        self.members[path] = member
        folder = path.rpartition("/")[0]
        while folder and folder not in self.folders:
            self.folders.add(folder)
            folder = folder.rpartition("/")[0]

    def checked_path(self, name: str) -> str:
        """Return the path of a file in the archive, with ``/`` and without ``.``.

        Raises:
            UserError: The path leads out of the archive.
        """
        path = name.replace("\\", "/")  # as some programs of Windows write
        parts = PurePosixPath(path).parts
        if path.startswith("/") or DRIVE.match(path):
            raise self.rejection(name, "has an absolute path")
        if ".." in parts:
            raise self.rejection(name, "has a path with '..'")
        if len(parts) > MAX_DEPTH:
            raise self.error(f"has paths of more than {MAX_DEPTH} folders, such as {name[:MAX_DEPTH]!r}")
        return "/".join(parts)

    def enter(self, inside: str, is_shard: bool) -> None:
        """Set ``prefix``, the path of the data set in the archive, ``root``, and ``names``, its files relative to it.

        Programs that pack a folder put its name before every path, so a single folder around all files is not part of
        the names, unless it is named as a split of the data set (``train``), which is treated as in a folder.

        Raises:
            UserError: The archive has no folder ``inside``.
        """
        if inside and inside not in self.folders:
            raise UserError(f"{self.key}: there is no such folder in the archive")
        self.prefix = f"{inside}/" if inside else ""
        names = self.names_below(self.prefix)
        while len(tops := {name.partition("/")[:2] for name in names} - {(MACOS, "/")}) == 1:
            ((folder, slash),) = tops
            if is_shard or not slash or is_split(folder):
                break
            self.prefix += f"{folder}/"
            names = self.names_below(self.prefix)
        self.names, self.root = names, self.path / self.prefix

    def names_below(self, prefix: str) -> list[str]:
        """Return the paths of files relative to a folder of the archive, without hidden ones."""
        names = (name[len(prefix) :] for name in self.members if name.startswith(prefix))
        return [name for name in names if not is_hidden(name)]

    def listing(self, left: LeftOut) -> Listing:
        """Return the images; folders are skipped as :func:`~gan_lightning.data.layout.skip_reason` decides.

        Raises:
            UserError: The label of an image is invalid.
        """
        skipped = {"": False}

        def is_skipped(folder: str) -> bool:
            if folder not in skipped:
                parent, _, name = folder.rpartition("/")
                why = "" if is_skipped(parent) else self.skip_reason(folder, name)
                if why:
                    left.add_folder(why, self.root, folder)
                skipped[folder] = skipped[parent] or bool(why)
            return skipped[folder]

        names = [name for name in self.names if not is_skipped(name.rpartition("/")[0])]
        labels = self.labels(names)
        images: list[ImageFile] = []
        others = Counter[str]()
        for name in names:
            suffix = PurePosixPath(name).suffix.lower()
            if suffix in SUFFIXES:
                where = self.members[self.prefix + name].where
                images.append(Member(self, name, where, labels.get(key_of(name))))
            elif name not in LABEL_FILES and (suffix not in SIDECARS or key_of(name) not in labels):
                others[suffix] += 1
        return Listing(in_walk_order(images), others)

    def skip_reason(self, folder: str, name: str) -> str:
        """Return why a folder of the archive is skipped; empty if it is not."""
        path = f"{self.prefix}{folder}"

        def has(child: str) -> bool:
            return f"{path}/{child}" in self.members or f"{path}/{child}" in self.folders

        return skip_reason(name, has, lambda child: self.small_file(f"{path}/{child}", MAX_CONFIG_BYTES))

    def small_file(self, path: str, limit: int) -> bytes:
        """Return the content of a file by its path in the archive.

        Raises:
            OSError: There is no such file, or it is damaged or larger than the limit.
        """
        if path not in self.members:
            raise FileNotFoundError(path)
        where, num_bytes = self.members[path]
        if num_bytes > limit:
            raise OSError(f"larger than {limit:,} bytes")
        return self.read(where)

    def labels(self, names: Sequence[str]) -> dict[str, str | int]:
        """Return the labels that are stored beside the images, by :func:`key_of` their names."""
        return {}

    def label_file(self, name: str) -> bytes | None:
        """Return the content of a file beside the images that has their labels; None if there is no such file.

        Raises:
            UserError: It is too large or damaged.
        """
        path = self.prefix + name
        if path not in self.members:
            return None
        check_label_file(self.path / path, self.members[path].num_bytes)
        try:
            return self.read(self.members[path].where)
        except OSError as error:
            raise self.error(f"{path!r} in it is damaged ({error})") from error


class Zip(Archive):
    """A zip archive, stored or deflated."""

    kind = "zip"

    def open(self, scratch: Path | None) -> None:
        """Open the archive and read its directory."""
        self.zip = zipfile.ZipFile(self.path)
        weakref.finalize(self, self.zip.close)

    def files(self) -> Iterator[tuple[str, Found]]:
        """Yield the files in the order of the archive's directory.

        Raises:
            UserError: A member is not a regular file, or is encrypted or compressed by another method.
        """
        for info in self.zip.infolist():
            if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise self.rejection(info.filename, "is a link or a device")
            if info.is_dir():
                self.checked_path(info.filename)
                continue
            if info.flag_bits & 1:
                raise self.error(f"{info.filename!r} in it is encrypted; pack the images without a password")
            # The other methods have no limit on what a few bytes are decompressed to.
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise self.error(f"{info.filename!r} in it is neither stored nor deflated; pack the images again")
            yield info.filename, Found(info, info.file_size)

    def read(self, where: zipfile.ZipInfo, limit: int = -1) -> bytes:
        """Return the first bytes of a file; at most the size given in the directory of the archive."""
        try:
            with self.zip.open(where) as file:
                return file.read(limit)
        except DAMAGED as error:
            raise OSError(reason(error)) from error


class Tar(Archive):
    """A tar archive, which may be compressed by gzip, bzip2 or xz; labels as in webdataset.

    A compressed one is decompressed to a temporary file without a name, since images are read in any order.
    """

    kind = "tar"

    def open(self, scratch: Path | None) -> None:
        """Open the archive, and decompress it."""
        with self.path.open("rb") as file:
            opener = opener_of(file.read(6))
        self.file = SharedFile(self.decompressed(opener, scratch) if opener else self.path.open("rb"))

    def decompressed(self, opener: Callable[[Path], IO[bytes]], scratch: Path | None) -> IO[bytes]:
        """Return a temporary file with the decompressed archive.

        Raises:
            UserError: It exceeds the limit on decompressed bytes.
        """
        target, total = temporary_file(scratch), 0
        try:
            with opener(self.path) as source:
                while content := source.read(1 << 20):
                    total += len(content)
                    if total > self.max_bytes:
                        raise self.error(f"is larger than the limit of {self.max_bytes:,} decompressed bytes")
                    target.write(content)
        except BaseException:
            target.close()
            raise
        return target

    def files(self) -> Iterator[tuple[str, Found]]:
        """Yield the files in the order of the archive.

        Raises:
            UserError: A member is not a regular file, or the archive is cut off.
        """
        file = self.file.file
        file.seek(0)
        with tarfile.open(fileobj=file, mode="r:") as tar:
            while (info := tar.next()) is not None:
                vars(tar)["members"].clear()  # they are not needed, and millions take gigabytes
                if info.isdir():
                    self.checked_path(info.name)
                elif not info.isreg() or info.issparse():
                    raise self.rejection(info.name, "is a link, a device or a sparse file")
                else:
                    yield info.name, Found((info.offset_data, info.size), info.size)
            file.seek(tar.offset)
            if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):  # tarfile ends at a damaged header too
                raise self.error(f"is damaged or cut off at byte {tar.offset:,}; copy or pack it again")

    def read(self, where: tuple[int, int], limit: int = -1) -> bytes:
        """Return the first bytes of a file, by its position and size."""
        start, num_bytes = where
        return self.file.read(start, num_bytes if limit < 0 else min(limit, num_bytes))

    def labels(self, names: Sequence[str]) -> dict[str, str | int]:
        """Return the labels in the files ``key.cls``, or ``label`` in ``key.json``, of webdataset.

        Raises:
            UserError: A file is damaged, or holds no class.
        """
        keys = {key_of(name) for name in names if PurePosixPath(name).suffix.lower() in SUFFIXES}
        found: dict[str, str | int] = {}
        for suffix in SIDECARS[::-1]:  # .cls replaces the label in .json
            for name in names:
                if name.endswith(suffix) and key_of(name) in keys:
                    try:
                        content = self.small_file(self.prefix + name, MAX_LABEL_BYTES)
                        label = label_of(content.decode(), suffix)
                    except (OSError, ValueError, RecursionError) as error:
                        raise self.error(f"{name!r} in it has no label ({reason(error)})") from error
                    if label is not None:
                        found[key_of(name)] = label
        return found


def label_of(text: str, suffix: str) -> str | int | None:
    """Return the label in a file of webdataset: a number or a name of a class; None if it has none.

    Args:
        text: Content of the file.
        suffix: ``.cls`` for the label alone, ``.json`` for an object that may have the key ``label``.

    Raises:
        ValueError: It is neither.
    """
    label = text.strip()
    if suffix == ".json":
        content = json.loads(text)
        label = content.get("label") if isinstance(content, dict) else None
        if label is None or (isinstance(label, int) and not isinstance(label, bool)):
            return label
    if not isinstance(label, str) or not label:
        raise ValueError("neither a number nor a name")
    return int(label) if label.isdecimal() else label


def key_of(name: str) -> str:
    """Return what the files of one sample of webdataset have in common: the path up to the first dot of the file name.

    >>> key_of("v1.0/0001.left.jpg")
    'v1.0/0001'
    """
    folder, slash, file = name.rpartition("/")
    return f"{folder}{slash}{file.partition('.')[0]}"


def is_hidden(name: str) -> bool:
    """Return whether a path has a hidden part, or is a file of an operating system."""
    *_, file = parts = name.split("/")
    return file.lower() in SYSTEM_FILES or any(part.startswith(".") for part in parts)


def opener_of(start: bytes) -> Callable[[Path], Any] | None:
    """Return the function that opens a compressed file with these first bytes; None if it is not compressed."""
    openers: dict[bytes, Callable[[Path], Any]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\0": lzma.open}
    return next((opener for magic, opener in openers.items() if start.startswith(magic)), None)


def reason(error: BaseException) -> str:
    """Return the text of an error; its type if it has none."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
