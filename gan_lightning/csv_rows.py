"""Read ``metrics.csv``, also where a part of it is damaged."""

import csv
from collections.abc import Iterable, Iterator


def parse(text: str) -> tuple[list[str], list[dict[str, str]], list[int]]:
    """Parse the text of a ``metrics.csv`` line by line, so that a damaged line costs no other.

    Every value is a number, or empty where the run had no such value. A last line without a line break was cut off
    while it was written, and is left out. Of a damaged header the rows stay readable where the number of its fields is
    right, since the step is always the first one.

    Args:
        text: Content of the file.

    Returns:
        Names of the columns, the rows, and the numbers of the lines that are damaged.
    """
    header, *lines = text.rpartition("\n")[0].split("\n")
    columns = names(header)
    if any(name and is_number(name) for name in columns):  # a row: the header itself is missing
        return ["step"], [], [*range(1, len(lines) + 2)]
    found = [*rows(lines, columns)]
    damaged = [number for number, values in enumerate(found, 2) if values is None]
    return columns, [dict(zip(columns, values, strict=True)) for values in found if values is not None], damaged


def names(header: str) -> list[str]:
    """Return the names of the columns."""
    columns = fields(header) or [""]
    if "step" not in columns:
        columns[0] = "step"
    return columns


def rows(lines: Iterable[str], columns: list[str]) -> Iterator[list[str] | None]:
    """Yield the values of each line; None where it is damaged.

    Args:
        lines: Lines of the file, without its header.
        columns: Names of the columns.
    """
    step = columns.index("step")
    for line in lines:
        values = fields(line)
        right = len(values) == len(columns) and is_step(values[step]) and all(map(is_number, values))
        yield values if right else None


def fields(line: str) -> list[str]:
    """Return the fields of one line, or an empty list if the line is not valid CSV."""
    try:
        return next(csv.reader([line.rstrip("\r")]), [])
    except csv.Error:  # a field of megabytes, or a NUL
        return []


def is_step(word: str) -> bool:
    """Return whether a text is a number of steps: decimal digits only."""
    return word.isascii() and word.isdecimal() and len(word) < 20


def is_number(word: str) -> bool:
    """Return whether a text is a number or empty."""
    try:
        float(word or "0")
    except ValueError:
        return False
    return True
