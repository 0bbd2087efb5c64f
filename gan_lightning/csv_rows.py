"""Read ``metrics.csv``, also where a part of it is damaged."""

import csv


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
    columns = fields(header) or [""]
    if "step" not in columns:
        columns[0] = "step"
    if any(name and is_number(name) for name in columns):  # a row: the header itself is missing
        return ["step"], [], [*range(1, len(lines) + 2)]
    rows: list[dict[str, str]] = []
    damaged: list[int] = []
    for number, line in enumerate(lines, 2):
        values = fields(line)
        row = dict(zip(columns, values, strict=False))
        if len(values) == len(columns) and is_step(row["step"]) and all(map(is_number, values)):
            rows.append(row)
        else:
            damaged.append(number)
    return columns, rows, damaged


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
