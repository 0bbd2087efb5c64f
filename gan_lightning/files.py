"""Files that appear whole or not at all."""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from gan_lightning.errors import UserError


@contextmanager
def whole(path: Path, mode: str = "wb") -> Iterator[IO]:
    """Open a file for writing that takes its name when it is complete and on the disk, and only then.

    It is written beside its target, since a rename is atomic within one file system only.

    Raises:
        OSError: It cannot be written, on a full disk say; what was there before is as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open(mode) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        if error.filename in (str(part), None):
            error.filename = str(path)
        raise
    finally:
        part.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)  # the new name itself is on the disk only after this
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def by_age(paths: Iterable[Path]) -> list[Path]:
    """Files from the one written first to the one written last; of equal age, by name."""
    return sorted(paths, key=lambda path: (path.stat().st_mtime_ns, path.name))


@contextmanager
def locked(path: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Hold a lock among processes; the system lets go of it when its holder dies.

    Args:
        path: The lock's file, which stays, or a folder that is there.
        waiting: Called once where another process holds it, before the wait.

    Raises:
        OSError: It cannot be written, or its file system has no locks.
    """
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


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


def by_step(folder: Path) -> list[tuple[int, Path]]:
    """Pictures of a run by their steps; what else lies in the folder, a copy that somebody has made, is left out."""
    found = [(path.stem[5:], path) for path in folder.glob("step_*.png")]
    return sorted((int(step), path) for step, path in found if step.isascii() and step.isdecimal() and len(step) < 20)
