"""A look at the user's images without decoding them: number, sizes, modes, classes."""

import logging
import zipfile

import pytest
from PIL import Image

from gan_lightning.data import survey as module
from gan_lightning.data.image_folder import ImageFolder
from gan_lightning.data.survey import Survey, survey
from gan_lightning.errors import UserError


def write(folder, name, size=(30, 20), mode="RGB", **save):
    folder.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size).save(folder / name, **save)


def test_flat_folder_has_median_size_and_no_classes(tmp_path):
    for i, width in enumerate((30, 31, 29, 30, 90)):
        write(tmp_path, f"{i}.png", (width, 20))
    assert survey(ImageFolder(tmp_path)) == Survey(5, 20, 30, True, False, ())
    write(tmp_path, "5.png", (90, 20))
    assert not survey(ImageFolder(tmp_path)).same_ratio, "4 of 6 are less than 80 %"


def test_images_are_gray_if_all_are(tmp_path):
    for i, mode in enumerate(("L", "1", "LA", "I;16")):
        write(tmp_path, f"{i}.png", mode=mode)
    assert survey(ImageFolder(tmp_path)).gray
    write(tmp_path, "9.png", mode="P")
    assert not survey(ImageFolder(tmp_path)).gray


def test_sides_are_those_of_a_viewer(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    write(tmp_path, "portrait.jpg", (40, 24), exif=exif)
    found = survey(ImageFolder(tmp_path))
    assert (found.width, found.height) == (24, 40)


def test_sub_folders_are_classes_and_limit_applies(tmp_path):
    for name, count in {"a": 4, "b": 2}.items():
        for i in range(count):
            write(tmp_path / name, f"{i}.png")
    assert survey(ImageFolder(tmp_path)).class_sizes == (4, 2)
    limited = survey(ImageFolder(tmp_path, limit=3))
    assert (limited.num_images, limited.class_sizes) == (3, (2, 1))


def test_few_headers_are_read_evenly_spaced(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MAX_HEADERS", 3)
    for i in range(7):
        write(tmp_path, f"{i}.png")
    read, read_header = [], module.read_header
    monkeypatch.setattr(module, "read_header", lambda file: read.append(file.name) or read_header(file))
    assert survey(ImageFolder(tmp_path)).num_images == 7
    assert read == ["0.png", "3.png", "6.png"]


def test_archive_is_surveyed_as_folder(tmp_path):
    for i in range(4):
        write(tmp_path / "files" / "ab"[i % 2], f"{i}.png", (40, 20))
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        for file in sorted((tmp_path / "files").rglob("*.png")):
            archive.write(file, file.relative_to(tmp_path / "files"))
    assert survey(ImageFolder(tmp_path / "photos.zip")) == survey(ImageFolder(tmp_path / "files"))


def test_huge_and_broken_files_are_left_to_decoding(tmp_path, monkeypatch):
    write(tmp_path, "a.png")
    (tmp_path / "b.png").write_bytes(b"no image")
    assert survey(ImageFolder(tmp_path)).num_images == 2
    (tmp_path / "a.png").unlink()
    with pytest.raises(UserError, match=r"^data.root=.*: none of 1 images that were looked at can be read$"):
        survey(ImageFolder(tmp_path))
    write(tmp_path, "c.png", (30, 30))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # an error from the double on
    with pytest.raises(UserError, match="none of 2 images"):
        survey(ImageFolder(tmp_path))


def test_warnings_are_left_to_the_run(tmp_path, caplog):
    write(tmp_path / "only", "a.png")
    with caplog.at_level(logging.INFO):
        survey(ImageFolder(tmp_path))
        assert caplog.messages == []
        ImageFolder(tmp_path).find()
    assert "is the only sub-folder with images" in caplog.text
