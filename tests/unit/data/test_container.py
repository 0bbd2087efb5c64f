"""The same images in a folder, an archive or a table are the same data set, with the same warnings and errors."""

import logging
from pathlib import Path

import pytest
import torch
from image_containers import CLASSES, CONTAINERS, files_of, photos, write_container, write_tar, write_zip
from PIL import Image
from sample_images import noise

from gan_lightning.data import cache as caches
from gan_lightning.data.image_folder import ImageFolder
from gan_lightning.errors import UserError
from gan_lightning.io.image import write_png


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return photos(tmp_path_factory.mktemp("containers") / "photos")


def load(root: Path, **settings) -> ImageFolder:
    data = ImageFolder(root, 16, batch_size=8, **settings)
    data.setup()
    return data


@pytest.mark.parametrize("limit", [None, 11])
@pytest.mark.parametrize("name", CONTAINERS)
def test_same_images_in_every_container_are_same_data_set(folder, tmp_path, name, limit):
    (tmp_path / "photos").symlink_to(folder)
    expected = load(folder, limit=limit)
    path = write_container(name, tmp_path / "photos")
    for cache in (None, tmp_path / "cache", tmp_path / "cache"):
        data = load(path, limit=limit, cache=cache)
        assert torch.equal(data.samples, expected.samples)
        assert torch.equal(data.labels, expected.labels)
        assert len(data.class_names) == 3
        if limit:
            images, labels = data.held_out()
            assert torch.equal(images, expected.held_out()[0])
            assert torch.equal(labels, expected.held_out()[1])
    if "webdataset" not in name:  # which numbers the classes
        assert data.class_names == expected.class_names == [*CLASSES]
    assert [*(tmp_path / "cache").glob("*.part")] == []


@pytest.mark.parametrize("name", CONTAINERS)
def test_cache_entry_is_used_until_container_changes(folder, tmp_path, monkeypatch, name):
    decoded, decode_to = [], caches.decode_to
    monkeypatch.setattr(caches, "decode_to", lambda *args: decoded.append(len(args[1])) or decode_to(*args))
    (tmp_path / "photos").symlink_to(folder)
    path = write_container(name, tmp_path / "photos")
    for _ in range(2):
        load(path, cache=tmp_path / "cache")
    assert decoded == [40]
    for file in [path] if path.is_file() else path.rglob("*.*"):
        file.touch()
    load(path, cache=tmp_path / "cache")
    assert decoded == [40, 40]


WRITERS = {"zip": write_zip, "tar": write_tar}


@pytest.fixture(params=[*WRITERS])
def pack(request, tmp_path):
    """``pack(files)``: write an archive and return its path."""
    return lambda files: WRITERS[request.param](tmp_path / f"a.{request.param}", files)


@pytest.fixture(scope="module")
def png(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("png") / "a.png"
    Image.new("RGB", (8, 8), "red").save(path)
    return path.read_bytes()


def test_files_that_are_skipped_in_folder_are_skipped_in_archive(tmp_path, pack, png, caplog):
    write_png(tmp_path / "grid.png", torch.zeros(3, 8, 8, dtype=torch.uint8))
    files = {
        "p/cats/1.png": png, "p/cats/.hidden.png": png, "p/cats/Thumbs.db": b"x", "p/dogs/2.png": png,
        "p/.git/3.png": png, "p/dogs/@eaDir/4.png": png, "__MACOSX/p/cats/._1.png": png, "p/thumbs/5.png": png,
        "p/env/pyvenv.cfg": b"", "p/env/lib/6.png": png, "p/run/samples/7.png": png,
        "p/run/config.yaml": b"_target_: gan_lightning.x", "p/notes.txt": b"x", "p/loose.png": png,
        "p/cats/grid.png": (tmp_path / "grid.png").read_bytes(),
    }  # fmt: skip
    with caplog.at_level(logging.INFO):
        data = load(path := pack(files.items()))
    assert data.class_names == ["cats", "dogs"]
    assert data.labels.tolist() == [0, 1]
    for line in (
        "2 folders of thumbnails or system files ('dogs/@eaDir', 'thumbs')",
        "1 Python virtual environments ('env')",
        "1 run directories of gan-lightning ('run')",
        "1 images that gan-lightning generated ('cats/grid.png')",
        "1 other files (.txt 1)",
        "1 images beside the sub-folders, which are the classes",
    ):
        assert line in caplog.text
    assert f"data.root={path}/p: the sub-folder 'thumbs' is left out" in caplog.text


def test_folder_in_archive_is_used(pack, png, caplog):
    files = [(f"set/{split}/{kind}/1.png", png) for split in ("train", "test") for kind in ("cats", "dogs")]
    path = pack(files)
    data = load(path)
    assert (len(data.samples), data.class_names) == (4, [])
    assert f"Set data.root={path}/set/test to use one split" in caplog.text
    data = load(path / "set" / "train")
    assert (len(data.samples), data.class_names) == (2, ["cats", "dogs"])
    with pytest.raises(UserError, match=r"data\.root='.*/nowhere': there is no such folder in the archive"):
        load(path / "nowhere")


def test_archive_of_images_without_folders_has_no_classes(pack, png):
    data = load(pack([("photos/2.png", png), ("photos/10.png", png)]))
    assert (len(data.samples), data.class_names) == (2, [])


@pytest.mark.parametrize("skip_broken", [False, True])
def test_broken_images_of_archive_are_reported_by_name(tmp_path, pack, caplog, skip_broken):
    noise(tmp_path / "noise")
    path = pack(files_of(tmp_path / "noise"))
    if not skip_broken:
        with pytest.raises(UserError, match=r"2 of 42 images cannot be read: '.*/07\.png' \(not an image") as caught:
            load(path)
        assert f"'{path}/41.png'" in str(caught.value)
        return
    expected = load(tmp_path / "noise", skip_broken=True)
    assert torch.equal(load(path, skip_broken=True).samples, expected.samples)


def test_archive_without_images_is_error(pack):
    with pytest.raises(UserError, match=r"a\.(zip|tar)': contains no images, only \.txt 1"):
        load(pack([("a.txt", b"x")]))
    with pytest.raises(UserError, match=r"a\.(zip|tar)': is empty"):
        load(pack([]))


def test_batches_of_archive_in_mapped_file_are_equal(folder, tmp_path):
    path = write_zip(tmp_path / "a.zip", files_of(folder))
    data = load(path, cache=tmp_path / "cache", memory_gb=1e-9)
    assert data.pages is not None
    assert torch.equal(data.samples, load(folder).samples)
