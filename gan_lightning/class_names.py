"""Names of classes: stored with a model's weights, shown beside its samples, accepted wherever a class number is."""

import difflib
import functools
import logging
import unicodedata
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gan_lightning.errors import UserError, abridged, printable

if TYPE_CHECKING:
    from matplotlib.ft2font import FT2Font

log = logging.getLogger(__name__)

LONGEST = 255  # characters of a name, as of a folder's
LISTED = 20  # classes in a message
CAPTION = 24  # characters beside a row of images


def storable(names: Sequence[Any]) -> list[str]:
    """Return the names as a checkpoint stores them: printable texts of a bounded length."""
    return [printable(str(name))[:LONGEST] for name in names]


def checked(names: Any, num_classes: int, path: Path) -> list[str]:
    """Return the class names of an untrusted file, validated; an empty list where it has none.

    Args:
        names: What the file holds in their place; None where it holds nothing.
        num_classes: Classes of the model; 0 for an unconditional one, which has no names.
        path: The file.

    Raises:
        UserError: They are not one printable text of at most 255 characters for each class.
    """
    if not num_classes or names is None or names == []:
        return []
    valid = isinstance(names, list) and len(names) == num_classes
    if not valid or not all(isinstance(n, str) and n.isprintable() and len(n) <= LONGEST for n in names):
        raise UserError(
            f"{path}: class_names: must be {num_classes} printable texts of at most {LONGEST} characters, one for each "
            "class; the file is damaged, or was changed"
        )
    return names


def numbers(words: Sequence[int | str], names: Sequence[str], num_classes: int) -> list[int]:
    """Return the numbers of classes that are given by name or by number.

    A text that is a class name stands for that class, also where the name is a number, as of a folder ``10``. Any other
    text must be the number of a class. Where a name is a number, such as ``003``, ``1.0`` or ``-1``, it must have the
    value of exactly one of them: as the number of a class it would be mistaken for a name.

    Args:
        words: Names, numbers as text, or numbers.
        names: Names of all classes; empty where they are unknown.
        num_classes: How many classes there are.

    Raises:
        ValueError: There is no such class, or several have the name.
    """
    places: dict[str, list[int]] = {}
    values: dict[Decimal, list[int]] = {}
    for label, name in enumerate(map(comparable, names)):
        places.setdefault(name, []).append(label)
        if (value := value_of(name)) is not None:
            values.setdefault(value, []).append(label)
    found, missing = [], []
    for word in words:
        text, is_text = comparable(str(word)), isinstance(word, str)
        label = int(text) if text.isdecimal() and len(text) <= LONGEST else -1  # int() raises for thousands of digits
        if is_text and text in places:
            if len(places[text]) > 1:
                raise ValueError(f"{len(places[text])} classes have the name {text}; give the number")
            found += places[text]
        elif is_text and len(values.get(value_of(text), ())) == 1:
            found += values[value_of(text)]
        elif 0 <= label < num_classes and not (is_text and values):
            found.append(label)
        else:
            missing.append(text)
    if missing:
        wrong = ", ".join(f"{word!r}" if not word.isdecimal() else word for word in missing)
        near = suggestion(missing[0], names) if len(missing) == 1 and value_of(missing[0]) is None else ""
        raise ValueError(f"there is no class {wrong}{near}; the classes are {listed(names, num_classes)}")
    return found


def plain(name: str) -> str:
    """Return a name in one form of Unicode, since file systems and keyboards differ in it, without outer spaces."""
    return unicodedata.normalize("NFC", name).strip()


def comparable(name: str) -> str:
    """Return a name, as stored or as typed, in the form in which names are compared."""
    return plain(*storable([name]))


def value_of(name: str) -> Decimal | None:
    """Return the value of a name that is a number, such as ``10``, ``003``, ``-1`` or ``1.0``; None of any other."""
    try:
        value = Decimal(name) if "_" not in name else None
    except InvalidOperation:
        return None
    return value if value is not None and value.is_finite() else None


def suggestion(word: str, names: Sequence[str]) -> str:
    """Return the nearest class name as the middle of a sentence, whatever its case; empty where none is near."""
    folded = {plain(name).casefold(): name for name in reversed(names)}
    near = difflib.get_close_matches(word.casefold(), folded, 1)
    return f", the nearest is {folded[near[0]]}" if near else ""


def split(text: str, names: Sequence[str]) -> list[str]:
    """Split ``cats,dogs`` at its commas, except at those that belong to a class name."""
    parts, known, words, start = text.split(","), {*map(comparable, names)}, [], 0
    longest = 1 + max((name.count(",") for name in known), default=0)
    while start < len(parts):
        ends = range(min(start + longest, len(parts)), start + 1, -1)
        end = next((end for end in ends if comparable(",".join(parts[start:end])) in known), start + 1)
        words.append(",".join(parts[start:end]).strip())
        start = end
    return words


def listed(names: Sequence[str], num_classes: int) -> str:
    """Return the classes as a message lists them, by name and number."""
    if not num_classes:
        return "none: it is not conditional"
    if not names or [*names] == [*map(str, range(num_classes))]:
        return f"0 to {num_classes - 1}"
    only_names = any(value_of(plain(name)) is not None for name in names)  # a number would be mistaken for a name
    return abridged([name if only_names else f"{name} ({label})" for label, name in enumerate(names)], LISTED)


def caption(names: Sequence[str], label: int) -> str:
    """Return the caption of a class's images: its name, or ``class 3`` where the name is a number or unknown.

    A name that the font cannot draw begins with the class number: ``3: ??``.
    """
    name = names[label] if names else str(label)
    name = f"class {name}" if plain(name).isdecimal() else name
    shown = drawable(name)
    return shortened(shown if shown == name else f"{label}: {shown}", CAPTION)


def drawable(text: str) -> str:
    """Return a text with ``?`` in the place of characters that the font lacks, such as Chinese ones."""
    if text.isascii():
        return text
    return "".join(char if font().get_char_index(ord(char)) else "?" for char in text)


@functools.cache
def font() -> "FT2Font":
    """Return matplotlib's font, which has Latin, Greek, Cyrillic and Arabic characters."""
    import matplotlib  # takes a part of a second to import
    from matplotlib.ft2font import FT2Font

    return FT2Font(str(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")))


def shortened(text: str, longest: int) -> str:
    """Return a text cut to a number of characters, the last three dots where it was longer."""
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def file_name(names: Sequence[str], label: int) -> str:
    """Return a class as a part of a file name: ``_`` replaces each character that file systems or shells may reject."""
    name = plain(names[label]) if names else str(label)
    name = f"class{name}" if name.isdecimal() else name
    return "".join(char if char.isalnum() or char in "-_." else "_" for char in name)[:50]


def refuse_other_order(path: Path, stored: Sequence[str], names: Sequence[str]) -> None:
    """Raise UserError where a model's class has another number in the data; warn where a class has another name.

    Args:
        path: The model's file.
        stored: Names of the model's classes.
        names: Names of the data's classes.

    Raises:
        UserError: A name that both have stands for another number: samples would be taken for another class's.
    """
    fault, moved = other_order(stored, names)
    if moved:
        raise UserError(f"{path}: {fault}; use the training data, or rename the classes as they were")
    if fault:
        log.warning(f"{path}: {fault}")


def other_order(stored: Sequence[str], names: Sequence[str]) -> tuple[str, bool]:
    """Return the first difference of a model's class names from the data's, and whether a common name has moved.

    One renamed folder can move all classes behind it. So a name that both have is compared by its number, whatever
    the other names are.

    Args:
        stored: Names of the model's classes.
        names: Names of the data's classes.
    """
    stored, names = ([*map(comparable, each)] for each in (stored, names))
    wrong = [label for label, pair in enumerate(zip(stored, names, strict=False)) if pair[0] != pair[1]]
    kept = {name for name, other in zip(stored, names, strict=False) if name == other}
    moved = [label for label in wrong if stored[label] in names and stored[label] not in kept]
    if not wrong:
        return "", False
    label = (moved or wrong)[0]
    fault = f"class {label} is {stored[label]!r} in the model and {names[label]!r} in the data"
    where = f", where {stored[label]!r} is class {names.index(stored[label])}" if moved else ""
    return f"{fault}{where}", bool(moved)
