"""Labels from labels.csv, StyleGAN's dataset.json and webdataset; unusual and invalid ones."""

import json
from pathlib import Path

import pytest
import torch
from image_containers import files_of, photos, write_tar, write_zip
from PIL import Image

from gan_lightning.data.archive import key_of, label_of
from gan_lightning.data.image_folder import ImageFolder
from gan_lightning.data.labels import alternate
from gan_lightning.errors import UserError


@pytest.fixture
def folder(tmp_path) -> Path:
    """Six images, named by their brightness, with a sub-folder that is no class."""
    root = tmp_path / "images"
    for i in range(6):
        path = root / ("more" if i > 3 else "") / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), 40 * i).save(path)
    return root


def load(root: Path) -> ImageFolder:
    data = ImageFolder(root, 8, channels=1)
    data.setup()
    return data


def contents(data: ImageFolder) -> list[tuple[int, str]]:
    """Return the number of each image and the name of its class."""
    names = data.class_names or ["-"]
    return [(int(image.max()) // 40, names[label]) for image, label in zip(data.samples, data.labels, strict=True)]


CSV = "file,label\n0.png,b\n1.png,a 10\n2.png,a 2\n./3.png,a 2\nmore\\4.png,b\nmore/5.png,b\n"
EXPECTED = [(2, "a 2"), (1, "a 10"), (0, "b"), (3, "a 2"), (4, "b"), (5, "b")]


def test_labels_csv_names_classes_of_folder_and_archives(folder, tmp_path):
    (folder / "labels.csv").write_text(f"\ufeff{CSV}")
    for path in (
        folder,
        write_zip(tmp_path / "a.zip", files_of(folder)),
        write_tar(tmp_path / "a.tar", [(f"x/{name}", content) for name, content in files_of(folder)]),
    ):
        data = load(path)
        assert data.class_names == ["a 2", "a 10", "b"]
        assert contents(data) == EXPECTED


def test_labels_csv_with_other_columns_and_quotes(folder):
    rows = [f'"{i}.png",x,"{"big, red" if i % 2 else "small"}"' for i in (0, 1, 2, 3)]
    rows += ['more/4.png,x,small', 'more/5.png,x,"big, red"']  # fmt: skip
    (folder / "labels.csv").write_text("\n".join([" File ,note,LABEL", *rows]))
    assert load(folder).class_names == ["big, red", "small"]


def test_dataset_json_of_stylegan_names_classes(folder, tmp_path):
    pairs = [[f"{i}.png", i % 2 + 9] for i in range(4)] + [["more/4.png", 9], ["more/5.png", 10]]
    (folder / "dataset.json").write_text(json.dumps({"labels": pairs}))
    for path in (folder, write_zip(tmp_path / "a.zip", files_of(folder))):
        data = load(path)
        assert contents(data) == [(0, "9"), (1, "10"), (2, "9"), (3, "10"), (4, "9"), (5, "10")]


def test_dataset_json_without_labels_means_no_classes(folder):
    """StyleGAN's sub-folders are numbered parts of the data set."""
    (folder / "dataset.json").write_text('{"labels": null}')
    data = load(folder)
    assert contents(data) == [(i, "-") for i in range(6)]


def test_labels_csv_has_priority_over_dataset_json_and_sub_folders(folder):
    (folder / "labels.csv").write_text(CSV)
    (folder / "dataset.json").write_text('{"labels": null}')
    assert contents(load(folder)) == EXPECTED


@pytest.mark.parametrize(
    ("file", "content", "expected"),
    [
        ("labels.csv", "path,label\n0.png,a\n", "has no columns file and label"),
        ("labels.csv", "", "has no columns file and label"),
        ("dataset.json", "[]", "is not StyleGAN's"),
        ("dataset.json", '{"labels": [["0.png", [0.5]]]}', "is not StyleGAN's"),
        ("dataset.json", '{"labels": [["0.png", true]]}', "is not StyleGAN's"),
        ("dataset.json", '{"images": []}', "is not StyleGAN's"),
    ],
)
def test_other_files_of_these_names_are_ignored_with_warning(folder, caplog, file, content, expected):
    (folder / file).write_text(content)
    data = load(folder)
    assert data.class_names == ["more"]  # the only sub-folder
    assert f"data.root='{folder}': {file} is ignored, since it {expected}" in caplog.text


@pytest.mark.parametrize(
    ("file", "content", "expected"),
    [
        ("labels.csv", CSV.replace("2.png,a 2", "2.png,"), r"labels\.csv: line 4 has no file or no label; correct or"),
        ("labels.csv", CSV.replace("1.png", "0.png"), r"labels\.csv: line 3 gives '0\.png' a second label"),
        ("labels.csv", CSV.replace("5.png", "6.png"), r"1 of 6 images have no label in labels\.csv, .*'more/5\.png'"),
        ("labels.csv", "file,label\nx/0.png,a\n", r"labels\.csv names none of the images, but 'x/0\.png'"),
        ("labels.csv", 'file,label\n"0.png,a\n', r"labels\.csv: unexpected end of data"),
        ("labels.csv", "file,label\n\xff\n", r"labels\.csv: 'utf-8' codec can't decode"),
        ("dataset.json", "{", r"dataset\.json: Expecting property name"),
        ("dataset.json", "[" * 100_000, r"dataset\.json: "),
        ("dataset.json", '{"labels": [["0.png", 1]]}', r"5 of 6 images have no label in dataset\.json"),
    ],
)
def test_invalid_labels_are_error(folder, file, content, expected):
    (folder / file).write_text(content, encoding="latin-1")
    with pytest.raises(UserError, match=rf"data\.root='.*': .*{expected}"):
        load(folder)


def test_oversized_file_of_labels_is_error(folder):
    with (folder / "labels.csv").open("wb") as file:
        file.truncate(1 << 29)
    with pytest.raises(UserError, match=r"labels\.csv: larger than 268,435,456 bytes"):
        load(folder)


def test_labels_with_other_unicode_form_match(tmp_path):
    """macOS decomposes the characters of file names."""
    (tmp_path / "a").mkdir()
    Image.new("L", (8, 8)).save(tmp_path / "a" / "e\N{COMBINING ACUTE ACCENT}.png")
    (tmp_path / "a" / "labels.csv").write_text(
        "file,label\n\N{LATIN SMALL LETTER E WITH ACUTE}.png,x\n", encoding="utf-8"
    )
    assert load(tmp_path / "a").class_names == ["x"]


@pytest.mark.parametrize(
    ("text", "suffix", "expected"),
    [
        ("3", ".cls", 3),
        ("3\n", ".cls", 3),
        ("cat", ".cls", "cat"),
        ('{"label": 4}', ".json", 4),
        ('{"label": "dog"}', ".json", "dog"),
        ('{"label": null}', ".json", None),
        ('{"caption": "x"}', ".json", None),
        ("[1]", ".json", None),
    ],
)
def test_labels_of_webdataset(text, suffix, expected):
    assert label_of(text, suffix) == expected


@pytest.mark.parametrize(("text", "suffix"), [("", ".cls"), ('{"label": 1.5}', ".json"), ('{"label": true}', ".json")])
def test_labels_of_webdataset_that_are_no_class_are_error(text, suffix):
    with pytest.raises(ValueError, match="neither a number nor a name"):
        label_of(text, suffix)


def test_key_of_webdataset_ends_at_first_dot_of_file_name():
    assert key_of("v1.0/a.left.jpg") == "v1.0/a"
    assert key_of("a") == "a"


def test_webdataset_with_missing_or_invalid_label_is_error(tmp_path):
    files = files_of(photos(tmp_path / "photos", 5))
    names = [name for name, _ in files]
    labels = [(f"{key_of(name)}.cls", b"1") for name in names]
    with pytest.raises(UserError, match=r"1 of 5 images have no label in it, for example"):
        load(write_tar(tmp_path / "missing.tar", [*files, *labels[1:]]))
    with pytest.raises(UserError, match=r"'.*\.cls' in it has no label \(neither a number nor a name\)"):
        load(write_tar(tmp_path / "empty.tar", [*files, *labels[1:], (labels[0][0], b" ")]))
    data = load(write_tar(tmp_path / "none.tar", [*files, ("other.json", b"{"), ("other.cls", b"")]))
    assert len(data.class_names) == 3  # the sub-folders


def test_classes_alternate_in_given_order():
    images = [Path(name) for name in "abcdef"]
    found = alternate(images, ["y", "x", "x", None, "y", "x"], [])
    assert found == ([Path(name) for name in "bacef"], [0, 1, 0, 1, 0], {"x": 3, "y": 2})
    found = alternate(images, ["y", "x", "x", None, "y", "x"], ["z", "y", "x"])
    assert found == ([Path(name) for name in "abecf"], [1, 2, 1, 2, 2], {"z": 0, "y": 2, "x": 3})
    assert torch.tensor(found[1]).bincount().tolist() == [0, 2, 3]
