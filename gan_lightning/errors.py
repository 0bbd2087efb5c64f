"""Errors that the user can correct, and the text of messages."""

import os
from collections.abc import Iterable


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
