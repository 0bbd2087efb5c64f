"""The levers of speed that our Trainer adds: each does what it says, and leaves the game as it is."""

import os
import re
import threading
from types import SimpleNamespace

import pytest
import pytorch_lightning
import torch
from lightning_fabric.strategies.launchers.subprocess_script import _ChildProcessObserver
from same_run import assert_equal, rows
from torch import nn

from gan_lightning.errors import UserError
from gan_lightning.model.cuda_graphs import Eager
from gan_lightning.run.checkpoint import read
from gan_lightning.run.fit import restore_global_state
from gan_lightning.trainer import Trainer, stop_observer

WORDS = "trainer.max_steps=4", "callbacks.metric_logger.every_n_steps=1"


def near(a, b, rel: float) -> None:
    """The figures of two runs' steps are the same within rounding."""
    assert [row["step"] for row in rows(a)] == [row["step"] for row in rows(b)] == ["1", "2", "3", "4"]
    for one, other in zip(rows(a), rows(b), strict=True):
        for name in one:
            assert float(one[name]) == pytest.approx(float(other[name]), rel=rel, abs=rel), (name, one["step"])


def test_channels_last_changes_nothing_but_the_rounding(run, tmp_path, learner):
    network = "dcgan" if learner in ("dcgan", "vae", "wgan", "wgan_gp") else "resnet"
    own = f"model={learner}", f"network={network}", *WORDS
    for folder, word, innermost in (("a", "null", True), ("b", "false", False)):
        model = run(tmp_path / folder, *own, f"trainer.channels_last={word}").lightning_module
        maps = [m.weight for m in model.modules() if isinstance(m, nn.Conv2d) and m.kernel_size[0] > 1]
        maps = [weight for weight in maps if min(weight.shape[:2]) > 1]  # of one channel the formats are the same
        assert maps
        assert {weight.is_contiguous(memory_format=torch.channels_last) for weight in maps} == {innermost}
    near(tmp_path / "a", tmp_path / "b", 1e-3)


def test_a_checkpoint_goes_on_in_the_other_format(run, tmp_path):
    """Weights and moments are put into the places that are there."""
    own = "model=wgan_gp", "network=resnet", *WORDS
    run(tmp_path / "whole", *own)
    run(tmp_path / "a", *own, "trainer.max_steps=2", "trainer.channels_last=false")
    run(tmp_path / "a", *own, ckpt_path=tmp_path / "a" / "checkpoints" / "last.ckpt")
    near(tmp_path / "whole", tmp_path / "a", 1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("innermost", ["null", "true"])
def test_compiled_networks_play_the_same_game(run, tmp_path, learner, innermost):
    own = f"model={learner}", *WORDS, f"trainer.channels_last={innermost}"
    for compiled in ("true", "false"):
        run(tmp_path / compiled, *own, f"trainer.compile={compiled}")
    near(tmp_path / "true", tmp_path / "false", 1e-3)
    a, b = (read(tmp_path / compiled / "checkpoints" / "last.ckpt") for compiled in ("true", "false"))
    assert a["state_dict"].keys() == b["state_dict"].keys(), "compiling leaves no mark on names"


def test_formats_that_torch_cannot_compile_are_told(run, tmp_path, monkeypatch):
    """As torch 2.11 ends on small maps of cuDNN's, which this machine need not have."""

    def fit(*_, **__):
        raise AssertionError("expected size 8==8, stride 16==1 at dim=1")

    monkeypatch.setattr(pytorch_lightning.Trainer, "fit", fit)
    own = "model=dcgan", "trainer.max_steps=1", "trainer.compile=true"
    with pytest.raises(UserError, match=r"trainer\.channels_last=true: torch .* trainer\.compile=false"):
        run(tmp_path / "a", *own, "trainer.channels_last=true")
    with pytest.raises(AssertionError):
        run(tmp_path / "b", *own)


@pytest.mark.parametrize("tf32", [True, False])
def test_tf32_is_what_is_asked_for(run, tmp_path, tf32):
    with restore_global_state():
        run(tmp_path, "model=vanilla", "trainer.max_steps=1", f"trainer.tf32={str(tf32).lower()}")
        assert torch.backends.cudnn.allow_tf32 == tf32
        assert torch.get_float32_matmul_precision() == ("high" if tf32 else "highest")
    assert torch.get_float32_matmul_precision() == "highest"


def test_without_a_gpu_nothing_is_recorded(run, tmp_path):
    model = run(tmp_path, "model=vanilla", "trainer.max_steps=1").lightning_module
    assert type(model.execute) is Eager
    with pytest.raises(UserError, match=r"trainer\.cuda_graphs=true: needs one NVIDIA GPU"):
        run(tmp_path / "asked", "model=vanilla", "trainer.max_steps=1", "trainer.cuda_graphs=true")


@pytest.mark.parametrize(
    ("free", "wanted", "place"), [(10**9, True, "cuda"), (10**9, False, "cpu"), (1000, True, "cpu")]
)
def test_data_lie_on_the_gpu_where_they_take_half_of_it_at_most(build, monkeypatch, free, wanted, place):
    _, data = build("model=vanilla")
    data.trainer = SimpleNamespace(
        data_on_device=wanted, lightning_module=SimpleNamespace(device=torch.device("cuda", 0))
    )
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 2 * free))
    assert data.samples.nbytes > 1000
    assert data.gather_device().type == place


def test_an_average_is_seen_whatever_its_update_tells_torch(build, monkeypatch):
    """On a GPU a foreach operation leaves the versions of its tensors as they are."""
    from game import play

    from gan_lightning.model.ema import EMA

    def silent(self: EMA, network: nn.Module) -> None:
        for mine, theirs in zip(self.network.parameters(), network.parameters(), strict=True):
            mine.data.lerp_(theirs.data, 0.5)

    monkeypatch.setattr(EMA, "update", silent)
    model, data = build("model=dcgan", "model.ema_decay=0.5")
    before = model.sample(4)
    play(model, data, 2)
    fresh, _ = build("model=dcgan", "model.ema_decay=0.5")
    fresh.load_state_dict(model.state_dict())
    after = model.sample(4)
    assert not torch.equal(before, after)
    assert_equal(after, fresh.sample(4))


def test_lightnings_observer_kills_nothing_after_training():
    """It would kill the first process while that writes how the run ended."""
    released, killed = threading.Event(), []

    class Observer(_ChildProcessObserver):
        def run(self) -> None:
            released.wait()
            super().run()

        def _terminate_all(self) -> None:
            killed.append(True)

    ended = SimpleNamespace(poll=lambda: 1, returncode=1, pid=0)
    observer = Observer(main_pid=os.getpid(), child_processes=[ended], sleep_period=0)
    observer.start()
    stop_observer()
    released.set()
    observer.join()
    assert not killed


@pytest.mark.parametrize(
    ("name", "value"), [("limit_train_batches", 3), ("max_epochs", 2), ("min_steps", 1), ("fast_dev_run", True)]
)
def test_arguments_of_lightning_that_have_no_effect_are_rejected_in_python(name, value):
    advice = re.escape(f"{name}: is not supported; {Trainer.rejected_arguments[name]}")
    with pytest.raises(ValueError, match=f"^{advice}$"):
        Trainer(max_steps=2, **{name: value})


def test_arguments_that_a_run_sets_are_accepted_in_python():
    trainer = Trainer(max_steps=2, max_epochs=-1, logger=False, callbacks=[], enable_checkpointing=False)
    assert (trainer.max_epochs, trainer.val_check_interval, trainer.check_val_every_n_epoch) == (-1, 1, None)
