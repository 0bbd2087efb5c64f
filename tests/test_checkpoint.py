"""Checkpoints: written, pruned, read, damaged, foreign, and networks taken from one."""

import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import gan_lightning
from gan_lightning.checkpoint import newest, read, refuse_foreign, take_networks
from gan_lightning.errors import UserError


def steps_of(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


@pytest.fixture
def trained(run, tmp_path) -> Path:
    """A checkpoint of two steps."""
    run(tmp_path / "trained", "model=vanilla", "model.ema_decay=0.9")
    return tmp_path / "trained" / "checkpoints" / "last.ckpt"


@pytest.mark.parametrize(("keep", "kept"), [("3", [4, 6, 7]), ("1", [7]), ("null", [2, 4, 6, 7])])
def test_checkpoints_are_named_pruned_and_end_with_the_last_step(run, tmp_path, keep, kept):
    words = "model=vanilla", "trainer.max_steps=7", "callbacks.checkpoint.every_n_steps=2"
    run(tmp_path, *words, f"callbacks.checkpoint.keep={keep}")
    assert steps_of(tmp_path) == ["last.ckpt", *(f"step_{step:08d}.ckpt" for step in kept)]
    for step in kept:
        assert read(tmp_path / "checkpoints" / f"step_{step:08d}.ckpt")["global_step"] == step
    assert read(tmp_path / "checkpoints" / "last.ckpt")["global_step"] == 7


def test_newest_falls_back_to_the_one_before(run, tmp_path):
    run(tmp_path, "model=vanilla", "trainer.max_steps=4", "callbacks.checkpoint.every_n_steps=2")
    folder = tmp_path / "checkpoints"
    assert newest(tmp_path)[0].name == "step_00000004.ckpt"
    (folder / "last.ckpt").unlink()
    damaged = folder / "step_00000004.ckpt"
    damaged.write_bytes(damaged.read_bytes()[:-100])
    path, faults = newest(tmp_path)
    assert path.name == "step_00000002.ckpt"
    assert faults == [f"{damaged}: cannot be read (damaged, or no checkpoint at all)"]


def test_a_flipped_byte_is_noticed(trained):
    content = bytearray(trained.read_bytes())
    content[len(content) // 2] ^= 0xFF
    trained.write_bytes(content)
    with pytest.raises(UserError, match="cannot be read"):
        read(trained)


def test_a_checkpoint_rebuilds_the_model_alone(run, tmp_path, learner):
    words = f"model={learner}", "model.ema_decay=0.9", "trainer.max_steps=2"
    model = run(tmp_path / "run", *words).lightning_module
    moved = shutil.copy(tmp_path / "run" / "checkpoints" / "last.ckpt", tmp_path / "moved.ckpt")
    shutil.rmtree(tmp_path / "run")
    loaded = gan_lightning.load(moved)
    assert type(loaded) is type(model)
    assert not loaded.training
    assert loaded.state_dict().keys() == model.state_dict().keys()
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in loaded.state_dict().items())
    assert torch.equal(loaded.sample(5, seed=2), model.sample(5, seed=2))


class Bomb:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.marker),)


def test_unfit_files_are_refused_and_run_nothing(trained, tmp_path):
    whole, path, marker = trained.read_bytes(), tmp_path / "unfit.ckpt", tmp_path / "ran"
    pickle.loads(pickle.dumps(Bomb(tmp_path / "works")))
    assert (tmp_path / "works").is_dir(), "the bomb is none"

    def refused(match: str) -> None:
        with pytest.raises(UserError, match=match) as caught:
            gan_lightning.load(path)
        assert str(path) in str(caught.value)
        with pytest.raises(UserError, match=match):
            gan_lightning.load(path, trust=True)

    for length in (0, 10, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        refused("cannot be read")
    path.write_bytes(b"GIF89a and more")
    refused("cannot be read")
    path.write_bytes(pickle.dumps(Bomb(marker)))
    refused("cannot be read")
    torch.save({"state_dict": {}, "hyper_parameters": {"config": Bomb(marker)}}, path)
    refused("it names code to run")
    checkpoint = read(trained)
    foreign = [
        checkpoint["state_dict"],
        {"state_dict": checkpoint["state_dict"]},
        [1, 2],
        checkpoint | {"hyper_parameters": None},
        checkpoint | {"hyper_parameters": {"width": 3}},
        checkpoint | {"hyper_parameters": {"config": "text"}},
        checkpoint | {"hyper_parameters": {"config": {"model": None}}},
        {key: value for key, value in checkpoint.items() if key != "state_dict"},
    ]
    for content in foreign:
        torch.save(content, path)
        refused("not one of gan-lightning's")
    torch.save(checkpoint | {"state_dict": {"generator.weight": torch.zeros(1)}}, path)
    refused("do not fit")
    path.unlink()
    refused("there is no such checkpoint")
    assert not marker.exists()


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "builtins.eval",
        "gan_lightning.model.base.torch.hub.load",
        "gan_lightning.model.base.Learner",
        "gan_lightning.model.base.Terms",
        "gan_lightning.network.layers.pairwise",
        "gan_lightning.model.nowhere.Nothing",
        "gan_lightning.callbacks.stop.subprocess.run",
        "pytorch_lightning.plugins.io.TorchCheckpointIO",
        "pytorch_lightning.loggers.logger.Logger",
        "gan_lightning.train.main",
        "torch.optim.lr_scheduler.LambdaLR",
        "torch.optim.NoSuch",
        "torch.load",
    ],
)
def test_classes_that_are_not_ours_are_refused(trained, target):
    for node in ({"_target_": target}, {"generator": {"a": [{"_target_": target}]}}):
        with pytest.raises(UserError, match="which is no class of this version") as caught:
            refuse_foreign(node, trained)
        assert target in str(caught.value)
    checkpoint = read(trained)
    checkpoint["hyper_parameters"]["config"]["model"]["loss"] = {"_target_": target, "command": "exit 1"}
    torch.save(checkpoint, trained)
    with pytest.raises(UserError, match="gan-sample --trust"):
        gan_lightning.load(trained)


def test_our_own_classes_are_let_in(trained):
    config = read(trained)["hyper_parameters"]["config"]
    refuse_foreign(config["model"], trained)
    for target in ("gan_lightning.model.wgan.WGAN", "gan_lightning.loss.hinge.Hinge", "torch.optim.RMSprop"):
        refuse_foreign({"_target_": target}, trained)


def test_trust_lets_other_classes_in(trained):
    checkpoint = read(trained)
    checkpoint["hyper_parameters"]["config"]["model"]["loss"] = {"_target_": "types.SimpleNamespace", "mark": 7}
    torch.save(checkpoint, trained)
    with pytest.raises(UserError, match=r"types\.SimpleNamespace"):
        gan_lightning.load(trained)
    assert gan_lightning.load(trained, trust=True).loss.mark == 7


def test_take_networks_takes_networks_only(run, build, trained):
    state = read(trained)["state_dict"]
    model, _ = build("model=vanilla", "model.ema_decay=0.5", "seed=3")
    assert not torch.equal(model.generator.net[0].weight, state["generator.net.0.weight"])
    take_networks(model, trained)
    weights = model.state_dict()
    assert weights.pop("generator_ema.class_counts").tolist() == [0], "labels of the other run's data"
    for key, value in weights.items():
        assert torch.equal(value, state[key.replace("generator_ema.network.", "generator.")]), key
    assert any(not torch.equal(state[f"generator_ema.network.{k}"], state[f"generator.{k}"]) for k in ["net.0.weight"])


def test_init_from_starts_at_step_zero(run, trained, tmp_path):
    trainer = run(tmp_path / "next", "model=vanilla", f"init_from={trained}", "trainer.max_steps=1")
    assert trainer.global_step == 1
    fresh = read(tmp_path / "next" / "checkpoints" / "last.ckpt")
    assert {int(state["step"]) for state in fresh["optimizer_states"][0]["state"].values()} == {1}


@pytest.mark.parametrize(("words", "player"), [(["network.width=8"], "generator"), (["network.depth=2"], "generator")])
def test_networks_that_do_not_fit_are_told(build, trained, words, player):
    model, _ = build("model=vanilla", *words)
    with pytest.raises(UserError, match=rf"init_from={trained}: its {player} does not fit this one: .*net"):
        take_networks(model, trained)
