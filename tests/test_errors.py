"""How the commands end."""

import errno
import io
import logging
import sys

import pytest

from gan_lightning.errors import UserError, first_line, told_plainly


@pytest.mark.parametrize(
    ("error", "status", "told"),
    [
        (UserError("a: wrong", "b: wrong"), 2, "a: wrong\nb: wrong\n"),
        (OSError(errno.ENOSPC, "No space left", "x.png"), 2, "x.png: cannot be written (No space left); --out chooses"),
        (OSError(errno.EIO, "Input/output error"), 2, "cannot be written (Input/output error); --out chooses"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
    ],
)
def test_what_the_user_can_mend_has_no_traceback(capsys, error, status, told):
    with pytest.raises(SystemExit) as left, told_plainly("--out"):
        raise error
    assert left.value.code == status
    assert capsys.readouterr().err.startswith(told)


def test_what_is_a_fault_of_ours_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError), told_plainly("--out"):
        raise ZeroDivisionError


def test_errors_of_others_are_told_short():
    hydra = ValueError("Could not override\nfull_key: a.b\nobject_type=dict")
    assert first_line(hydra) == "Could not override"
    around = ValueError("around")
    around.__cause__ = OSError("what lies behind")
    assert first_line(around) == "what lies behind"
    assert first_line(KeyError()) == "KeyError"


def test_characters_that_the_terminal_lacks_are_escaped(monkeypatch):
    """With PYTHONIOENCODING=ascii an error line was lost, and a print ended in a traceback."""
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    handler = logging.StreamHandler(sys.stdout)
    log = logging.getLogger("terminal")
    log.addHandler(handler)
    with told_plainly("--out"):
        print("café: printed")
        log.error("café: logged")
    sys.stdout.flush()
    log.removeHandler(handler)
    assert written.getvalue() == b"caf\\xe9: printed\ncaf\\xe9: logged\n"
