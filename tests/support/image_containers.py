"""The same images as a folder, zip, tar, webdataset, parquet and Arrow, for tests that compare containers."""

import importlib.util
import io
import json
import random
import tarfile
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

CLASSES = "cat 2", "cat 10", "dog"
needs_pyarrow = pytest.mark.skipif(
    importlib.util.find_spec("pyarrow") is None, reason="needs pyarrow, of the extra parquet"
)


def photos(folder: Path, num: int = 40, nested: bool = True) -> Path:
    """Write images of three classes of different numbers, sizes and formats; if ``nested``, some in deeper folders."""
    generator = np.random.default_rng(0)
    for i in range(num):
        name = CLASSES[min(i % 5, 2)]
        path = folder / name / ("deep" if nested and i % 7 == 0 else "") / f"{i}.{'jpg' if i % 3 else 'png'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        size = 16 + i % 5, 24 - i % 3, 3
        Image.fromarray(generator.integers(0, 256, size, np.uint8)).save(path)
    return folder


def files_of(folder: Path) -> list[tuple[str, bytes]]:
    """Return the relative paths and contents of the files below a folder, in an order that is not that of the paths."""
    files = sorted((path.relative_to(folder).as_posix(), path.read_bytes()) for path in folder.rglob("*.*"))
    random.Random(1).shuffle(files)
    return files


def write_zip(path: Path, files: Iterable[tuple[str, bytes]]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files:
            archive.writestr(name, content)
    return path


def write_tar(path: Path, files: Iterable[tuple[str, bytes]], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, content in files:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def write_webdataset(path: Path, files: Iterable[tuple[str, bytes]], label: str = "cls") -> Path:
    """Write a tar with a label beside each image, as webdataset does: the number of the class."""
    members = []
    for name, content in files:
        number, (stem, _, suffix) = CLASSES.index(name.split("/")[0]), name.rpartition(".")
        text = str(number) if label == "cls" else json.dumps({"label": number, "width": 9})
        members += [(f"{stem}.{suffix}", content), (f"{stem}.{label}", text.encode())]
    return write_tar(path, members)


def table_of(files: Iterable[tuple[str, bytes]], paths: bool = True):
    """Return a table of Arrow as Hugging Face exports one: images of bytes and path, and a ClassLabel."""
    import pyarrow

    rows, labels = [], []
    for name, content in files:
        rows.append({"bytes": content, "path": name if paths else None})
        labels.append(CLASSES.index(name.split("/")[0]))
    features = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": [*CLASSES]}}
    image = pyarrow.array(rows, pyarrow.struct({"bytes": pyarrow.binary(), "path": pyarrow.string()}))
    table = pyarrow.table({"image": image, "label": pyarrow.array(labels, pyarrow.int64())})
    return table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def write_parquet(path: Path, table) -> Path:
    from pyarrow import parquet

    parquet.write_table(table, path, row_group_size=7)
    return path


def write_arrow(path: Path, table, stream: bool = True) -> Path:
    from pyarrow import ipc

    with (ipc.new_stream if stream else ipc.new_file)(str(path), table.schema) as writer:
        writer.write_table(table, max_chunksize=9)
    return path


# Each function writes the images of a folder in another container beside it, and returns its path.
ARCHIVES: dict[str, Callable[[Path], Path]] = {
    "zip": lambda folder: write_zip(folder.with_suffix(".zip"), files_of(folder)),
    "zip of the folder": lambda folder: write_zip(
        folder.with_suffix(".all.zip"), [(f"{folder.name}/{name}", content) for name, content in files_of(folder)]
    ),
    "tar": lambda folder: write_tar(folder.with_suffix(".tar"), files_of(folder)),
    "tar of ./": lambda folder: write_tar(folder.with_suffix(".2.tar"), [(f"./{n}", c) for n, c in files_of(folder)]),
    "tar.gz": lambda folder: write_tar(folder.with_suffix(".tgz"), files_of(folder), "w:gz"),
    "tar.bz2": lambda folder: write_tar(folder.with_suffix(".tbz"), files_of(folder), "w:bz2"),
    "tar.xz": lambda folder: write_tar(folder.with_suffix(".txz"), files_of(folder), "w:xz"),
    "webdataset": lambda folder: write_webdataset(folder.with_suffix(".web.tar"), files_of(folder)),
    "webdataset with json": lambda folder: write_webdataset(folder.with_suffix(".js.tar"), files_of(folder), "json"),
    "webdataset of shards": lambda folder: write_shards(folder),
}
TABLES: dict[str, Callable[[Path], Path]] = {
    "parquet": lambda folder: write_parquet(folder.with_suffix(".parquet"), table_of(files_of(folder))),
    "arrow stream": lambda folder: write_arrow(folder.with_suffix(".arrow"), table_of(files_of(folder))),
    "arrow file": lambda folder: write_arrow(folder.with_suffix(".2.arrow"), table_of(files_of(folder)), stream=False),
    "parquet of shards": lambda folder: write_table_shards(folder),
}
CONTAINERS = [*ARCHIVES, *(pytest.param(name, marks=needs_pyarrow) for name in TABLES)]


def write_shards(folder: Path) -> Path:
    files, out = files_of(folder), folder.with_suffix(".shards")
    out.mkdir()
    for i in range(3):
        write_webdataset(out / f"photos-{i:06}.tar", files[i::3])
    return out


def write_table_shards(folder: Path) -> Path:
    """Write a folder as the Hub has it, with a split that is not used."""
    files, out = files_of(folder), folder.with_suffix(".hub")
    (out / "data").mkdir(parents=True)
    for i in range(2):
        write_parquet(out / "data" / f"train-{i:05}-of-00002.parquet", table_of(files[i::2]))
    write_parquet(out / "data" / "test-00000-of-00001.parquet", table_of(files[:5]))
    return out


def write_container(name: str, folder: Path) -> Path:
    """Write the images of a folder in a container of ``CONTAINERS``."""
    return (ARCHIVES | TABLES)[name](folder)
