"""Atomic writes, locks between processes, and safe reads of files in untrusted directories."""

import errno
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
from gan_lightning.io.csv_rows import is_step

log = logging.getLogger(__name__)

WINDOWS = os.name == "nt"
RETRIES, RETRY_S = 20, 0.05  # for a rename that another process blocks
MAX_ENTRIES, MAX_DEPTH = 1_000_000, 12  # bounds of a recursive directory search
WITHOUT_FSYNC = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP)  # errors of a file system that does not support it
without_fsync: set[Path] = set()  # directories for which the warning was logged


@contextmanager
def atomic_write(path: Path, mode: str = "wb", sync: bool = True) -> Iterator[IO]:
    """Open a file for an atomic write: temporary file, fsync, rename.

    The temporary file is in the directory of the target, since a rename is only atomic within one file system. Text is
    UTF-8 without newline translation: csv writes its own line ends, which Windows would double.

    Args:
        path: The target; missing parents are created.
        mode: "wb" or "w".
        sync: Flush to the disk before the rename. Use False for one of many files that :func:`atomic_directory` flushes
            together, which saves 8 ms per file.

    Raises:
        OSError: It cannot be written, for example on a full disk; an existing file is not changed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if sync:
        remove_parts(path.parent, re.escape(path.name))
    part = part_of(path)
    try:
        text: dict[str, Any] = {} if "b" in mode else {"encoding": "utf-8", "newline": ""}
        with part.open(mode, **text) as file:
            yield file
            file.flush()
            if sync:
                sync_file(file, path.parent)
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
def add_path_to_errors(path: Path) -> Iterator[None]:
    """Context manager that adds a path to OSErrors without one, such as those of writes to an open file.

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
def atomic_directory(path: Path) -> Iterator[Path]:
    """Create a directory atomically: yield a temporary one to fill, flush it and rename it.

    The files are flushed together at the end, since a flush of each takes 8 ms. Open them with
    ``atomic_write(..., sync=False)``.

    Args:
        path: The target, which must not exist or be an empty directory; missing parents are created.

    Raises:
        OSError: It cannot be written; the temporary directory is removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_parts(path.parent, re.escape(path.name))
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
    """Return the path of this process's temporary file or directory for a target."""
    return path.with_name(f".{path.name}.{os.getpid()}.part")


def remove_parts(folder: Path, name: str = ".+") -> None:
    """Remove temporary files and directories of processes that have ended; those of running processes are kept.

    Args:
        folder: The directory; its sub-directories are not searched.
        name: Regular expression for the names of the targets.
    """
    pattern = re.compile(rf"\.{name}\.(\d{{1,10}})\.part")
    found = []
    with suppress(OSError), os.scandir(folder) as entries:  # the directory does not exist
        found = [(Path(entry), int(match[1])) for entry in entries if (match := pattern.fullmatch(entry.name))]
    for path, process in found:
        is_folder = path.is_dir() and not path.is_symlink()
        # On Windows it is unknown which processes are running, but a file that is open in one cannot be removed.
        if process == os.getpid() or not is_running(process) or (WINDOWS and not is_folder):
            with suppress(OSError):
                shutil.rmtree(path) if is_folder else path.unlink(missing_ok=True)


def is_running(process: int) -> bool:
    """Return whether a process of this machine may be running; true if it is unknown."""
    if WINDOWS:  # os.kill would terminate it
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # another user's process
        return True
    return True


def replace(part: Path, path: Path) -> None:
    """Rename over a file, retrying while another process holds it open, which Windows does not allow.

    Raises:
        OSError: It cannot be renamed; the error names the target.
    """
    for _ in range(RETRIES if WINDOWS else 0):
        with suppress(PermissionError):
            part.replace(path)
            return
        time.sleep(RETRY_S)
    try:
        part.replace(path)
    except OSError as error:
        error.filename = str(path)
        raise


def sync_directory(folder: Path) -> None:
    """Flush a directory, since a renamed file may otherwise be lost in a power cut.

    Windows has no such call. Some network and FUSE file systems do not support it; a warning is logged once for each.
    """
    if WINDOWS:
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY)  # fails for a directory that may be written to but not read
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        warn_without_fsync(folder, f"directories ({error.strerror}); after a power cut the latest files may be missing")


def sync_file(file: IO, folder: Path) -> None:
    """Flush a file of a directory to the disk; warn once if the file system does not support it.

    Raises:
        OSError: The disk is full or has failed.
    """
    try:
        os.fsync(file.fileno())
    except OSError as error:
        if error.errno not in WITHOUT_FSYNC:
            raise
        warn_without_fsync(folder, f"files ({error.strerror}); after a power cut the latest may be damaged")


def warn_without_fsync(folder: Path, problem: str) -> None:
    """Log a warning, once for each directory."""
    if folder not in without_fsync:
        without_fsync.add(folder)
        log.warning(f"{folder}: the file system cannot flush {problem}")


def set_aside(path: Path) -> None:
    """Rename a directory, pipe or device at the path of a file that is about to be read or written."""
    if os.path.lexists(path) and not path.is_file():
        rename(path, "not a regular file")


def rename(path: Path, problem: str) -> None:
    """Rename a file that cannot be used by appending the first free number, and log a warning.

    Args:
        path: The file.
        problem: Why it cannot be used, for the warning.
    """
    names = (path.with_name(f"{path.name}.{number}") for number in itertools.count(1))
    free = next(name for name in names if not os.path.lexists(name))
    path.rename(free)
    log.warning(f"{path}: {problem}; it is renamed to {free.name}")


def report_damaged(path: Path, damaged: Sequence[int], intact: int) -> None:
    """Log a warning that lists the damaged lines of a file; rename the file if no line is intact.

    The caller rewrites the file with the intact lines. If there are none, a damaged header or another encoding is more
    likely than damage to every line, and the user may be able to repair the renamed file.

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
def file_lock(path: Path, waiting: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold a lock between processes, which the system releases when its holder dies.

    Args:
        path: The lock file, which is not removed, in a directory that is created if it is missing; for an existing
            directory, ``.lock`` inside it.
        waiting: Called once before waiting if another process holds the lock; None logs it.

    Raises:
        OSError: The file cannot be written, or its file system does not support locks.
    """
    path = path / ".lock" if path.is_dir() else path
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if waiting is None:
                log.info(f"waiting for another process, which holds {lock.lock_file}")
            else:
                waiting()
            lock.acquire()
    except NotImplementedError as error:  # raised by filelock on a file system without locks
        raise OSError(str(error)) from error
    try:
        yield
    finally:
        lock.release()


def read_regular(path: Path, within: Path, limit: int) -> bytes:
    """Read a file from an untrusted directory.

    Only a regular file whose real path is inside ``within`` is read: a named pipe would block forever, and a symbolic
    link could disclose a file from outside.

    Args:
        path: The file.
        within: The directory.
        limit: Maximum size in bytes.

    Raises:
        OSError: It is missing, not a regular file, outside the directory, or too large.
    """
    # Path.resolve raises a RuntimeError for circular links before Python 3.13.
    if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(within)):
        raise OSError(f"{path}: a link to a file outside {within}")
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(f"{path}: not a regular file")
        with open(descriptor, "rb", closefd=False) as file:  # open() does not close it if it raises, as for a directory
            content = file.read(limit + 1)
    finally:
        os.close(descriptor)
    if len(content) > limit:
        raise OSError(f"{path}: larger than {limit:,} bytes")
    return content


def read_json(path: Path, within: Path, limit: int) -> Any:
    """Read and parse an untrusted JSON file; the arguments are those of :func:`read_regular`.

    Raises:
        OSError: It is missing, not a regular file, outside the directory, or too large.
        ValueError: It is not JSON, or nested too deeply.
    """
    try:
        return json.loads(read_regular(path, within, limit))
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def directories(root: Path, omit: Callable[[str], None]) -> Iterator[tuple[Path, set[str]]]:
    """Yield a directory and those below it, breadth first, each with the names of its entries.

    Links are not followed. The depth and the number of entries are bounded, since the directory may be untrusted.

    Args:
        root: Root of the search.
        omit: Called with a message for each part that was not searched.
    """
    queue, left = deque([(root, 0)]), MAX_ENTRIES
    while queue:
        folder, depth = queue.popleft()
        names, below = set(), []
        with suppress(OSError), os.scandir(folder) as entries:  # no permission, or the path is too long
            for entry in islice(entries, left):
                names.add(entry.name)
                if entry.is_dir(follow_symlinks=False):
                    below.append((folder / entry.name, depth + 1))
        left -= len(names)
        yield folder, names
        if depth < MAX_DEPTH:
            queue += below
        elif below:
            omit(f"{folder}: more than {MAX_DEPTH} levels below {root}; deeper directories were not searched")
        if not left:
            omit(f"{root}: more than {MAX_ENTRIES:,} files; the rest was not searched")
            return


def check_free_space(folder: Path, num_bytes: float, what: str, advice: str) -> None:
    """Raise UserError if a disk has less free space than needed.

    Args:
        folder: Directory to be written to.
        num_bytes: Number of bytes to be written.
        what: Description of the files, in the plural.
        advice: What to change.

    Raises:
        UserError: There is not enough free space.
    """
    free = shutil.disk_usage(folder).free
    if free < num_bytes:
        raise UserError(
            f"{folder}: {free / 1e6:,.0f} MB are free, and {what} take about {num_bytes / 1e6:,.0f} MB; {advice}"
        )


def samples_by_step(folder: Path, suffix: str = ".png", regular_only: bool = True) -> list[tuple[int, Path]]:
    """Return the files of a run that have a step in their names (``step_00000500.png``), sorted by step.

    Files with other names, such as a user's copies, are ignored. Modification times are not used, since an archive, a
    copy or a wrong clock changes them.

    Args:
        folder: The directory.
        suffix: Suffix of the files.
        regular_only: Return only regular files, since opening a named pipe would block; use False if the caller opens
            them with :func:`read_regular` and reports other files.
    """
    found = []
    with suppress(OSError), os.scandir(folder) as entries:  # the directory does not exist
        for entry in islice(entries, MAX_ENTRIES):
            if entry.name.startswith("step_") and entry.name.endswith(suffix):
                step = entry.name[len("step_") : -len(suffix)]
                if is_step(step) and (not regular_only or entry.is_file()):
                    found.append((int(step), folder / entry.name))
    return sorted(found)
