"""Labels of images: from ``labels.csv``, StyleGAN's ``dataset.json``, the container itself, or the sub-folders."""

import csv
import io
import json
import logging
import unicodedata
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import PurePosixPath
from typing import Any

from gan_lightning.data.container import Container, Listing
from gan_lightning.data.image_file import ImageFile, Member, name_of
from gan_lightning.errors import UserError
from gan_lightning.io.natural import natural
from gan_lightning.io.paths import LABEL_FILES

log = logging.getLogger(__name__)

CSV, STYLEGAN = LABEL_FILES
FILE, LABEL = "file", "label"  # columns of labels.csv


def labels_of(container: Container, listing: Listing, images: Sequence[ImageFile]) -> list[str | None] | None:
    """Return the name of each image's class, None for images without; None instead if sub-folders are the classes.

    The first of these that exists has the labels: ``labels.csv``, ``dataset.json``, the container's own labels.

    Args:
        container: The container.
        listing: Its content.
        images: The images to label.

    Raises:
        UserError: Some images have a label and others have none, or a file of labels is invalid.
    """
    prefix = container.key
    for file, parse in ((CSV, parse_csv), (STYLEGAN, parse_stylegan)):
        content = container.label_file(file)
        if content is None:
            continue
        try:
            found = parse(content)
        except (ValueError, csv.Error, RecursionError) as error:
            raise UserError(f"{prefix}: {file}: {error or type(error).__name__}; correct or remove it") from error
        if found is None:
            log.warning(f"{prefix}: {file} is ignored, since it {FORMATS[file]}")
            continue
        names = (normal(name_of(image, container.root)) for image in images)
        labels = [found.get(name) for name in names]
        if found and images and not any(labels):
            raise UserError(
                f"{prefix}: {file} names none of the images, but {next(iter(found))!r}; use paths relative to it"
            )
        source = file
        break
    else:
        labels = [name_of_class(image, listing.class_names, prefix) for image in images]
        if not any(labels) and listing.has_folders:
            return None
        source = "it"
    missing = [image for image, label in zip(images, labels, strict=True) if label is None]
    if missing and len(missing) < len(images):
        example = name_of(missing[0], container.root)
        raise UserError(
            f"{prefix}: {len(missing):,} of {len(images):,} images have no label in {source}, for example {example!r}; "
            "add their labels, or remove these images"
        )
    return labels


FORMATS = {
    CSV: f"has no columns {FILE} and {LABEL}",
    STYLEGAN: "is not StyleGAN's: no list of [file, whole number] under the key labels",
}


def name_of_class(image: ImageFile, class_names: Sequence[str], prefix: str) -> str | None:
    """Return the name of the class that a container has for an image; None if it has none.

    Raises:
        UserError: The label is a number without a name.
    """
    label = image.label if isinstance(image, Member) else None
    if label is None or not class_names:
        return None if label in (None, "") else str(label)
    if label == -1:  # how Hugging Face stores that an image has no label
        return None
    if not isinstance(label, int) or not 0 <= label < len(class_names):
        raise UserError(f"{prefix}: {str(image)!r} has the label {label!r}, and there are {len(class_names):,} classes")
    return class_names[label]


def parse_csv(content: bytes) -> dict[str, str] | None:
    """Return the class of each file of ``labels.csv``; None if the columns are others.

    Raises:
        ValueError: A row has no label, or a file occurs twice with different labels.
    """
    rows = csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True)
    columns = {name.strip().lower(): name for name in rows.fieldnames or [] if name}
    if not columns.keys() >= {FILE, LABEL}:
        return None
    found: dict[str, str] = {}
    for row in rows:
        file, label = ((row[columns[name]] or "").strip() for name in (FILE, LABEL))
        if not file or not label:
            raise ValueError(f"line {rows.line_num} has no file or no label")
        if found.setdefault(normal(file), label) != label:
            raise ValueError(f"line {rows.line_num} gives {file!r} a second label")
    return found


def parse_stylegan(content: bytes) -> dict[str, str] | None:
    """Return the class of each file of ``dataset.json``, none if it states that there are none; None if it is another.

    Raises:
        ValueError: It is not JSON.
    """
    parsed: Any = json.loads(content)
    if not isinstance(parsed, Mapping) or "labels" not in parsed:
        return None
    pairs = parsed["labels"]
    if pairs is None:
        return {}
    if not isinstance(pairs, list) or not all(is_labelled_file(pair) for pair in pairs):
        return None
    return {normal(file): str(label) for file, label in pairs}


def is_labelled_file(pair: Any) -> bool:
    """Return whether an element of StyleGAN's labels is a file name and a whole number."""
    return isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], str) and type(pair[1]) is int


def normal(file: str) -> str:
    """Return the path of a file as labels are looked up: with ``/``, without ``.``, in one Unicode form."""
    return unicodedata.normalize("NFC", str(PurePosixPath(file.replace("\\", "/"))))


def alternate(
    images: Sequence[ImageFile], labels: Sequence[str | None], class_names: Sequence[str]
) -> tuple[list[ImageFile], list[int], dict[str, int]]:
    """Sort labelled images so that the classes alternate: the first image of each class, then the second of each.

    Args:
        images: Images in the order within a class.
        labels: Names of their classes; images with None are left out.
        class_names: Names of all classes in order; empty for the natural order of the names that occur.

    Returns:
        Images, class numbers, and the number of images of each class in order.
    """
    members: dict[str, list[ImageFile]] = {name: [] for name in class_names}
    members |= {name: [] for name in sorted({label for label in labels if label}, key=natural) if name not in members}
    for image, label in zip(images, labels, strict=True):
        if label is not None:
            members[label].append(image)
    rounds = zip_longest(*([(image, number) for image in group] for number, group in enumerate(members.values())))
    pairs = [pair for one in rounds for pair in one if pair]
    counts = {name: len(group) for name, group in members.items()}
    return [image for image, _ in pairs], [number for _, number in pairs], counts
