"""CelebA from what mirrors ship, with and without its list of attributes."""

import logging
from pathlib import Path

import pytest
import torch
from pictures import BLUE, GREEN, RED, at, colours, near
from PIL import Image

from gan_lightning.data.celeba import CelebA
from gan_lightning.errors import UserError
from gan_lightning.image import to_uint8


@pytest.fixture
def celeba(tmp_path) -> Path:
    """Six faces of 89 x 109, the smiling ones green, and a list with a row too many."""
    pictures = tmp_path / "celeba" / "img_align_celeba"
    pictures.mkdir(parents=True)
    rows = []
    for i in range(1, 8):
        rows.append(f"{i:06}.jpg  {1 if i % 2 else -1} -1 {1 if i % 3 == 0 else -1}")
        if i < 7:
            face = Image.new("RGB", (89, 109), BLUE)
            face.paste(GREEN if i % 3 == 0 else RED, (0, 10, 89, 99))
            face.save(pictures / f"{i:06}.jpg", quality=95)
    (tmp_path / "celeba" / "list_attr_celeba.txt").write_text("7\nMale Bald Smiling \n" + "\n".join(rows) + "\n")
    return tmp_path


def test_celeba_without_labels(celeba, caplog):
    (celeba / "celeba" / "list_attr_celeba.txt").unlink()
    data = CelebA(celeba, image_size=32)
    with caplog.at_level(logging.INFO):
        data.setup()
    assert data.samples.shape == (6, 3, 32, 32)
    assert (data.num_classes, data.labels.tolist()) == (0, [0] * 6)
    assert near(at(data.samples[0], 0.5, 0.05), RED, 12)  # the square: blue above and below the face is cut away
    assert near(at(data.samples[2], 0.5, 0.95), GREEN, 12)
    assert "6 pictures" in caplog.text
    assert "all 89 x 109" in caplog.text


def test_celeba_with_an_attribute(celeba):
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


@pytest.mark.parametrize("place", ["celeba", "img_align_celeba", "celeba/img_align_celeba/img_align_celeba"])
def test_celeba_from_nothing_but_a_folder(celeba, tmp_path, place):
    other = tmp_path / "other"
    (other / place).parent.mkdir(parents=True, exist_ok=True)
    (celeba / "celeba" / "img_align_celeba").rename(other / place)
    (celeba / "celeba" / "list_attr_celeba.txt").rename(other / place / "list_attr_celeba.txt")
    data = CelebA(other, attribute="Smiling")
    data.setup()
    assert data.labels.tolist() == [0, 0, 1, 0, 0, 1]


def test_celeba_as_png_and_a_list_without_its_count(celeba):
    for path in (celeba / "celeba" / "img_align_celeba").iterdir():
        with Image.open(path) as image:
            image.resize((64, 64)).save(path.with_suffix(".png"))
        path.unlink()
    file = celeba / "celeba" / "list_attr_celeba.txt"
    file.write_text(file.read_text().partition("\n")[2])
    data = CelebA(celeba, attribute="Smiling")
    data.setup()
    assert data.labels.tolist() == [0, 0, 1, 0, 0, 1]


def test_celeba_that_is_not_there(tmp_path):
    for made in (tmp_path, tmp_path / "celeba", tmp_path / "celeba" / "img_align_celeba"):
        made.mkdir(exist_ok=True)
        with pytest.raises(UserError) as error:
            CelebA(tmp_path).setup()
        for part in ("img_align_celeba", str(tmp_path / "celeba"), "mmlab.ie.cuhk.edu.hk", "data.root"):
            assert part in str(error.value)


@pytest.mark.parametrize(("attribute", "nearest"), [("smiling", "Smiling"), ("Smilin", "Smiling"), ("mail", "Male")])
def test_celeba_unknown_attribute(celeba, attribute, nearest):
    with pytest.raises(UserError) as error:
        CelebA(celeba, attribute=attribute).setup()
    assert f"nearest is {nearest};" in str(error.value)
    assert "one of Male, Bald, Smiling" in str(error.value)


def test_celeba_attribute_that_resembles_none(celeba):
    with pytest.raises(UserError, match=r"data\.attribute=Xyzzy: (?!.*nearest).*one of Male, Bald, Smiling"):
        CelebA(celeba, attribute="Xyzzy").setup()


def test_celeba_without_its_list(celeba):
    (celeba / "celeba" / "list_attr_celeba.txt").unlink()
    with pytest.raises(UserError) as error:
        CelebA(celeba, attribute="Smiling").setup()
    assert "list_attr_celeba.txt" in str(error.value)
    assert str(celeba / "celeba") in str(error.value)


def test_celeba_pictures_without_a_row(celeba):
    colours().save(celeba / "celeba" / "img_align_celeba" / "999999.jpg")
    with pytest.raises(UserError, match=r"1 of 7 pictures have no row .*999999\.jpg"):
        CelebA(celeba, attribute="Smiling").setup()
    CelebA(celeba).setup()


@pytest.mark.parametrize(
    "text", ["", "<html>\n<b>Quota exceeded</b>\nx\n", "1\nMale Bald\n000001.jpg 1\n", "1\nA\n1.jpg 7\n"]
)
def test_celeba_with_a_broken_list(celeba, text):
    (celeba / "celeba" / "list_attr_celeba.txt").write_text(text)
    with pytest.raises(UserError, match=r"list_attr_celeba\.txt"):
        CelebA(celeba, attribute="Smiling").setup()


def test_celeba_with_a_broken_picture(celeba):
    (celeba / "celeba" / "img_align_celeba" / "000002.jpg").write_bytes(b"<html>")
    with pytest.raises(UserError, match=r"1 of 6 pictures cannot be read: .*000002\.jpg"):
        CelebA(celeba).setup()
    data = CelebA(celeba, limit=1)  # comes before decoding
    data.setup()
    assert len(data.samples) == 1
