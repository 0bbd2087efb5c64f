"""Files that appear whole or not at all."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


@contextmanager
def whole(path: Path, mode: str = "wb") -> Iterator[IO]:
    """Open a file for writing that takes its name when it is complete and on the disk, and only then.

    It is written beside its target, since a rename is atomic within one file system only.
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
        if error.filename == str(part):
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
