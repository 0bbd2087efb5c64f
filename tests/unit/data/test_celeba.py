"""CelebA in the layouts that its authors and mirrors distribute, with and without the attribute list."""

import logging
from pathlib import Path

import pytest
import torch
from PIL import Image
from sample_images import BLUE, GREEN, RED, at, colours, near

from gan_lightning.data.celeba import CelebA
from gan_lightning.errors import UserError
from gan_lightning.io.image import to_uint8, write_png


@pytest.fixture
def celeba(tmp_path) -> Path:
    """Six faces of 89 x 109, the smiling ones green, and an attribute list with one row too many."""
    images = tmp_path / "celeba" / "img_align_celeba"
    images.mkdir(parents=True)
    rows = []
    for i in range(1, 8):
        rows.append(f"{i:06}.jpg  {1 if i % 2 else -1} -1 {1 if i % 3 == 0 else -1}")
        if i < 7:
            face = Image.new("RGB", (89, 109), BLUE)
            face.paste(GREEN if i % 3 == 0 else RED, (0, 10, 89, 99))
            face.save(images / f"{i:06}.jpg", quality=95)
    (tmp_path / "celeba" / "list_attr_celeba.txt").write_text("7\nMale Bald Smiling \n" + "\n".join(rows) + "\n")
    return tmp_path


def test_celeba_without_attribute_has_no_labels(celeba, caplog):
    (celeba / "celeba" / "list_attr_celeba.txt").unlink()
    data = CelebA(celeba, image_size=32)
    with caplog.at_level(logging.INFO):
        data.setup()
    assert data.samples.shape == (6, 3, 32, 32)
    assert (data.num_classes, data.labels.tolist()) == (0, [0] * 6)
    assert near(at(data.samples[0], 0.5, 0.05), RED, 12)  # the square crop removes the blue above and below the face
    assert near(at(data.samples[2], 0.5, 0.95), GREEN, 12)
    assert "6 images" in caplog.text
    assert "all 89 x 109" in caplog.text


def test_celeba_attribute_gives_labels(celeba):
    data = CelebA(celeba, attribute="Smiling")
    data.setup()
    assert data.class_names == ["not Smiling", "Smiling"]
    assert data.labels.tolist() == [0, 0, 1, 0, 0, 1]
    smiling = data.real(1, torch.tensor([1]))
    assert near(at(to_uint8(smiling)[0], 0.5, 0.5), GREEN, 12)
    male = CelebA(celeba, attribute="Male", limit=3, channels=1, image_size=[48, 32])
    male.setup()
    assert male.labels.tolist() == [1, 0, 1]
    assert male.samples.shape == (3, 1, 48, 32)


@pytest.mark.parametrize("location", ["celeba", "img_align_celeba", "celeba/img_align_celeba/img_align_celeba"])
def test_celeba_is_found_in_other_folders(celeba, tmp_path, location):
    other = tmp_path / "other"
    (other / location).parent.mkdir(parents=True, exist_ok=True)
    (celeba / "celeba" / "img_align_celeba").rename(other / location)
    (celeba / "celeba" / "list_attr_celeba.txt").rename(other / location / "list_attr_celeba.txt")
    data = CelebA(other, attribute="Smiling")
    data.setup()
    assert data.labels.tolist() == [0, 0, 1, 0, 0, 1]


def test_celeba_as_png_with_list_without_count(celeba):
    for path in (celeba / "celeba" / "img_align_celeba").iterdir():
        with Image.open(path) as image:
            image.resize((64, 64)).save(path.with_suffix(".png"))
        path.unlink()
    file = celeba / "celeba" / "list_attr_celeba.txt"
    file.write_text(file.read_text().partition("\n")[2])
    data = CelebA(celeba, attribute="Smiling")
    data.setup()
    assert data.labels.tolist() == [0, 0, 1, 0, 0, 1]


def test_missing_celeba_is_error_with_download_instructions(tmp_path):
    for folder in (tmp_path, tmp_path / "celeba", tmp_path / "celeba" / "img_align_celeba"):
        folder.mkdir(exist_ok=True)
        with pytest.raises(UserError) as error:
            CelebA(tmp_path).setup()
        for part in ("img_align_celeba", str(tmp_path / "celeba"), "mmlab.ie.cuhk.edu.hk", "data.root"):
            assert part in str(error.value)


@pytest.mark.parametrize(("attribute", "nearest"), [("smilin", "Smiling"), ("Smilin", "Smiling"), ("mail", "Male")])
def test_unknown_attribute_is_error_with_suggestion(celeba, attribute, nearest):
    with pytest.raises(UserError) as error:
        CelebA(celeba, attribute=attribute).setup()
    assert f"(did you mean {nearest}?);" in str(error.value)
    assert "one of Male, Bald, Smiling" in str(error.value)


def test_unknown_attribute_without_similar_name_is_error(celeba):
    with pytest.raises(UserError, match=r"data\.attribute=Xyzzy: (?!.*did you mean).*one of Male, Bald, Smiling"):
        CelebA(celeba, attribute="Xyzzy").setup()


def test_missing_attribute_list_is_error(celeba):
    (celeba / "celeba" / "list_attr_celeba.txt").unlink()
    with pytest.raises(UserError) as error:
        CelebA(celeba, attribute="Smiling").setup()
    assert "list_attr_celeba.txt" in str(error.value)
    assert str(celeba / "celeba") in str(error.value)


def test_images_without_row_in_attribute_list_are_error(celeba):
    colours().save(celeba / "celeba" / "img_align_celeba" / "999999.jpg")
    with pytest.raises(UserError, match=r"1 of 7 images have no row .*999999\.jpg"):
        CelebA(celeba, attribute="Smiling").setup()
    CelebA(celeba).setup()


@pytest.mark.parametrize(
    "text", ["", "<html>\n<b>Quota exceeded</b>\nx\n", "1\nMale Bald\n000001.jpg 1\n", "1\nA\n1.jpg 7\n"]
)
def test_invalid_attribute_list_is_error(celeba, text):
    (celeba / "celeba" / "list_attr_celeba.txt").write_text(text)
    with pytest.raises(UserError, match=r"list_attr_celeba\.txt"):
        CelebA(celeba, attribute="Smiling").setup()


def test_broken_image_is_error_unless_beyond_limit(celeba):
    (celeba / "celeba" / "img_align_celeba" / "000002.jpg").write_bytes(b"<html>")
    with pytest.raises(UserError, match=r"1 of 6 images cannot be read: .*000002\.jpg"):
        CelebA(celeba).setup()
    data = CelebA(celeba, limit=1)  # the limit applies before decoding
    data.setup()
    assert len(data.samples) == 1


# --- layouts of mirrors ---------------------------------------------------------------------------------------------

ROOTS = ["", "celeba", "celeba/img_align_celeba", "celeba/img_align_celeba/img_align_celeba"]


def as_kaggle(celeba: Path, suffix: str = ".jpg") -> Path:
    """Convert to Kaggle's layout: two nested folders and a comma-separated list."""
    outer = celeba / "celeba" / "img_align_celeba"
    outer.rename(celeba / "faces")
    outer.mkdir()
    (celeba / "faces").rename(outer / "img_align_celeba")
    for path in (outer / "img_align_celeba").iterdir():
        path.rename(path.with_suffix(suffix))
    lines = (celeba / "celeba" / "list_attr_celeba.txt").read_text().splitlines()
    table = [["image_id", *lines[1].split()], *(line.split() for line in lines[2:])]
    (celeba / "celeba" / "list_attr_celeba.csv").write_text("\ufeff" + "".join(",".join(row) + "\r\n" for row in table))
    (celeba / "celeba" / "list_attr_celeba.txt").unlink()
    return celeba


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".JPG", ".PNG"])
@pytest.mark.parametrize("passed", ROOTS)
def test_kaggle_layout_is_read(celeba, passed, suffix):
    data = CelebA(as_kaggle(celeba, suffix) / passed, attribute="Smiling", image_size=16)
    data.setup()
    assert data.class_names == ["not Smiling", "Smiling"]
    assert data.labels.tolist() == [0, 0, 1, 0, 0, 1]


@pytest.mark.parametrize("passed", ["", "img_align_celeba", "img_align_celeba/img_align_celeba"])
def test_kaggle_layout_without_outer_folder_is_read(celeba, passed):
    root = as_kaggle(celeba) / "celeba"
    root = root.rename(celeba / "downloaded")
    data = CelebA(root / passed, attribute="Male", image_size=16)
    data.setup()
    assert data.labels.tolist() == [1, 0, 1, 0, 1, 0]


def test_layout_of_celeba_authors_is_read(celeba):
    """Img/img_align_celeba and Anno/list_attr_celeba.txt; other folders are not searched."""
    base = celeba / "celeba"
    for inner, name in (("Img", "img_align_celeba"), ("Anno", "list_attr_celeba.txt")):
        (base / inner).mkdir()
        (base / name).rename(base / inner / name)
    (celeba / "img").mkdir()
    colours().save(celeba / "img" / "cat.jpg")
    for root in (celeba, base, base / "Img", base / "Img" / "img_align_celeba"):
        data = CelebA(root, attribute="Smiling", image_size=16)
        data.setup()
        assert data.labels.tolist() == [0, 0, 1, 0, 0, 1]


def test_folders_of_other_data_sets_are_not_celeba(tmp_path):
    for name in ("img", "archive", "MNIST"):
        (tmp_path / name).mkdir()
        colours().save(tmp_path / name / "cat.jpg")
    with pytest.raises(UserError, match="there are no images"):
        CelebA(tmp_path).setup()


@pytest.mark.parametrize("attribute", ["smiling", "SMILING", "Smiling", "5_o_Clock_Shadow", "5 o clock shadow"])
def test_attribute_name_is_case_insensitive(celeba, attribute):
    file = celeba / "celeba" / "list_attr_celeba.txt"
    file.write_text(file.read_text().replace("Bald", "5_o_Clock_Shadow"))
    data = CelebA(celeba, attribute=attribute, image_size=16)
    data.setup()
    spelt = "Smiling" if attribute.lower() == "smiling" else "5_o_Clock_Shadow"
    assert data.class_names == ([f"not {spelt}", spelt] if spelt == "Smiling" else [f"not {spelt}"])


def test_attribute_values_may_be_zero_and_one(celeba):
    as_kaggle(celeba)
    file = celeba / "celeba" / "list_attr_celeba.csv"
    file.write_text(file.read_text().replace("-1", "0"))
    data = CelebA(celeba, attribute="Smiling", image_size=16)
    data.setup()
    assert data.labels.tolist() == [0, 0, 1, 0, 0, 1]


def test_generated_grids_among_images_are_left_out(celeba):
    """gan-sample writes samples.png to the current directory."""
    write_png(celeba / "celeba" / "img_align_celeba" / "samples.png", torch.zeros(3, 8, 8, dtype=torch.uint8))
    data = CelebA(celeba, attribute="Smiling", image_size=16)
    data.setup()
    assert len(data.samples) == 6


def test_packed_archive_is_named_in_error(tmp_path):
    (tmp_path / "celeba").mkdir()
    (tmp_path / "celeba" / "img_align_celeba.zip").write_bytes(b"x")
    with pytest.raises(UserError) as error:
        CelebA(tmp_path).setup()
    folder = tmp_path / "celeba" / "img_align_celeba"
    assert f"Unpack {folder}.zip to {folder}" in str(error.value)
