"""A folder of the user's own pictures: its classes, its report, what is broken in it."""

import logging
import os
import sys
from pathlib import Path

import pytest
import torch
from pictures import BLUE, GREEN, RED, at, colours, near
from PIL import Image

from gan_lightning.data.decode import decode
from gan_lightning.data.image_folder import ImageFolder
from gan_lightning.errors import UserError


@pytest.fixture
def folder(tmp_path) -> Path:
    """Three classes, one of them nested, one loose picture, other files, hidden ones and an empty sub-folder."""
    root = tmp_path / "pictures"
    files = {
        "b_green/1.png": GREEN, "b_green/2.JPG": GREEN, "a_red/1.png": RED, "a_red/deep/er/2.png": RED,
        "a_red/3.png": RED, "c blue/x.webp": BLUE, "loose.png": RED, ".hidden.png": RED, ".cache/1.png": RED,
        "a_red/._1.png": RED,
    }  # fmt: skip
    for name, colour in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        colours((20, 12), colour, colour).save(root / name)
    (root / "empty").mkdir()
    (root / "notes.txt").write_text("x")
    (root / "a_red" / "phone.heic").write_text("x")
    (root / "texts").mkdir()
    (root / "texts" / "README").write_text("x")
    return root


def test_sub_folders_become_classes(folder, caplog):
    data = ImageFolder(root=folder, image_size=[8, 16], flip=False)
    with caplog.at_level(logging.INFO):
        data.setup()
    assert data.class_names == ["a_red", "b_green", "c blue"]
    assert data.samples.shape == (6, 3, 8, 16)
    assert data.labels.tolist() == [0, 1, 2, 0, 1, 0]
    for picture, label in zip(data.samples, data.labels, strict=True):
        assert near(at(picture, 0.5, 0.5), [RED, GREEN, BLUE][label])
    report = caplog.text
    assert "6 pictures" in report
    assert "all 20 x 12" in report
    assert "RGB 6" in report
    assert "3 classes: a_red 3, b_green 2, c blue 1" in report
    assert "left out: 1 pictures beside the sub-folders" in report
    assert "left out: 3 other files" in report
    assert ".heic 1" in report


def test_loose_pictures_have_no_labels(folder, caplog):
    with caplog.at_level(logging.INFO):
        data = ImageFolder(root=folder / "a_red" / "deep" / "er")
        data.setup()
    assert data.class_names == []
    assert data.labels.tolist() == [0]
    assert "left out" not in caplog.text
    assert "classes" not in caplog.text


def test_the_report_tells_the_spread_of_sizes(tmp_path, caplog):
    for i, size in enumerate([(30, 20), (8, 9), (30, 20), (100, 50)]):
        Image.new("L" if i else "RGB", size).save(tmp_path / f"{i}.png")
    with caplog.at_level(logging.INFO):
        ImageFolder(root=tmp_path).setup()
    assert "8 x 9 to 100 x 50, most often 30 x 20 (2); modes L 3, RGB 1" in caplog.text


def test_many_classes_are_shortened(tmp_path, caplog):
    for i in range(30):
        (tmp_path / f"kind{i:02}").mkdir()
        Image.new("L", (8, 8)).save(tmp_path / f"kind{i:02}" / "1.png")
    with caplog.at_level(logging.INFO):
        data = ImageFolder(root=tmp_path)
        data.setup()
    assert data.num_classes == 30
    assert "30 classes" in caplog.text
    assert "and 22 more" in caplog.text


def test_limit_comes_before_decoding(folder, monkeypatch, caplog):
    (folder / "a_red" / "deep" / "er" / "2.png").write_bytes(b"broken, and never looked at")
    asked = []
    monkeypatch.setattr(
        "gan_lightning.data.cache.decode", lambda paths, *rest: asked.extend(paths) or decode(paths, *rest)
    )
    with caplog.at_level(logging.INFO):
        data = ImageFolder(root=folder, limit=4)
        data.setup()
    assert len(asked) == len(data.samples) == 4
    assert data.labels.tolist() == [0, 1, 2, 0]
    assert "4 pictures of 6" in caplog.text


def test_classes_that_a_limit_leaves_empty_are_dropped(folder, caplog):
    with caplog.at_level(logging.INFO):
        data = ImageFolder(root=folder, limit=2)
        data.setup()
    assert data.class_names == ["a_red", "b_green"]
    assert data.labels.tolist() == [0, 1]
    assert "1 classes of which no picture is left" in caplog.text
    assert data.real(2, torch.tensor([1, 1])).shape == (2, 3, 64, 64)


@pytest.mark.parametrize("limit", [3, 2])
def test_what_is_held_out_has_the_numbers_of_the_training_classes(folder, limit):
    """A green one is beyond the third; a blue one too where there are two, and has no number in training."""
    (folder / "a_red" / "deep" / "er" / "2.png").unlink()
    (folder / "a_red" / "3.png").unlink()
    data = ImageFolder(root=folder, limit=limit)
    data.setup()
    pictures, labels = data.held_out()
    assert near(at(pictures[0], 0, 0), GREEN)
    assert (len(pictures), labels.tolist()) == (1, [data.class_names.index("b_green")])


def spoil(folder: Path) -> list[Path]:
    """Seven broken pictures of different kinds."""
    good = (folder / "b_green" / "2.JPG").read_bytes()
    broken = {
        "b_green/cut.jpg": good[: len(good) // 2], "b_green/empty.png": b"", "b_green/text.png": b"hello",
        "a_red/half.png": (folder / "a_red" / "1.png").read_bytes()[:50], "a_red/zero.gif": bytes(100),
        "c blue/x.webp": b"RIFF", "a_red/tag.tif": b"II*\0" + b"\xff" * 40,
    }  # fmt: skip
    for name, content in broken.items():
        (folder / name).write_bytes(content)
    return [folder / name for name in broken]


def test_broken_pictures_are_all_found_and_told(folder):
    broken = spoil(folder)
    with pytest.raises(UserError) as error:
        ImageFolder(root=folder).setup()
    message = str(error.value)
    assert "7 of 12 pictures cannot be read" in message
    assert sum(repr(str(path)) in message for path in broken) == 5
    assert "and 2 more" in message
    assert "data.skip_broken=true" in message
    assert "truncated" in message or "not a picture" in message
    assert len(error.value.faults) == 1


def test_broken_pictures_can_be_left_out(folder, caplog):
    spoil(folder)
    with caplog.at_level(logging.INFO):
        data = ImageFolder(root=folder, skip_broken=True)
        data.setup()
    assert data.class_names == ["a_red", "b_green"]  # the only blue one is broken
    assert data.labels.tolist() == [0, 1, 0, 1, 0]
    for picture, label in zip(data.samples, data.labels, strict=True):
        assert near(at(picture, 0.5, 0.5), [RED, GREEN][label])
    assert "left out: 7 of 12 pictures cannot be read: '" in caplog.text, "and which"
    assert "1 classes of which" in caplog.text


def test_nothing_but_broken_pictures(tmp_path):
    (tmp_path / "a.png").write_bytes(b"x")
    with pytest.raises(UserError, match=r"1 of 1 pictures cannot be read.*no picture is left"):
        ImageFolder(root=tmp_path, skip_broken=True).setup()


def test_a_missing_path(tmp_path):
    with pytest.raises(UserError, match=r"data\.root=.*nowhere.*no such folder"):
        ImageFolder(root=tmp_path / "nowhere").setup()
    with pytest.raises(UserError, match="is empty"):
        ImageFolder(root=tmp_path).setup()
    (tmp_path / "a.zip").write_text("x")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b.HEIC").write_text("x")
    with pytest.raises(UserError, match=r"no pictures, only \.zip 1, \.heic 1"):
        ImageFolder(root=tmp_path).setup()
    with pytest.raises(UserError, match="is a file, and should be a folder"):
        ImageFolder(root=tmp_path / "a.zip").setup()


def test_relative_to_the_current_folder(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    data = ImageFolder(root="pictures")
    data.setup()
    assert len(data.samples) == 6


def test_names_cannot_speak_to_the_terminal(tmp_path, caplog):
    evil = "\x1b[2J\x1b]0;owned\x07\u202e"
    (tmp_path / evil).mkdir()
    (tmp_path / "tame").mkdir()
    colours().save(tmp_path / "tame" / "1.png")
    (tmp_path / evil / f"{evil}.png").write_bytes(b"x")
    (tmp_path / f"notes.{evil}").write_text("x")
    with pytest.raises(UserError) as error:
        ImageFolder(root=tmp_path).setup()
    colours().save(tmp_path / evil / "good.png")
    data = ImageFolder(root=tmp_path, skip_broken=True)
    with caplog.at_level(logging.INFO):
        data.setup()
    for text in (str(error.value), caplog.text, *data.class_names):
        assert not any(character in text for character in "\x1b\x07\u202e")
        assert "\\x1b[2J" in text or text == "tame"
    assert "left out" in caplog.text


def test_names_that_are_no_text(tmp_path):
    try:
        os.mkdir(os.fsencode(tmp_path) + b"/caf\xe9")  # noqa: PTH102
    except OSError:
        pytest.skip("this file system takes only UTF-8")
    folder = next(tmp_path.iterdir())
    colours().save(folder / "1.png")
    data = ImageFolder(root=tmp_path)
    data.setup()
    assert [name.encode() for name in data.class_names] == [rb"caf\udce9"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no named pipes in directories")
def test_links_and_pipes(folder, tmp_path):
    (folder / "a_red" / "deep" / "back").symlink_to(folder)
    (folder / "b_green" / "sibling").symlink_to(folder / "c blue")
    os.mkfifo(folder / "b_green" / "pipe.png")
    (folder / "b_green" / "gone.png").symlink_to(tmp_path / "gone.png")
    with pytest.raises(UserError, match=r"1 of 8 pictures cannot be read: .*gone\.png' \(No such file or directory\)"):
        ImageFolder(root=folder).setup()
    (folder / "b_green" / "gone.png").unlink()
    data = ImageFolder(root=folder)
    data.setup()
    assert data.labels.bincount().tolist() == [3, 3, 1]  # the sibling's picture is in both
