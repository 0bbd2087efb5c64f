"""Signal handlers and disconnected output (closed terminals, broken pipes) of all commands."""

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
    """Return those of the named signals that exist on this platform; Windows has few."""
    return tuple(getattr(signal, name) for name in names if hasattr(signal, name))


PREEMPTION = available("SIGUSR1", "SIGUSR2")  # sent before a time limit: by Slurm's --signal=USR1, and by submitit
# A closed terminal sends SIGHUP, an exhausted limit of CPU time SIGXCPU, Ctrl-Break on Windows SIGBREAK.
SIGNALS = (*available("SIGTERM", "SIGINT", "SIGHUP", "SIGXCPU", "SIGBREAK"), *PREEMPTION)
INSISTENT = available("SIGTERM", "SIGINT", "SIGBREAK")  # a second one exits at once; others may be sent repeatedly
DISCONNECTED = {errno.EPIPE, errno.EIO, errno.EBADF}  # errors of a broken pipe, and of a closed terminal
STREAMS = "standard output", "standard error"
if os.name == "nt":
    DISCONNECTED.add(errno.EINVAL)  # error of a broken pipe on Windows


class InterruptedBySignal(SystemExit):
    """Raised by a signal that ends a command; the exit status is 128 + the signal's number."""

    code: int

    def __init__(self, signum: int) -> None:
        super().__init__(128 + signum)


def leave(signum: int, frame: FrameType | None) -> None:
    """Signal handler that raises an exception, so that temporary files are removed and results are written."""
    if signum not in INSISTENT:
        signal.signal(signum, signal.SIG_IGN)  # a repeated one would interrupt the cleanup
    raise InterruptedBySignal(signum)


def listener(handler: Any) -> Callable[[int, FrameType | None], Any] | None:
    """Return a handler that another library installed, such as submitit's; None for Python's and this module's."""
    return handler if callable(handler) and handler not in (leave, signal.default_int_handler) else None


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Convert signals in the block to exceptions, and discard output to a closed terminal or broken pipe.

    An ignored signal stays ignored, such as SIGHUP under nohup, and a handler that is already installed is kept. The
    command continues without output, since the files that it writes are more important.
    """
    in_main = threading.current_thread() is threading.main_thread()
    handled = [one for one in SIGNALS if in_main and signal.getsignal(one) == signal.SIG_DFL]
    stdout, stderr = sys.stdout, sys.stderr
    for one in handled:
        signal.signal(one, leave)
    # A stream is None if its descriptor was closed when Python started.
    outputs = [stream and Output(stream, name) for stream, name in zip((stdout, stderr), STREAMS, strict=True)]
    sys.stdout, sys.stderr = outputs
    try:
        yield
    finally:
        for output in filter(None, outputs):
            try:
                output.flush()
            except OSError:  # a full disk; the flush at exit would fail again, with status 120
                output.discard()
        sys.stdout, sys.stderr = stdout, stderr
        for one in handled:
            signal.signal(one, signal.SIG_DFL)


@contextmanager
def handlers_restored() -> Iterator[None]:
    """Restore all signal handlers after the block; Lightning does not if a callback's last hook fails."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {one: signal.getsignal(one) for one in SIGNALS}
    try:
        yield
    finally:
        for one, handler in before.items():
            if handler is not None:  # one that was not installed from Python cannot be restored from it
                signal.signal(one, handler)


class Output:
    """Text stream that discards output after its terminal or pipe was closed, instead of raising an error.

    Args:
        stream: The stream to write to.
        name: Its name in error messages.
    """

    def __init__(self, stream: TextIO, name: str) -> None:
        self.stream, self.label = stream, name

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.stream)

    def write(self, text: str) -> int:
        """Write a text, or discard it if the stream is disconnected."""
        try:
            return self.stream.write(text)
        except OSError as error:
            self.handle(error)
            return len(text)

    def flush(self) -> None:
        """Flush, or discard the buffer if the stream is disconnected."""
        try:
            self.stream.flush()
        except OSError as error:
            self.handle(error)

    def handle(self, error: OSError) -> None:
        """Discard all further output if the stream is disconnected.

        Raises:
            OSError: The error has another cause, such as a full disk.
        """
        if error.errno not in DISCONNECTED:
            error.filename = self.label
            raise error
        self.discard()

    def discard(self) -> None:
        """Redirect the file descriptor to the null device, together with what the buffer still holds."""
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, self.stream.fileno())
        os.close(null)
