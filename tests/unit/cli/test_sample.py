"""gan-sample: images, arrays and folders of samples from a checkpoint, and its error messages."""

import copy
import errno
import os
import sys
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from processes import ENDED

import gan_lightning
from gan_lightning.cli.explore import explore
from gan_lightning.cli.export import build_parser as export_parser
from gan_lightning.cli.export import export
from gan_lightning.cli.sample import main
from gan_lightning.errors import UserError
from gan_lightning.io.image import class_rows, enlarge, read_png, strip, to_uint8
from gan_lightning.run.checkpoint import choose, read

MODELS = {
    "dcgan": ["model=dcgan", "data.channels=3"],
    "cgan": ["model=cgan", "data.channels=1"],
    "points": ["model=vanilla", "data=gaussian_ring"],
    "ema": ["model=cgan", "model.ema_decay=0.5"],
}


@pytest.fixture
def checkpoint(request, run, tmp_path_factory) -> Path:
    """The checkpoint of a tiny run, trained once for each kind."""
    name = request.param
    if name not in CHECKPOINTS:
        folder = tmp_path_factory.mktemp(name)
        run(folder, *MODELS[name], "~callbacks.progress", "~callbacks.sample_grid", "~logger")
        CHECKPOINTS[name] = folder / "checkpoints" / "last.ckpt"
    return CHECKPOINTS[name]


CHECKPOINTS: dict[str, Path] = {}


NAMES = ["cats", "dogs", "sea lion", "été", "a,b", "10", "x/y", "cats2", "i", "j"]


def change_hyperparameters(path: Path, target: Path, **hyperparameters: object) -> Path:
    """Write a copy of a checkpoint with changed hyperparameters."""
    content = read(path)
    content["hyper_parameters"] |= hyperparameters
    torch.save(content, target)
    return target


def with_value(path: Path, target: Path, name: str, value: float) -> Path:
    """Write a copy of a checkpoint with one changed value of one tensor."""
    content = read(path)
    content["state_dict"][name] = content["state_dict"][name].clone()
    content["state_dict"][name].view(-1)[0] = value
    target.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, target)
    return target


def with_checkpoints(*names: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("checkpoint", names, indirect=True)


def gan_sample(monkeypatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["gan-sample", *map(str, arguments)])
    main()


@with_checkpoints("dcgan", "cgan", "ema")
def test_grid_has_samples_in_order(checkpoint, tmp_path, monkeypatch, capsys):
    out = tmp_path / "deep" / "grid.png"
    gan_sample(monkeypatch, checkpoint, "--num", 5, "--columns", 3, "--scale", 1, "--out", out)
    assert capsys.readouterr().out == f"5 samples in {out}\n"
    with Image.open(out) as image:
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    if gan_lightning.load(checkpoint).num_classes:  # class names are written at the left
        assert (pixels[:, :, : -(3 * 18 + 2)] < 128).any()
        pixels = pixels[:, :, -(3 * 18 + 2) :]
    assert pixels.shape == (3, 2 * 18 + 2, 3 * 18 + 2)
    model = gan_lightning.load(checkpoint)
    labels = torch.arange(5) if model.num_classes else None
    second = to_uint8(model.sample(5, labels, seed=0)[1]).expand(3, -1, -1)
    assert torch.equal(pixels[:, 2:18, 20:36], second)


@with_checkpoints("cgan")
def test_classes_alternate(checkpoint, tmp_path, monkeypatch):
    out = tmp_path / "a.npz"
    gan_sample(monkeypatch, checkpoint, "--num", 5, "--classes", "3,7", "--seed", 2, "--out", out)
    with np.load(out) as arrays:
        assert arrays["labels"].tolist() == [3, 7, 3, 7, 3]
        assert arrays["images"].dtype == np.uint8
        assert arrays["images"].shape == (5, 16, 16, 1)
        images = gan_lightning.load(checkpoint).sample(5, labels=[3, 7, 3, 7, 3], seed=2)
        assert np.array_equal(arrays["images"], to_uint8(images).permute(0, 2, 3, 1).numpy())


@with_checkpoints("dcgan")
def test_arrays_of_unconditional_model_have_no_labels(checkpoint, tmp_path, monkeypatch):
    gan_sample(monkeypatch, checkpoint, "--num", 4, "--out", tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz") as arrays:
        assert arrays.files == ["images"]
        assert arrays["images"].shape == (4, 16, 16, 3)


@with_checkpoints("points")
def test_points_are_written_as_array_and_plot(checkpoint, tmp_path, monkeypatch, capsys):
    gan_sample(monkeypatch, checkpoint, "--num", 4, "--out", tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz") as arrays:
        assert arrays["points"].shape == (4, 2)
    gan_sample(monkeypatch, checkpoint, "--num", 4, "--out", tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 0
    capsys.readouterr()
    with pytest.raises(SystemExit) as exit_info:
        gan_sample(monkeypatch, checkpoint, "--out", tmp_path / "folder")
    assert exit_info.value.code == 2
    assert "points are not images" in capsys.readouterr().err


@with_checkpoints("dcgan", "cgan")
def test_folder_of_images_is_written(checkpoint, tmp_path, monkeypatch):
    gan_sample(monkeypatch, checkpoint, "--num", 3, "--out", tmp_path / "folder")
    conditional = bool(gan_lightning.load(checkpoint).num_classes)
    names = [f"{i:06d}_class{i}.png" if conditional else f"{i:06d}.png" for i in range(3)]
    assert sorted(path.name for path in (tmp_path / "folder").iterdir()) == names
    with Image.open(tmp_path / "folder" / names[0]) as image:
        assert image.size == (16, 16)


@with_checkpoints("cgan")
def test_samples_depend_on_seed(checkpoint, tmp_path, monkeypatch):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        gan_sample(monkeypatch, checkpoint, "--num", 4, "--seed", seed, "--out", tmp_path / f"{name}.png")
    a, b, c = ((tmp_path / f"{name}.png").read_bytes() for name in "abc")
    assert a == b != c


@with_checkpoints("cgan", "points")
def test_truncation_scales_latents(checkpoint, tmp_path, monkeypatch):
    gan_sample(monkeypatch, checkpoint, "--num", 3, "--truncation", 0.5, "--out", tmp_path / "a.npz")
    model = gan_lightning.load(checkpoint)
    z, y = model.draw_latents(3, torch.arange(3) % max(model.num_classes, 1))
    expected = model.generate(z / 2, y)
    assert torch.equal(model.sample(3, y, truncation=0.5), expected)
    assert not torch.equal(model.sample(3, y), expected)
    (name, drawn) = next(iter(np.load(tmp_path / "a.npz").items()))
    is_image = name == "images"
    assert np.array_equal(drawn, to_uint8(expected).permute(0, 2, 3, 1).numpy() if is_image else expected.numpy())


@with_checkpoints("ema")
def test_ema_weights_are_sampled(checkpoint):
    model = gan_lightning.load(checkpoint)
    assert not model.training
    z, y = torch.randn(4, model.latent_dim), torch.arange(4)
    with torch.no_grad():
        assert not torch.allclose(model.sampler()(z, y), model.generator(z, y))
    drawn = model.sample(4, y, seed=3)
    with torch.no_grad():
        for parameter in model.generator.parameters():
            parameter.zero_()
    assert torch.equal(model.sample(4, y, seed=3), drawn), "the samples depend on the weights without EMA"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--num", "0"], "--num 0: must be at least 1"),
        (["--columns", "0"], "--columns 0: must be at least 1"),
        (["--out", "a.jpg"], "a.jpg: must be a .png, an .npz, or a folder"),
        (["--classes", "3,99"], "--classes 3,99: there is no class 99; the classes are 0 to 9"),
        (["--classes", "cat"], "there is no class 'cat'; the classes are 0 to 9"),
        (["--truncation", "-0.5"], "--truncation -0.5: must be a number of at least 0 and at most 10"),
        (["--truncation", "nan"], "--truncation nan: must be a number"),
        (["--classes", ""], "there is no class ''; the classes are 0 to 9"),
        (["--columns", "3", "--out", "a.npz"], "--columns 3: only has an effect on a grid"),
        (["--scale", "0"], "--scale 0: must be at least 1"),
        (["--scale", "33"], "--scale 33: must be at most 32"),
        (["--scale", "2", "--out", "a.npz"], "--scale 2: only has an effect on a grid, --out FILE.png"),
        (["--scale", "2", "--out", "folder"], "--scale 2: only has an effect on a grid, --out FILE.png"),
        (["--num", "0", "--out", "a.jpg"], "--num 0: must be at least 1\n--out a.jpg"),
    ],
)
@with_checkpoints("cgan")
def test_invalid_arguments_are_reported(checkpoint, tmp_path, monkeypatch, capsys, arguments, expected):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as exit_info:
        gan_sample(monkeypatch, checkpoint, *arguments)
    assert exit_info.value.code == 2
    assert expected in capsys.readouterr().err
    assert [*tmp_path.iterdir()] == []


@with_checkpoints("cgan")
def test_samples_are_not_added_to_existing_folder(checkpoint, tmp_path, monkeypatch, capsys):
    gan_sample(monkeypatch, checkpoint, "--num", 4, "--out", tmp_path / "images")
    with pytest.raises(SystemExit):
        gan_sample(monkeypatch, checkpoint, "--num", 2, "--seed", 1, "--out", tmp_path / "images")
    assert "images: exists and is not an empty folder; choose another" in capsys.readouterr().err
    assert len([*(tmp_path / "images").iterdir()]) == 4


@with_checkpoints("dcgan")
def test_invalid_checkpoint_and_output_are_reported(checkpoint, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    half = tmp_path / "half.ckpt"
    half.write_bytes(checkpoint.read_bytes()[:1000])
    blocked = tmp_path / "file"
    blocked.touch()
    for arguments, expected in (
        (["nowhere.ckpt"], "nowhere.ckpt: there is no such checkpoint"),
        ([half], "half.ckpt: cannot be read (damaged"),
        ([checkpoint, "--classes", "3"], "is not conditional"),
        ([checkpoint, "--out", blocked / "grid.png"], "cannot be written"),
    ):
        with pytest.raises(SystemExit) as exit_info:
            gan_sample(monkeypatch, *arguments)
        assert exit_info.value.code == 2
        assert expected in capsys.readouterr().err


@with_checkpoints("cgan")
def test_checkpoint_has_class_names(checkpoint):
    assert read(checkpoint)["hyper_parameters"]["class_names"] == [*"0123456789"]
    assert gan_lightning.load(checkpoint).class_names == [*"0123456789"]


@with_checkpoints("dcgan")
def test_unconditional_model_has_no_class_names(checkpoint):
    assert gan_lightning.load(checkpoint).class_names == []


@with_checkpoints("cgan")
def test_classes_are_selected_by_name(checkpoint, tmp_path, monkeypatch):
    path = change_hyperparameters(checkpoint, tmp_path / "named.ckpt", class_names=NAMES)
    model = gan_lightning.load(path)
    assert model.class_names == NAMES
    expected = model.sample(3, labels=[0, 5, 4], seed=1)
    assert torch.equal(model.sample(3, labels=["cats", "10", "a,b"], seed=1), expected)
    assert torch.equal(model.sample(labels=["cats", "10", "a,b"], seed=1), expected)
    for array in (["cats", "10", "a,b"], np.array([0, 5, 4], object), np.array([0, 5, 4], ">i8")):
        assert torch.equal(model.sample(labels=np.array(array), seed=1), expected)
    for names, labels in (("cats,dogs", [0, 1, 0]), ("10,a,b,été", [5, 4, 3]), ("j,sea lion", [9, 2, 9])):
        gan_sample(monkeypatch, path, "--num", 3, "--classes", names, "--out", tmp_path / "a.npz")
        with np.load(tmp_path / "a.npz") as arrays:
            assert arrays["labels"].tolist() == labels
            assert arrays["class_names"].tolist() == NAMES


@with_checkpoints("cgan")
def test_invalid_labels_of_sample_are_value_errors(checkpoint):
    model = gan_lightning.load(checkpoint)
    for kwargs, expected in (
        ({"num": 1, "labels": ["cat"]}, "labels: there is no class 'cat'; the classes are 0 to 9"),
        ({"num": 3, "labels": "cat"}, r"labels='cat': must be a list .*; labels=\['cat'\] \* 3"),
        ({"num": 3, "labels": ["1"]}, "labels: must be 3 integers"),
        ({}, "num=None: "),
    ):
        with pytest.raises(ValueError, match=expected):
            model.sample(**kwargs)


@with_checkpoints("cgan")
def test_unknown_class_name_is_error_with_suggestion(checkpoint, tmp_path, monkeypatch, capsys):
    path = change_hyperparameters(checkpoint, tmp_path / "named.ckpt", class_names=NAMES)
    with pytest.raises(SystemExit):
        gan_sample(monkeypatch, path, "--classes", "Dog", "--out", tmp_path / "a.npz")
    expected = "--classes Dog: there is no class 'Dog'; did you mean dogs? The classes are cats, dogs, sea lion, "
    assert capsys.readouterr().err.startswith(expected)
    assert not (tmp_path / "a.npz").exists()


@with_checkpoints("cgan")
def test_file_names_contain_class_name(checkpoint, tmp_path, monkeypatch):
    path = change_hyperparameters(checkpoint, tmp_path / "named.ckpt", class_names=NAMES)
    gan_sample(monkeypatch, path, "--num", 10, "--out", tmp_path / "out")
    found = [name.stem.partition("_")[2] for name in sorted((tmp_path / "out").iterdir())]
    assert found == ["cats", "dogs", "sea_lion", "été", "a_b", "class10", "x_y", "cats2", "i", "j"]


@with_checkpoints("cgan")
def test_scale_enlarges_grid_and_nothing_else(checkpoint, tmp_path, monkeypatch):
    for scale in (1, 2, None):
        option = () if scale is None else ("--scale", scale)
        gan_sample(monkeypatch, checkpoint, "--num", 4, "--out", tmp_path / f"{scale}.png", *option)
    one, two, default = (read_png(tmp_path / f"{scale}.png") for scale in (1, 2, None))
    height, width = 18 + 2, 4 * 18 + 2  # four classes in one row
    margin = one.shape[2] - width
    assert one.shape[1] == height
    assert two.shape == (3, 2 * height, margin + 2 * width)
    assert torch.equal(two[:, :, margin:], enlarge(one[:, :, margin:], 2))
    assert default.shape == (3, 12 * height, margin + 12 * width), "74 pixels become about 900"
    assert torch.equal(default[:, :, margin:], enlarge(one[:, :, margin:], 12))
    gan_sample(monkeypatch, checkpoint, "--num", 4, "--out", tmp_path / "folder")
    assert {read_png(path).shape for path in (tmp_path / "folder").iterdir()} == {(3, 16, 16)}


@pytest.mark.parametrize("option", ["scale", "columns"])
@with_checkpoints("points")
def test_layout_of_images_has_no_effect_on_points(checkpoint, tmp_path, monkeypatch, capsys, option):
    with pytest.raises(SystemExit):
        gan_sample(monkeypatch, checkpoint, f"--{option}", 2, "--out", tmp_path / "a.png")
    assert f"--{option} 2: has no effect, since the model generates points" in capsys.readouterr().err
    assert not (tmp_path / "a.png").exists()


@with_checkpoints("cgan")
def test_grid_has_one_captioned_row_per_class(checkpoint, tmp_path, monkeypatch):
    path, out = change_hyperparameters(checkpoint, tmp_path / "named.ckpt", class_names=NAMES), tmp_path / "a.png"
    gan_sample(monkeypatch, path, "--num", 7, "--classes", "dogs,été", "--columns", 3, "--scale", 1, "--out", out)
    with Image.open(out) as image:
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    grid = pixels[:, :, -(3 * 18 + 2) :]
    assert grid.shape == (3, 3 * 18 + 2, 3 * 18 + 2), "expected two rows of dogs, with 3 and 1 images, and one of été"
    images = to_uint8(gan_lightning.load(path).sample(7, labels=[1, 3, 1, 3, 1, 3, 1], seed=0)).expand(-1, 3, -1, -1)
    for number, (row, column) in {0: (0, 0), 2: (0, 1), 6: (1, 0), 1: (2, 0), 5: (2, 2)}.items():
        assert torch.equal(grid[:, 2 + 18 * row : 18 + 18 * row, 2 + 18 * column : 18 + 18 * column], images[number])
    assert (grid[:, 20:36, 20:] == 255).all(), "cells without a sample are not white"
    rows = [pixels[:, top : top + 18, : -(3 * 18 + 2)] for top in (0, 18, 36)]
    assert torch.equal(rows[0], rows[1]), "both rows should have the caption dogs"
    assert not torch.equal(rows[0], rows[2]), "the third row should have the caption été"


def test_class_rows_compares_labels_in_one_pass():
    class Label(int):
        compared = 0

        def __eq__(self, other):
            Label.compared += 1
            return int(self) == int(other)

        __hash__ = int.__hash__

    labels = [Label(i % 200) for i in range(400)]
    images, width, captions = class_rows(torch.arange(400.0).view(400, 1, 1, 1), labels, [], 8)
    assert Label.compared < 4000, "every class is compared with every sample"
    assert width == 2
    assert images.flatten().tolist()[:4] == [0, 200, 1, 201]
    assert captions[:2] == ["class 0", "class 1"]


def test_characters_missing_from_font_become_question_marks():
    images = [torch.zeros(3, 20, 20, dtype=torch.uint8)]
    assert torch.equal(strip(images, ["犬 λ"]), strip(images, ["? λ"]))
    assert not torch.equal(strip(images, ["λ"]), strip(images, ["?"]))


@pytest.mark.parametrize("names", [["a"], "cats", [*"abcdefghi", "\x1b[2J"], [*"abcdefghi", "x" * 256], [0] * 10])
@with_checkpoints("cgan")
def test_invalid_class_names_of_checkpoint_are_rejected(checkpoint, tmp_path, names):
    path = change_hyperparameters(checkpoint, tmp_path / "named.ckpt", class_names=names)
    with pytest.raises(UserError, match=r"named\.ckpt: class_names: must be 10 printable texts") as caught:
        gan_lightning.load(path)
    assert len(caught.value.errors) == 1


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("part", ["generator.*weight", "generator_ema.*weight", "generator_ema.*running_var"])
@with_checkpoints("ema")
def test_non_finite_weights_are_error(checkpoint, tmp_path, monkeypatch, capsys, part, value):
    name = next(name for name in read(checkpoint)["state_dict"] if fnmatch(name, part))
    path = with_value(checkpoint, tmp_path / "bad.ckpt", name, value)
    with pytest.raises(SystemExit) as exit_info:
        gan_sample(monkeypatch, path, "--out", tmp_path / "a.png")
    assert exit_info.value.code == 2
    message = capsys.readouterr().err
    assert message.startswith(f"{path}: {name}: 1 of ")
    assert "values are NaN or infinite" in message
    assert message.count("\n") == 1


@with_checkpoints("points")
def test_non_finite_samples_are_error(checkpoint, tmp_path, monkeypatch, capsys):
    content = read(checkpoint)
    for name, value in content["state_dict"].items():
        if name.startswith("generator.") and value.is_floating_point():
            content["state_dict"][name] = torch.full_like(value, 3e38)
    torch.save(content, tmp_path / "large.ckpt")
    with pytest.raises(SystemExit):
        gan_sample(monkeypatch, tmp_path / "large.ckpt", "--num", 4, "--out", tmp_path / "a.npz")
    assert "large.ckpt: samples: 8 of 8 values are NaN or infinite" in capsys.readouterr().err
    assert not (tmp_path / "a.npz").exists()


@pytest.mark.parametrize("key", ["init_from", "ckpt_path"])
@with_checkpoints("cgan")
def test_training_does_not_start_from_non_finite_weights(checkpoint, run, tmp_path, key):
    name = next(name for name in read(checkpoint)["state_dict"] if fnmatch(name, "generator.*weight"))
    path = with_value(checkpoint, tmp_path / "run/checkpoints/last.ckpt", name, float("nan"))
    overrides = [*MODELS["cgan"], "~callbacks.progress", "~callbacks.sample_grid", "~logger", "trainer.max_steps=3"]
    kwargs = {"ckpt_path": path} if key == "ckpt_path" else {}
    overrides += [f"init_from={path}"] if key == "init_from" else []
    with pytest.raises(UserError, match=rf"last\.ckpt: {name}: 1 of .* NaN or infinite"):
        run(tmp_path / "run", *overrides, **kwargs)


@with_checkpoints("cgan")
def test_run_directory_selects_best_or_latest_checkpoint(checkpoint, tmp_path, monkeypatch, capsys):
    run, content = tmp_path / "run", read(checkpoint)
    folder = run / "checkpoints"
    folder.mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    for step, name in ((2, "step_00000002"), (4, "step_00000004"), (4, "last"), (2, "best")):
        checkpoint_content = copy.deepcopy(content) | {"global_step": step}
        progress = checkpoint_content["loops"]["fit_loop"]["epoch_loop.manual_optimization.optim_step_progress"]
        progress["total"]["completed"] = step
        torch.save(checkpoint_content, folder / f"{name}.ckpt")
    (run / "config.yaml").touch()
    for source in ("run", "run/checkpoints", run):
        gan_sample(monkeypatch, source, "--num", 1, "--out", "a.npz")
        assert capsys.readouterr().out == "using run/checkpoints/best.ckpt\n1 samples in a.npz\n"
    (folder / "best.ckpt").write_bytes(b"torn")
    assert choose(run)[0] == Path("run/checkpoints/last.ckpt")
    assert gan_lightning.load(run).class_names == [*"0123456789"]
    for name in ("last", "step_00000004"):
        (folder / f"{name}.ckpt").write_bytes(b"torn")
    assert choose(run)[0] == Path("run/checkpoints/step_00000002.ckpt")
    (folder / "step_00000002.ckpt").write_bytes(b"torn")
    with pytest.raises(UserError, match="cannot be read") as caught:
        choose(run)
    assert len(caught.value.errors) == 4


@with_checkpoints("cgan")
def test_checkpoint_is_read_once(checkpoint, tmp_path, monkeypatch):
    load, read_files = torch.load, []
    monkeypatch.setattr(
        torch, "load", lambda file, *arguments, **kwargs: read_files.append(file) or load(file, *arguments, **kwargs)
    )
    run = checkpoint.parent.parent
    for path in (run, checkpoint):
        for use in (
            gan_lightning.load,
            lambda path: gan_sample(monkeypatch, path, "--num", 1, "--out", tmp_path / "a.npz"),
            lambda path: export(export_parser().parse_args([str(path), "--no-onnx", "--out", str(tmp_path / "out")])),
            lambda path: explore(path, ["latent=walk", "latent.steps=2", f"out={tmp_path / 'walk'}"]),
        ):
            use(path)
            assert len(read_files) == 1
            read_files.clear()


def test_folder_that_is_no_run_is_one_line_error(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    for name in ("one", "two"):
        (tmp_path / "sweep" / name / "checkpoints").mkdir(parents=True)
        (tmp_path / "sweep" / name / "checkpoints" / "last.ckpt").touch()
        (tmp_path / "sweep" / name / "config.yaml").touch()
    (tmp_path / "young").mkdir()
    (tmp_path / "young" / "config.yaml").touch()
    for source, expected in (
        (
            "photos",
            "photos: has no checkpoints, as a run directory has, and is no folder of gan-export, since",
        ),
        ("sweep", "sweep: holds 2 runs, and one is needed: sweep/one, sweep/two\n"),
        ("young", "young: this run has saved no checkpoint"),
    ):
        with pytest.raises(SystemExit) as exit_info:
            gan_sample(monkeypatch, source)
        assert exit_info.value.code == 2
        err = capsys.readouterr().err
        assert err.startswith(expected)
        assert err.count("\n") == 1


@with_checkpoints("dcgan")
def test_folder_is_flushed_to_disk_once(checkpoint, tmp_path, monkeypatch):
    calls = []
    for name in ("fsync", "sync"):
        monkeypatch.setattr(os, name, lambda *_, name=name: calls.append(name))
    gan_sample(monkeypatch, checkpoint, "--num", 20, "--out", tmp_path / "out")
    assert calls == ["sync", "fsync"], "expected one sync of all files, then fsync of the renamed directory"
    assert len([*(tmp_path / "out").iterdir()]) == 20


@with_checkpoints("dcgan")
def test_files_of_killed_process_are_removed_by_next_call(checkpoint, tmp_path, monkeypatch):
    ended, living = ENDED, os.getppid()
    for number in (ended, living, os.getpid()):
        (tmp_path / f".out.{number}.part").mkdir()
        (tmp_path / f".out.{number}.part" / "000000.png").touch()
        (tmp_path / f".a.png.{number}.part").touch()
    remaining = {f".other.{ended}.part", ".out.x.part", f".out.{ended}.part.png"}
    for name in remaining:
        (tmp_path / name).touch()
    remaining |= {f".out.{living}.part", f".a.png.{living}.part"}
    (tmp_path / "out").mkdir()
    gan_sample(monkeypatch, checkpoint, "--num", 2, "--out", tmp_path / "out")
    gan_sample(monkeypatch, checkpoint, "--num", 2, "--out", tmp_path / "a.png")
    assert {path.name for path in tmp_path.iterdir()} == remaining | {"out", "a.png"}
    assert len([*(tmp_path / "out").iterdir()]) == 2


@with_checkpoints("dcgan")
def test_failed_write_leaves_no_files(checkpoint, tmp_path, monkeypatch, capsys):
    def fail_with_full_disk(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(tmp_path / "out"))

    monkeypatch.setattr("gan_lightning.io.image.png", fail_with_full_disk)
    with pytest.raises(SystemExit):
        gan_sample(monkeypatch, checkpoint, "--num", 2, "--out", tmp_path / "out")
    assert capsys.readouterr().err.startswith(f"{tmp_path}/out: cannot be written (No space left on device)")
    assert [*tmp_path.iterdir()] == []


@with_checkpoints("dcgan")
def test_home_directory_is_expanded_and_printed_path_is_relative(checkpoint, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "last.ckpt").write_bytes(checkpoint.read_bytes())
    gan_sample(monkeypatch, "~/last.ckpt", "--num", 1, "--out", "~/deep/a.npz")
    assert capsys.readouterr().out == "1 samples in home/deep/a.npz\n"
    assert (tmp_path / "home" / "deep" / "a.npz").exists()
    assert gan_lightning.load("~/last.ckpt").num_classes == 0
    assert not (tmp_path / "~").exists()
