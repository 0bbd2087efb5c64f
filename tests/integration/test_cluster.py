"""Preemption under Slurm, submitit and torchrun: a run stops with a checkpoint, is requeued and resumes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from fault_injection import Process, step_of

from gan_lightning.run.checkpoint import newest, read

ROOT = Path(__file__).parents[2]
WORDS = (
    *("model=vanilla", "data=gaussian_ring", "data.num=500", "network.width=4", "trainer=cpu"),
    *("eval.every_n_steps=null", "callbacks.metric_logger.every_n_steps=1", "~callbacks.sample_grid", "~logger"),
)


def wait_until(ready, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline, "the condition is not met in time"
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("more", "name"), [({}, "7"), ({"SLURM_ARRAY_JOB_ID": "5", "SLURM_ARRAY_TASK_ID": "3"}, "5_3")]
)
def test_preempted_slurm_job_is_requeued_and_resumes(tmp_path, more, name):
    """The environment is that of a task of srun; ``scontrol`` is a stub that records its arguments."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "scontrol").write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n')
    (tmp_path / "bin" / "scontrol").chmod(0o755)
    job = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "1", "SLURM_JOB_NAME": "gan", "SLURM_PROCID": "0"}
    job |= {"SLURM_LOCALID": "0", "SLURM_NODEID": "0", "SLURM_JOB_NODELIST": "node1", "SLURM_NNODES": "1", **more}

    def set_job_environment() -> None:
        os.environ |= job | {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}

    run = tmp_path / "run"
    line = *WORDS, "trainer.max_steps=100000", f"hydra.run.dir={run}", "ckpt_path=last"
    process = Process(run, *line, before=set_job_environment)
    assert process.until(lambda: step_of(run) >= 3) is None, process.output()
    os.kill(process.pid, signal.SIGUSR1)
    assert process.wait() == 128 + signal.SIGUSR1, process.output()
    assert (tmp_path / "calls").read_text() == f"requeue {name}\n"
    assert f"Slurm job {name} has been requeued" in process.output()
    path, *_ = newest(run)
    stopped = read(path)["global_step"]
    assert stopped == step_of(run)
    resumed = Process(run, *line, f"trainer.max_steps={stopped + 2}", before=set_job_environment)
    assert resumed.wait() == 0, resumed.output()
    assert f"step {stopped}" in resumed.output()
    assert step_of(run) == stopped + 2


@pytest.mark.slow
def test_submitit_requeues_preempted_job(tmp_path):
    run = tmp_path / "sweep" / "1"
    line = [*WORDS, "seed=1", "trainer.max_steps=400", f"hydra.sweep.dir={run.parent}", "hydra.sweep.subdir=1"]
    command = [sys.executable, str(ROOT / "train.py"), "-m", "hydra/launcher=submitit_local", *line]
    with (tmp_path / "log").open("w") as log:
        sweep = subprocess.Popen(
            command, cwd=tmp_path, stdout=log, stderr=log, env=os.environ | {"OMP_NUM_THREADS": "1"}
        )
        wait_until(lambda: step_of(run) >= 20)
        found = subprocess.run(["pgrep", "-P", str(sweep.pid)], capture_output=True, text=True, check=True).stdout
        job = subprocess.run(["pgrep", "-P", found.split()[0]], capture_output=True, text=True, check=True).stdout
        os.kill(int(job.split()[0]), signal.SIGUSR2)
        assert sweep.wait(timeout=240) == 0, (tmp_path / "log").read_text()
    assert read(run / "checkpoints" / "last.ckpt")["global_step"] == 400
    steps = [int(text.split(",")[0]) for text in (run / "metrics.csv").read_text().splitlines()[1:]]
    assert steps == [*range(1, 401)]
    (job_log,) = (run.parent / ".submitit").rglob("*_log.out")
    assert "resuming from" in job_log.read_text()


@pytest.mark.slow
def test_torchrun_processes_stop_at_same_step_and_resume(tmp_path):
    def start(folder: Path, *more: str) -> subprocess.Popen:
        many = "trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "trainer.precision=64-true"
        line = *WORDS, *many, f"hydra.run.dir={folder}", "ckpt_path=last", *more
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        with folder.with_suffix(".log").open("a") as log:
            return subprocess.Popen([*command, str(ROOT / "train.py"), *line], stdout=log, stderr=log, env=environment)

    complete, parts = tmp_path / "whole", tmp_path / "parts"
    assert start(complete, "trainer.max_steps=300").wait(timeout=200) == 0
    process = start(parts, "trainer.max_steps=300")
    wait_until(lambda: step_of(parts) >= 15)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) != 0
    path, *_ = newest(parts)
    stopped = read(path)["global_step"]
    assert 15 <= stopped < 300
    assert stopped % 10 == 0
    assert start(parts, "trainer.max_steps=300").wait(timeout=200) == 0, parts.with_suffix(".log").read_text()
    a, b = (read(folder / "checkpoints" / "last.ckpt") for folder in (complete, parts))
    for part in ("state_dict", "optimizer_states"):
        torch.testing.assert_close(b[part], a[part], rtol=0, atol=0)
