"""Atomic writes, locks between processes, and safe reads of files in a directory that somebody else made."""

import glob
import logging
import os
import shutil
import stat
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import IO

from filelock import FileLock, Timeout

from gan_lightning.errors import UserError

log = logging.getLogger(__name__)

WINDOWS = os.name == "nt"
RETRIES, RETRY_S = 20, 0.05  # of a rename that another process blocks
MOST_ENTRIES, MOST_LEVELS = 1_000_000, 12  # of a directory that is searched, with all below it
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


def by_age(paths: Iterable[Path]) -> list[Path]:
    """Files from the one written first to the one written last; of equal age, by name."""
    return sorted(paths, key=lambda path: (path.stat().st_mtime_ns, path.name))


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
    # Path.resolve raises a RuntimeError of links that lead in a circle before Python 3.13.
    if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(within)):
        raise OSError(f"{path}: a link to a file outside {within}")
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(f"{path}: not a regular file")
        with open(descriptor, "rb", closefd=False) as file:  # does not close it when it raises, of a directory say
            content = file.read(limit + 1)
    finally:
        os.close(descriptor)
    if len(content) > limit:
        raise OSError(f"{path}: larger than {limit:,} bytes")
    return content


def directories(place: Path, omit: Callable[[str], None]) -> Iterator[tuple[Path, set[str]]]:
    """Yield a directory and those below it, the shallow ones first, each with the names in it.

    Links are not followed. Depth and number are bounded, since somebody else may have made the directory.

    Args:
        place: Where to begin.
        omit: Called with a sentence on what was not looked at.
    """
    waiting, left = deque([(place, 0)]), MOST_ENTRIES
    while waiting:
        folder, depth = waiting.popleft()
        names, below = set(), []
        with suppress(OSError), os.scandir(folder) as entries:  # may not be read, or has a path that is too long
            for entry in islice(entries, left):
                names.add(entry.name)
                if entry.is_dir(follow_symlinks=False):
                    below.append((folder / entry.name, depth + 1))
        left -= len(names)
        yield folder, names
        if depth < MOST_LEVELS:
            waiting += below
        elif below:
            omit(f"{folder}: more than {MOST_LEVELS} levels below {place}; what lies deeper was not searched")
        if not left:
            omit(f"{place}: more than {MOST_ENTRIES:,} files; the rest was not searched")
            return


def remove_stale_parts(path: Path) -> None:
    """Remove what processes that were killed in :func:`whole` have left beside a file.

    Args:
        path: The file that they were writing.
    """
    for part in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        pid = part.name.removeprefix(f".{path.name}.").removesuffix(".part")
        if pid.isascii() and pid.isdecimal() and not is_alive(int(pid)):
            part.unlink(missing_ok=True)


def is_alive(pid: int) -> bool:
    """Whether there is a process of this number on this machine."""
    if WINDOWS:  # where os.kill ends a process; a file that another has open cannot be removed there
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


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
    found = []
    with suppress(OSError), os.scandir(folder) as entries:  # there is no such directory
        for entry in islice(entries, MOST_ENTRIES):
            if entry.name.startswith("step_") and entry.name.endswith(suffix):
                step = entry.name[len("step_") : -len(suffix)]
                if step.isascii() and step.isdecimal() and len(step) < 20:
                    found.append((int(step), folder / entry.name))
    return sorted(found)
