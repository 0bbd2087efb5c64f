"""Data sets of the Hugging Face Hub: a stand-in for its library, and the library itself on files of this machine."""

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from image_containers import CLASSES, files_of, photos, table_of, write_parquet

from gan_lightning.data.hub import Hub
from gan_lightning.data.image_folder import ImageFolder
from gan_lightning.errors import UserError


class Image:
    def __init__(self, decode: bool = True) -> None:
        self.decode = decode


class ClassLabel:
    names, dtype = [*CLASSES], "int64"


class Dataset:
    """Stand-in with the methods of ``datasets.Dataset`` that the package calls."""

    _fingerprint = "0123"

    def __init__(self, rows: list[dict[str, Any]], features: dict[str, Any]) -> None:
        self.rows, self.features = rows, features

    def select_columns(self, names: list[str]) -> "Dataset":
        return Dataset([{name: row[name] for name in names} for row in self.rows], self.features)

    def cast_column(self, name: str, feature: Image) -> "Dataset":
        assert feature.decode is False
        return self

    def __getitem__(self, i: int) -> dict[str, Any]:
        return self.rows[i]

    def __len__(self) -> int:
        return len(self.rows)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return photos(tmp_path_factory.mktemp("hub") / "photos")


@pytest.fixture
def library(folder, monkeypatch) -> SimpleNamespace:
    """A stand-in for the library; ``rows`` are those of the data set, ``calls`` the arguments of ``load_dataset``."""
    rows = [
        {"image": {"bytes": content, "path": name}, "label": CLASSES.index(name.split("/")[0]), "width": 3}
        for name, content in files_of(folder)
    ]
    found = SimpleNamespace(rows=rows, calls=[], features={"image": Image(), "label": ClassLabel(), "width": 0})

    def load_dataset(*args: Any, **settings: Any) -> Dataset:
        found.calls.append((args, settings))
        return Dataset(found.rows, found.features)

    module = ModuleType("datasets")
    module.load_dataset, module.Image = load_dataset, Image
    monkeypatch.setitem(sys.modules, "datasets", module)
    return found


def load(tmp_path: Path, name: str = "owner/photos", **settings: Any) -> Hub:
    data = Hub(name, tmp_path, image_size=16, **settings)
    data.setup()
    return data


def test_data_set_of_hub_equals_folder(library, folder, tmp_path):
    expected, data = ImageFolder(folder, 16), load(tmp_path, split="all")
    expected.setup()
    assert torch.equal(data.samples, expected.samples)
    assert torch.equal(data.labels, expected.labels)
    assert data.class_names == expected.class_names
    assert library.calls == [(("owner/photos",), {"split": "all", "cache_dir": str(tmp_path / "hub")})]


def test_data_set_of_hub_without_labels(library, tmp_path):
    del library.features["label"]
    data = load(tmp_path)
    assert (len(data.samples), data.class_names) == (40, [])


def test_images_that_are_files_are_read_from_downloads_only(library, folder, tmp_path):
    (tmp_path / "hub").mkdir()
    for row, place in zip(library.rows, (tmp_path / "hub", tmp_path), strict=False):
        (place / "x.png").write_bytes(row["image"]["bytes"])
        row["image"] = {"bytes": None, "path": str(place / "x.png")}
    with pytest.raises(UserError, match=r"1 of 40 images cannot be read: .*x\.png: a link to a file outside .*/hub"):
        load(tmp_path)
    library.rows[1]["image"] = None
    with pytest.raises(UserError, match=r"1 of 40 images cannot be read: 'owner/photos/row 1' \(the row has no"):
        load(tmp_path)


@pytest.mark.parametrize("name", ["photos", "../x", "a/b/c", "owner/"])
def test_name_that_is_not_of_hub_is_error(library, tmp_path, name):
    with pytest.raises(UserError, match=r"data\.name=.*: must be the owner/name of a data set on the Hugging Face Hub"):
        load(tmp_path, name)
    assert library.calls == []


def test_missing_library_is_error_that_names_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UserError, match=r"^data=hub: needs datasets; pip install 'gan-lightning\[datasets\]'$"):
        load(tmp_path)


def test_error_of_library_is_one_line(library, tmp_path, monkeypatch):
    def fail(*_: Any, **__: Any) -> None:
        raise FileNotFoundError("Couldn't find any data file\x1b")

    monkeypatch.setattr(sys.modules["datasets"], "load_dataset", fail)
    with pytest.raises(UserError, match=r"^data\.name=owner/photos: cannot be loaded \(Couldn't find any data file"):
        load(tmp_path)


def test_data_set_without_images_is_error(library, tmp_path):
    del library.features["image"]
    with pytest.raises(UserError, match=r"^data\.name=owner/photos: has no column 'image' .*but label \(whole"):
        load(tmp_path)


def test_library_itself_reads_its_files(tmp_path, monkeypatch):
    """``load_from_disk`` and local parquet files stand in for the Hub, which the tests do not reach.

    The library stores file names without their folders, so the images are not nested.
    """
    datasets = pytest.importorskip("datasets", reason="needs datasets, of the extra datasets")
    folder = photos(tmp_path / "photos", nested=False)
    expected = ImageFolder(folder, 16)
    expected.setup()
    path = write_parquet(tmp_path / "a.parquet", table_of(files_of(folder)))
    loaded = datasets.load_dataset("parquet", data_files=str(path), split="train", cache_dir=str(tmp_path / "cache"))
    loaded.save_to_disk(str(tmp_path / "saved"))
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: datasets.load_from_disk(str(tmp_path / "saved")))
    data = load(tmp_path)
    saved = ImageFolder(tmp_path / "saved", 16)  # the Arrow file that it wrote
    saved.setup()
    for found in (data, saved):
        assert torch.equal(found.samples, expected.samples)
        assert torch.equal(found.labels, expected.labels)
        assert found.class_names == expected.class_names
