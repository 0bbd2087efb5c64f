"""Performance options of the Trainer: each has its effect and does not change training beyond rounding."""

import os
import re
import threading
from types import SimpleNamespace

import pytest
import pytorch_lightning
import torch
from lightning_fabric.strategies.launchers.subprocess_script import _ChildProcessObserver
from same_run import assert_equal, assert_metrics_close, rows
from torch import nn

from gan_lightning.callbacks.checkpoint import Checkpoint
from gan_lightning.errors import UserError
from gan_lightning.model.cuda_graphs import Eager
from gan_lightning.run.fit import restore_global_state
from gan_lightning.trainer import Trainer, stop_observer
from gan_lightning.trainer.checkpoint_io import AtomicCheckpointIO

FOUR_STEPS = "trainer.max_steps=4", "callbacks.metric_logger.every_n_steps=1"


def test_channels_last_changes_only_rounding(run, tmp_path, learner):
    network = "dcgan" if learner in ("dcgan", "vae", "wgan", "wgan_gp") else "resnet"
    overrides = f"model={learner}", f"network={network}", *FOUR_STEPS
    for folder, channels_last, expected in (("a", "null", True), ("b", "false", False)):
        model = run(tmp_path / folder, *overrides, f"trainer.channels_last={channels_last}").lightning_module
        maps = [m.weight for m in model.modules() if isinstance(m, nn.Conv2d) and m.kernel_size[0] > 1]
        maps = [weight for weight in maps if min(weight.shape[:2]) > 1]  # one channel is contiguous in both formats
        assert maps
        assert {weight.is_contiguous(memory_format=torch.channels_last) for weight in maps} == {expected}
    assert_metrics_close(tmp_path / "a", tmp_path / "b", 1e-3)


def test_run_is_resumed_in_other_memory_format(run, tmp_path):
    """Weights and optimizer state are converted to the memory format of the resumed run."""
    overrides = "model=wgan_gp", "network=resnet", *FOUR_STEPS
    run(tmp_path / "whole", *overrides)
    run(tmp_path / "a", *overrides, "trainer.max_steps=2", "trainer.channels_last=false")
    run(tmp_path / "a", *overrides, ckpt_path=tmp_path / "a" / "checkpoints" / "last.ckpt")
    assert_metrics_close(tmp_path / "whole", tmp_path / "a", 1e-3)


def test_run_is_resumed_with_other_micro_batch(run, tmp_path):
    overrides = "model=wgan_gp", "network.generator.norm=none", *FOUR_STEPS
    run(tmp_path / "whole", *overrides)
    trainer = run(tmp_path / "a", *overrides, "trainer.max_steps=2", "trainer.micro_batch=3")
    assert trainer.lightning_module.micro_batch == 3
    run(tmp_path / "a", *overrides, "trainer.micro_batch=2", ckpt_path=tmp_path / "a" / "checkpoints" / "last.ckpt")
    assert rows(tmp_path / "whole") != rows(tmp_path / "a"), "not split"
    assert_metrics_close(tmp_path / "whole", tmp_path / "a", 1e-3)


def test_compilation_error_with_channels_last_is_reported(run, tmp_path, monkeypatch):
    """torch 2.11 fails so on small maps with cuDNN; the error is simulated, since a GPU may be missing."""

    def fit(*_, **__):
        raise AssertionError("expected size 8==8, stride 16==1 at dim=1")

    monkeypatch.setattr(pytorch_lightning.Trainer, "fit", fit)
    overrides = "model=dcgan", "trainer.max_steps=1", "trainer.compile=true"
    with pytest.raises(UserError, match=r"trainer\.channels_last=true: torch .* trainer\.compile=false"):
        run(tmp_path / "a", *overrides, "trainer.channels_last=true")
    with pytest.raises(AssertionError):
        run(tmp_path / "b", *overrides)


@pytest.mark.parametrize("tf32", [True, False])
def test_trainer_tf32_sets_torch_precision(run, tmp_path, tf32):
    with restore_global_state():
        run(tmp_path, "model=vanilla", "trainer.max_steps=1", f"trainer.tf32={str(tf32).lower()}")
        assert torch.backends.cudnn.allow_tf32 == tf32
        assert torch.get_float32_matmul_precision() == ("high" if tf32 else "highest")
    assert torch.get_float32_matmul_precision() == "highest"


def test_cuda_graphs_are_off_without_gpu(run, tmp_path):
    model = run(tmp_path, "model=vanilla", "trainer.max_steps=1").lightning_module
    assert type(model.execute) is Eager
    with pytest.raises(UserError, match=r"trainer\.cuda_graphs=true: needs one NVIDIA GPU"):
        run(tmp_path / "graphs", "model=vanilla", "trainer.max_steps=1", "trainer.cuda_graphs=true")


@pytest.mark.parametrize(
    ("free", "data_on_device", "expected_device"), [(10**9, True, "cuda"), (10**9, False, "cpu"), (1000, True, "cpu")]
)
def test_data_are_on_gpu_if_half_of_free_memory_suffices(build, monkeypatch, free, data_on_device, expected_device):
    _, data = build("model=vanilla")
    data.trainer = SimpleNamespace(
        data_on_device=data_on_device, lightning_module=SimpleNamespace(device=torch.device("cuda", 0))
    )
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 2 * free))
    assert data.samples.nbytes > 1000
    assert data.gather_device().type == expected_device


def test_sample_uses_ema_updated_without_version_change(build, monkeypatch):
    """On a GPU a foreach operation does not change the versions of its tensors."""
    from training import fit

    from gan_lightning.model.ema import EMA

    def update_data(self: EMA, network: nn.Module) -> None:
        for mine, theirs in zip(self.network.parameters(), network.parameters(), strict=True):
            mine.data.lerp_(theirs.data, 0.5)

    monkeypatch.setattr(EMA, "update", update_data)
    model, data = build("model=dcgan", "model.ema_decay=0.5")
    before = model.sample(4)
    fit(model, data, 2)
    fresh, _ = build("model=dcgan", "model.ema_decay=0.5")
    fresh.load_state_dict(model.state_dict())
    after = model.sample(4)
    assert not torch.equal(before, after)
    assert_equal(after, fresh.sample(4))


def test_process_observer_of_lightning_is_stopped_after_training():
    """It would kill the first process while that writes the result of the run."""
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
def test_lightning_arguments_without_effect_are_rejected_in_python(name, value):
    advice = re.escape(f"{name}: is not supported; {Trainer.rejected_arguments[name]}")
    with pytest.raises(ValueError, match=f"^{advice}$"):
        Trainer(max_steps=2, **{name: value})


def test_arguments_that_run_sets_are_accepted_in_python():
    trainer = Trainer(max_steps=2, max_epochs=-1, logger=False, callbacks=[], enable_checkpointing=False)
    assert (trainer.max_epochs, trainer.val_check_interval, trainer.check_val_every_n_epoch) == (-1, 1, None)


def test_trainer_of_python_has_no_logger_and_saves_only_by_callbacks(tmp_path):
    assert Trainer(max_steps=1).loggers == []
    assert Trainer(max_steps=1).checkpoint_callbacks == []
    callback = Checkpoint()
    trainer = Trainer(max_steps=1, callbacks=callback)
    assert trainer.checkpoint_callbacks == [callback]
    assert type(trainer.strategy.checkpoint_io) is AtomicCheckpointIO


def test_checkpoint_io_that_is_passed_is_kept():
    class Own(AtomicCheckpointIO):
        pass

    assert type(Trainer(max_steps=1, plugins=[Own()]).strategy.checkpoint_io) is Own


def test_missing_checkpoint_to_resume_from_is_an_error(tmp_path):
    with pytest.raises(UserError, match=r"^ckpt_path=nowhere.ckpt: there is no such checkpoint$"):
        Trainer(max_steps=1, default_root_dir=tmp_path).fit(None, ckpt_path="nowhere.ckpt")
