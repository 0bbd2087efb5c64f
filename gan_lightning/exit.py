"""How a command ends: messages instead of tracebacks, exit statuses, and standard output that cannot be written."""

import io
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from gan_lightning.errors import UserError, cannot_write
from gan_lightning.signals import STREAMS, InterruptedBySignal, ended_by_signals


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
