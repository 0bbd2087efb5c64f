"""Parquet and Arrow files of images as Hugging Face exports them, read by pyarrow (the extra ``parquet``).

A column ``image`` has the content of image files, as a structure of ``bytes`` and ``path`` or as bytes alone. A column
``label`` has names, or numbers whose names are in the metadata of the file (Hugging Face's ``ClassLabel``).
"""

import json
import logging
import threading
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator
from pathlib import Path
from typing import Any

from gan_lightning.data.container import (
    Container,
    Listing,
    SharedFile,
    in_walk_order,
    max_decompressed,
    temporary_file,
)
from gan_lightning.data.image_file import MAX_IMAGE_BYTES, Member, Reader
from gan_lightning.data.layout import LeftOut
from gan_lightning.errors import UserError, first_and_count

log = logging.getLogger(__name__)

IMAGE, LABEL = "image", "label"  # names of the columns
BATCH_ROWS = 16  # rows with images that are in memory at a time
PARQUET, ARROW_FILE = b"PAR1", b"ARROW1"  # first bytes; the other format of Arrow is a stream
MAX_LISTED_COLUMNS = 10  # in a message
NO_IMAGE = "the row has no content of an image"


class Table(Container):
    """A parquet or Arrow file.

    Neither can be read in any order without all of it in memory, so the images are copied to a temporary file without
    a name when the first of them is read.

    Args:
        path: The file.
        scratch: Directory of the temporary file.

    Raises:
        UserError: pyarrow is missing, the file is damaged, or it has no column of images.
    """

    def __init__(self, path: Path, scratch: Path | None = None) -> None:
        self.root, self.scratch = path, scratch
        try:
            import pyarrow
        except ImportError as error:
            raise UserError(f"{self.key}: needs pyarrow; pip install 'gan-lightning[parquet]'") from error
        self.damaged = pyarrow.ArrowException, OSError, ValueError, TypeError, KeyError, MemoryError
        found = path.stat()
        self.version: Hashable = found.st_size, found.st_mtime_ns
        self.max_bytes = max_decompressed(found.st_size)
        try:
            schema = schema_of(path)
            types = {column.name: column.type for column in schema}
            features = features_of(schema.metadata)
        except self.damaged as error:
            raise self.unreadable(error) from error
        kinds = {name: kind_of(kind) for name, kind in types.items()}
        self.image = image_column(self.key, kinds)
        self.is_struct = kinds[self.image] == STRUCT
        self.has_path = self.is_struct and types[self.image].get_field_index("path") >= 0
        self.label, self.class_names = label_column(self.key, kinds, features)
        self.lock = threading.Lock()
        self.images: SharedFile | OSError | None = None  # the temporary file, or why there is none
        self.spans: list[tuple[int, int]] = []  # position and size of each image in it

    def unreadable(self, error: BaseException) -> UserError:
        """Return the error for a damaged file."""
        kind = "a parquet" if is_parquet(self.root) else "an Arrow"
        return UserError(f"{self.key}: cannot be read as {kind} file ({first_line(error)})")

    def listing(self, left: LeftOut) -> Listing:
        """Return the images, in the order of their paths if all have one, else of the rows.

        Raises:
            UserError: The file is damaged.
        """
        paths: list[Any] = []
        labels: list[Any] = []
        columns = [f"{self.image}.path"] * self.has_path + ([self.label] if self.label else [])
        try:
            for batch in batches_of(self.root, columns or [self.image], BATCH_ROWS if not columns else None):
                rows = [None] * batch.num_rows
                paths += batch.column(self.image).field("path").to_pylist() if self.has_path else rows
                labels += batch.column(self.label).to_pylist() if self.label else rows
        except self.damaged as error:
            raise self.unreadable(error) from error
        return listing_of_rows(self, paths, labels, self.class_names)

    def read(self, where: int, limit: int = -1) -> bytes:
        """Return the first bytes of the image of a row.

        Raises:
            OSError: The row has none, or the file is damaged.
        """
        with self.lock:
            if self.images is None:
                try:
                    self.images = self.copy_images()
                except self.damaged as error:
                    self.images = OSError(first_line(error))
            images = self.images
        if isinstance(images, OSError):
            raise images
        start, num_bytes = self.spans[where]
        if not num_bytes:
            raise OSError(NO_IMAGE)
        return images.read(start, num_bytes if limit < 0 else min(limit, num_bytes))

    def copy_images(self) -> SharedFile:
        """Copy the images to a temporary file, and set ``spans``.

        Raises:
            OSError: An image or all of them exceed the limits on decompressed bytes.
        """
        target, total = temporary_file(self.scratch), 0
        images = SharedFile(target)
        column = f"{self.image}.bytes" if self.is_struct else self.image
        for batch in batches_of(self.root, [column], BATCH_ROWS):
            values = batch.column(self.image)
            for value in values.field("bytes") if self.is_struct else values:
                content = value.as_py() or b""
                self.spans.append((total, len(content)))
                total += len(content)
                if len(content) > MAX_IMAGE_BYTES or total > self.max_bytes:
                    raise OSError("an image or the whole file exceeds the limit on decompressed bytes")
                target.write(content)
        return images


def listing_of_rows(
    reader: Reader, paths: Iterable[str | None], labels: Iterable[Any], class_names: list[str]
) -> Listing:
    """Return the listing of a table: one image for each row, by path if all have one, else by row.

    Args:
        reader: The table.
        paths: Path of each row's image, or None; it is a name and is not opened.
        labels: Label of each row, or None.
        class_names: Names of the classes that the labels number.
    """
    paths = list(paths)
    by_row = not all(paths)
    members = [
        Member(reader, f"row {row}" if by_row else str(path), row, label)
        for row, (path, label) in enumerate(zip(paths, labels, strict=True))
    ]
    images = members if by_row else in_walk_order(members)
    return Listing(images, Counter(), by_row, False, class_names)


def image_column(prefix: str, kinds: dict[str, str]) -> str:
    """Return the name of the column of images: ``image``, or the only one with the content of files.

    Args:
        prefix: Start of the error message.
        kinds: What each column holds, by :func:`kind_of`.

    Raises:
        UserError: There is none.
    """
    found = [name for name, kind in kinds.items() if kind in (STRUCT, BYTES)]
    if IMAGE in found:
        return IMAGE
    if len(found) == 1:
        return found[0]
    columns = first_and_count((f"{name} ({kind})" for name, kind in kinds.items()), MAX_LISTED_COLUMNS)
    raise UserError(
        f"{prefix}: has no column {IMAGE!r} with the bytes of image files, but {columns}; rename the column, and embed "
        "the files in it"
    )


def label_column(prefix: str, kinds: dict[str, str], features: dict[str, Any]) -> tuple[str | None, list[str]]:
    """Return the name of the column of labels, and the names of the classes that it numbers; None if there is none.

    It is ``label``, or the only column of Hugging Face's type ``ClassLabel``.

    Args:
        prefix: Start of the warning.
        kinds: What each column holds, by :func:`kind_of`.
        features: Hugging Face's description of the columns.
    """
    numbered = [name for name in kinds if features.get(name, {}).get("_type") == "ClassLabel"]
    name = LABEL if LABEL in kinds else numbered[0] if len(numbered) == 1 else None
    if name is None:
        return None, []
    if kinds[name] not in (NUMBER, TEXT):
        log.warning(f"{prefix}: its column {name!r} is ignored, since it is neither whole numbers nor text")
        return None, []
    names = features.get(name, {}).get("names")
    return name, list(map(str, names)) if name in numbered and isinstance(names, list) else []


STRUCT, BYTES, NUMBER, TEXT = "bytes and path", "bytes", "whole numbers", "text"


def kind_of(arrow_type: Any) -> str:
    """Return what a column of a type of Arrow holds: one of the constants above, or the name of the type."""
    from pyarrow import types

    def is_bytes(one: Any) -> bool:
        return types.is_binary(one) or types.is_large_binary(one)

    if types.is_struct(arrow_type) and (index := arrow_type.get_field_index("bytes")) >= 0:
        return STRUCT if is_bytes(arrow_type.field(index).type) else str(arrow_type)
    if is_bytes(arrow_type):
        return BYTES
    if types.is_integer(arrow_type):
        return NUMBER
    return TEXT if types.is_string(arrow_type) or types.is_large_string(arrow_type) else str(arrow_type)


def features_of(metadata: dict[bytes, bytes] | None) -> dict[str, Any]:
    """Return Hugging Face's description of the columns from the metadata of a schema; empty if there is none.

    Raises:
        ValueError: It is not JSON.
    """
    try:
        features = json.loads((metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
    except (KeyError, TypeError, RecursionError):
        return {}
    return {name: one for name, one in features.items() if isinstance(one, dict)} if isinstance(features, dict) else {}


def is_parquet(path: Path) -> bool:
    """Return whether a table is a parquet file, not an Arrow file."""
    with path.open("rb") as file:
        return file.read(len(PARQUET)) == PARQUET


def schema_of(path: Path) -> Any:
    """Return the schema of a parquet or Arrow file."""
    import pyarrow
    from pyarrow import parquet

    if is_parquet(path):
        return parquet.read_schema(path)
    with pyarrow.memory_map(str(path)) as file, open_arrow(file) as reader:
        return reader.schema


def batches_of(path: Path, columns: list[str], rows: int | None = None) -> Iterator[Any]:
    """Yield the batches of rows of a parquet or Arrow file, with some columns.

    Args:
        path: The file.
        columns: Names of the columns, or ``column.field`` of those that are structures.
        rows: Rows in a batch of a parquet file; None for pyarrow's default.
    """
    import pyarrow
    from pyarrow import parquet

    if is_parquet(path):
        with parquet.ParquetFile(path) as table:
            yield from table.iter_batches(**({"batch_size": rows} if rows else {}), columns=columns)
        return
    names = [name.removesuffix(".path").removesuffix(".bytes") for name in columns]
    with pyarrow.memory_map(str(path)) as file, open_arrow(file) as reader:
        is_file = hasattr(reader, "num_record_batches")
        batches = map(reader.get_batch, range(reader.num_record_batches)) if is_file else iter(reader)
        for batch in batches:
            batch.validate(full=True)  # Arrow's format has offsets that would read other memory
            yield batch.select(names)


def open_arrow(file: Any) -> Any:
    """Open an Arrow file in the format of files, or of streams as Hugging Face writes them."""
    from pyarrow import ipc

    is_file = file.read(len(ARROW_FILE)) == ARROW_FILE
    file.seek(0)
    return ipc.open_file(file) if is_file else ipc.open_stream(file)


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text."""
    return (str(error).splitlines() or [type(error).__name__])[0]
