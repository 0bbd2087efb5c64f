"""The container is chosen by content; shards of several splits."""

from pathlib import Path

import pytest
from image_containers import files_of, needs_pyarrow, photos, table_of, write_parquet, write_tar, write_zip

from gan_lightning.data.archive import Tar, Zip
from gan_lightning.data.container import Folder
from gan_lightning.data.formats import open_container, split_of
from gan_lightning.data.image_folder import ImageFolder
from gan_lightning.errors import UserError
from gan_lightning.io.paths import split_at_file


def load(root: Path) -> ImageFolder:
    data = ImageFolder(root, 8)
    data.setup()
    return data


def test_container_is_chosen_by_content_not_by_name(tmp_path):
    files = [("a.png", b"x")]
    assert type(open_container(tmp_path, None)) is Folder
    assert type(open_container(write_zip(tmp_path / "a.tar", files), None)) is Zip
    assert type(open_container(write_tar(tmp_path / "a.zip", files), None)) is Tar
    assert type(open_container(write_tar(tmp_path / "a", files, "w:gz"), None)) is Tar
    (tmp_path / "with_stub").write_bytes(b"#!/bin/sh\n" + (tmp_path / "a.tar").read_bytes())
    assert type(open_container(tmp_path / "with_stub", None)) is Zip


@pytest.mark.parametrize("content", [b"", b"x" * 1000, b"\x89PNG\r\n\x1a\n"])
def test_other_file_is_error(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(UserError, match=r"a\.png': is a file that images are not read from; set it to a folder, or a"):
        open_container(tmp_path / "a.png", None)


def test_missing_path_is_error(tmp_path):
    with pytest.raises(UserError, match=r"data\.root='.*nowhere/b': there is no such folder or file"):
        open_container(tmp_path / "nowhere" / "b", None)


def test_path_is_split_at_file(tmp_path):
    (tmp_path / "a.zip").touch()
    assert split_at_file(tmp_path / "a.zip") == (tmp_path / "a.zip", "")
    assert split_at_file(tmp_path / "a.zip" / "b" / "c") == (tmp_path / "a.zip", "b/c")
    assert split_at_file(tmp_path) == (None, "")


@pytest.mark.parametrize(
    ("path", "split"),
    [
        ("data/train-00000-of-00002.parquet", "train"),
        ("test-00000-of-00001.arrow", "test"),
        ("validation/data-00000-of-00003.arrow", "validation"),
        ("train/0000.parquet", "train"),
        ("train-000012.tar", "train"),
        ("Train_3.tar", "train"),
        ("train.tar", "train"),
        ("photos-0001.tar", ""),
        ("0001.tar", ""),
        ("trains-1.tar", ""),
    ],
)
def test_split_of_shard(path, split):
    assert split_of(Path(path)) == split


def test_training_split_of_shards_is_used(tmp_path, caplog):
    files = files_of(photos(tmp_path / "photos", 10))
    (tmp_path / "set").mkdir()
    write_tar(tmp_path / "set" / "train-0.tar", files[:4])
    write_tar(tmp_path / "set" / "train-1.tar", files[4:7])
    write_tar(tmp_path / "set" / "test-0.tar", files[7:])
    caplog.set_level("INFO")
    assert len(load(tmp_path / "set").samples) == 7
    assert "left out: 1 files of other splits of the data set than train ('test-0.tar')" in caplog.text


def test_shards_of_several_splits_without_training_split_are_error(tmp_path):
    (tmp_path / "set").mkdir()
    for name in ("val-0.tar", "test-0.tar"):
        write_tar(tmp_path / "set" / name, [("a.png", b"x")])
    with pytest.raises(
        UserError, match=r"contains files of several splits of a data set \(test, val\); set data\.root"
    ):
        load(tmp_path / "set")


def test_shards_beside_images_are_ignored(tmp_path, caplog):
    photos(tmp_path / "photos", 5)
    write_tar(tmp_path / "photos" / "backup.tar", [("a.png", b"x")])
    caplog.set_level("INFO")
    assert len(load(tmp_path / "photos").samples) == 5
    assert "left out: 1 other files (.tar 1)" in caplog.text


@needs_pyarrow
def test_shards_with_different_classes_are_error(tmp_path):
    files = files_of(photos(tmp_path / "photos", 10))
    (tmp_path / "set").mkdir()
    table = table_of(files)
    write_parquet(tmp_path / "set" / "0.parquet", table)
    metadata = {"huggingface": table.schema.metadata[b"huggingface"].replace(b"dog", b"fox")}
    write_parquet(tmp_path / "set" / "1.parquet", table.replace_schema_metadata(metadata))
    with pytest.raises(UserError, match=r"set': its files have different class names; use those of one set"):
        load(tmp_path / "set")
