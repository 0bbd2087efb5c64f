"""Parquet and Arrow files: columns, rows without path, label or image, hostile and damaged files, missing pyarrow."""

import json
import sys
from pathlib import Path

import pytest
from image_containers import CLASSES, files_of, needs_pyarrow, photos, table_of, write_arrow, write_parquet
from PIL import Image
from sample_images import noise

from gan_lightning.data import container, table
from gan_lightning.data.image_folder import ImageFolder
from gan_lightning.errors import UserError

try:
    import pyarrow
except ImportError:  # the tests that need it are skipped
    pyarrow = None


def test_missing_pyarrow_is_error_that_names_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match=r"a\.parquet': needs pyarrow; pip install 'gan-lightning\[parquet\]'$"):
        ImageFolder(tmp_path / "a.parquet", 8).setup()


def test_columns_are_chosen_by_name_then_by_type():
    assert table.image_column("x", {"image": table.BYTES, "mask": table.STRUCT}) == "image"
    assert table.image_column("x", {"img": table.STRUCT, "label": table.NUMBER}) == "img"
    with pytest.raises(UserError, match=r"^x: has no column 'image' with the bytes of image files, but a \(bytes\), b"):
        table.image_column("x", {"a": table.BYTES, "b": table.STRUCT})
    with pytest.raises(UserError, match=r"but image \(list\); rename the column, and embed the files in it"):
        table.image_column("x", {"image": "list"})


def test_column_of_labels_is_chosen_by_name_then_by_type(caplog):
    kind = {"_type": "ClassLabel", "names": ["a", "b"]}
    assert table.label_column("x", {"label": table.NUMBER}, {}) == ("label", [])
    assert table.label_column("x", {"label": table.NUMBER}, {"label": kind}) == ("label", ["a", "b"])
    assert table.label_column("x", {"fine": table.NUMBER}, {"fine": kind}) == ("fine", ["a", "b"])
    assert table.label_column("x", {"a": table.NUMBER, "b": table.NUMBER}, {"a": kind, "b": kind}) == (None, [])
    assert table.label_column("x", {"width": table.NUMBER}, {}) == (None, [])
    assert caplog.text == ""
    assert table.label_column("x", {"label": "double"}, {}) == (None, [])
    assert "x: its column 'label' is ignored, since it is neither whole numbers nor text" in caplog.text


WRITERS = {"parquet": write_parquet, "arrow": write_arrow}


@pytest.fixture(params=[*WRITERS])
def write(request, tmp_path):
    """``write(table)``: write a table and return its path."""
    return lambda table: WRITERS[request.param](tmp_path / f"a.{request.param}", table)


@pytest.fixture
def files(tmp_path) -> list[tuple[str, bytes]]:
    return files_of(photos(tmp_path / "photos"))


def load(root: Path, **settings) -> ImageFolder:
    data = ImageFolder(root, 16, **settings)
    data.setup()
    return data


@needs_pyarrow
def test_rows_without_paths_keep_their_order(tmp_path, write):
    folder = tmp_path / "gray"
    folder.mkdir()
    for i in range(6):
        Image.new("L", (8, 8), 40 * i).save(folder / f"{i}.png")
    content = dict(files_of(folder))
    order = 3, 0, 5, 1, 4, 2
    rows = [{"bytes": content[f"{i}.png"], "path": None} for i in order]
    kind = pyarrow.struct({"bytes": pyarrow.binary(), "path": pyarrow.string()})
    data = load(write(pyarrow.table({"image": pyarrow.array(rows, kind)})), channels=1)
    assert (data.samples.amax((1, 2, 3)) // 40).tolist() == [*order]
    assert data.class_names == []
    data = load(write(pyarrow.table({"image": pyarrow.array([row["bytes"] for row in rows])})), channels=1)
    assert (data.samples.amax((1, 2, 3)) // 40).tolist() == [*order]


@needs_pyarrow
def test_names_and_numbers_as_labels(files, write):
    names = [["b 10", "b 2", "a"][i % 3] for i in range(len(files))]
    image = table_of(files)["image"]
    data = load(write(pyarrow.table({"image": image, "label": pyarrow.array(names)})))
    assert data.class_names == ["a", "b 2", "b 10"]
    numbers = pyarrow.array([10 * (i % 3) for i in range(len(files))], pyarrow.uint8())
    data = load(write(pyarrow.table({"image": image, "label": numbers})))
    assert data.class_names == ["0", "10", "20"]


@needs_pyarrow
def test_classes_without_images_are_dropped(files, write):
    found = table_of([file for file in files if not file[0].startswith("dog")])
    assert load(write(found)).class_names == [name for name in CLASSES if name != "dog"]


def with_labels(files, labels):
    found = table_of(files)
    return found.set_column(1, "label", pyarrow.array(labels, pyarrow.int64()))


@needs_pyarrow
def test_rows_without_labels(files, write):
    """Hugging Face stores -1 in test sets, whose labels are unknown."""
    assert load(write(with_labels(files, [-1] * len(files)))).class_names == []
    with pytest.raises(UserError, match=r"1 of 40 images have no label in it, for example '.*\.(png|jpg)'"):
        load(write(with_labels(files, [0] * 39 + [None])))
    with pytest.raises(UserError, match=r"has the label 3, and there are 3 classes"):
        load(write(with_labels(files, [0] * 39 + [3])))


@needs_pyarrow
def test_row_that_refers_to_file_does_not_read_it(tmp_path, files, write):
    """An untrusted table must not select files outside of itself to read."""
    rows = [{"bytes": content, "path": name} for name, content in files]
    rows[0] = {"bytes": None, "path": str(tmp_path / "photos" / files[0][0])}
    rows[1] = None
    kind = pyarrow.struct({"bytes": pyarrow.binary(), "path": pyarrow.string()})
    path = write(pyarrow.table({"image": pyarrow.array(rows, kind)}))
    with pytest.raises(UserError, match=r"2 of 40 images cannot be read: .*the row has no content of an image"):
        load(path)
    assert len(load(path, skip_broken=True).samples) == 38


@needs_pyarrow
def test_broken_images_of_table_are_reported_by_path(tmp_path, write):
    noise(tmp_path / "noise")
    rows = [{"bytes": content, "path": name} for name, content in files_of(tmp_path / "noise")]
    kind = pyarrow.struct({"bytes": pyarrow.binary(), "path": pyarrow.string()})
    path = write(pyarrow.table({"image": pyarrow.array(rows, kind)}))
    with pytest.raises(UserError, match=r"2 of 42 images cannot be read: '.*/07\.png' \(not an image"):
        load(path)


@needs_pyarrow
def test_table_bomb_is_rejected_at_limit(tmp_path, monkeypatch):
    """One value that is repeated takes no space in parquet's dictionary."""
    monkeypatch.setattr(container, "FREE_BYTES", 1 << 20)
    monkeypatch.setattr(container, "MAX_RATIO", 2)
    found = pyarrow.table({"image": pyarrow.array([bytes(1 << 16)] * 100)})
    path = write_parquet(tmp_path / "a.parquet", found)
    assert path.stat().st_size < 1 << 19
    with pytest.raises(UserError, match=r"100 of 100 images cannot be read: .*exceeds the limit on decompressed bytes"):
        load(path)


@needs_pyarrow
def test_oversized_image_of_table_is_rejected(files, write, monkeypatch):
    monkeypatch.setattr(table, "MAX_IMAGE_BYTES", 100)
    with pytest.raises(UserError, match=r"an image or the whole file exceeds the limit on decompressed bytes"):
        load(write(table_of(files)))


@needs_pyarrow
@pytest.mark.parametrize("kind", ["parquet", "arrow", "file"])
@pytest.mark.parametrize("at", [0.02, 0.3, 0.6, 0.95])
def test_damaged_table_is_error(tmp_path, files, kind, at):
    """No byte makes the process crash; a flipped one may also go unnoticed."""
    write = {"parquet": write_parquet, "arrow": write_arrow, "file": lambda *args: write_arrow(*args, stream=False)}
    path = write[kind](tmp_path / "a", table_of(files))
    good = path.read_bytes()
    path.write_bytes(good[: int(len(good) * at)])
    with pytest.raises(UserError, match=r"a': cannot be read as (a parquet|an Arrow) file \(.+\)"):
        load(path)
    for shift in range(0, 64, 4):
        content = bytearray(good)
        start = int(len(good) * at) + shift
        content[start : start + 4] = b"\xff\xff\xff\x7f"
        path.write_bytes(content)
        try:
            load(path)
        except UserError as error:
            assert len(error.errors) == 1  # noqa: PT017


@needs_pyarrow
def test_hostile_metadata_is_ignored(files, write):
    for text in ("[]", '{"info": 3}', '{"info": {"features": [1]}}', '{"info": {"features": {"label": 3}}}'):
        found = table_of(files).replace_schema_metadata({"huggingface": text})
        assert load(write(found)).class_names == ["0", "1", "2"]
    features = {"label": {"_type": "ClassLabel", "names": "abc"}}
    found = table_of(files).replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    assert load(write(found)).class_names == ["0", "1", "2"]


@needs_pyarrow
def test_table_without_images_is_error(write):
    with pytest.raises(UserError, match=r"a\.(parquet|arrow)': has no column 'image' .*but x \(whole numbers\)"):
        load(write(pyarrow.table({"x": [1, 2]})))
    empty = pyarrow.table({"image": pyarrow.array([], pyarrow.binary())})
    with pytest.raises(UserError, match=r"a\.(parquet|arrow)': is empty"):
        load(write(empty))
