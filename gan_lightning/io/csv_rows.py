"""Parsing of ``metrics.csv``, with recovery of the intact lines of a damaged file."""

import csv
from collections.abc import Iterable, Iterator


def parse(text: str) -> tuple[list[str], list[dict[str, str]], list[int]]:
    """Parse the text of a ``metrics.csv`` line by line, so that a damaged line does not affect the others.

    Every value is a number, or empty if the run did not log it at this step. A last line without a line break was cut
    off while it was written, and is ignored. With a damaged header, rows can be read if its number of fields is
    correct, since the step is always the first field.

    Args:
        text: Content of the file.

    Returns:
        Names of the columns, the rows, and the numbers of the damaged lines.
    """
    header, *lines = text.rpartition("\n")[0].split("\n")
    columns = names(header)
    if any(name and is_number(name) for name in columns):  # a data row: the header is missing
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
    """Yield the values of each line; None for a damaged line.

    Args:
        lines: Lines of the file, without its header.
        columns: Names of the columns.
    """
    step = columns.index("step")
    for line in lines:
        values = fields(line)
        valid = len(values) == len(columns) and is_step(values[step]) and all(map(is_number, values))
        yield values if valid else None


def fields(line: str) -> list[str]:
    """Return the fields of one line, or an empty list if the line is not valid CSV."""
    try:
        return next(csv.reader([line.rstrip("\r")]), [])
    except csv.Error:  # a field of megabytes, or a NUL
        return []


def is_step(text: str) -> bool:
    """Return whether a text is a step: decimal digits only."""
    return text.isascii() and text.isdecimal() and len(text) < 20


def is_number(text: str) -> bool:
    """Return whether a text is a number or empty."""
    try:
        float(text or "0")
    except ValueError:
        return False
    return True
