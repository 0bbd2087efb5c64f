"""A folder of the user's own images: classes, report, unreadable files, and layouts that are warned about."""

import itertools
import logging
import os
import random
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sample_images import BLUE, GREEN, RED, at, colours, near
from torch import Tensor

from gan_lightning.data import cache, layout
from gan_lightning.data.decode import decode
from gan_lightning.data.image_folder import ImageFolder
from gan_lightning.errors import UserError
from gan_lightning.io.image import write_png
from gan_lightning.io.natural import natural
from gan_lightning.latent.video import gif


@pytest.fixture
def folder(tmp_path) -> Path:
    """Three classes, one of them nested, one loose image, other files, hidden files and an empty sub-folder."""
    root = tmp_path / "images"
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


def test_sub_folders_are_classes(folder, caplog):
    data = ImageFolder(root=folder, image_size=[8, 16], flip=False)
    with caplog.at_level(logging.INFO):
        data.setup()
    assert data.class_names == ["a_red", "b_green", "c blue"]
    assert data.samples.shape == (6, 3, 8, 16)
    assert data.labels.tolist() == [0, 1, 2, 0, 1, 0]
    for image, label in zip(data.samples, data.labels, strict=True):
        assert near(at(image, 0.5, 0.5), [RED, GREEN, BLUE][label])
    report = caplog.text
    assert "6 images" in report
    assert "all 20 x 12" in report
    assert "RGB 6" in report
    assert "3 classes: a_red 3, b_green 2, c blue 1" in report
    assert "left out: 1 images beside the sub-folders" in report
    assert "left out: 3 other files" in report
    assert ".heic 1" in report


def test_images_without_sub_folders_have_no_classes(folder, caplog):
    with caplog.at_level(logging.INFO):
        data = ImageFolder(root=folder / "a_red" / "deep" / "er")
        data.setup()
    assert data.class_names == []
    assert data.labels.tolist() == [0]
    assert "left out" not in caplog.text
    assert "classes" not in caplog.text


def test_report_has_range_of_sizes_and_modes(tmp_path, caplog):
    for i, size in enumerate([(30, 20), (8, 9), (30, 20), (100, 50)]):
        Image.new("L" if i else "RGB", size).save(tmp_path / f"{i}.png")
    with caplog.at_level(logging.INFO):
        ImageFolder(root=tmp_path).setup()
    assert "8 x 9 to 100 x 50, most often 30 x 20 (2); modes L 3, RGB 1" in caplog.text


def test_report_shortens_long_list_of_classes(tmp_path, caplog):
    for i in range(60):
        (tmp_path / f"kind{i:02}").mkdir()
        Image.new("L", (8, 8)).save(tmp_path / f"kind{i:02}" / "1.png")
    with caplog.at_level(logging.INFO):
        data = ImageFolder(root=tmp_path)
        data.setup()
    assert data.num_classes == 60
    assert "60 classes" in caplog.text
    assert "kind49 1 and 10 more" in caplog.text


def test_limit_applies_before_decoding(folder, monkeypatch, caplog):
    (folder / "a_red" / "deep" / "er" / "2.png").write_bytes(b"broken, and never looked at")
    decoded = []
    monkeypatch.setattr(
        "gan_lightning.data.cache.decode", lambda paths, *rest: decoded.extend(paths) or decode(paths, *rest)
    )
    with caplog.at_level(logging.INFO):
        data = ImageFolder(root=folder, limit=4)
        data.setup()
    assert len(decoded) == len(data.samples) == 4
    assert data.labels.tolist() == [0, 1, 2, 0]
    assert "4 images of 6" in caplog.text


def test_classes_emptied_by_limit_are_dropped(folder, caplog):
    with caplog.at_level(logging.INFO):
        data = ImageFolder(root=folder, limit=2)
        data.setup()
    assert data.class_names == ["a_red", "b_green"]
    assert data.labels.tolist() == [0, 1]
    assert "1 classes without images" in caplog.text
    assert data.real(2, torch.tensor([1, 1])).shape == (2, 3, 64, 64)


@pytest.mark.parametrize("limit", [3, 2])
def test_held_out_labels_match_training_classes(folder, limit):
    """Held-out images of a class without training images are left out: the blue one if the limit is 2."""
    (folder / "a_red" / "deep" / "er" / "2.png").unlink()
    (folder / "a_red" / "3.png").unlink()
    data = ImageFolder(root=folder, limit=limit)
    data.setup()
    images, labels = data.held_out()
    assert near(at(images[0], 0, 0), GREEN)
    assert (len(images), labels.tolist()) == (1, [data.class_names.index("b_green")])


def break_images(folder: Path) -> list[Path]:
    """Write seven broken images of different kinds."""
    good = (folder / "b_green" / "2.JPG").read_bytes()
    broken = {
        "b_green/cut.jpg": good[: len(good) // 2], "b_green/empty.png": b"", "b_green/text.png": b"hello",
        "a_red/half.png": (folder / "a_red" / "1.png").read_bytes()[:50], "a_red/zero.gif": bytes(100),
        "c blue/x.webp": b"RIFF", "a_red/tag.tif": b"II*\0" + b"\xff" * 40,
    }  # fmt: skip
    for name, content in broken.items():
        (folder / name).write_bytes(content)
    return [folder / name for name in broken]


def test_all_broken_images_are_reported_together(folder):
    broken = break_images(folder)
    with pytest.raises(UserError) as error:
        ImageFolder(root=folder).setup()
    message = str(error.value)
    assert "7 of 12 images cannot be read" in message
    assert sum(repr(str(path)) in message for path in broken) == 5
    assert "and 2 more" in message
    assert "data.skip_broken=true" in message
    assert "truncated" in message or "not an image" in message
    assert len(error.value.errors) == 1


def test_skip_broken_leaves_out_broken_images(folder, caplog):
    break_images(folder)
    with caplog.at_level(logging.INFO):
        data = ImageFolder(root=folder, skip_broken=True)
        data.setup()
    assert data.class_names == ["a_red", "b_green"]  # the only blue one is broken
    assert data.labels.tolist() == [0, 1, 0, 1, 0]
    for image, label in zip(data.samples, data.labels, strict=True):
        assert near(at(image, 0.5, 0.5), [RED, GREEN][label])
    assert "left out: 7 of 12 images cannot be read: '" in caplog.text, "the report lists no broken file"
    assert "1 classes without" in caplog.text


def test_folder_of_only_broken_images_is_error(tmp_path):
    (tmp_path / "a.png").write_bytes(b"x")
    with pytest.raises(UserError, match=r"1 of 1 images cannot be read.*there are no others"):
        ImageFolder(root=tmp_path, skip_broken=True).setup()


def test_root_without_images_is_error(tmp_path):
    with pytest.raises(UserError, match=r"data\.root=.*nowhere.*no such folder"):
        ImageFolder(root=tmp_path / "nowhere").setup()
    with pytest.raises(UserError, match="is empty"):
        ImageFolder(root=tmp_path).setup()
    (tmp_path / "a.zip").write_text("x")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b.HEIC").write_text("x")
    with pytest.raises(UserError, match=r"no images, only \.zip 1, \.heic 1"):
        ImageFolder(root=tmp_path).setup()
    with pytest.raises(UserError, match=r"a\.zip': is a file that images are not read from; set it to a folder"):
        ImageFolder(root=tmp_path / "a.zip").setup()


def test_relative_root_is_below_current_directory(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    data = ImageFolder(root="images")
    data.setup()
    assert len(data.samples) == 6


def test_control_characters_of_file_names_are_escaped(tmp_path, caplog):
    control = "\x1b[2J\x1b]0;owned\x07\u202e"
    (tmp_path / control).mkdir()
    (tmp_path / "tame").mkdir()
    colours().save(tmp_path / "tame" / "1.png")
    (tmp_path / control / f"{control}.png").write_bytes(b"x")
    (tmp_path / f"notes.{control}").write_text("x")
    with pytest.raises(UserError) as error:
        ImageFolder(root=tmp_path).setup()
    colours().save(tmp_path / control / "good.png")
    data = ImageFolder(root=tmp_path, skip_broken=True)
    with caplog.at_level(logging.INFO):
        data.setup()
    for text in (str(error.value), caplog.text, *data.class_names):
        assert not any(character in text for character in "\x1b\x07\u202e")
        assert "\\x1b[2J" in text or text == "tame"
    assert "left out" in caplog.text


def test_class_name_that_is_not_utf8_is_escaped(tmp_path):
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
def test_links_are_followed_and_pipes_ignored(folder, tmp_path):
    (folder / "a_red" / "deep" / "back").symlink_to(folder)
    (folder / "b_green" / "sibling").symlink_to(folder / "c blue")
    os.mkfifo(folder / "b_green" / "pipe.png")
    (folder / "b_green" / "gone.png").symlink_to(tmp_path / "gone.png")
    with pytest.raises(UserError, match=r"1 of 8 images cannot be read: .*gone\.png' \(No such file or directory\)"):
        ImageFolder(root=folder).setup()
    (folder / "b_green" / "gone.png").unlink()
    data = ImageFolder(root=folder)
    data.setup()
    assert data.labels.bincount().tolist() == [3, 3, 1]  # the linked folder's image is in both classes


# --- order of classes and files -------------------------------------------------------------------------------------


def colour_of(number: int) -> tuple[int, int, int]:
    return number * 20, 255 - number * 20, 0


def test_numbered_classes_and_files_are_in_numeric_order(tmp_path, caplog):
    for number in range(12):
        (tmp_path / str(number)).mkdir()
        for i in (10, 9):  # 9 comes first
            colours((8, 8), colour_of(number), (0, 0, i)).save(tmp_path / str(number) / f"{i}.png")
    with caplog.at_level(logging.INFO):
        data = ImageFolder(root=tmp_path, image_size=8)
        data.setup()
    assert data.class_names == [str(number) for number in range(12)]
    assert data.labels.tolist() == [*range(12)] * 2
    for image, label in zip(data.samples, data.labels, strict=True):
        assert near(at(image, 0.1, 0.5), colour_of(int(label)))
    assert [at(image, 0.9, 0.5)[2] for image in data.samples] == [9] * 12 + [10] * 12
    assert f"12 classes: {', '.join(f'{number} 2' for number in range(12))}" in caplog.text


@pytest.mark.parametrize(
    "names",
    [
        ["0", "1", "2", "9", "10", "11", "100"],
        ["class2", "class10"],
        ["a 2 b 3", "a 2 b 20", "a 10 b 1"],
        ["1", "2 left", "2 right", "cats", "dogs 1"],
        ["01", "1", "02", "2", "010", "10"],
        ["a", "B", "b", "C"],
        ["\u0661", "\u0662", "\u0661\u0660"],  # Arabic digits
        ["x²", "x³"],
        ["", "1.5", "1.10", "1" * 300, "1" * 5000, "-1"],
        ["café 2", "café 10"],
    ],
)
def test_natural_order_of_names(names):
    for seed in range(5):
        shuffled = random.Random(seed).sample(names, len(names))
        assert sorted(shuffled, key=natural) == names


def test_natural_order_is_total():
    """Names that differ only in case, leading zeros or Unicode form must still have one order."""
    names = ["a1", "A1", "a01", "A01", "é", "e\N{COMBINING ACUTE ACCENT}", "É"]
    assert len({tuple(sorted(p, key=natural)) for p in itertools.permutations(names)}) == 1


# --- unusual layouts ------------------------------------------------------------------------------------------------


def save_images(folder: Path, num: int, suffix="png") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(num):
        colours((8, 8), (i, 0, 0)).save(folder / f"{i}.{suffix}")
    return folder


def save_run_dir(folder: Path, mark: str) -> Path:
    """Write a run directory with sample grids that have no PNG mark, as an older version wrote them."""
    save_images(folder / "samples", 3)
    (folder / "config.yaml").write_text("model:\n  _target_: gan_lightning.model.dcgan.DCGAN\n")
    if mark == "checkpoints":
        (folder / mark).mkdir()
    else:
        (folder / mark).touch()
    return folder


@pytest.mark.parametrize("mark", ["checkpoints", "metrics.csv", "result.json"])
def test_run_directories_are_left_out(tmp_path, caplog, mark):
    save_images(tmp_path, 4)
    for i in range(7):
        save_run_dir(tmp_path / "runs" / f"2026-01-0{i + 1}", mark)
    with caplog.at_level(logging.INFO):
        data = ImageFolder(root=tmp_path, image_size=8)
        data.setup()
    assert (len(data.samples), data.class_names) == (4, [])
    expected = "left out: 7 run directories of gan-lightning ('runs/2026-01-01', 'runs/2026-01-02', "
    assert expected in caplog.text
    assert "and 2 more" in caplog.text


def test_sweep_directory_is_left_out(tmp_path):
    save_images(tmp_path, 4)
    save_images(tmp_path / "sweep" / "images", 3)
    (tmp_path / "sweep" / "multirun.yaml").touch()
    (tmp_path / "sweep" / "sweep.csv").touch()
    data = ImageFolder(root=tmp_path, image_size=8)
    data.setup()
    assert (len(data.samples), data.class_names) == (4, [])


def test_folder_with_unrelated_config_file_is_used(tmp_path):
    for name in ("cats", "dogs"):
        save_images(tmp_path / name / "samples", 2)
        (tmp_path / name / "config.yaml").write_text("camera: leica\n")
    data = ImageFolder(root=tmp_path, image_size=8)
    data.setup()
    assert (len(data.samples), data.class_names) == (4, ["cats", "dogs"])


def test_root_inside_run_directory_is_used(tmp_path):
    save_run_dir(tmp_path / "run", "metrics.csv")
    data = ImageFolder(root=tmp_path / "run" / "samples", image_size=8)
    data.setup()
    assert len(data.samples) == 3


def test_generated_images_are_left_out(tmp_path, caplog):
    save_images(tmp_path, 4)
    image = torch.zeros(3, 8, 8, dtype=torch.uint8)
    for name in ("samples.png", "renamed.PNG", "out/000000.png", "out/000001.png"):
        write_png(tmp_path / name, image)
    (tmp_path / "walk.gif").write_bytes(gif(np.zeros((2, 8, 8, 3), np.uint8), 10))
    with caplog.at_level(logging.INFO):
        data = ImageFolder(root=tmp_path, image_size=8)
        data.setup()
    assert (len(data.samples), data.class_names) == (4, [])
    assert "left out: 5 images that gan-lightning generated ('renamed.PNG', " in caplog.text


def test_folder_of_only_generated_images_is_used(tmp_path, caplog):
    """A user who passes a folder of samples wants to use them."""
    for name in ("cats/1.png", "cats/2.png", "dogs/1.png"):
        write_png(tmp_path / name, torch.zeros(3, 8, 8, dtype=torch.uint8))
    with caplog.at_level(logging.INFO):
        data = ImageFolder(root=tmp_path, image_size=8)
        data.setup()
    assert (len(data.samples), data.class_names) == (3, ["cats", "dogs"])
    assert f"data.root={tmp_path}: all 3 images were generated by gan-lightning; they are used" in caplog.text
    assert "left out" not in caplog.text


def test_list_of_generated_images_is_cached(tmp_path, monkeypatch):
    """Opening a million files at every start takes hours on a network file system."""
    save_images(tmp_path / "photos", 4)
    write_png(tmp_path / "photos" / "samples.png", torch.zeros(3, 8, 8, dtype=torch.uint8))
    opened, original = [], cache.is_generated
    monkeypatch.setattr(cache, "is_generated", lambda path: opened.append(path.name) or original(path))

    def num_images() -> int:
        data = ImageFolder(root=tmp_path / "photos", image_size=8, cache=tmp_path / "cache")
        data.setup()
        return len(data.samples)

    assert (num_images(), len(opened)) == (4, 5)
    assert (num_images(), len(opened)) == (4, 5)
    colours((8, 8)).save(tmp_path / "photos" / "samples.png")
    assert (num_images(), len(opened)) == (5, 10)
    for path in (tmp_path / "cache").glob("generated-*.json"):
        path.write_text("[7, ")
    assert (num_images(), len(opened)) == (5, 15)


def test_unreadable_files_are_not_cached_as_not_generated(tmp_path, monkeypatch):
    write_png(tmp_path / "photos" / "samples.png", torch.zeros(3, 8, 8, dtype=torch.uint8))
    save_images(tmp_path / "photos", 2)
    original = cache.is_generated

    def deny_generated(path: Path) -> bool:
        if path.name == "samples.png":
            raise PermissionError(13, "Permission denied")
        return original(path)

    monkeypatch.setattr(cache, "is_generated", deny_generated)
    paths = sorted((tmp_path / "photos").iterdir())
    assert cache.Cache(tmp_path / "cache", 1).generated(paths) == []
    monkeypatch.setattr(cache, "is_generated", original)
    assert cache.Cache(tmp_path / "cache", 1).generated(paths) == [2]


def test_limit_and_held_out_exclude_generated_images(tmp_path):
    save_images(tmp_path, 4)
    for i in range(3):
        write_png(tmp_path / f"{i}_sample.png", torch.full((3, 8, 8), 99, dtype=torch.uint8))
    data = ImageFolder(root=tmp_path, image_size=8, limit=3)
    data.setup()
    assert data.samples[:, 0, 0, 0].tolist() == [0, 1, 2]
    assert data.held_out()[0][:, 0, 0, 0].tolist() == [3]


def test_paths_beyond_limit_are_kept_only_with_limit(tmp_path):
    save_images(tmp_path, 6)
    data = ImageFolder(root=tmp_path, image_size=8)
    data.setup()
    assert data.beyond is None
    limited = ImageFolder(root=tmp_path, image_size=8, limit=4)
    limited.setup()
    assert [path.name for path in limited.beyond[0]] == ["4.png", "5.png"]


def values(images: Tensor) -> list[int]:
    """Return the numbers of images of save_images."""
    return images[:, 0, 0, 0].tolist()


def test_one_image_in_ten_of_each_class_is_held_out(tmp_path, caplog):
    save_images(tmp_path / "a", 120)
    for i in range(120, 250):
        colours((8, 8), (i, 0, 0)).save(save_images(tmp_path / ("b" if i < 200 else "c"), 0) / f"{i}.png")
    caplog.set_level(logging.INFO)
    data, again = (ImageFolder(root=tmp_path, image_size=8) for _ in range(2))
    data.setup()
    again.setup()
    images, labels = data.held_out()
    assert labels.bincount().tolist() == [12, 8, 5]
    assert data.labels.bincount().tolist() == [108, 72, 45]
    assert sorted(values(images) + values(data.samples)) == list(range(250))
    assert values(images) != values(data.samples)[: len(images)]
    assert torch.equal(again.held_out()[0], images)
    assert torch.equal(again.samples, data.samples)
    assert "25 images are held out of training (data.held_out)" in caplog.messages


@pytest.mark.parametrize(("held_out", "limit", "expected"), [(2, None, 2), (0, None, 0), (None, None, 0), (3, 5, 1)])
def test_number_of_held_out_images_can_be_set(tmp_path, held_out, limit, expected):
    """Images beyond ``limit`` are held out instead; of fewer than 200 images none are."""
    save_images(tmp_path, 6)
    data = ImageFolder(root=tmp_path, image_size=8, held_out=held_out, limit=limit)
    data.setup()
    assert len(data.samples) == 6 - expected
    if expected:
        images, _ = data.held_out()
        assert sorted(values(images) + values(data.samples)) == list(range(6))
    else:
        with pytest.raises(UserError, match=r"no test set; set data\.held_out to a number of images, or data\.limit"):
            data.held_out()


def test_holding_out_all_images_is_error(tmp_path):
    save_images(tmp_path, 3)
    with pytest.raises(UserError, match=r"data\.held_out=3: must be below 3, the number of images"):
        ImageFolder(root=tmp_path, image_size=8, held_out=3).setup()


def test_only_as_many_held_out_images_are_decoded_as_are_needed(tmp_path):
    data = ImageFolder(root=save_images(tmp_path, 40), image_size=8, held_out=20)
    data.setup()
    some, every = data.held_out(5)[0], data.held_out()[0]
    assert len(some) == 5
    assert {*values(some)} <= {*values(every)}
    assert values(some) != values(every)[:5]
    assert len(data.held_out(50)[0]) == 20


def test_at_most_a_thousand_images_are_held_out():
    data = ImageFolder(root=".", image_size=8)
    assert len(data.held_out_rows([0] * 199)) == 0
    assert len(data.held_out_rows([0] * 200)) == 20
    assert len(data.held_out_rows([0] * 20_000)) == 1000


@pytest.mark.parametrize("name", ["thumbs", "Thumbs", "thumbnails", "_thumbs"])
def test_thumbnail_sub_folder_is_left_out_with_warning(tmp_path, name, caplog):
    """The warning is needed because the names may be classes: thumbs up and thumbs down."""
    save_images(tmp_path / "fists", 2)
    save_images(tmp_path / name, 2)
    save_images(tmp_path / "fists" / "thumbnails", 2)
    data = ImageFolder(root=tmp_path, image_size=8)
    data.setup()
    assert data.class_names == ["fists"]
    warnings = [record.message for record in caplog.records if "thumbnails" in record.message]
    expected = (
        f"data.root={tmp_path}: the sub-folder {name!r} is left out, since it seems to contain thumbnails; rename it"
    )
    assert len(warnings) == 1
    assert expected in warnings[0]


@pytest.mark.parametrize(
    "name",
    [
        "train", "Training", "TRAIN", "val", "valid", "validation", "dev", "eval", "evaluation", "test", "testing",
        "train2017", "val2017", "test_2015", "images_test", "train_set", "Training Data", "test-images", "testset",
        "unlabeled", "unlabelled2017", "trainval", "trainA", "testB", "ILSVRC2012_img_val", "img_train", "train split",
        "train-00", "test_3", "split1", "fold_2", "train-00001", "part-3",
    ],
)  # fmt: skip
def test_split_names_are_recognized(name):
    assert layout.is_split(name)


@pytest.mark.parametrize(
    "name",
    [
        "trainers", "testudo", "trains", "devil", "values", "valley", "tester", "contest", "validator", "trainee",
        "evaluator", "images", "data", "2017", "test pattern", "steam train", "train station", "cats", "",
        "split", "fold", "banana split", "part", "10", "party3", "masks",
    ],
)  # fmt: skip
def test_class_names_are_not_taken_for_splits(name):
    assert not layout.is_split(name)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        (
            {"train": 9, "masks": 9},
            "'masks' look like annotations of other images, not classes; set data.root=D/train ",
        ),
        (
            {"images": 9, "Labels": 9},
            "'Labels' look like annotations of other images, not classes; set data.root=D/imag",
        ),
        ({"img": 9, "ground_truth": 9, "gt": 1}, "'ground_truth', 'gt' look like annotations"),
        ({"train-00": 9, "train-01": 9}, "'train-00', 'train-01' are splits of a data set"),
        ({"validation": 5, "extra": 9}, "'validation' look like splits of a data set and are used as classes"),
        ({"train": 9, "extra": 5}, "'train' look like splits of a data set and are used as classes"),
        ({"train": 9, "bus": 9, "car": 9}, ""),  # "train" is a vehicle here
        ({"cats": 9, "masks": 9}, ""),  # "masks" is an object here
        ({"masks": 9, "labels": 9}, ""),
    ],
)
def test_folders_of_annotations_and_splits_are_warned_about(caplog, counts, expected):
    layout.warn_of_layout(Path("D"), 0, counts)
    messages = [record.message for record in caplog.records]
    assert len(messages) == bool(expected)
    assert all(message.startswith(f"data.root=D: its sub-folders {expected}") for message in messages)


@pytest.mark.parametrize(
    "name", ["@eaDir", "__MACOSX", ".thumbnails", "Thumbnails", ".ipynb_checkpoints", "lost+found", "wandb", "venv/lib"]
)
def test_folders_of_operating_systems_and_tools_are_left_out(tmp_path, name, caplog):
    save_images(tmp_path / "cats", 2)
    save_images(tmp_path / "dogs", 2)
    save_images(tmp_path / name, 5)
    save_images(tmp_path / "cats" / name, 5)
    for place in (tmp_path, tmp_path / "cats"):
        (place / "venv").mkdir(exist_ok=True)
        (place / "venv" / "pyvenv.cfg").touch()
        (place / "Thumbs.db").write_bytes(b"x")
        (place / "desktop.ini").write_bytes(b"x")
    with caplog.at_level(logging.INFO):
        data = ImageFolder(root=tmp_path, image_size=8)
        data.setup()
    assert (len(data.samples), data.class_names) == (4, ["cats", "dogs"])
    assert "other files" not in caplog.text
    assert name.startswith(".") or f"'cats/{name.partition('/')[0]}'" in caplog.text


@pytest.mark.parametrize(
    "names",
    [
        ["train", "val"], ["Train", "TEST"], ["training", "validation", "test"], ["train"], ["train2017", "val2017"],
        ["Test Data", "Training Data"], ["images_test", "images_train"], ["test_set", "train_set", "unlabeled"],
    ],
)  # fmt: skip
def test_split_folders_are_not_classes(tmp_path, names, caplog):
    for name in names:
        save_images(tmp_path / name / "cats", 2)
        save_images(tmp_path / name / "dogs", 2)
    data = ImageFolder(root=tmp_path, image_size=8)
    data.setup()
    assert (len(data.samples), data.class_names, data.labels.unique().tolist()) == (4 * len(names), [], [0])
    (warning,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    first = sorted(names, key=natural)[0]
    assert "are splits of a data set, not classes" in warning.message
    assert f"Set data.root={tmp_path / first} to use one split and its classes" in warning.message
    one_split = ImageFolder(root=tmp_path / first, image_size=8)
    one_split.setup()
    assert one_split.class_names == ["cats", "dogs"]


def test_splits_among_classes_are_warned_about(tmp_path, caplog):
    for name in ("cats", "train", "val"):
        save_images(tmp_path / name, 2)
    data = ImageFolder(root=tmp_path, image_size=8)
    data.setup()
    assert data.class_names == ["cats", "train", "val"]
    assert "'train', 'val' look like splits of a data set" in caplog.text


@pytest.mark.parametrize(("loose", "warned"), [(5, True), (4, True), (3, False)])
def test_loose_images_outnumbering_classes_are_warned_about(tmp_path, caplog, loose, warned):
    save_images(tmp_path, loose)
    save_images(tmp_path / "cats", 2)
    save_images(tmp_path / "dogs", 2)
    ImageFolder(root=tmp_path, image_size=8).setup()
    expected = (
        f"data.root={tmp_path}: {loose} images directly in it are left out, and only the 4 in its sub-folders are used"
    )
    assert (expected in caplog.text) == warned


def test_single_sub_folder_is_warned_about(tmp_path, caplog):
    save_images(tmp_path / "photos" / "cats", 2)
    save_images(tmp_path / "photos" / "dogs", 2)
    data = ImageFolder(root=tmp_path, image_size=8)
    data.setup()
    assert data.class_names == ["photos"]
    assert "'photos' is the only sub-folder with images" in caplog.text
    assert f"data.root={tmp_path / 'photos'} " in caplog.text


def test_almost_empty_class_is_warned_about(tmp_path, caplog):
    save_images(tmp_path / "cats", 100)
    save_images(tmp_path / "dogs", 100)
    save_images(tmp_path / "New folder", 1)
    ImageFolder(root=tmp_path, image_size=8).setup()
    assert "1 sub-folders, which are classes, hold a hundredth or less of the 100 images" in caplog.text
    assert "'New folder'" in caplog.text


def test_layout_is_reported_once(tmp_path, caplog):
    save_images(tmp_path / "train" / "cats", 4)
    (tmp_path / "notes.txt").touch()
    with caplog.at_level(logging.INFO):
        data = ImageFolder(root=tmp_path, image_size=8, limit=3)
        data.setup()
        data.held_out()
    assert caplog.text.count("are splits of a data set") == 1
    assert caplog.text.count("1 other files") == 1
