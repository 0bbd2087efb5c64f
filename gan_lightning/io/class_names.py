"""Class names: stored in checkpoints, shown beside samples, and accepted in place of class numbers."""

import difflib
import functools
import logging
import unicodedata
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gan_lightning.errors import UserError, escape_control, first_and_count

if TYPE_CHECKING:
    from matplotlib.ft2font import FT2Font

log = logging.getLogger(__name__)

MAX_LENGTH = 255  # characters of a class name, like the maximum length of a folder name
MAX_LISTED = 20  # classes in an error message
CAPTION_LENGTH = 24  # maximum number of characters beside a row of images


def sanitize_class_names(names: Sequence[Any]) -> list[str]:
    """Return the names as a checkpoint stores them: printable strings of limited length."""
    return [escape_control(str(name))[:MAX_LENGTH] for name in names]


def validate_class_names(names: Any, num_classes: int, path: Path) -> list[str]:
    """Validate the class names of an untrusted file and return them; an empty list if it has none.

    Args:
        names: The value that the file has for the class names; None if it has none.
        num_classes: Number of classes of the model; 0 for an unconditional model, which has no names.
        path: The file.

    Raises:
        UserError: The value is not a list with one printable string of at most 255 characters for each class.
    """
    if not num_classes or names is None or names == []:
        return []
    valid = isinstance(names, list) and len(names) == num_classes
    if not valid or not all(isinstance(n, str) and n.isprintable() and len(n) <= MAX_LENGTH for n in names):
        raise UserError(
            f"{path}: class_names: must be {num_classes} printable texts of at most {MAX_LENGTH} characters, one for "
            "each class; the file is damaged or was modified"
        )
    return names


def resolve_class_numbers(words: Sequence[int | str], names: Sequence[str], num_classes: int) -> list[int]:
    """Return the class numbers of classes given by name or by number.

    A string that equals a class name selects that class, even if the name is a number, such as a folder named ``10``.
    Any other string must be a class number, or, if some class names are numbers (``003``, ``1.0``, ``-1``), have the
    same value as exactly one of these names; a class number would be mistaken for a name then.

    Args:
        words: Names, or numbers as strings or integers.
        names: Names of all classes; empty if they are unknown.
        num_classes: Number of classes.

    Raises:
        ValueError: There is no such class, or several classes have the name.
    """
    places: dict[str, list[int]] = {}
    values: dict[Decimal | None, list[int]] = {}
    for label, name in enumerate(map(comparison_key, names)):
        places.setdefault(name, []).append(label)
        if (value := numeric_value(name)) is not None:
            values.setdefault(value, []).append(label)
    found, missing = [], []
    for word in words:
        text, is_text = comparison_key(str(word)), isinstance(word, str)
        # int() raises an error for thousands of digits.
        label = int(text) if text.isdecimal() and len(text) <= MAX_LENGTH else -1
        if is_text and text in places:
            if len(places[text]) > 1:
                raise ValueError(f"{len(places[text])} classes have the name {text}; give the number")
            found += places[text]
        elif is_text and len(values.get(numeric_value(text), ())) == 1:
            found += values[numeric_value(text)]
        elif 0 <= label < num_classes and not (is_text and values):
            found.append(label)
        else:
            missing.append(text)
    if missing:
        wrong = ", ".join(f"{word!r}" if not word.isdecimal() else word for word in missing)
        near = closest(missing[0], names) if len(missing) == 1 and numeric_value(missing[0]) is None else None
        hint = f"did you mean {near}? The" if near else "the"
        raise ValueError(f"there is no class {wrong}; {hint} classes are {describe_classes(names, num_classes)}")
    return found


def normalize_name(name: str) -> str:
    """Return a name stripped and in Unicode form NFC; file systems and keyboards use different forms."""
    return unicodedata.normalize("NFC", name).strip()


def comparison_key(name: str) -> str:
    """Return the form in which names are compared, both those that are stored and those that a user passes."""
    return normalize_name(*sanitize_class_names([name]))


def numeric_value(name: str) -> Decimal | None:
    """Return the value of a name that is a number, such as ``10``, ``003``, ``-1`` or ``1.0``; None for others."""
    try:
        value = Decimal(name) if "_" not in name else None
    except InvalidOperation:
        return None
    return value if value is not None and value.is_finite() else None


def closest(word: str, names: Sequence[str]) -> str | None:
    """Return the class name that is most similar to a word, ignoring case; None if no name is similar."""
    folded = {normalize_name(name).casefold(): name for name in reversed(names)}
    near = difflib.get_close_matches(word.casefold(), folded, 1)
    return folded[near[0]] if near else None


def split(text: str, names: Sequence[str]) -> list[str]:
    """Split ``cats,dogs`` at its commas, except at commas that belong to a class name."""
    parts, known, words, start = text.split(","), {*map(comparison_key, names)}, [], 0
    longest = 1 + max((name.count(",") for name in known), default=0)
    while start < len(parts):
        ends = range(min(start + longest, len(parts)), start + 1, -1)
        end = next((end for end in ends if comparison_key(",".join(parts[start:end])) in known), start + 1)
        words.append(",".join(parts[start:end]).strip())
        start = end
    return words


def describe_classes(names: Sequence[str], num_classes: int) -> str:
    """Return the list of the classes for a message, by name and number."""
    if not num_classes:
        return "none: the model is unconditional"
    if not names or [*names] == [*map(str, range(num_classes))]:
        return f"0 to {num_classes - 1}"
    # If some names are numbers, class numbers are left out, since they would be mistaken for names.
    only_names = any(numeric_value(normalize_name(name)) is not None for name in names)
    return first_and_count(
        [name if only_names else f"{name} ({label})" for label, name in enumerate(names)], MAX_LISTED
    )


def caption(names: Sequence[str], label: int) -> str:
    """Return the caption of a class's images: its name, or ``class 3`` if the name is a number or unknown.

    A name with characters that the font lacks is prefixed with the class number: ``3: ??``.
    """
    name = names[label] if names else str(label)
    name = f"class {name}" if normalize_name(name).isdecimal() else name
    shown = replace_undrawable(name)
    return truncate_text(shown if shown == name else f"{label}: {shown}", CAPTION_LENGTH)


def replace_undrawable(text: str) -> str:
    """Replace characters that the font lacks, such as Chinese ones, by ``?``."""
    if text.isascii():
        return text
    return "".join(char if font().get_char_index(ord(char)) else "?" for char in text)


@functools.cache
def font() -> "FT2Font":
    """Return matplotlib's font, which has Latin, Greek, Cyrillic and Arabic characters."""
    import matplotlib  # imported here because it takes a fraction of a second
    from matplotlib.ft2font import FT2Font

    return FT2Font(str(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")))


def truncate_text(text: str, longest: int) -> str:
    """Truncate a text to a number of characters; the last three are then dots."""
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def file_name(names: Sequence[str], label: int) -> str:
    """Return a class's name for file names; ``_`` replaces characters that file systems or shells may reject."""
    name = normalize_name(names[label]) if names else str(label)
    name = f"class{name}" if name.isdecimal() else name
    return "".join(char if char.isalnum() or char in "-_." else "_" for char in name)[:50]


def check_class_order(path: Path, stored: Sequence[str], names: Sequence[str]) -> None:
    """Compare a model's class names with the data's; log a warning if a class has a different name.

    Args:
        path: The model's file, for messages.
        stored: The model's class names.
        names: The data's class names.

    Raises:
        UserError: A name has different numbers in the model and the data, so that samples would be assigned to the
            wrong class.
    """
    error, moved = class_order_error(stored, names)
    if moved:
        raise UserError(f"{path}: {error}; use the training data, or rename the classes as they were")
    if error:
        log.warning(f"{path}: {error}")


def class_order_error(stored: Sequence[str], names: Sequence[str]) -> tuple[str, bool]:
    """Return the first difference between two lists of class names, and whether a common name has a different number.

    One renamed folder can change the numbers of all classes after it, so the numbers of names that occur in both lists
    are compared independently of the other names.

    Args:
        stored: The model's class names.
        names: The data's class names.

    Returns:
        A message, "" if there is no difference; and whether a name that occurs in both lists has a different number.
    """
    stored, names = ([*map(comparison_key, each)] for each in (stored, names))
    wrong = [label for label, pair in enumerate(zip(stored, names, strict=False)) if pair[0] != pair[1]]
    unmoved = {name for name, other in zip(stored, names, strict=False) if name == other}
    moved = [label for label in wrong if stored[label] in names and stored[label] not in unmoved]
    if not wrong:
        return "", False
    label = (moved or wrong)[0]
    error = f"class {label} is {stored[label]!r} in the model and {names[label]!r} in the data"
    where = f", where {stored[label]!r} is class {names.index(stored[label])}" if moved else ""
    return f"{error}{where}", bool(moved)
