"""Checkpoints: writing, pruning, reading, damaged and untrusted files, and init_from."""

import errno
import math
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import gan_lightning
from gan_lightning.callbacks.checkpoint import saved_step
from gan_lightning.errors import UserError, write_error_message
from gan_lightning.run import checkpoint as checkpoints
from gan_lightning.run.build import build
from gan_lightning.run.checkpoint import history, init_from, newest, newest_first, read
from gan_lightning.run.trust import check_trusted


def steps_of(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


@pytest.fixture
def trained(trained, tmp_path) -> Path:
    """A checkpoint of two steps."""
    trained(tmp_path / "trained", "model=vanilla", "model.ema_decay=0.9")
    return tmp_path / "trained" / "checkpoints" / "last.ckpt"


@pytest.mark.parametrize(("keep", "remaining"), [("3", [4, 6, 7]), ("1", [7]), ("null", [2, 4, 6, 7])])
def test_checkpoints_are_named_by_step_and_pruned(run, tmp_path, keep, remaining):
    overrides = "model=vanilla", "trainer.max_steps=7", "callbacks.checkpoint.every_n_steps=2"
    run(tmp_path, *overrides, f"callbacks.checkpoint.keep={keep}")
    assert steps_of(tmp_path) == ["last.ckpt", *(f"step_{step:08d}.ckpt" for step in remaining)]
    for step in remaining:
        assert read(tmp_path / "checkpoints" / f"step_{step:08d}.ckpt")["global_step"] == step
    assert read(tmp_path / "checkpoints" / "last.ckpt")["global_step"] == 7


def test_newest_skips_damaged_checkpoint(run, tmp_path):
    run(tmp_path, "model=vanilla", "trainer.max_steps=4", "callbacks.checkpoint.every_n_steps=2")
    folder = tmp_path / "checkpoints"
    assert newest(tmp_path)[0].name == "last.ckpt"
    (folder / "last.ckpt").unlink()
    damaged = folder / "step_00000004.ckpt"
    damaged.write_bytes(damaged.read_bytes()[:-100])
    path, errors, _ = newest(tmp_path)
    assert path.name == "step_00000002.ckpt"
    assert errors == [f"{damaged}: cannot be read (damaged, or no checkpoint at all)"]


def set_dates(folder: Path, seconds: dict[str, int]) -> None:
    """Set modification times as an archive, a copy or a wrong clock may set them; 0 is far in the past."""
    for path in (folder / "checkpoints").iterdir():
        date = next((s for name, s in seconds.items() if name in path.name), seconds.get("", 0))
        os.utime(path, (date, date))


OFTEN = "model=vanilla", "callbacks.checkpoint.every_n_steps=1", "callbacks.checkpoint.keep=2"


@pytest.mark.parametrize("dates", [{"": 2**32}, {"": 0}, {"00003": 2**32}, {"last": 0, "": 2**32}])
def test_checkpoints_are_ordered_by_step_and_not_by_date(run, tmp_path, dates):
    """Unpacking an archive or a wrong clock changes the dates."""
    run(tmp_path, *OFTEN, "trainer.max_steps=4")
    set_dates(tmp_path, dates)
    assert read(newest(tmp_path)[0])["global_step"] == 4
    run(tmp_path, *OFTEN, "trainer.max_steps=7", ckpt_path=newest(tmp_path)[0])
    assert steps_of(tmp_path) == ["last.ckpt", "step_00000006.ckpt", "step_00000007.ckpt"]
    assert read(tmp_path / "checkpoints" / "last.ckpt")["global_step"] == 7
    set_dates(tmp_path, {"00006": 2**32})
    (tmp_path / "checkpoints" / "last.ckpt").unlink()
    assert newest(tmp_path)[0].name == "step_00000007.ckpt"


def test_copies_are_ordered_by_step_in_checkpoint(run, tmp_path):
    run(tmp_path, *OFTEN, "trainer.max_steps=3", "callbacks.checkpoint.keep=null")
    folder = tmp_path / "checkpoints"
    shutil.move(folder / "step_00000003.ckpt", folder / "a copy.ckpt")
    (folder / "last.ckpt").unlink()
    assert newest(tmp_path)[0].name == "a copy.ckpt"


def test_later_checkpoints_of_abandoned_continuation_are_removed(run, tmp_path, caplog):
    run(tmp_path, *OFTEN, "trainer.max_steps=6", "callbacks.checkpoint.keep=null")
    folder = tmp_path / "checkpoints"
    shutil.copy(folder / "step_00000006.ckpt", folder / "step_00000006 (copy).ckpt")
    (folder / "step_00000009.ckpt").symlink_to("nowhere")
    run(tmp_path, *OFTEN, "trainer.max_steps=3", ckpt_path=folder / "step_00000002.ckpt")
    assert "checkpoints of steps 3, 4, 5, 6 are later than the one resumed from" in caplog.text
    remaining = [
        "last.ckpt",
        "step_00000002.ckpt",
        "step_00000003.ckpt",
        "step_00000006 (copy).ckpt",
        "step_00000009.ckpt",
    ]
    assert steps_of(tmp_path) == remaining
    assert read(folder / "last.ckpt")["global_step"] == 3


@pytest.mark.parametrize("kind", ["dangling link", "folder", "pipe", "empty"])
def test_entry_that_is_no_checkpoint_is_skipped(run, tmp_path, kind):
    run(tmp_path, *OFTEN, "trainer.max_steps=2")
    entry = tmp_path / "checkpoints" / "step_00000099.ckpt"
    {
        "dangling link": lambda: entry.symlink_to("nowhere"),
        "folder": entry.mkdir,
        "pipe": lambda: os.mkfifo(entry),
        "empty": entry.touch,
    }[kind]()
    path, *_ = newest(tmp_path)
    assert read(path)["global_step"] == 2
    run(tmp_path, *OFTEN, "trainer.max_steps=3", ckpt_path=path)
    assert read(newest(tmp_path)[0])["global_step"] == 3


@pytest.mark.parametrize("name", ["last.ckpt", "step_00000003.ckpt"])
def test_directory_in_place_of_checkpoint_is_set_aside(run, tmp_path, caplog, name):
    run(tmp_path, *OFTEN, "trainer.max_steps=2")
    folder = tmp_path / "checkpoints"
    (folder / name).unlink(missing_ok=True)
    (folder / name).mkdir()
    run(tmp_path, *OFTEN, "trainer.max_steps=3", ckpt_path=folder / "step_00000002.ckpt")
    assert read(folder / "last.ckpt")["global_step"] == read(folder / "step_00000003.ckpt")["global_step"] == 3
    assert (folder / f"{name}.1").is_dir()
    assert f"{folder / name}: not a regular file; it is renamed to {name}.1" in caplog.text
    assert [*folder.glob(".*")] == []


@pytest.mark.parametrize("failing", ["shutil.copyfile", "gan_lightning.callbacks.checkpoint.replace"])
def test_write_error_of_checkpoint_does_not_name_temporary_file(run, tmp_path, monkeypatch, failing):
    def fail(source: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(source), None, str(target))

    monkeypatch.setattr("os.link", fail)
    monkeypatch.setattr(failing, fail)
    with pytest.raises(OSError, match="No space left") as caught:
        run(tmp_path, *OFTEN, "trainer.max_steps=1")
    folder = tmp_path / "checkpoints"
    assert write_error_message(caught.value).startswith(f"{folder / 'last.ckpt'}: cannot be written")
    assert [*folder.glob(".*")] == []


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no named pipes in directories")
def test_named_pipe_is_not_opened(tmp_path):
    """Opening it would block forever."""
    pipe = tmp_path / "best.ckpt"
    os.mkfifo(pipe)
    assert saved_step(pipe) == -1
    assert history(pipe) == ([], [], 0.0)
    assert newest_first(tmp_path) == [pipe]


@pytest.mark.parametrize("duration", [1e300, -1.0, float("nan"), "text", 1e10])
def test_invalid_duration_is_replaced_by_zero(run, tmp_path, duration):
    run(tmp_path, *OFTEN, "trainer.max_steps=1")
    path = tmp_path / "checkpoints" / "last.ckpt"
    content = read(path)
    assert 0 < history(path).seconds < 1000
    content["hyper_parameters"] |= {"overrides": ["model=vanilla"], "recipe": ["data.flip=true"]}
    content["callbacks"]["Checkpoint"]["seconds"] = duration
    torch.save(content, path)
    assert history(path) == (["model=vanilla"], ["data.flip=true"], 0.0)


def test_newest_lists_again_after_listed_checkpoint_was_removed(run, tmp_path, monkeypatch):
    """A process that is training meanwhile removes listed checkpoints and writes newer ones."""
    run(tmp_path, *OFTEN, "trainer.max_steps=2")
    folder, original_read = tmp_path / "checkpoints", checkpoints.read
    (folder / "last.ckpt").unlink()
    (folder / "step_00000001.ckpt").unlink()
    steps = iter([5, 7])

    def rename_and_read(path: Path) -> dict[str, Any]:
        if step := next(steps, None):
            path.rename(folder / f"step_{step:08d}.ckpt")
        return original_read(path)

    monkeypatch.setattr(checkpoints, "read", rename_and_read)
    assert newest(tmp_path)[:2] == (folder / "step_00000007.ckpt", [])


def test_checkpoint_is_opened_once(trained, monkeypatch):
    """The verified content must be the loaded one, even if a running process replaces the file in between."""
    original_load = torch.load

    def load_and_remove(file: Any, *args: Any, **kwargs: Any) -> Any:
        trained.unlink()
        return original_load(file, *args, **kwargs)

    monkeypatch.setattr(torch, "load", load_and_remove)
    assert read(trained)["global_step"] == 2


def change_moments(change: Any) -> Any:
    """Return a function that changes every moment of the generator's optimizer."""

    def apply(checkpoint: dict[str, Any]) -> None:
        for state in checkpoint["optimizer_states"][0]["state"].values():
            for name, value in [*state.items()]:
                if name != "step":
                    state[name] = change(value)

    return apply


def change_first(name: str, value: Any) -> Any:
    """Return a function that sets one value of the first weight's state, or computes it from the present value."""

    def apply(checkpoint: dict[str, Any]) -> None:
        state = checkpoint["optimizer_states"][0]["state"][0]
        state[name] = value(state[name]) if callable(value) else value

    return apply


def set_setting(name: str, value: Any) -> Any:
    return lambda checkpoint: checkpoint["optimizer_states"][0]["param_groups"][0].update({name: value})


def drop_setting(name: str) -> Any:
    return lambda checkpoint: checkpoint["optimizer_states"][0]["param_groups"][0].pop(name)


def add_amsgrad_state(checkpoint: dict[str, Any]) -> None:
    set_setting("amsgrad", True)(checkpoint)
    for state in checkpoint["optimizer_states"][0]["state"].values():
        state["max_exp_avg_sq"] = torch.zeros(3)


def change_weights(change: Any) -> Any:
    def apply(checkpoint: dict[str, Any]) -> None:
        checkpoint["state_dict"] = {name: change(value) for name, value in checkpoint["state_dict"].items()}

    return apply


SCALER = torch.amp.GradScaler("cpu").state_dict()
INVALID_STATES = {
    "moments of a wrong size": (change_moments(lambda _: torch.zeros(3)), "exp_avg of weight 0 has the shape"),
    "moments without a size": (change_moments(lambda _: torch.tensor(0.0)), "exp_avg of weight 0 has the shape"),
    "moments of too many axes": (change_moments(lambda x: x[None]), "exp_avg of weight 0 has the shape"),
    "transposed moments": (change_moments(lambda x: x.T if x.ndim == 2 else x), "has the shape"),
    "empty moments": (change_moments(lambda _: torch.zeros(0)), "exp_avg of weight 0 has the shape"),
    "integer moments": (change_moments(torch.Tensor.long), "exp_avg of weight 0 has the type torch.int64"),
    "complex moments": (change_moments(lambda x: x.to(torch.complex64)), "has the type torch.complex64"),
    "moments on the meta device": (change_moments(lambda x: x.to("meta")), "is no plain tensor"),
    "moments are text": (change_moments(lambda _: "x"), "exp_avg of weight 0 is str, not Tensor"),
    "no moments": (lambda c: c["optimizer_states"][0]["state"][0].pop("exp_avg"), "weight 0 lacks 'exp_avg'"),
    "unexpected moments": (change_first("max_exp_avg_sq", torch.zeros(3)), "weight 0 has 'max_exp_avg_sq'"),
    "unexpected moments and setting": (add_amsgrad_state, "weight 0 has 'max_exp_avg_sq'"),
    "steps of a wrong size": (change_first("step", torch.zeros(3)), "step of weight 0 has the shape [3], not []"),
    "state of an unknown weight": (
        lambda c: c["optimizer_states"][0]["state"].update({999: {}}),
        "state of a weight 999 that is none",
    ),
    "state is a list": (lambda c: c["optimizer_states"][0].update(state=[1]), "there is no state"),
    "groups are text": (lambda c: c["optimizer_states"][0].update(param_groups="x"), "other groups of weights"),
    "fewer weights": (set_setting("params", [0]), "1 weights, not"),
    "weights of a group are text": (set_setting("params", "x"), "a group without weights"),
    "NaN in moments": (change_moments(lambda x: x * math.nan), "exp_avg of weight 0: "),
    "an infinite moment": (
        change_first("exp_avg_sq", lambda x: x.index_fill(0, torch.tensor(0), math.inf)),
        "exp_avg_sq of ",
    ),
    "negative second moments": (
        change_first("exp_avg_sq", lambda x: x - 1),
        "exp_avg_sq of weight 0 has negative values",
    ),
    "a negative step": (change_first("step", torch.tensor(-2.0)), "step of weight 0 has negative values"),
    "a negative step that is no tensor": (change_first("step", -2), "step of weight 0 has negative values"),
    "a step that is not a number": (change_first("step", math.nan), "step of weight 0: "),
    "no optimizers": (lambda c: c.update(optimizer_states=[]), "0 optimizers, not 2"),
    "scale is not a number": (
        lambda c: c.update(MixedPrecision=SCALER | {"scale": math.nan}),
        "its state of the gradient scaler is none",
    ),
    "scale is negative": (
        lambda c: c.update(MixedPrecision=SCALER | {"scale": -1.0}),
        "its state of the gradient scaler is none",
    ),
    "scale is text": (lambda c: c.update(MixedPrecision={"scale": "x"}), "its state of the gradient scaler is none"),
    "integer weights": (change_weights(torch.Tensor.long), "has the type torch.int64, not torch.float32"),
    "weights of another shape": (change_weights(lambda x: x[None]), "has the shape"),
    "weights on the meta device": (change_weights(lambda x: x.to("meta")), "is no plain tensor"),
    "no weights": (lambda c: c.update(state_dict={}), "Missing key(s)"),
}


@pytest.mark.parametrize("name", INVALID_STATES)
def test_invalid_optimizer_state_or_weights_are_rejected(run, trained, tmp_path, name):
    """torch's fused kernels write outside of moments that are too small, and convert integers silently."""
    change, expected = INVALID_STATES[name]
    checkpoint = read(trained)
    change(checkpoint)
    torch.save(checkpoint, trained)
    overrides = "model=vanilla", "model.ema_decay=0.9", "trainer.max_steps=3"
    with pytest.raises(UserError) as caught:
        run(trained.parents[1], *overrides, ckpt_path=trained)
    (line,) = caught.value.errors
    assert line.startswith(f"{trained}: ")
    assert expected in line
    if "its weights" in line:
        with pytest.raises(UserError, match="its weights do not fit"):
            gan_lightning.load(trained)


SGD = "experiment=vanilla_mnist", "data=digits", "model.generator_optimizer.momentum=0"  # keeps no momentum


MISSING = {
    "all states": lambda c: [optimizer.update(state={}) for optimizer in c["optimizer_states"]],
    "one network's state": lambda c: c["optimizer_states"][1].update(state={}),
    "one weight's state": lambda c: c["optimizer_states"][0]["state"].pop(2),
    "no optimizers": lambda c: c.update(optimizer_states=[]),
}


@pytest.mark.parametrize("name", MISSING)
def test_missing_optimizer_state_is_error_unless_forced(run, trained, name):
    """torch starts with fresh moments where a state is missing, so the resumed run would differ."""
    checkpoint = read(trained)
    MISSING[name](checkpoint)
    torch.save(checkpoint, trained)
    overrides = "model=vanilla", "model.ema_decay=0.9", "trainer.max_steps=3"
    with pytest.raises(UserError) as caught:
        run(trained.parents[1], *overrides, ckpt_path=trained)
    (line,) = caught.value.errors
    expected = "0 optimizers, not 2" if name == "no optimizers" else "weights that have been updated"
    assert expected in line
    assert line.endswith("; force_resume=true resumes with fresh state")
    assert run(trained.parents[1], *overrides, "force_resume=true", ckpt_path=trained).global_step == 3


def test_never_updated_weight_needs_no_optimizer_state(run, compose, trained, tmp_path):
    """A weight that the loss does not depend on still has its initial value."""
    overrides = "model=vanilla", "model.ema_decay=0.9", "trainer.max_steps=3"
    name, initial = next(build(compose(*overrides), tmp_path).model.generator.named_parameters())
    checkpoint = read(trained)
    checkpoint["state_dict"][f"generator.{name}"] = initial.detach()
    checkpoint["optimizer_states"][0]["state"].pop(0)
    torch.save(checkpoint, trained)
    assert run(trained.parents[1], *overrides, ckpt_path=trained).global_step == 3


@pytest.mark.parametrize("overrides", [("model=wgan",), ("model=dcgan", "model.ema_decay=0.9"), SGD])
def test_valid_optimizer_state_is_loaded(run, tmp_path, overrides):
    run(tmp_path, *overrides, "trainer.max_steps=2")
    last = tmp_path / "checkpoints" / "last.ckpt"
    assert run(tmp_path, *overrides, "trainer.max_steps=3", ckpt_path=last).global_step == 3


SETTINGS = {
    "missing in an earlier torch": drop_setting("decoupled_weight_decay"),
    "maximize": set_setting("maximize", True),
    "weight_decay": set_setting("weight_decay", 0.5),
    "lr": set_setting("lr", 1.0),
    "no lr": drop_setting("lr"),
    "lr is text": set_setting("lr", "x"),
    "betas": set_setting("betas", (0.9, 0.9)),
    "too many betas": set_setting("betas", (0.5, 0.9, 0.9)),
    "capturable": set_setting("capturable", "x"),
    "other": set_setting("other", 3),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_optimizer_settings_come_from_configuration(run, trained, tmp_path, name):
    """Settings that only the checkpoint has would change training, and no configuration file would show them."""
    overrides = "model=vanilla", "model.ema_decay=0.9", "trainer.max_steps=3", "~callbacks.learning_rate"
    copied = Path(shutil.copytree(trained.parents[1], tmp_path / "copy"), "checkpoints", "last.ckpt")
    expected = run(trained.parents[1], *overrides, ckpt_path=trained)
    checkpoint = read(copied)
    SETTINGS[name](checkpoint)
    torch.save(checkpoint, copied)
    found = run(copied.parents[1], *overrides, ckpt_path=copied)
    for one, other in zip(found.optimizers, expected.optimizers, strict=True):
        assert [group | {"params": ()} for group in one.param_groups] == [
            group | {"params": ()} for group in other.param_groups
        ]
    state = expected.lightning_module.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in found.lightning_module.state_dict().items())


def test_flipped_byte_is_detected(trained):
    content = bytearray(trained.read_bytes())
    content[len(content) // 2] ^= 0xFF
    trained.write_bytes(content)
    with pytest.raises(UserError, match="cannot be read"):
        read(trained)


def test_load_rebuilds_model_from_checkpoint_file_only(run, tmp_path, learner):
    overrides = f"model={learner}", "model.ema_decay=0.9", "trainer.max_steps=2"
    model = run(tmp_path / "run", *overrides).lightning_module
    moved = shutil.copy(tmp_path / "run" / "checkpoints" / "last.ckpt", tmp_path / "moved.ckpt")
    shutil.rmtree(tmp_path / "run")
    loaded = gan_lightning.load(moved)
    assert type(loaded) is type(model)
    assert not loaded.training
    assert loaded.state_dict().keys() == model.state_dict().keys()
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in loaded.state_dict().items())
    assert torch.equal(loaded.sample(5, seed=2), model.sample(5, seed=2))


class MakeDirectory:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.marker),)


def test_invalid_checkpoint_files_are_rejected_and_run_no_code(trained, tmp_path):
    complete, path, marker = trained.read_bytes(), tmp_path / "unfit.ckpt", tmp_path / "ran"
    pickle.loads(pickle.dumps(MakeDirectory(tmp_path / "works")))
    assert (tmp_path / "works").is_dir(), "unpickling MakeDirectory runs no code, so this test shows nothing"

    def check_rejected(match: str) -> None:
        with pytest.raises(UserError, match=match) as caught:
            gan_lightning.load(path)
        assert str(path) in str(caught.value)
        with pytest.raises(UserError, match=match):
            gan_lightning.load(path, trust_checkpoint=True)

    for length in (0, 10, len(complete) // 2, len(complete) - 1):
        path.write_bytes(complete[:length])
        check_rejected("cannot be read")
    path.write_bytes(b"GIF89a and more")
    check_rejected("cannot be read")
    path.write_bytes(pickle.dumps(MakeDirectory(marker)))
    check_rejected("cannot be read")
    torch.save({"state_dict": {}, "hyper_parameters": {"config": MakeDirectory(marker)}}, path)
    check_rejected("it names code to run")
    checkpoint = read(trained)
    invalid = [
        checkpoint["state_dict"],
        {"state_dict": checkpoint["state_dict"]},
        [1, 2],
        checkpoint | {"hyper_parameters": None},
        checkpoint | {"hyper_parameters": {"width": 3}},
        checkpoint | {"hyper_parameters": {"config": "text"}},
        checkpoint | {"hyper_parameters": {"config": {"model": None}}},
        {key: value for key, value in checkpoint.items() if key != "state_dict"},
    ]
    for content in invalid:
        torch.save(content, path)
        check_rejected("not one of gan-lightning's")
    torch.save(checkpoint | {"state_dict": {"generator.weight": torch.zeros(1)}}, path)
    check_rejected("do not fit")
    path.unlink()
    check_rejected("there is no such checkpoint")
    assert not marker.exists()


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "builtins.eval",
        "gan_lightning.model.gan.torch.hub.load",
        "gan_lightning.model.gan.GenerativeModel",
        "gan_lightning.model.gan.Terms",
        "gan_lightning.network.layers.pairwise",
        "gan_lightning.model.nowhere.Nothing",
        "gan_lightning.callbacks.graceful_stop.subprocess.run",
        "pytorch_lightning.plugins.io.TorchCheckpointIO",
        "pytorch_lightning.loggers.logger.Logger",
        "gan_lightning.cli.train.main",
        "torch.optim.lr_scheduler.LambdaLR",
        "torch.optim.NoSuch",
        "torch.load",
    ],
)
def test_targets_outside_allowed_classes_are_rejected(trained, target):
    for node in ({"_target_": target}, {"generator": {"a": [{"_target_": target}]}}):
        with pytest.raises(UserError, match="which is no class of this version") as caught:
            check_trusted(node, trained)
        assert target in str(caught.value)
    checkpoint = read(trained)
    checkpoint["hyper_parameters"]["config"]["model"]["loss"] = {"_target_": target, "command": "exit 1"}
    torch.save(checkpoint, trained)
    with pytest.raises(UserError, match="gan-sample --trust-checkpoint"):
        gan_lightning.load(trained)


def test_allowed_target_classes_are_accepted(trained):
    config = read(trained)["hyper_parameters"]["config"]
    check_trusted(config["model"], trained)
    for target in ("gan_lightning.model.wgan.WGAN", "gan_lightning.loss.hinge.Hinge", "torch.optim.RMSprop"):
        check_trusted({"_target_": target}, trained)


def test_trust_checkpoint_accepts_other_classes(trained):
    checkpoint = read(trained)
    checkpoint["hyper_parameters"]["config"]["model"]["loss"] = {"_target_": "types.SimpleNamespace", "mark": 7}
    torch.save(checkpoint, trained)
    with pytest.raises(UserError, match=r"types\.SimpleNamespace"):
        gan_lightning.load(trained)
    assert gan_lightning.load(trained, trust_checkpoint=True).loss.mark == 7


def test_init_from_loads_networks_only(run, build, trained):
    state = read(trained)["state_dict"]
    model, _ = build("model=vanilla", "model.ema_decay=0.5", "seed=3")
    assert not torch.equal(model.generator.net[0].weight, state["generator.net.0.weight"])
    init_from(model, trained)
    weights = model.state_dict()
    assert weights.pop("generator_ema.class_counts").tolist() == [0], "class counts of the other run's data"
    for key, value in weights.items():
        assert torch.equal(value, state[key.replace("generator_ema.network.", "generator.")]), key
    assert any(not torch.equal(state[f"generator_ema.network.{k}"], state[f"generator.{k}"]) for k in ["net.0.weight"])


def test_init_from_warns_about_different_class_numbers(run, trained, tmp_path, caplog):
    """Samples of class 1 of the other run would be labelled as another class."""
    run(tmp_path / "first", "model=cgan", "trainer.max_steps=1")
    path = tmp_path / "first" / "checkpoints" / "last.ckpt"
    content = read(path)
    content["hyper_parameters"]["class_names"] = [*"1234567890"]
    torch.save(content, path)
    run(tmp_path / "second", "model=cgan", "trainer.max_steps=1", f"init_from={path}")
    expected = f"init_from={path}: class 0 is '1' in the model and '0' in the data, where '1' is class 1"
    assert expected in [record.message for record in caplog.records]


def test_init_from_starts_at_step_zero(run, trained, tmp_path):
    trainer = run(tmp_path / "next", "model=vanilla", f"init_from={trained}", "trainer.max_steps=1")
    assert trainer.global_step == 1
    fresh = read(tmp_path / "next" / "checkpoints" / "last.ckpt")
    assert {int(state["step"]) for state in fresh["optimizer_states"][0]["state"].values()} == {1}


@pytest.mark.parametrize(
    ("overrides", "network"), [(["network.width=8"], "generator"), (["network.depth=2"], "generator")]
)
def test_init_from_rejects_networks_that_do_not_fit(build, trained, overrides, network):
    model, _ = build("model=vanilla", *overrides)
    with pytest.raises(UserError, match=rf"init_from={trained}: its {network} does not fit this one: .*net"):
        init_from(model, trained)
