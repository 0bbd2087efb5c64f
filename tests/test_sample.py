"""gan-sample: pictures, arrays and folders from a checkpoint, and what it says to mistakes."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import gan_lightning
from gan_lightning.image import to_uint8
from gan_lightning.sample import main

MODELS = {
    "dcgan": ["model=dcgan", "data.channels=3"],
    "cgan": ["model=cgan", "data.channels=1"],
    "points": ["model=vanilla", "data=gaussian_ring"],
    "ema": ["model=cgan", "model.ema_decay=0.5"],
}


@pytest.fixture
def checkpoint(request, run, tmp_path_factory) -> Path:
    """A tiny run's checkpoint, one for each kind and all tests."""
    name = request.param
    if name not in CHECKPOINTS:
        folder = tmp_path_factory.mktemp(name)
        run(folder, *MODELS[name], "~callbacks.progress", "~callbacks.sample_grid", "~logger")
        CHECKPOINTS[name] = folder / "checkpoints" / "last.ckpt"
    return CHECKPOINTS[name]


CHECKPOINTS: dict[str, Path] = {}


def of(*names: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("checkpoint", names, indirect=True)


def gan_sample(monkeypatch, *words: object) -> None:
    monkeypatch.setattr(sys, "argv", ["gan-sample", *map(str, words)])
    main()


@of("dcgan", "cgan", "ema")
def test_a_grid(checkpoint, tmp_path, monkeypatch, capsys):
    out = tmp_path / "deep" / "grid.png"
    gan_sample(monkeypatch, checkpoint, "--num", 5, "--columns", 3, "--out", out)
    assert capsys.readouterr().out == f"5 samples in {out}\n"
    with Image.open(out) as picture:
        assert picture.size == (3 * 18 + 2, 2 * 18 + 2)
        pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)
    model = gan_lightning.load(checkpoint)
    labels = torch.arange(5) if model.num_classes else None
    second = to_uint8(model.sample(5, labels, seed=0)[1]).expand(3, -1, -1)
    assert torch.equal(pixels[:, 2:18, 20:36], second)


@of("cgan")
def test_classes_come_in_turn(checkpoint, tmp_path, monkeypatch):
    out = tmp_path / "a.npz"
    gan_sample(monkeypatch, checkpoint, "--num", 5, "--classes", "3,7", "--seed", 2, "--out", out)
    with np.load(out) as arrays:
        assert arrays["labels"].tolist() == [3, 7, 3, 7, 3]
        assert arrays["images"].dtype == np.uint8
        assert arrays["images"].shape == (5, 16, 16, 1)
        images = gan_lightning.load(checkpoint).sample(5, labels=[3, 7, 3, 7, 3], seed=2)
        assert np.array_equal(arrays["images"], to_uint8(images).permute(0, 2, 3, 1).numpy())


@of("dcgan")
def test_arrays_of_an_unconditional_model_have_no_labels(checkpoint, tmp_path, monkeypatch):
    gan_sample(monkeypatch, checkpoint, "--num", 4, "--out", tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz") as arrays:
        assert arrays.files == ["images"]
        assert arrays["images"].shape == (4, 16, 16, 3)


@of("points")
def test_points(checkpoint, tmp_path, monkeypatch, capsys):
    gan_sample(monkeypatch, checkpoint, "--num", 4, "--out", tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz") as arrays:
        assert arrays["points"].shape == (4, 2)
    gan_sample(monkeypatch, checkpoint, "--num", 4, "--out", tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 0
    capsys.readouterr()
    with pytest.raises(SystemExit) as left:
        gan_sample(monkeypatch, checkpoint, "--out", tmp_path / "folder")
    assert left.value.code == 2
    assert "points are no pictures" in capsys.readouterr().err


@of("dcgan", "cgan")
def test_a_folder_of_pictures(checkpoint, tmp_path, monkeypatch):
    gan_sample(monkeypatch, checkpoint, "--num", 3, "--out", tmp_path / "folder")
    conditional = bool(gan_lightning.load(checkpoint).num_classes)
    names = [f"{i:06d}_class{i}.png" if conditional else f"{i:06d}.png" for i in range(3)]
    assert sorted(path.name for path in (tmp_path / "folder").iterdir()) == names
    with Image.open(tmp_path / "folder" / names[0]) as picture:
        assert picture.size == (16, 16)


@of("cgan")
def test_a_seed_decides(checkpoint, tmp_path, monkeypatch):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        gan_sample(monkeypatch, checkpoint, "--num", 4, "--seed", seed, "--out", tmp_path / f"{name}.png")
    a, b, c = ((tmp_path / f"{name}.png").read_bytes() for name in "abc")
    assert a == b != c


@of("ema")
def test_the_average_is_what_samples(checkpoint):
    model = gan_lightning.load(checkpoint)
    assert not model.training
    z, y = torch.randn(4, model.latent_dim), torch.arange(4)
    with torch.no_grad():
        assert not torch.allclose(model.sampler()(z, y), model.generator(z, y))
    drawn = model.sample(4, y, seed=3)
    with torch.no_grad():
        for parameter in model.generator.parameters():
            parameter.zero_()
    assert torch.equal(model.sample(4, y, seed=3), drawn), "the live generator takes no part"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--num", "0"], "--num 0: must be at least 1"),
        (["--columns", "0"], "--columns 0: must be at least 1"),
        (["--out", "a.jpg"], "a.jpg: a .png, an .npz, or a folder"),
        (["--classes", "3,99"], "--classes 3,99: 99 is not a whole number from 0 to 9"),
        (["--classes", "cat"], "cat is not a whole number from 0 to 9"),
        (["--columns", "3", "--out", "a.npz"], "--columns 3: has no effect but on a grid"),
        (["--num", "0", "--out", "a.jpg"], "--num 0: must be at least 1\n--out a.jpg"),
    ],
)
@of("cgan")
def test_mistakes_are_told(checkpoint, tmp_path, monkeypatch, capsys, words, told):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as left:
        gan_sample(monkeypatch, checkpoint, *words)
    assert left.value.code == 2
    assert told in capsys.readouterr().err
    assert [*tmp_path.iterdir()] == []


@of("cgan")
def test_samples_of_two_calls_are_not_mixed(checkpoint, tmp_path, monkeypatch, capsys):
    gan_sample(monkeypatch, checkpoint, "--num", 4, "--out", tmp_path / "pictures")
    with pytest.raises(SystemExit):
        gan_sample(monkeypatch, checkpoint, "--num", 2, "--seed", 1, "--out", tmp_path / "pictures")
    assert "pictures: is there, and no empty folder; choose another" in capsys.readouterr().err
    assert len([*(tmp_path / "pictures").iterdir()]) == 4


@of("dcgan")
def test_mistakes_about_the_checkpoint(checkpoint, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    half = tmp_path / "half.ckpt"
    half.write_bytes(checkpoint.read_bytes()[:1000])
    blocked = tmp_path / "file"
    blocked.touch()
    for words, told in (
        (["nowhere.ckpt"], "nowhere.ckpt: there is no such checkpoint"),
        ([half], "half.ckpt: cannot be read (damaged"),
        ([checkpoint, "--classes", "3"], "is not of a conditional model"),
        ([checkpoint, "--out", blocked / "grid.png"], "cannot be written"),
    ):
        with pytest.raises(SystemExit) as left:
            gan_sample(monkeypatch, *words)
        assert left.value.code == 2
        assert told in capsys.readouterr().err
