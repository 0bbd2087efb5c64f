"""Atomic writes, locks between processes, and safe reads of files in a directory that somebody else made."""

import itertools
import json
import logging
import os
import re
import shutil
import stat
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import IO, Any

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

    It is written beside its target, since a rename is atomic within one file system only. Text is UTF-8,
    with the line ends that are written: csv writes its own, which Windows would double.

    Args:
        path: The target; missing parents are created.
        mode: "wb" or "w".
        sync: Flush to the disk before the rename. False for one of many files, which :func:`sync_directory` flushes
            together: 8 ms less for each.

    Raises:
        OSError: It cannot be written, on a full disk say; what was there before is as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if sync:
        remove_leftovers(path)
    part = part_of(path)
    try:
        text = {} if "b" in mode else {"encoding": "utf-8", "newline": ""}
        with part.open(mode, **text) as file:
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


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Add a path to OSErrors that have none, such as those of writes to a file that is open already.

    Args:
        path: The file, or its directory.
    """
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


@contextmanager
def whole_directory(path: Path) -> Iterator[Path]:
    """Yield an empty directory to fill, which takes its name when it is complete and on the disk, and only then.

    Its files are flushed together at the end: a flush for each takes 8 ms. Open them with ``whole(..., sync=False)``.

    Args:
        path: The target: not there, or an empty directory; missing parents are created.

    Raises:
        OSError: It cannot be written; nothing is left of it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(path)
    part = part_of(path)
    try:
        part.mkdir()
        yield part
        if hasattr(os, "sync"):
            os.sync()
        if path.is_dir():
            path.rmdir()  # Windows does not rename over an empty directory
        part.rename(path)
    except OSError as error:
        if isinstance(error.filename, str | os.PathLike) and Path(error.filename).is_relative_to(part):
            error.filename = str(path)
        raise
    finally:
        shutil.rmtree(part, ignore_errors=True)
    sync_directory(path.parent)


def part_of(path: Path) -> Path:
    """Return the name under which this process writes a file or directory until it is complete."""
    return path.with_name(f".{path.name}.{os.getpid()}.part")


def remove_leftovers(path: Path) -> None:
    """Remove what killed processes have left of a file or directory that they were writing, where that is possible."""
    remove_parts(path.parent, re.escape(path.name))


def remove_parts(folder: Path, name: str = ".+") -> None:
    """Remove incomplete files and directories of processes that have ended; those of running processes stay.

    Args:
        folder: The directory that holds them; directories in it are not searched.
        name: Regular expression of the names that they would have got.
    """
    pattern = re.compile(rf"\.{name}\.(\d{{1,10}})\.part")
    found = []
    with suppress(OSError), os.scandir(folder) as entries:  # there is no such directory
        found = [(Path(entry), int(match[1])) for entry in entries if (match := pattern.fullmatch(entry.name))]
    for place, process in found:
        is_folder = place.is_dir() and not place.is_symlink()
        # Windows cannot tell which processes are running, but it does not remove a file that one of them has open.
        if process == os.getpid() or not is_running(process) or (WINDOWS and not is_folder):
            with suppress(OSError):
                shutil.rmtree(place) if is_folder else place.unlink(missing_ok=True)


def is_running(process: int) -> bool:
    """Return whether a process of this machine may be running; true where that cannot be found out."""
    if WINDOWS:  # os.kill would end it
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # another user's process
        return True
    return True


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

    Windows has no such call. Some network and FUSE file systems do not support it: one warning is logged for each.
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
    """Rename a directory, pipe or device that has the name of a file which is about to be read and written."""
    if os.path.lexists(path) and not path.is_file():
        rename(path, "not a regular file")


def rename(path: Path, problem: str) -> None:
    """Rename a file that cannot be used to the first free name with a number, and log a warning.

    Args:
        path: The file.
        problem: Why it cannot be used, for the warning.
    """
    names = (path.with_name(f"{path.name}.{number}") for number in itertools.count(1))
    free = next(name for name in names if not os.path.lexists(name))
    path.rename(free)
    log.warning(f"{path}: {problem}; it is renamed to {free.name}")


def report_damaged(path: Path, damaged: Sequence[int], intact: int) -> None:
    """Log a warning that lists the damaged lines of a file; rename the file where no line is intact.

    The caller writes the file anew with the intact lines. Without any, a damaged header or another encoding is more
    likely than damage of every line, and a user may be able to repair the renamed file.

    Args:
        path: The file.
        damaged: Numbers of the damaged lines.
        intact: Number of the intact lines.
    """
    if damaged and not intact:
        rename(path, "none of its lines can be read")
    elif damaged:
        numbers = ", ".join(map(str, damaged[:10])) + ", ..." * (len(damaged) > 10)
        log.warning(f"{path}: skipped {len(damaged)} damaged lines: {numbers}")


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


def read_json(path: Path, within: Path, limit: int) -> Any:
    """Read a JSON file that somebody else may have written or changed; arguments as of :func:`read_regular`.

    Raises:
        OSError: It is missing, not a regular file, outside the directory, or too large.
        ValueError: It is not JSON, or nested too deeply.
    """
    try:
        return json.loads(read_regular(path, within, limit))
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


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


def by_step(folder: Path, suffix: str = ".png", regular_only: bool = True) -> list[tuple[int, Path]]:
    """Return files of a run with the steps in their names, ``step_00000500.png``, in the order of the steps.

    Files with other names, such as a user's copies, are ignored. File dates have no meaning here: an archive, a copy or
    a wrong clock changes them.

    Args:
        folder: The directory.
        suffix: Of the files.
        regular_only: Leave out all but regular files, since opening a named pipe would block; False for a caller that
            opens them with :func:`read_regular` and reports what it leaves out.
    """
    found = []
    with suppress(OSError), os.scandir(folder) as entries:  # there is no such directory
        for entry in islice(entries, MOST_ENTRIES):
            if entry.name.startswith("step_") and entry.name.endswith(suffix):
                step = entry.name[len("step_") : -len(suffix)]
                if step.isascii() and step.isdecimal() and len(step) < 20 and (not regular_only or entry.is_file()):
                    found.append((int(step), folder / entry.name))
    return sorted(found)
