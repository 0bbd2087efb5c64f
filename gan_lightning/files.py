"""Atomic writes, locks between processes, and safe reads of files in a directory that somebody else made."""

import itertools
import logging
import os
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from filelock import FileLock, Timeout

from gan_lightning.errors import UserError

log = logging.getLogger(__name__)

WINDOWS = os.name == "nt"
RETRIES, RETRY_S = 20, 0.05  # of a rename that another process blocks
without_fsync: set[Path] = set()  # directories that were warned about


@contextmanager
def whole(path: Path, mode: str = "wb", sync: bool = True) -> Iterator[IO]:
    """Open a file for writing that takes its name when it is complete and on the disk, and only then.

    It is written beside its target, since a rename is atomic within one file system only. Text is UTF-8.

    Args:
        path: The target; missing parents are created.
        mode: "wb" or "w".
        sync: Flush to the disk before the rename. False for one of many files, which :func:`sync_directory` flushes
            together: 8 ms less for each.

    Raises:
        OSError: It cannot be written, on a full disk say; what was there before is as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open(mode, encoding=None if "b" in mode else "utf-8") as file:
            yield file
            file.flush()
            if sync:
                os.fsync(file.fileno())
        replace(part, path)
    except OSError as error:
        if error.filename in (str(part), None):
            error.filename = str(path)
        raise
    finally:
        part.unlink(missing_ok=True)
    if sync:
        sync_directory(path.parent)


def replace(part: Path, path: Path) -> None:
    """Rename over a file, retrying while another process holds it open, which Windows does not allow."""
    for _ in range(RETRIES if WINDOWS else 0):
        with suppress(PermissionError):
            part.replace(path)
            return
        time.sleep(RETRY_S)
    part.replace(path)


def sync_directory(folder: Path) -> None:
    """Flush a directory, without which a new name may be lost in a power cut.

    Windows has no such call and some network and FUSE file systems refuse it: these get a warning, once.
    """
    if WINDOWS:
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if folder not in without_fsync:
            without_fsync.add(folder)
            log.warning(
                f"{folder}: the file system cannot flush directories ({error.strerror}); after a power cut the latest "
                "files may be missing"
            )
    finally:
        os.close(descriptor)


def set_aside(path: Path) -> None:
    """Rename a directory that has the name of a file which is about to be written."""
    if not path.is_dir():
        return
    free = next(name for i in itertools.count(1) if not (name := path.with_name(f"{path.name}.{i}")).exists())
    path.rename(free)
    log.warning(f"{path}: a directory in the place of a file; it is renamed to {free.name}")


@contextmanager
def locked(path: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Hold a lock between processes; the system releases it when its holder dies.

    Args:
        path: The lock's file, which stays; of an existing folder, ``.lock`` inside it.
        waiting: Called once where another process holds it, before the wait.

    Raises:
        OSError: It cannot be written, or its file system has no locks.
    """
    lock = FileLock(path / ".lock" if path.is_dir() else path)
    try:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            waiting()
            lock.acquire()
    except NotImplementedError as error:  # filelock's error for a file system without locks
        raise OSError(str(error)) from error
    try:
        yield
    finally:
        lock.release()


def read_regular(path: Path, within: Path, limit: int) -> bytes:
    """Read a file of a directory that somebody else made.

    Only a regular file whose real path lies inside ``within`` is read: a named pipe would block for ever, and a link
    would copy a file from outside.

    Args:
        path: The file.
        within: The directory.
        limit: Largest size in bytes.

    Raises:
        OSError: It is missing, not a regular file, outside the directory, or too large.
    """
    if not path.resolve().is_relative_to(within.resolve()):
        raise OSError(f"{path}: a link to a file outside {within}")
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(f"{path}: not a regular file")
        content = file.read(limit + 1)
    if len(content) > limit:
        raise OSError(f"{path}: larger than {limit:,} bytes")
    return content


def refuse_full_disk(folder: Path, num_bytes: float, what: str, way_out: str) -> None:
    """Raise UserError where a disk has less room than is going to be needed.

    Args:
        folder: Where it is going to be written.
        num_bytes: How much.
        what: What it is, in the plural.
        way_out: What to change.
    """
    free = shutil.disk_usage(folder).free
    if free < num_bytes:
        raise UserError(
            f"{folder}: {free / 1e6:,.0f} MB are free, and {what} take about {num_bytes / 1e6:,.0f} MB; {way_out}"
        )


def by_step(folder: Path, suffix: str = ".png") -> list[tuple[int, Path]]:
    """Files of a run by the steps in their names, ``step_00000500.png``; others, such as a user's copies, are ignored.

    File dates have no meaning here: an archive, a copy or a clock that is wrong changes them.
    """
    found = [(path.stem[5:], path) for path in folder.glob(f"step_*{suffix}")]
    return sorted((int(step), path) for step, path in found if step.isascii() and step.isdecimal() and len(step) < 20)
