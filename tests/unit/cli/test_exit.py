"""Exit status, messages and signal handling of the commands."""

import errno
import io
import logging
import os
import signal
import sys

import pytest

from gan_lightning.cli.exit import exit_on_error
from gan_lightning.errors import UserError
from gan_lightning.io.signals import DISCONNECTED, INSISTENT, SIGNALS, leave


@pytest.mark.parametrize(
    ("error", "status", "expected"),
    [
        (UserError("a: wrong", "b: wrong"), 2, "a: wrong\nb: wrong\n"),
        (OSError(errno.ENOSPC, "No space left", "x.png"), 2, "x.png: cannot be written (No space left); --out sets"),
        (OSError(errno.EIO, "Input/output error"), 2, "cannot be written (Input/output error); --out sets"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
    ],
)
def test_user_error_has_no_traceback(capsys, error, status, expected):
    with pytest.raises(SystemExit) as exit_info, exit_on_error("--out"):
        raise error
    assert exit_info.value.code == status
    assert capsys.readouterr().err.startswith(expected)


def test_unexpected_exception_keeps_traceback():
    with pytest.raises(ZeroDivisionError), exit_on_error("--out"):
        raise ZeroDivisionError


@pytest.mark.parametrize("signum", [one for one in SIGNALS if one != signal.SIGINT])
def test_signal_ends_command_after_cleanup(capsys, signum):
    before, cleaned = signal.signal(signum, signal.SIG_DFL), []
    try:
        with pytest.raises(SystemExit) as exit_info, exit_on_error("--out"):  # noqa: PT012
            try:
                signal.raise_signal(signum)
            finally:
                if signum not in INSISTENT:
                    signal.raise_signal(signum)  # a closing terminal sends the signal twice
                cleaned.append(True)
        assert exit_info.value.code == 128 + signum
        assert cleaned
        assert capsys.readouterr().err == f"interrupted by {signal.Signals(signum).name}\n"
        assert signal.getsignal(signum) == signal.SIG_DFL
    finally:
        signal.signal(signum, before)


def test_ignored_signals_and_existing_handlers_are_kept():
    """nohup ignores SIGHUP, and submitit handles SIGUSR2."""
    received = []
    listener = lambda *_: received.append(True)  # noqa: E731
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN), signal.signal(signal.SIGUSR2, listener)
    try:
        with exit_on_error("--out"):
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
            signal.raise_signal(signal.SIGHUP)
            signal.raise_signal(signal.SIGUSR2)
            assert signal.getsignal(signal.SIGTERM) == leave
        assert received == [True]
    finally:
        for signum, handler in zip((signal.SIGHUP, signal.SIGUSR2), before, strict=True):
            signal.signal(signum, handler)


@pytest.mark.parametrize("kind", ["pipe without a reader", "closed terminal"])
def test_command_survives_closed_output(monkeypatch, kind):
    reader, writer = os.pipe() if kind.startswith("pipe") else os.openpty()
    os.close(reader)
    with os.fdopen(writer, "w", buffering=1) as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        monkeypatch.setattr(sys, "stderr", stream)
        with exit_on_error("--out"):
            for line in range(3):
                print(line)
                print(line, file=sys.stderr, flush=True)
            done = True
    assert done


def test_windows_reports_pipe_without_reader_as_einval():
    assert (errno.EINVAL in DISCONNECTED) == (os.name == "nt")


def test_characters_missing_from_terminal_encoding_are_escaped(monkeypatch):
    """With PYTHONIOENCODING=ascii an error line was lost, and print raised UnicodeEncodeError."""
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    handler = logging.StreamHandler(sys.stdout)
    log = logging.getLogger("terminal")
    log.addHandler(handler)
    with exit_on_error("--out"):
        print("café: printed")
        log.error("café: logged")
    sys.stdout.flush()
    log.removeHandler(handler)
    assert written.getvalue() == b"caf\\xe9: printed\ncaf\\xe9: logged\n"
