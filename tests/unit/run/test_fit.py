"""A training run in this process: errors before the first step, and the global state that it restores."""

import csv
import logging
import os
import pickle
import shutil
import signal
import sys
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from pytorch_lightning.accelerators import CUDAAccelerator, MPSAccelerator, XLAAccelerator
from pytorch_lightning.utilities import rank_zero_only

from gan_lightning.cli.train import exit_reason
from gan_lightning.config.instantiate import instantiate
from gan_lightning.errors import UserError
from gan_lightning.io.files import file_lock
from gan_lightning.io.signals import InterruptedBySignal
from gan_lightning.model.gan import GAN
from gan_lightning.run.build import check_devices
from gan_lightning.run.checkpoint import newest, read
from gan_lightning.run.fit import restore_global_state, train
from gan_lightning.run.sweep import JobFailedError, Sweep


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["objective=eval/fdd"], r"eval/fdd: is not measured \(did you mean fd\?\); there are fd, "),
        (
            ["objective=eval/fid"],
            r"eval/fid: is not measured.*; fid is measured with feature=inception feature\.resize=tf1",
        ),
        (["objective=eval/fd", "eval.every_n_steps=null"], r"nothing is measured in this run; eval\.every_n_steps="),
        (["model=cgan", "network.generator.num_classes=5"], r"network\.generator\.num_classes=5: the data have 10"),
        (
            ["model=wgan_gp", "model.generator_optimizer._target_=torch.optim.SGD"],
            r"betas: torch\.optim\.SGD takes no such argument; ~model\.generator_optimizer\.betas leaves it out",
        ),
    ],
)
def test_errors_of_evaluation_and_networks_come_before_first_step(run, tmp_path, overrides, expected):
    with pytest.raises(UserError, match=expected):
        run(tmp_path / "run", "model=dcgan", "eval.every_n_steps=1", *overrides)
    assert not [*tmp_path.rglob("*.ckpt")]


def test_exit_status_above_128_of_user_class_is_not_a_signal():
    assert exit_reason(InterruptedBySignal(signal.SIGTERM)) == (143, "stopped by SIGTERM")
    for code in (3, 200, 255):
        assert exit_reason(SystemExit(code)) == (1, f"stopped by what the configuration names (SystemExit({code}))")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no passwd file")
def test_unknown_home_directory_disables_cache(compose, tmp_path, monkeypatch, caplog):
    """In a container, a process may run under a user id without a passwd entry, and without HOME."""
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", lambda _: {}["nobody"])
    monkeypatch.chdir(tmp_path)
    config = compose(
        "model=vanilla", "eval.every_n_steps=2", "eval.num_generated=20", "eval.cache=~/.cache/gan-lightning"
    )
    trainer = train(config, tmp_path / "run")
    assert trainer.global_step == 2
    assert "~/.cache/gan-lightning: the home directory is unknown, so nothing is cached" in caplog.text
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    data = instantiate(compose("data=image_folder", "data.cache=~/x").data, "data", root=tmp_path)
    assert data.cache.folder is None


def test_missing_devices_are_error_with_advice(monkeypatch):
    def check(accelerator: str, devices: object = 1) -> None:
        check_devices(OmegaConf.create({"accelerator": accelerator, "devices": devices}))

    def error_of(*settings: object) -> str:
        with pytest.raises(UserError) as caught:
            check(*settings)
        return str(caught.value)

    for kind in (CUDAAccelerator, MPSAccelerator, XLAAccelerator):
        monkeypatch.setattr(kind, "is_available", staticmethod(lambda: False))
    start = "trainer.accelerator={}: there is no such device; trainer=cpu, or: "
    monkeypatch.setattr(torch.version, "cuda", None)
    assert error_of("gpu").startswith(start.format("gpu") + "this build of torch is for CPUs alone")
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    assert error_of("cuda").startswith(start.format("cuda") + "nvidia-smi shows")
    assert error_of("mps").startswith(start.format("mps") + "Apple's GPUs need macOS")
    assert error_of("tpu").startswith(start.format("tpu") + "a TPU needs the package torch_xla")
    for settings in (("cpu",), ("auto",), ("cpu", 9), ("auto", 9)):
        check(*settings)
    monkeypatch.setattr(CUDAAccelerator, "is_available", staticmethod(lambda: True))
    monkeypatch.setattr(CUDAAccelerator, "auto_device_count", staticmethod(lambda: 2))
    assert error_of("gpu", 3) == "trainer.devices=3: there are 2; trainer.devices=2, or fewer"
    assert "there are 2, numbered from 0" in error_of("auto", [2])
    assert "there are 2, numbered from 0" in error_of("gpu", "0,2")
    for devices in (2, "2", [0, 1], "0,1", [1], -1, "auto"):
        check("gpu", devices)


def test_learning_rate_jump_of_resumed_run_is_logged(compose, tmp_path, caplog):
    """Linear decay is a function of step / max_steps, so a larger max_steps raises the learning rate."""
    overrides = (
        "model=dcgan",
        "callbacks.learning_rate.schedule=linear_decay",
        "callbacks.metric_logger.every_n_steps=1",
    )
    caplog.set_level(logging.INFO)
    train(compose(*overrides, "trainer.max_steps=3"), tmp_path)
    assert "at step" not in caplog.text
    train(compose(*overrides, "trainer.max_steps=30"), tmp_path, tmp_path / "checkpoints/last.ckpt")
    with (tmp_path / "metrics.csv").open(newline="", encoding="utf-8") as file:
        rates = [float(row["g/lr"]) for row in csv.DictReader(file)]
    assert rates[2:4] == pytest.approx([2e-4 / 3, 2e-4 * 27 / 30])
    reason = "since the budget, the schedule or the rate was changed"
    lines = [line for line in caplog.messages if "at step" in line and ".lr" in line]
    assert lines == [
        f"model.{name}_optimizer.lr: 6.667e-05 at step 3, 0.00018 at step 4, {reason}"
        for name in ("generator", "discriminator")
    ]
    caplog.clear()
    train(compose(*overrides, "trainer.max_steps=30"), tmp_path, tmp_path / "checkpoints/last.ckpt")
    assert not any(".lr" in line for line in caplog.messages)


@pytest.mark.parametrize(
    ("overrides", "names"),
    [
        (["trainer.micro_batch=2"], "generator, discriminator"),
        (["trainer.micro_batch=2", "network.discriminator.norm=none"], "generator"),
        (["trainer.micro_batch=2", "network.discriminator.norm=none", "network.generator.norm=none"], None),
        (["trainer.micro_batch=4"], None),
        (["trainer.micro_batch=4", "model.generator_batch_multiplier=2"], "generator, discriminator"),
        ([], None),
    ],
)
def test_change_of_batchnorm_by_micro_batches_is_logged(compose, tmp_path, caplog, overrides, names):
    caplog.set_level(logging.INFO)
    train(
        compose("model=dcgan", "model.reuse_fake=false", "trainer.max_steps=1", "data.batch_size=4", *overrides),
        tmp_path,
    )
    expected = (
        f"{''.join(overrides[:1])}: BatchNorm ({names}) uses the statistics of each micro batch instead of those of "
        "the whole minibatch, and updates its running statistics once for each"
    )
    assert [line for line in caplog.messages if "micro_batch" in line] == ([] if names is None else [expected])


def test_disk_space_is_checked_before_first_step(run, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10_000))
    with pytest.raises(UserError, match=r"0 MB are free, and the run's checkpoints take about"):
        run(tmp_path)
    assert not [*tmp_path.rglob("*.ckpt")]


@pytest.mark.parametrize(("value", "strict"), [("true", True), ("warn", False)])
def test_trainer_deterministic_sets_torch_mode(run, tmp_path, monkeypatch, value, strict):
    modes = []

    def record_step(self, *args):
        modes.append(
            (torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled())
        )
        return step(self, *args)

    step = GAN.training_step
    monkeypatch.setattr(GAN, "training_step", record_step)
    with restore_global_state():
        run(tmp_path, "model=dcgan", f"trainer.deterministic={value}")
    assert modes == [(True, not strict)] * 2
    assert not torch.are_deterministic_algorithms_enabled()


def test_restore_global_state_resets_torch_settings():
    before = torch.get_deterministic_debug_mode(), torch.backends.cudnn.benchmark, torch.get_default_dtype()
    with restore_global_state():
        os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = not before[1]
        torch.set_default_dtype(torch.float64)
    assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ
    assert (torch.get_deterministic_debug_mode(), torch.backends.cudnn.benchmark, torch.get_default_dtype()) == before


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("+model.generator_optimizer.weight_decay=-1", "Invalid weight_decay value: -1"),
        ("+model.generator_optimizer.nesterov=true", "takes no such argument"),
        ("+trainer.max_stepps=3", r"takes no such argument \(did you mean max_steps\?\)"),
    ],
)
def test_arguments_rejected_by_libraries_are_errors_before_training(run, tmp_path, override, expected):
    with pytest.raises(UserError, match=expected):
        run(tmp_path, override)
    assert not (tmp_path / "samples").exists()


def test_training_unsets_nvml_check_variable(run, tmp_path):
    run(tmp_path)
    assert "PYTORCH_NVML_BASED_CUDA_CHECK" not in os.environ


def test_records_of_killed_sweep_are_removed_by_next_sweep(tmp_path):
    """A running sweep holds the lock of its records; the operating system releases the lock of a killed one."""
    for name in ("dead", "live"):
        (tmp_path / f".jobs-{name}").mkdir()
        (tmp_path / f".jobs-{name}" / "0.json").write_text("{}")
    with file_lock(tmp_path / ".jobs-live", lambda: None):
        with Sweep(tmp_path, "own").run():
            assert sorted(path.name for path in tmp_path.iterdir()) == [".jobs-live", ".jobs-own"]
            with Sweep(tmp_path, "other").run():
                assert (tmp_path / ".jobs-own").exists(), "records of a running sweep were removed"
            assert (tmp_path / ".jobs-own").exists(), "records of a running sweep were removed"
        assert sorted(path.name for path in tmp_path.iterdir()) == [".jobs-live"]
        assert (tmp_path / ".jobs-live" / "0.json").exists()


def test_failed_job_that_cannot_be_recorded_is_counted(tmp_path):
    """A worker process raises instead, since its counter is not read."""
    sweep = Sweep(tmp_path, "own")
    sweep.fail_without_record("disk full")
    assert sweep.failed == 1
    sweep.process += 1
    with pytest.raises(JobFailedError, match="disk full"):
        pickle.loads(pickle.dumps(sweep)).fail_without_record("disk full")


def test_rank_that_no_launcher_uses_does_not_change_run(run, tmp_path, monkeypatch):
    """Lightning reads SLURM_PROCID on import, also in an interactive shell, where it does not use Slurm."""
    monkeypatch.setenv("SLURM_PROCID", "1")
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    run(tmp_path)
    assert rank_zero_only.rank == 0
    assert (tmp_path / "config.yaml").exists()
    assert [*(tmp_path / "tensorboard").glob("events*")] != []


def test_home_directory_is_expanded_by_python_functions(compose, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    train(compose("model=vanilla"), Path("~/run"))
    last = Path("~/run/checkpoints/last.ckpt")
    assert read(last)["global_step"] == 2
    assert newest(Path("~/run"))[:2] == (tmp_path / "home/run/checkpoints/last.ckpt", [])
    trainer = train(compose("model=vanilla", "trainer.max_steps=3"), Path("~/run"), last)
    assert trainer.global_step == 3
    trainer.save_checkpoint("~/copy.ckpt")
    assert read(tmp_path / "home/copy.ckpt")["global_step"] == 3
    assert [path.name for path in tmp_path.iterdir()] == ["home"]
    assert {"config.yaml", "metrics.csv", "checkpoints"} <= {path.name for path in (tmp_path / "home/run").iterdir()}
