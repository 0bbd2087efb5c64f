"""Choice of the container for what ``data.root`` names: a folder, an archive, a table, or a folder of these."""

import re
import zipfile
from collections.abc import Sequence
from pathlib import Path

from gan_lightning.data.archive import Tar, Zip, opener_of
from gan_lightning.data.container import Container, Folder, Shards
from gan_lightning.data.layout import LeftOut, is_split
from gan_lightning.data.table import ARROW_FILE, PARQUET, Table
from gan_lightning.errors import UserError
from gan_lightning.io.natural import natural
from gan_lightning.io.paths import split_at_file

ZIP, TAR_MAGIC, TAR_MAGIC_AT = b"PK", b"ustar", 257
ARROW_STREAM = b"\xff\xff\xff\xff"
OF_SHARD = re.compile(r"[-_.]?\d+([-_]of[-_]\d+)?$")  # the number at the end of a shard's name
KINDS = "a folder, or a zip, tar, parquet or Arrow file"


def open_container(root: Path, scratch: Path | None, is_shard: bool = False) -> Container:
    """Return the container at a path, by its content and not by its name.

    Args:
        root: A folder, an archive or a table; or a folder in an archive, such as ``photos.zip/train``.
        scratch: Directory of temporary files, which have no names.
        is_shard: Whether the rest of the data set is elsewhere.

    Raises:
        UserError: There is no such path, or it is something else.
    """
    prefix = f"data.root={str(root)!r}"
    if root.is_dir():
        return Folder(root)
    file, inside = split_at_file(root)
    if file is None:
        raise UserError(f"{prefix}: there is no such folder or file")
    try:
        with file.open("rb") as opened:
            start = opened.read(TAR_MAGIC_AT + len(TAR_MAGIC))
        is_zip = start.startswith(ZIP) or (not start.startswith((PARQUET, ARROW_FILE)) and zipfile.is_zipfile(file))
    except OSError as error:
        raise UserError(f"{prefix}: cannot be read ({error.strerror})") from error
    if is_zip:
        return Zip(file, inside, scratch, is_shard)
    if start[TAR_MAGIC_AT:] == TAR_MAGIC or opener_of(start) or file.suffix.lower() == ".tar":
        return Tar(file, inside, scratch, is_shard)
    if start.startswith((PARQUET, ARROW_FILE, ARROW_STREAM)) and not inside:
        return Table(file, scratch)
    raise UserError(f"{prefix}: is a file that images are not read from; set it to {KINDS}")


def open_shards(root: Path, paths: Sequence[Path], scratch: Path | None, left: LeftOut) -> Container:
    """Return the container of the archives or tables in a folder; of several splits, that of ``train``.

    Args:
        root: The folder.
        paths: Its archives and tables.
        scratch: Directory of temporary files, which have no names.
        left: Receives those of other splits.

    Raises:
        UserError: They are of several splits, and none of these is ``train``; or one cannot be opened.
    """
    of_split: dict[str, list[Path]] = {}
    for path in paths:
        of_split.setdefault(split_of(path.relative_to(root)), []).append(path)
    if "train" in of_split:
        chosen = of_split.pop("train")
        for path in (path for others in of_split.values() for path in others):
            left.add("files of other splits of the data set than train", path.relative_to(root).as_posix())
    elif len(of_split) > 1:
        names = ", ".join(sorted(of_split, key=natural))
        raise UserError(
            f"data.root={str(root)!r}: contains files of several splits of a data set ({names}); set data.root to the "
            "file or folder of one split"
        )
    else:
        (chosen,) = of_split.values()
    return Shards(root, [open_container(path, scratch, is_shard=True) for path in chosen])


def split_of(path: Path) -> str:
    """Return the split of a data set that an archive or a table belongs to; empty if its path names none.

    >>> split_of(Path("data/train-00000-of-00002.parquet")), split_of(Path("test/data-00000-of-00001.arrow"))
    ('train', 'test')
    """
    names = [*path.parts[:-1], OF_SHARD.sub("", path.stem)]
    return next((name.casefold() for name in names[::-1] if is_split(name)), "")
