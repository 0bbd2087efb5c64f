"""Signals that end a command, and output that nobody reads any more: one mechanism for all commands."""

import errno
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, TextIO


def available(*names: str) -> tuple[signal.Signals, ...]:
    """Return the signals that this platform has; Windows has few."""
    return tuple(getattr(signal, name) for name in names if hasattr(signal, name))


PREEMPTION = available("SIGUSR1", "SIGUSR2")  # what Slurm is asked to send ahead of the end, and submitit's choice
# A closed terminal sends SIGHUP, an exhausted limit of CPU time SIGXCPU, Ctrl-Break on Windows SIGBREAK.
SIGNALS = (*available("SIGTERM", "SIGINT", "SIGHUP", "SIGXCPU", "SIGBREAK"), *PREEMPTION)
INSISTENT = available("SIGTERM", "SIGINT", "SIGBREAK")  # a second one means at once; others are sent repeatedly anyway
GONE = {errno.EPIPE, errno.EIO, errno.EBADF}  # errors of a pipe without a reader, and of a terminal that was closed


class InterruptedBySignal(SystemExit):
    """Raised where a signal ends a command; its exit status is 128 + the signal."""

    def __init__(self, signum: int) -> None:
        super().__init__(128 + signum)


def leave(signum: int, frame: FrameType | None) -> None:
    """End the command by an exception, so that temporary files are removed and results are written."""
    if signum not in INSISTENT:
        signal.signal(signum, signal.SIG_IGN)  # sent again, it would interrupt that
    raise InterruptedBySignal(signum)


def listener(handler: Any) -> Callable[[int, FrameType | None], Any] | None:
    """Return a handler that somebody else has installed, such as submitit's; None for Python's and for ours."""
    return handler if callable(handler) and handler not in (leave, signal.default_int_handler) else None


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Let signals end the block by an exception, and let it survive the end of its terminal or its reader.

    A signal that is ignored stays ignored, as SIGHUP is under nohup, and one that somebody else listens to is left
    to them. What can no longer be printed is dropped: the files that a command writes are worth more.
    """
    in_main = threading.current_thread() is threading.main_thread()
    taken = [one for one in SIGNALS if in_main and signal.getsignal(one) == signal.SIG_DFL]
    stdout, stderr = sys.stdout, sys.stderr
    for one in taken:
        signal.signal(one, leave)
    outputs = [stream and Output(stream) for stream in (stdout, stderr)]  # None where a descriptor was closed
    sys.stdout, sys.stderr = outputs
    try:
        yield
    finally:
        for output in filter(None, outputs):
            output.flush()
        sys.stdout, sys.stderr = stdout, stderr
        for one in taken:
            signal.signal(one, signal.SIG_DFL)


class Output:
    """A text stream that drops what is written once its reader has gone, instead of raising an error.

    Args:
        stream: The stream to write to.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.stream)

    def write(self, text: str) -> int:
        """Write text, or drop it."""
        try:
            return self.stream.write(text)
        except OSError as error:
            self.drop(error)
            return len(text)

    def flush(self) -> None:
        """Flush, or drop what is left to be written."""
        try:
            self.stream.flush()
        except OSError as error:
            self.drop(error)

    def drop(self, error: OSError) -> None:
        """Send what follows, and what a buffer holds, to nowhere.

        Raises:
            OSError: There is another reason than a reader that has gone, such as a full disk.
        """
        if error.errno not in GONE:
            raise error
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.stream.fileno())
        os.close(nowhere)
