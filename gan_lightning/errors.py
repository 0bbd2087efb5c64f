"""What the commands tell without a traceback."""

import io
import os
import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

from gan_lightning.signals import STREAMS, InterruptedBySignal, ended_by_signals


def printable(text: str) -> str:
    """Text that cannot speak to a terminal: what is not printable is escaped."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def abridged(items: Iterable[object], most: int) -> str:
    """Return the first of several items, separated by commas, and how many more there are."""
    items = [*map(str, items)]
    return ", ".join(items[:most]) + (f" and {len(items) - most} more" if len(items) > most else "")


class UserError(Exception):
    """Something the user can mend: what is wrong, where, and what would be right, one line a fault."""

    def __init__(self, *faults: str) -> None:
        self.faults = tuple(map(printable, faults))  # files and names of strangers are quoted in them
        super().__init__("\n".join(self.faults))


class UnavailableError(UserError):
    """Something that was asked for is not to be had here, and a run can do without it."""


def first_line(error: BaseException) -> str:
    """What an error of another library says, short; of Hydra's, what lies behind it."""
    cause = error.__cause__ or error
    lines = [line.strip() for line in (str(cause).strip() or type(cause).__name__).splitlines()[:2]]
    text = " ".join(line for line in lines if not line.startswith(("full_key:", "object_type=")))
    key = getattr(cause, "full_key", None)
    return f"{key}: {text}" if key and key not in text else text


def cannot_write(error: OSError, folder: str = "") -> str:
    """What the system says of a file that could not be written, or of the folder it is in where that is all it says."""
    where = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else folder
    return f"{where}: cannot be written ({error.strerror or error})".removeprefix(": ")


def show_unencodable() -> None:
    """Escape characters that the terminal's encoding lacks, instead of losing the line or ending in a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a notebook's are others, and UTF-8
            stream.reconfigure(errors="backslashreplace")


@contextmanager
def told_plainly(chooses: str) -> Iterator[None]:
    """End a command with a sentence and a status, and without a traceback, where the user can mend what is wrong.

    Args:
        chooses: The option that says where the command writes.
    """
    show_unencodable()
    with ended_by_signals():
        try:
            with flushed():
                yield
        except UserError as fault:
            print_error(str(fault))
            sys.exit(2)
        except OSError as error:
            print_error(cannot_write(error) + ("" if error.filename in STREAMS else f"; {chooses} chooses the place"))
            sys.exit(2)
        except KeyboardInterrupt:
            print_error("interrupted")
            sys.exit(130)
        except InterruptedBySignal as error:
            print_error(f"interrupted by {signal.Signals(error.code - 128).name}")
            raise


@contextmanager
def flushed() -> Iterator[None]:
    """Flush standard output and error after a block that succeeds, so that a full disk is an error of the command."""
    leaving = None
    try:
        yield
    except SystemExit as error:
        if error.code:
            raise
        leaving = error
    for stream in filter(None, (sys.stdout, sys.stderr)):
        stream.flush()
    if leaving:
        raise leaving


def print_error(message: str) -> None:
    """Print to standard error; the exit status remains the same if that cannot be written either."""
    with suppress(OSError):
        print(message, file=sys.stderr, flush=True)
