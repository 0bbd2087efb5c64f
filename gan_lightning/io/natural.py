"""Natural sort order of names: class 2 before class 10."""

import re
import unicodedata
from typing import Any

MAX_DIGITS = 4000  # of a number; Python converts up to 4,300, and a name in an archive may have more


def natural(name: str) -> tuple[Any, ...]:
    """Return the sort key of a name for natural order: numbers are compared by value, letters ignoring case.

    The order is total and depends neither on the locale nor on the file system. Names that differ only in case or in
    leading zeros are compared by their characters.

    >>> sorted(["10", "9", "class 2", "Class 10"], key=natural)
    ['9', '10', 'class 2', 'Class 10']
    """
    # With a group, re.split returns text and digits in turn, so that text is never compared with a number.
    parts = re.split(r"(\d+)", unicodedata.normalize("NFC", name).casefold())
    return [int(part[:MAX_DIGITS]) if i % 2 else part for i, part in enumerate(parts)], name
