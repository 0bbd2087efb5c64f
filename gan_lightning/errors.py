"""Exceptions for users' mistakes, and the context manager that turns them into error messages and exit statuses."""

import io
import os
import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

from gan_lightning.signals import STREAMS, InterruptedBySignal, ended_by_signals


def printable(text: str) -> str:
    """Escape non-printable characters, such as terminal control sequences."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def abridged(items: Iterable[object], most: int) -> str:
    """Join the first ``most`` items with commas and append the number of the others."""
    items = [*map(str, items)]
    return ", ".join(items[:most]) + (f" and {len(items) - most} more" if len(items) > most else "")


class UserError(Exception):
    """An error that the user can fix.

    Args:
        errors: One message for each error, of the form ``KEY=VALUE: problem; fix``.
    """

    def __init__(self, *errors: str) -> None:
        self.faults = tuple(map(printable, errors))  # messages quote file names and contents that are untrusted
        super().__init__("\n".join(self.faults))


class UnavailableError(UserError):
    """An optional part, such as the weights of a feature network, is unavailable; the run can continue without it."""


def first_line(error: BaseException) -> str:
    """Return the first two lines of an error's message, or of its cause's message where it has a cause."""
    cause = error.__cause__ or error
    lines = [line.strip() for line in (str(cause).strip() or type(cause).__name__).splitlines()[:2]]
    text = " ".join(line for line in lines if not line.startswith(("full_key:", "object_type=")))
    key = getattr(cause, "full_key", None)
    return f"{key}: {text}" if key and key not in text else text


def cannot_write(error: OSError, folder: str = "") -> str:
    """Return the message for a file that cannot be written; it names ``folder`` if the error names no file."""
    where = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else folder
    return f"{where}: cannot be written ({error.strerror or error})".removeprefix(": ")


def show_unencodable() -> None:
    """Let standard output and error escape characters that their encoding lacks, instead of raising an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # notebooks replace the streams by others, which are UTF-8
            stream.reconfigure(errors="backslashreplace")


@contextmanager
def told_plainly(output_option: str) -> Iterator[None]:
    """Exit with an error message and a status instead of a traceback where the user can fix the problem.

    Args:
        output_option: The option that sets the output path, for messages about files that cannot be written.
    """
    show_unencodable()
    with ended_by_signals():
        try:
            with flush_output():
                yield
        except UserError as error:
            print_error(str(error))
            sys.exit(2)
        except OSError as error:
            print_error(
                cannot_write(error) + ("" if error.filename in STREAMS else f"; {output_option} sets the output path")
            )
            sys.exit(2)
        except KeyboardInterrupt:
            print_error("interrupted")
            sys.exit(130)
        except InterruptedBySignal as error:
            print_error(f"interrupted by {signal.Signals(error.code - 128).name}")
            raise


@contextmanager
def flush_output() -> Iterator[None]:
    """Flush standard output and error after a block that succeeds, so that a full disk fails the command."""
    exiting = None
    try:
        yield
    except SystemExit as error:
        if error.code:
            raise
        exiting = error
    for stream in filter(None, (sys.stdout, sys.stderr)):
        stream.flush()
    if exiting:
        raise exiting


def print_error(message: str) -> None:
    """Print to standard error; ignore an OSError, so that the exit status does not change if that fails too."""
    with suppress(OSError):
        print(message, file=sys.stderr, flush=True)
