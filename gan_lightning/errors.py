"""Errors that users can correct, and the text of error messages."""

import os
from collections.abc import Iterable


def escape_control(text: str) -> str:
    """Escape non-printable characters, such as terminal control sequences."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def first_and_count(items: Iterable[object], most: int) -> str:
    """Join the first ``most`` items with commas and append the number of the others."""
    texts = [*map(str, items)]
    return ", ".join(texts[:most]) + (f" and {len(texts) - most} more" if len(texts) > most else "")


class UserError(Exception):
    """An error that the user can fix.

    Args:
        errors: One message for each error, of the form ``KEY=VALUE: problem; fix``.
    """

    def __init__(self, *errors: str) -> None:
        self.errors = tuple(map(escape_control, errors))  # messages quote file names and contents that are untrusted
        super().__init__("\n".join(self.errors))


class UnavailableError(UserError):
    """An optional part, such as the weights of a feature network, is unavailable; the run can continue without it."""


def short_message(error: BaseException) -> str:
    """Return the first two lines of an error's message, or of its cause's message where it has a cause."""
    cause = error.__cause__ or error
    lines = [line.strip() for line in (str(cause).strip() or type(cause).__name__).splitlines()[:2]]
    text = " ".join(line for line in lines if not line.startswith(("full_key:", "object_type=")))
    key = getattr(cause, "full_key", None)
    return f"{key}: {text}" if key and key not in text else text


def write_error_message(error: OSError, folder: str = "") -> str:
    """Return the message for a file that cannot be written; it names ``folder`` if the error names no file."""
    where = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else folder
    return f"{where}: cannot be written ({error.strerror or error})".removeprefix(": ")
