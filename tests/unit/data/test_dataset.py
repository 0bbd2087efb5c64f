"""Data modules of data sets that were constructed in Python."""

import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Subset, TensorDataset

from gan_lightning import from_dataset
from gan_lightning.data.image_folder import ImageFolder
from gan_lightning.errors import UserError

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 10, 12, 3), dtype=np.uint8)
IMAGES = [Image.fromarray(pixels) for pixels in PIXELS]
BYTES = torch.from_numpy(PIXELS).permute(0, 3, 1, 2)


def loaded(dataset, size=8, **arguments):
    data = from_dataset(dataset, image_size=size, batch_size=2, **arguments)
    data.setup()
    return data


def error_of(dataset, **arguments) -> str:
    with pytest.raises(UserError) as error:
        loaded(dataset, **arguments)
    return str(error.value).replace("from_dataset(list): ", "")


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_images_equal_those_of_folder(tmp_path, fit):
    for i, image in enumerate(IMAGES):
        image.save(tmp_path / f"{i}.png")
    folder = ImageFolder(tmp_path, 8, fit=fit)
    folder.setup()
    assert torch.equal(loaded(IMAGES, fit=fit).samples, folder.samples)


def test_images_arrays_tensors_and_floats_give_same_images():
    expected = loaded(IMAGES).samples
    assert torch.equal(loaded(list(PIXELS)).samples, expected)
    assert torch.equal(loaded(TensorDataset(BYTES)).samples, expected)
    assert torch.equal(loaded(list(BYTES / 255), value_range=(0, 1)).samples, expected)
    assert torch.equal(loaded(list(BYTES / 127.5 - 1), value_range=(-1, 1)).samples, expected)
    assert torch.equal(loaded(list(BYTES.long()), value_range=(0, 255)).samples, expected)


def test_images_of_right_size_are_unchanged():
    assert torch.equal(loaded(list(BYTES), (10, 12)).samples, BYTES)


def test_transparent_parts_are_white():
    assert (loaded([Image.new("RGBA", (8, 8))]).samples == 255).all()


def test_channels_are_those_of_first_image_or_given():
    gray = [image.convert("L") for image in IMAGES]
    assert loaded(gray).shape == (1, 8, 8)
    assert loaded([IMAGES[0], *gray]).shape == (3, 8, 8)
    assert loaded([torch.zeros(9, 9, dtype=torch.uint8), *BYTES]).shape == (1, 8, 8)
    assert torch.equal(loaded(IMAGES, channels=1).samples, loaded(gray).samples)


def test_class_names_are_given_ones_then_those_of_dataset_then_numbers():
    pairs = [(image, i % 3) for i, image in enumerate(IMAGES)]
    data = loaded(pairs)
    assert (data.class_names, data.labels.tolist()) == (["0", "1", "2"], [0, 1, 2, 0, 1, 2])
    assert loaded(pairs, class_names=["a", "b", "c"]).class_names == ["a", "b", "c"]

    class WithClasses(list):
        classes = ("x", "y", "z")

    assert loaded(WithClasses(pairs)).class_names == ["x", "y", "z"]
    assert loaded(Subset(WithClasses(pairs), [0, 1])).class_names == ["x", "y", "z"]
    assert loaded(WithClasses(IMAGES)).class_names == []


@pytest.mark.parametrize("label", [1, True, np.int32(1), torch.tensor(1), torch.tensor([1]), np.array([[1]])])
def test_labels_of_every_type_of_number(label):
    assert loaded([(image, label) for image in IMAGES]).labels.tolist() == [1] * 6


def test_held_out_images_are_those_of_test():
    pairs = [(image, i % 2) for i, image in enumerate(IMAGES)]
    data = loaded(pairs[:4], test=pairs[4:])
    samples, labels = data.held_out()
    assert torch.equal(samples, loaded(IMAGES[4:]).samples)
    assert labels.tolist() == [0, 1]
    assert len(data.whole()[0]) == 4
    with pytest.raises(UserError, match=r"pass a data set of held-out images to from_dataset: test=DATASET$"):
        loaded(pairs).held_out()
    with pytest.raises(UserError, match="test set: the items have no labels, unlike those of the training set"):
        loaded(pairs, test=IMAGES).held_out()


def test_loader_is_that_of_other_data():
    data = loaded(IMAGES, seed=3)
    module = SimpleNamespace(d_steps=2, device=torch.device("cpu"))
    data.trainer = SimpleNamespace(lightning_module=module, global_step=1, max_steps=3, global_rank=0, world_size=1)
    data.trainer.data_on_device = True
    loader = data.train_dataloader()
    assert (loader.minibatch, loader.d_steps, loader.seed, loader.start, loader.stop) == (2, 2, 3, 1, 3)
    assert [len(batch) for batch, _ in loader] == [4, 4]


def test_items_are_read_once():
    class Counting(list):
        def __getitem__(self, row):
            seen.append(row)
            return super().__getitem__(row)

    seen: list[int] = []
    data = loaded(Counting(IMAGES))
    data.setup()
    data.whole()
    assert seen == [0, 1, 2, 3, 4, 5]


SHAPE = "has the shape {}, and should have {} with 1 or 3 channels"
CHW, HWC = "(C, H, W)", "(H, W, C)"


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (BYTES[0].permute(1, 2, 0), f"{SHAPE.format('(10, 12, 3)', CHW)}; channels are last: image.permute(2, 0, 1)"),
        (BYTES[0].numpy(), f"{SHAPE.format('(3, 10, 12)', HWC)}; channels are first: image.transpose(1, 2, 0)"),
        (torch.zeros(4, 8, 8), f"{SHAPE.format('(4, 8, 8)', CHW)}; drop the alpha channel: image[:3]"),
        (np.zeros((8, 8, 4)), f"{SHAPE.format('(8, 8, 4)', HWC)}; drop the alpha channel: image[..., :3]"),
        (torch.zeros(5), SHAPE.format("(5,)", CHW)),
        (np.zeros((0, 8)), SHAPE.format("(0, 8)", HWC)),
        (Image.new("I;16", (8, 8)), "a Pillow image of mode I;16; convert it to 8 bits: mode L or RGB"),
        ("a.png", "a value of type str; return a Pillow image, a tensor (C, H, W) or an array (H, W, C)"),
        ({"image": 1}, "a value of type dict; return a Pillow image, a tensor (C, H, W) or an array (H, W, C)"),
        (torch.zeros(3, 8, 8, dtype=torch.bool), "bool, and should be uint8 in 0 to 255"),
    ],
)  # fmt: skip
def test_invalid_image_is_named_with_its_item(item, message):
    assert error_of([*IMAGES, item]) == f"item 6: {message}"


@pytest.mark.parametrize(
    ("images", "found", "fix"),
    [
        (BYTES / 255, "[0, 1]", "(0, 1)"),
        (BYTES / 127.5 - 1, "[-1, 1]", "(-1, 1)"),
        (BYTES.float(), "[0, 255]", "(0, 255)"),
        (BYTES * 4.0, "[0, 1020]", "(BLACK, WHITE)"),
    ],
)
def test_floats_need_value_range(images, found, fix):
    """The range is that of all items; an image of its own may use a part of it. Up to five items are listed."""
    assert error_of(list(images)) == (
        f"items 0, 1, 2, 3, 4: float32, and should be uint8 in 0 to 255; the values are in {found}, "
        f"pass value_range={fix} to from_dataset"
    )


def test_values_outside_value_range_are_an_error():
    item = torch.full((3, 8, 8), 2.0)
    assert error_of([item], value_range=(0, 1)) == "item 0: float32 in [2, 2], and should be in value_range=(0, 1)"
    assert "in [nan, nan], and should be" in error_of([item * torch.nan], value_range=(0, 1))
    assert (loaded([torch.full((3, 8, 8), 1.0005)], value_range=(0, 1)).samples == 255).all()  # rounding
    with pytest.raises(ValueError, match=re.escape("value_range=(1, 0): must be the values of black and of white")):
        from_dataset(IMAGES, 8, value_range=(1, 0))
    with pytest.raises(ValueError, match="channels=2: must be one of 1, 3"):
        from_dataset(IMAGES, 8, channels=2)


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (torch.eye(3)[1], "item 0: its label is 3 values, and should be the number of a class: label.argmax()"),
        ("cat", "item 0: its label is 'cat', and should be the number of a class"),
        (0.5, "labels are float64, and should be whole numbers: labels.long()"),
        (-1, "labels run from -1 to -1, and should run from 0 to 0, as there are 1 class names; number the classes"),
    ],
)
def test_invalid_label(label, message):
    assert error_of([(image, label) for image in IMAGES]).startswith(message)


def test_labels_from_one_with_names_are_an_error():
    pairs = [(image, 1 + i % 2) for i, image in enumerate(IMAGES)]
    assert error_of(pairs, class_names=["a", "b"]).endswith("as there are 2 class names; subtract 1: labels - 1")


def test_missing_labels():
    assert error_of([(IMAGES[0], 1), IMAGES[1]]) == "item 1 has no label, unlike item 0; return the same for all items"
    assert error_of([IMAGES[0], (IMAGES[1], 1)]) == "item 1 has a label, unlike item 0; return the same for all items"
    assert error_of(IMAGES, class_names=["a"]) == "there are class_names, and the items have no labels"


def test_data_without_length_or_items():
    fix = "has no length and no index; pass a map-style data set or a list: list(dataset)"
    with pytest.raises(UserError, match=re.escape(f"from_dataset(list_iterator): {fix}")):
        loaded(iter(IMAGES))
    assert error_of([]) == "there are no images"


def test_exported_where_users_look():
    import gan_lightning
    from gan_lightning import data
    from gan_lightning.data import dataset

    assert gan_lightning.from_dataset is data.from_dataset is dataset.from_dataset
    with pytest.raises(AttributeError, match=r"module 'gan_lightning.data' has no attribute 'from_datset'"):
        data.from_datset  # noqa: B018
