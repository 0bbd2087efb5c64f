"""How a command ends: error messages instead of tracebacks, exit statuses, output streams that cannot be written."""

import io
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from gan_lightning.errors import UserError, write_error_message
from gan_lightning.io.signals import STREAMS, InterruptedBySignal, ended_by_signals


def escape_unencodable() -> None:
    """Let standard output and error escape characters that their encoding lacks, instead of raising an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # notebooks replace the streams by others, which are UTF-8
            stream.reconfigure(errors="backslashreplace")


@contextmanager
def exit_on_error(output_option: str) -> Iterator[None]:
    """Exit with an error message and a status instead of a traceback where the user can fix the problem.

    Args:
        output_option: The option that sets the output path, for messages about files that cannot be written.
    """
    escape_unencodable()
    with ended_by_signals():
        try:
            with flush_output():
                yield
        except UserError as error:
            print_error(str(error))
            sys.exit(2)
        except OSError as error:
            print_error(
                write_error_message(error)
                + ("" if error.filename in STREAMS else f"; {output_option} sets the output path")
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
