"""gan-export: the exported generator in torch and ONNX, its model card, and loading of untrusted exports."""

import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import safetensors.torch
import torch
from torch_fidelity.generative_model_onnx import GenerativeModelONNX

import gan_lightning
from gan_lightning.cli import export as program
from gan_lightning.cli import sample
from gan_lightning.errors import UserError
from gan_lightning.export.generator import ExportedGenerator
from gan_lightning.export.model_card import card, escaped
from gan_lightning.export.onnx import to_onnx
from gan_lightning.io import image
from gan_lightning.io.cache import TensorCache
from gan_lightning.io.image import to_uint8
from gan_lightning.run.checkpoint import read

QUIET = "~callbacks.progress", "~callbacks.sample_grid", "~logger"


@pytest.fixture(autouse=True)
def _working_directory(tmp_path, monkeypatch):
    """Write an export without --out into the test's own directory, not into the clone."""
    monkeypatch.chdir(tmp_path)


def gan_export(*arguments: object) -> str:
    return program.export(program.build_parser().parse_args([*map(str, arguments)]))


@pytest.fixture
def checkpoint(trained, tmp_path) -> Path:
    trained(tmp_path / "run", "model=cgan", "trainer.max_steps=1", *QUIET)
    return tmp_path / "run" / "checkpoints" / "last.ckpt"


@pytest.fixture(scope="module")
def with_onnx(trained, tmp_path_factory) -> Path:
    """An export with ONNX of the checkpoint above; made once for this file, since it takes seconds."""
    folder = tmp_path_factory.mktemp("exported")
    trained(folder / "run", "model=cgan", "trainer.max_steps=1", *QUIET)
    gan_export(folder / "run" / "checkpoints" / "last.ckpt", "--out", folder / "out")
    return folder / "out"


@pytest.fixture
def exported(with_onnx, tmp_path) -> Path:
    """Copy that export to ``tmp_path/out``."""
    return shutil.copytree(with_onnx, tmp_path / "out")


def test_samples_of_checkpoint_torch_and_onnx_are_equal(run, tmp_path, learner):
    check_equal_samples(run, tmp_path, f"model={learner}")


WIDE = "model.ema_decay=0.9", "data.channels=3", "data.image_size=[16,24]"
RESNET = "network=resnet"


@pytest.mark.parametrize(
    "overrides",
    [
        ("model=acgan", *WIDE),
        ("model=dcgan", *WIDE),
        ("model=cgan", RESNET),
        ("model=wgan", RESNET),
    ],
    ids=" ".join,
)
def test_samples_of_other_networks_and_shapes_are_equal(run, tmp_path, overrides):
    check_equal_samples(run, tmp_path, *overrides)


def check_equal_samples(run: Callable[..., Any], tmp_path: Path, *overrides: str) -> None:
    """Train, export, and compare the samples of the checkpoint, the torch export and the ONNX export."""
    run(tmp_path / "run", *overrides, "trainer.max_steps=2", *QUIET)
    path, out = tmp_path / "run" / "checkpoints" / "last.ckpt", tmp_path / "out"
    output = gan_export(path, "--out", out)
    assert "differs from torch by at most" in output
    model, loaded = gan_lightning.load(path), gan_lightning.load(out)
    assert isinstance(loaded, ExportedGenerator)
    assert not loaded.training
    expected = model.sample(9, seed=3)
    torch.testing.assert_close(loaded.sample(9, seed=3), expected, rtol=0, atol=1e-6)
    z, y = model.draw_latents(9, seed=3)
    inputs = {"latent": z.numpy(), **({"label": y.numpy()} if model.num_classes else {})}
    pixels, images = onnxruntime.InferenceSession(out / "generator.onnx").run(None, inputs)
    assert np.abs(images - expected.numpy()).max() <= 1e-5
    channels = expected.shape[1]
    assert pixels.shape == (9, 3, *expected.shape[2:])
    assert np.abs(pixels[:, :channels].astype(int) - to_uint8(expected).numpy()).max() <= 1
    fidelity = GenerativeModelONNX(str(out / "generator.onnx"), model.latent_dim, "normal", model.num_classes)
    assert torch.equal(fidelity(z, *([y] if model.num_classes else [])), torch.from_numpy(pixels))


def test_points_in_double_precision_are_exported(run, tmp_path):
    run(tmp_path / "run", "model=vanilla", "data=gaussian_ring", "trainer.precision=64-true", *QUIET)
    path = tmp_path / "run" / "checkpoints" / "last.ckpt"
    gan_export(path, "--out", tmp_path / "out")
    z, _ = gan_lightning.load(path).draw_latents(5)
    session = onnxruntime.InferenceSession(tmp_path / "out" / "generator.onnx")
    assert [output.name for output in session.get_outputs()] == ["points"]
    (points,) = session.run(None, {"latent": z.numpy()})
    assert np.abs(points - gan_lightning.load(path).sample(5).numpy()).max() < 1e-5
    assert "fidelity" not in (tmp_path / "out" / "README.md").read_text()


def test_gan_sample_draws_equal_samples_from_export(checkpoint, tmp_path):
    gan_export(checkpoint, "--out", tmp_path / "out", "--no-onnx")
    for path in (checkpoint, tmp_path / "out"):
        overrides = str(path), "--num", "6", "--classes", "3,7", "--out", str(tmp_path / f"{path.name}.npz")
        sample.sample(sample.build_parser().parse_args(overrides))
    one, other = (np.load(tmp_path / name) for name in ("last.ckpt.npz", "out.npz"))
    assert [*one["labels"]] == [*other["labels"]] == [3, 7] * 3
    assert np.abs(one["images"].astype(int) - other["images"]).max() <= 1


def test_run_directory_is_exported(checkpoint, tmp_path, capsys):
    gan_export(tmp_path / "run", "--no-onnx", "--out", tmp_path / "out")
    assert capsys.readouterr().out == f"using {Path('run', 'checkpoints', 'last.ckpt')}\n"
    torch.testing.assert_close(gan_lightning.load(tmp_path / "out").sample(2), gan_lightning.load(checkpoint).sample(2))
    with pytest.raises(UserError, match="out: is already an export; pass the run or its checkpoint"):
        gan_export(tmp_path / "out", "--no-onnx", "--out", tmp_path / "again")


def rename_classes(checkpoint: Path, names: object) -> Path:
    """Replace the class names of the checkpoint."""
    content = read(checkpoint)
    content["hyper_parameters"]["class_names"] = names
    torch.save(content, checkpoint)
    return checkpoint


def test_class_names_are_exported(checkpoint, tmp_path):
    names = ["cats", "<b>dogs</b>", "10", *"defghij"]
    gan_export(rename_classes(checkpoint, names), "--no-onnx", "--out", tmp_path / "out")
    assert json.loads((tmp_path / "out" / "config.json").read_text())["class_names"] == names
    loaded = gan_lightning.load(tmp_path / "out")
    assert loaded.class_names == names
    assert torch.equal(loaded.sample(labels=["cats", "10"]), loaded.sample(2, labels=[0, 2]))
    text = (tmp_path / "out" / "README.md").read_text()
    assert "of 10 classes, selected by name or number" in text
    assert "Classes: cats, \\<b\\>dogs\\</b\\>, 10, d" in text, "class numbers would be ambiguous beside the name 10"
    assert 'samples = model.sample(64, labels=["cats"] * 64, seed=0)' in text
    captioned = image.read_png(tmp_path / "out" / "samples.png")
    assert captioned.shape[1] == 5 * (10 * 18 + 2), "182 pixels become about 900"
    assert captioned.shape[2] > 5 * (8 * 18 + 2), "the rows have no captions"


def test_class_names_of_untrusted_export_are_validated(checkpoint, tmp_path):
    gan_export(checkpoint, "--no-onnx", "--out", tmp_path / "out")
    for wrong in ("cats", ["a"], [1] * 10, [*"abcdefghi", "\x1b[2J"], [*"abcdefghi", "j" * 10**6]):
        change_config(tmp_path / "out", class_names=wrong)
        with pytest.raises(UserError, match=r"config\.json: class_names: must be 10 printable texts"):
            gan_lightning.load(tmp_path / "out")
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    del config["class_names"]
    (tmp_path / "out" / "config.json").write_text(json.dumps(config))
    assert gan_lightning.load(tmp_path / "out").class_names == [], "an export of an earlier version has no class names"


def test_non_finite_weights_are_neither_exported_nor_loaded(checkpoint, tmp_path):
    gan_export(checkpoint, "--no-onnx", "--out", tmp_path / "out")
    path = tmp_path / "out" / "generator.safetensors"
    state = safetensors.torch.load_file(path)
    name = next(name for name in state if name.endswith("weight"))
    state[name].view(-1)[1] = float("-inf")
    TensorCache(tmp_path / "out").write(path, state)
    with pytest.raises(UserError, match=rf"generator\.safetensors: {name}: 1 of .* are NaN or infinite"):
        gan_lightning.load(tmp_path / "out")
    content = read(checkpoint)
    name = next(key for key in content["state_dict"] if key.startswith("generator.") and key.endswith("weight"))
    content["state_dict"][name] = torch.full_like(content["state_dict"][name], float("nan"))
    torch.save(content, checkpoint)
    with pytest.raises(UserError, match=rf"last\.ckpt: {name}: .* are NaN or infinite"):
        gan_export(checkpoint, "--no-onnx", "--out", tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_weights_that_overflow_single_precision_are_not_exported(run, tmp_path):
    overrides = "model=vanilla", "data=gaussian_ring", "trainer.precision=64-true", "trainer.max_steps=1"
    run(tmp_path / "run", *overrides, *QUIET)
    content = read(tmp_path / "run" / "checkpoints" / "last.ckpt")
    name = next(key for key in content["state_dict"] if key.startswith("generator.") and key.endswith("weight"))
    content["state_dict"][name].view(-1)[0] = 1e300
    torch.save(content, tmp_path / "large.ckpt")
    with pytest.raises(UserError, match=r"large\.ckpt: .*weight: 1 of .* are NaN or infinite"):
        gan_export(tmp_path / "large.ckpt", "--no-onnx", "--out", tmp_path / "out")


def test_onnx_file_contains_no_local_paths(exported, tmp_path):
    content = (tmp_path / "out" / "generator.onnx").read_bytes()
    assert b"latent" in content
    for text in (b'File "', b".py", str(Path.home()).encode() + b"/"):
        assert text not in content


def test_onnx_samples_that_differ_from_torch_are_error(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr("gan_lightning.export.onnx.TOLERANCE", 0.0)
    with pytest.raises(UserError, match="samples of ONNX differ from those of torch by"):
        gan_export(checkpoint, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_generator_that_onnx_cannot_convert_is_error(checkpoint):
    class DataDependent(torch.nn.Linear):
        def forward(self, z, y):
            return super().forward(z) * len(z.nonzero().tolist())

    with pytest.raises(UserError, match=r"this generator cannot be converted to ONNX \(.*--no-onnx"):
        to_onnx(ExportedGenerator(DataDependent(100, 2), 100, 0))


def test_model_card_has_training_settings_and_all_scores(run, tmp_path):
    overrides = (
        "eval.every_n_steps=1",
        "eval.num_generated=40",
        "eval.num_real=20",
        "metric.kid.subsets=5",
        "trainer.max_steps=2",
    )
    run(tmp_path / "run", "model=acgan", *overrides, *QUIET)
    output = gan_export(tmp_path / "run/checkpoints/last.ckpt", "--out", tmp_path / "out", "--no-onnx")
    assert "onnx" not in output
    text, config = (tmp_path / "out/README.md").read_text(), json.loads((tmp_path / "out/config.json").read_text())
    lines = [json.loads(line) for line in (tmp_path / "run/evaluation.jsonl").read_text().splitlines()]
    last = {line["metric"]: line for line in lines if line["step"] == 2}
    assert {score["metric"]: score["card"] for score in config["scores"]} == {n: s["card"] for n, s in last.items()}
    for name, line in last.items():
        assert f"| {name} | {line['value']:.4g} | 40 | 20 of Digits, train |" in text
        assert f"`{line['card_hash']}` |" in text
    for fact in ("# ACGAN on Digits", "| steps | 2 |", "Adam, lr 0.0002", 'license: "other"', "Not stated"):
        assert fact in text
    assert str(tmp_path) not in text + json.dumps(config), "a local path is exported"


def test_model_card_escapes_markup():
    run = {"model": "GAN", "data": "<script>|\n# [x](y)", "steps": 1}
    facts = {"run": run, "shape": [2], "num_classes": 0, "latent_dim": 2, "scores": [], "generator": {}}
    text = card(facts, "mit", onnx=False)
    assert "<script>" not in text
    assert text.count("\n# ") == 1
    assert escaped("a|b`c") == "a\\|b\\`c"
    assert escaped("https://x.y www.x.y &lt;") == "https\\://x.y www\\.x.y \\&lt;", "a link or an HTML entity is left"


@pytest.mark.parametrize(
    ("names", "selector", "classes"),
    [
        ([*"0123"], "number", "\nClasses: 0 to 3;"),
        (["01", "02", "03", "10"], "number", "\nClasses: 01, 02, 03, 10;"),
        (["1", "2", "3", "a_b c"], "name or number", "\nClasses: 1, 2, 3, a_b c;"),
        ([], "number", ""),
    ],
)
def test_model_card_lists_classes(names, selector, classes):
    run = {"model": "CGAN", "data": "Digits", "steps": 1}
    facts = {"run": run, "shape": [1, 8, 8], "num_classes": 4, "latent_dim": 2, "scores": [], "generator": {}}
    text = card(facts | {"class_names": names}, "mit", onnx=False)
    assert f"of 4 classes, selected by {selector}, after" in text
    assert classes in text
    assert ("Classes" in text) == bool(names)


def test_only_an_export_is_overwritten(checkpoint, exported, tmp_path):
    assert (tmp_path / "out" / "generator.onnx").exists()
    gan_export(checkpoint, "--out", tmp_path / "out", "--no-onnx", "--license", "mit")
    assert not (tmp_path / "out" / "generator.onnx").exists(), "the ONNX file of the replaced export is left"
    assert 'license: "mit"' in (tmp_path / "out" / "README.md").read_text()
    with pytest.raises(UserError, match="exists and was not written by gan-export"):
        gan_export(checkpoint, "--out", tmp_path / "run")


def test_all_errors_are_reported_together(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    (tmp_path / "file").touch()
    with pytest.raises(UserError) as caught:
        gan_export("nowhere.ckpt", "--out", tmp_path / "file", "--license", "my own", "--push", "me")
    for error, expected in zip(
        caught.value.errors,
        (
            "nowhere.ckpt: there is no such checkpoint",
            "was not written by gan-export",
            "pip install 'gan-lightning[export]'; add --no-onnx",
            "pip install 'gan-lightning[hub]'",
            "must be OWNER/NAME",
            "--license my own: must be the name of a license",
        ),
        strict=True,
    ):
        assert expected in error


def change_config(folder: Path, **changes: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))


@pytest.mark.parametrize("step", ["generator.safetensors", "samples.png", "README.md", "config.json"])
def test_killed_export_is_detected_and_can_be_repeated(checkpoint, tmp_path, monkeypatch, step):
    """The process ends between two files, so the folder has no config.json and is not taken for an export."""

    class Killed(BaseException):
        pass

    def replace(path: Path, target: Path) -> Path:
        if Path(target) == tmp_path / "out" / step:
            raise Killed
        return shutil.move(path, target)

    for _ in range(2):  # to a new folder and over an older export
        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", replace)
            patch.setattr("tempfile.TemporaryDirectory", keep_temporary_directory)
            with pytest.raises(Killed):
                gan_export(checkpoint, "--out", tmp_path / "out", "--no-onnx")
        with pytest.raises(UserError, match="gan-export, since it has no config"):
            gan_lightning.load(tmp_path / "out")
        gan_export(checkpoint, "--out", tmp_path / "out", "--no-onnx")
        assert len([*(tmp_path / "out").iterdir()]) == 4, "files of the killed export are left"
        gan_lightning.load(tmp_path / "out")


@contextlib.contextmanager
def keep_temporary_directory(**options: Any) -> Iterator[str]:
    yield tempfile.mkdtemp(**options)


def test_failed_export_keeps_older_export(checkpoint, exported, tmp_path, monkeypatch):
    before = {path: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    error = OSError(28, "No space left on device")
    monkeypatch.setattr(program, "draw_samples", lambda *_: (_ for _ in ()).throw(error))
    with pytest.raises(OSError, match="No space"):
        gan_export(checkpoint, "--out", tmp_path / "out", "--no-onnx")
    assert {path: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


@pytest.mark.parametrize("key", ["data", "trainer", "callbacks"])
def test_checkpoint_without_required_key_is_rejected(checkpoint, tmp_path, key):
    content = read(checkpoint)
    (content if key == "callbacks" else content["hyper_parameters"]["config"]).pop(key)
    torch.save(content, tmp_path / "other.ckpt")
    with pytest.raises(UserError, match=rf"other\.ckpt: not a valid checkpoint: .*{key} is missing"):
        gan_export(tmp_path / "other.ckpt", "--out", tmp_path / "out", "--no-onnx")
    assert not (tmp_path / "out").exists()


CARD = {"num_generated": 1, "num_real": 1, "data": "a", "split": "b", "feature": "c"}


@pytest.mark.parametrize(
    "score",
    [
        (0.5, "` x` |\n\n<script>alert(1)</script>"),
        ("much", "0123456789ab"),
        (0.5, "00000000000a"),
        (0.5, "00000000000b"),
        0.5,
    ],
)
def test_invalid_scores_of_untrusted_checkpoint_are_rejected(checkpoint, tmp_path, score):
    content = read(checkpoint)
    cards = {"` x` |\n\n<script>alert(1)</script>": CARD, "0123456789ab": CARD, "00000000000a": {}}
    cards["00000000000b"] = CARD | {"num_real": "many"}
    curve = [{"step": content["global_step"], "scores": {"fid": score}}]
    content["callbacks"]["Evaluate"] = {"curve": curve, "cards": cards}
    torch.save(content, tmp_path / "other.ckpt")
    with pytest.raises(UserError, match=r"other\.ckpt: (has no valid training|not a valid checkpoint: .*scores)"):
        gan_export(tmp_path / "other.ckpt", "--out", tmp_path / "out", "--no-onnx")


OWN = """import torch
class Gen(torch.nn.Module):
    def __init__(self, latent_dim, shape, **_):
        super().__init__()
        self.mean = torch.nn.Parameter(torch.zeros(shape))
        self.shape, self.latent_dim, self.num_classes = shape, latent_dim, 0
    def forward(self, z, y):
        return (self.mean + z.mean(1)[:, None, None, None]).tanh()
"""


def test_user_supplied_generator_is_exported(run, tmp_path, monkeypatch):
    (tmp_path / "own_module.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    run(tmp_path / "run", "model=dcgan", "network.generator._target_=own_module.Gen", *QUIET)
    path = tmp_path / "run/checkpoints/last.ckpt"
    gan_export(path, "--out", tmp_path / "out", "--no-onnx", "--trust-checkpoint")
    loaded = gan_lightning.load(tmp_path / "out", trust_checkpoint=True)
    assert torch.equal(loaded.sample(3), gan_lightning.load(path, trust_checkpoint=True).sample(3))
    text = (tmp_path / "out" / "README.md").read_text()
    assert 'load("FOLDER", trust_checkpoint=True)' in text
    assert "runs no code" not in text


def test_untrusted_export_runs_no_code(checkpoint, tmp_path):
    out = tmp_path / "out"

    def check_rejected(match: str, **trust: bool) -> None:
        with pytest.raises(UserError, match=match) as caught:
            gan_lightning.load(out, **trust)
        assert len(caught.value.errors) == 1
        shutil.rmtree(out)
        gan_export(checkpoint, "--out", out, "--no-onnx")

    gan_export(checkpoint, "--out", out, "--no-onnx")
    generator = json.loads((out / "config.json").read_text())["generator"]
    for target in ("os.mkdir", "gan_lightning.cli.train.main", "torch.load"):
        change_config(out, generator={"_target_": target, "path": str(tmp_path / "ran")})
        check_rejected("names .*, which is no class of this version")
    change_config(out, generator=generator | {"width": "${oc.create:{_target_: os.mkdir}}"})
    check_rejected("would be computed while loading")
    change_config(out, generator=generator | {"width": 10**7})
    check_rejected("weights do not fit")
    change_config(out, generator=generator | {"what": 1})
    check_rejected("cannot be built")
    change_config(out, generator={"_target_": "gan_lightning.loss.hinge.Hinge"})
    check_rejected("its configuration describes a .*, not a Module")
    change_config(out, generator=generator | {"_partial_": True})
    check_rejected("_partial_ changes how a class is called")
    for changes in (
        {"latent_dim": 10**12},
        {"latent_dim": 0},
        {"num_classes": "9"},
        {"format": True},
        {"generator": 1},
    ):
        change_config(out, **changes)
        check_rejected("was not written by gan-export")
    change_config(out, format=2)
    check_rejected("is of a later version")
    change_config(out, latent_dim=7)
    check_rejected("cannot be built")
    (out / "config.json").write_text("[" * 100_000)
    check_rejected("was not written by gan-export")
    (out / "config.json").write_bytes(b"\xff\xfe")
    check_rejected("was not written by gan-export")
    (out / "config.json").unlink()
    check_rejected("was not written by gan-export, since it has no config.json$")
    (out / "config.json").unlink()
    (out / "config.json").mkdir()
    check_rejected("cannot be read")
    content = (out / "generator.safetensors").read_bytes()
    (out / "generator.safetensors").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    check_rejected("is missing or damaged")
    state = safetensors.torch.load_file(out / "generator.safetensors")
    TensorCache(out).write(out / "generator.safetensors", {name: v for name, v in state.items() if "label" not in name})
    check_rejected("weights do not fit")
    assert not (tmp_path / "ran").exists()


def test_hub_repository_is_pushed_and_loaded(checkpoint, tmp_path, monkeypatch):
    import huggingface_hub

    pushed = []

    class Api:
        def create_repo(self, name: str, exist_ok: bool) -> None:
            pushed.append(name)

        def upload_folder(self, repo_id: str, folder_path: Path, commit_message: str) -> str:
            pushed.append({path.name for path in folder_path.iterdir()})
            return f"https://hub/{repo_id}"

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    gan_export(checkpoint, "--out", tmp_path / "out", "--no-onnx")
    assert pushed == [], "pushed without --push"
    output = gan_export(checkpoint, "--out", tmp_path / "out", "--no-onnx", "--push", "me/digits")
    assert output.endswith("https://hub/me/digits")
    assert pushed == ["me/digits", {"config.json", "generator.safetensors", "README.md", "samples.png"}]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda name, allow_patterns: str(tmp_path / "out"))
    assert gan_lightning.load("me/digits").num_classes == 10

    def offline(*_: object, **__: object) -> None:
        raise ConnectionError("no route to host")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    with pytest.raises(UserError, match=r"me/digits: .* download from the Hub failed \(no route"):
        gan_lightning.load("me/digits")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match=r"me/digits: no such file or folder; .*gan-lightning\[hub\]"):
        gan_lightning.load("me/digits")


def test_onnx_generator_runs_without_torch(run, tmp_path):
    run(tmp_path / "run", "model=cgan", "trainer.max_steps=1", "~callbacks.sample_grid", "~logger")
    words = str(tmp_path / "run" / "checkpoints" / "last.ckpt"), "--out", str(tmp_path / "out")
    program.export(program.build_parser().parse_args(words))
    code = (
        "import sys; sys.modules['torch'] = None; import numpy as np, onnxruntime as ort\n"
        "session = ort.InferenceSession('generator.onnx')\n"
        "latent = np.random.default_rng(0).standard_normal((3, 100), dtype=np.float32)\n"
        "pixels, images = session.run(None, {'latent': latent, 'label': np.array([1, 2, 3])})\n"
        "print(pixels.shape, pixels.dtype, images.shape, images.dtype)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path / "out", capture_output=True, text=True)
    assert done.stdout == "(3, 3, 16, 16) uint8 (3, 1, 16, 16) float32\n", done.stderr
