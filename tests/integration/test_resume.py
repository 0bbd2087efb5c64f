"""Resume: an interrupted and resumed run equals the uninterrupted run bit for bit."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.core.config_store import ConfigStore
from same_run import assert_same_run, rows, words
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from gan_lightning.callbacks.metric_logger import MetricLogger
from gan_lightning.cli.evaluate import evaluate
from gan_lightning.cli.train import finished
from gan_lightning.errors import UserError
from gan_lightning.model.base import GenerativeModel
from gan_lightning.run.checkpoint import newest, read
from gan_lightning.run.command_line import check_command_line

ROOT = Path(__file__).parents[2]


class Killed(BaseException):
    """Simulated SIGKILL: an exception that the package does not catch."""


def kill() -> None:
    raise Killed


@contextmanager
def during_step(step: int, action: Callable[[], Any]) -> Iterator[None]:
    """Call a function in the middle of a generator step, counted from 1."""
    backward_terms = GenerativeModel.backward_terms

    def disturbed(self: GenerativeModel, network: str, *args: Any) -> Any:
        if network == "g" and self.global_step == step - 1:
            action()
        return backward_terms(self, network, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(GenerativeModel, "backward_terms", disturbed)
        yield


def terminate() -> None:
    signal.raise_signal(signal.SIGTERM)


def events(folder: Path) -> EventAccumulator:
    found = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0, "images": 0, "tensors": 0})
    return found.Reload()


def test_run_stopped_twice_and_resumed_equals_uninterrupted_run(run, tmp_path, learner):
    full, parts = tmp_path / "full", tmp_path / "parts"
    run(full, *words(learner))
    ckpt_path = None
    for step in (3, 5):
        with during_step(step, terminate):
            trainer = run(parts, *words(learner), ckpt_path=ckpt_path)
        assert trainer.global_step == step, "not stopped after the step of the signal"
        ckpt_path, errors, _ = newest(parts)
        assert not errors
        assert read(ckpt_path)["global_step"] == step
        if step == 3:
            assert [int(row["step"]) for row in rows(parts)] == [1, 2, 3]
    assert run(parts, *words(learner), ckpt_path=ckpt_path).global_step == 8
    assert_same_run(full, parts)


@pytest.mark.parametrize("name", ["vanilla", "wgan_gp"])
def test_adapted_augmentation_resumes_exactly(run, tmp_path, name):
    """The run is stopped within an interval of the adaptation."""
    augment = "augment=ada", "augment.ramp_images=100", "augment.interval=3", "augment.initial_probability=0.5"
    full, parts = tmp_path / "full", tmp_path / "parts"
    run(full, *words(name), *augment)
    with during_step(4, terminate):
        assert run(parts, *words(name), *augment).global_step == 4
    run(parts, *words(name), *augment, ckpt_path=newest(parts)[0])
    assert_same_run(full, parts)
    assert len({row["d/augment_probability"] for row in rows(full)}) > 2
    assert (full / "samples" / "augmented.png").read_bytes() == (parts / "samples" / "augmented.png").read_bytes()


@pytest.mark.parametrize(("before", "after"), [(["augment=ada"], []), ([], ["augment=ada"])])
def test_force_resume_accepts_another_augmentation(run, tmp_path, before, after):
    run(tmp_path, *words("vanilla"), *before)
    again = *words("vanilla"), *after, "trainer.max_steps=9", "force_resume=true"
    trainer = run(tmp_path, *again, ckpt_path=newest(tmp_path)[0])
    assert trainer.global_step == 9
    state = trainer.lightning_module.state_dict().get("augment.state")
    assert state is None if before else state.tolist() == [0, int(state[1]), 8, 2], "not two minibatches of 4"


@pytest.mark.parametrize(("name", "limit"), [("dcgan", 12), ("cgan", 12), ("wgan", 20)])
def test_run_stopped_at_end_of_epoch_resumes_exactly(run, tmp_path, name, limit):
    """The epoch ends after three minibatches of 4 of 12 samples; with d_steps=5 and 20 samples after every step."""
    full, parts = tmp_path / "full", tmp_path / "parts"
    run(full, *words(name), f"data.limit={limit}")
    with during_step(3, terminate):
        assert run(parts, *words(name), f"data.limit={limit}").global_step == 3
    run(parts, *words(name), f"data.limit={limit}", ckpt_path=newest(parts)[0])
    assert_same_run(full, parts)


@pytest.mark.parametrize("name", ["dcgan", "wgan_gp"])
def test_killed_run_resumes_exactly_from_earlier_checkpoint(run, tmp_path, name):
    full, parts = tmp_path / "full", tmp_path / "parts"
    run(full, *words(name))
    with during_step(7, kill), pytest.raises(Killed):
        run(parts, *words(name))
    assert [int(row["step"]) for row in rows(parts)] == [1, 2, 3, 4, 5, 6]
    with (parts / "metrics.csv").open("a") as file:
        file.write("7,0.2")  # killed in the middle of a line
    ckpt_path, *_ = newest(parts)
    assert (ckpt_path.name, read(ckpt_path)["global_step"]) == ("last.ckpt", 4)
    run(parts, *words(name), ckpt_path=ckpt_path)
    assert_same_run(full, parts)
    found = events(parts)
    for tag in found.Tags()["scalars"]:
        assert [event.step for event in found.Scalars(tag)] == [*range(1, 9)], tag
    assert [event.step for event in found.Images("samples")] == [1, 2, 5, 8]
    assert [event.step for event in found.Images("real")] == [0]
    assert len({event.step for event in found.Tensors("config/text_summary")}) == len(
        found.Tensors("config/text_summary")
    )


def test_partial_last_line_of_metrics_is_dropped_on_resume(run, tmp_path):
    """A line that is truncated within the number of its step looks like a line of an earlier step."""
    with during_step(7, kill), pytest.raises(Killed):
        run(tmp_path, *words("vanilla"))
    with (tmp_path / "metrics.csv").open("a") as file:
        file.write("1")  # the start of 1,000
    run(tmp_path, *words("vanilla"), ckpt_path=newest(tmp_path)[0])
    assert [int(row["step"]) for row in rows(tmp_path)] == [*range(1, 9)]
    assert all(all(row.values()) for row in rows(tmp_path))


def damage(kind: str, path: Path) -> list[int]:
    """Damage metrics.csv; return the steps whose lines are lost."""
    lines = path.read_bytes().split(b"\r\n")
    if kind == "empty":
        path.write_bytes(b"")
    elif kind in ("folder", "dangling link"):
        path.unlink()
        path.mkdir() if kind == "folder" else path.symlink_to("nowhere")
    else:
        number, line = {
            "no UTF-8": (3, b"\xff" + lines[3]),
            "NUL": (3, lines[3].replace(b",", b",\0", 1)),
            "letters": (3, lines[3].replace(b",", b",x", 1)),
            "quote": (3, b'3,"' + lines[3][2:]),
            "too few": (3, lines[3].rpartition(b",")[0]),
            "too many": (3, lines[3] + b",1"),
            "blank": (3, b""),
            "header twice": (3, lines[0]),
            "field of megabytes": (3, b"3," + b"1" * 10**6),
            "header": (0, b"\xfe" + lines[0][1:]),
        }[kind]
        lines[number] = line
        path.write_bytes(b"\r\n".join(lines))
        return [number] if number else []
    return [*range(1, 5)]


KINDS = "no UTF-8", "NUL", "letters", "quote", "too few", "too many", "blank", "header twice", "field of megabytes"


@pytest.mark.parametrize("kind", [*KINDS, "header", "empty", "folder", "dangling link"])
def test_damaged_line_of_metrics_is_skipped_and_others_are_kept(run, tmp_path, caplog, kind):
    run(tmp_path, *words("vanilla"), "trainer.max_steps=4")
    lost = damage(kind, tmp_path / "metrics.csv")
    run(tmp_path, *words("vanilla"), "trainer.max_steps=6", ckpt_path=newest(tmp_path)[0])
    found = rows(tmp_path)
    assert [int(row["step"]) for row in found] == [step for step in range(1, 7) if step not in lost]
    assert all(float(row["d/adversarial"]) for row in found)
    if kind in KINDS:
        assert f"{tmp_path / 'metrics.csv'}: skipped 1 damaged lines: 4" in caplog.text


@pytest.mark.parametrize("header", [b'"', b"", b"a,"])
def test_metrics_with_damaged_header_are_renamed_not_overwritten(run, tmp_path, caplog, header):
    run(tmp_path, *words("vanilla"), "trainer.max_steps=4")
    path = tmp_path / "metrics.csv"
    content = header + path.read_bytes()
    path.write_bytes(content if header else content.partition(b"\r\n")[2])  # without a header at all
    damaged = path.read_bytes()
    run(tmp_path, *words("vanilla"), "trainer.max_steps=6", ckpt_path=newest(tmp_path)[0])
    assert [int(row["step"]) for row in rows(tmp_path)] == [5, 6]
    assert (tmp_path / "metrics.csv.1").read_bytes() == damaged
    assert f"{path}: none of its lines can be read; it is renamed to metrics.csv.1" in caplog.text


def test_new_columns_do_not_overwrite_unreadable_metrics(run, tmp_path):
    run(tmp_path, *words("vanilla"), "trainer.max_steps=2")
    path = tmp_path / "metrics.csv"
    path.write_bytes(b'"' + path.read_bytes())
    damaged, scalars = path.read_bytes(), MetricLogger()
    scalars.path = path
    scalars.add({"step": 3, "d/adversarial": "1"})
    assert path.read_text() == "step,d/adversarial\n3,1\n"
    assert (tmp_path / "metrics.csv.1").read_bytes() == damaged


@pytest.mark.parametrize(
    "result",
    ['{"status": "finished"}', '{"status": "finished", "step": "8"}', "[1]", "", '{"status": "finished", "step": 8}'],
)
def test_run_resumes_despite_damaged_result_json(run, tmp_path, result):
    run(tmp_path, *words("vanilla"))
    (tmp_path / "result.json").write_text(result)
    assert finished(tmp_path, newest(tmp_path)[0], 8) is None
    assert run(tmp_path, *words("vanilla"), "trainer.max_steps=9", ckpt_path=newest(tmp_path)[0]).global_step == 9
    if hasattr(os, "mkfifo"):  # Windows has none
        os.mkfifo(tmp_path / "result.json")
        assert finished(tmp_path, newest(tmp_path)[0], 8) is None
        (tmp_path / "result.json").unlink()
    (tmp_path / "result.json").mkdir()
    assert finished(tmp_path, newest(tmp_path)[0], 8) is None
    assert run(tmp_path, *words("vanilla"), "trainer.max_steps=10", ckpt_path=newest(tmp_path)[0]).global_step == 10


@pytest.mark.parametrize(("before", "after"), [("wasserstein", "hinge"), ("hinge", "wasserstein")])
def test_resume_with_other_loss_adds_columns_to_metrics(run, tmp_path, before, after):
    """As with ``loss=... force_resume=true``: accuracies are logged for a discriminator, not for a critic."""
    for loss, steps in ((before, 8), (after, 10), (after, 12)):
        last = newest(tmp_path)[0]
        run(tmp_path, *words("wgan"), f"loss={loss}", f"trainer.max_steps={steps}", ckpt_path=last)
    found = rows(tmp_path)
    assert [int(row["step"]) for row in found] == [*range(1, 13)]
    for row in found:
        loss = before if int(row["step"]) <= 8 else after
        assert (row["d/accuracy_real"] == "") == (loss == "wasserstein")
        assert 0 <= float(row["d/accuracy_real"] or 0) <= 1
        assert float(row["g/lr"]) == 5e-5


def test_run_killed_before_first_checkpoint_starts_again(run, tmp_path):
    """The metrics of the killed process are discarded."""
    with during_step(3, kill), pytest.raises(Killed):
        run(tmp_path, *words("vanilla"))
    assert newest(tmp_path)[:2] == (None, [])
    run(tmp_path, *words("vanilla"))
    assert [int(row["step"]) for row in rows(tmp_path)] == [*range(1, 9)]
    found = events(tmp_path)
    for tag in found.Tags()["scalars"]:
        assert [event.step for event in found.Scalars(tag)] == [*range(1, 9)], tag
    assert [event.step for event in found.Images("samples")] == [1, 2, 5, 8]


def test_comparison_detects_runs_with_different_seeds(run, tmp_path):
    """Otherwise the tests above could pass with any checkpoint."""
    for seed in (0, 1):
        run(tmp_path / str(seed), *words("vanilla"), f"seed={seed}")
    with pytest.raises(AssertionError):
        assert_same_run(tmp_path / "0", tmp_path / "1")


def test_resume_with_other_learning_rates_applies_them(run, tmp_path):
    """The fix that the error message of a diverged run suggests."""
    with during_step(3, terminate):
        run(tmp_path, *words("vanilla"))
    lower = "model.generator_optimizer.lr=1e-6", "model.discriminator_optimizer.lr=2e-6"
    run(tmp_path, *words("vanilla"), *lower, ckpt_path=newest(tmp_path)[0])
    rates = [(float(row["g/lr"]), float(row["d/lr"])) for row in rows(tmp_path)]
    assert rates == [(2e-4, 2e-4)] * 3 + [(1e-6, 2e-6)] * 5


def test_resume_from_earlier_step_abandons_later_checkpoints(run, tmp_path):
    """After a resume from an earlier step, checkpoints of later steps belong to a continuation that was abandoned."""
    often = "callbacks.checkpoint.every_n_steps=2", "callbacks.checkpoint.keep=2"
    run(tmp_path, *words("vanilla"), *often, "callbacks.checkpoint.keep=null")
    with during_step(5, terminate):
        run(tmp_path, *words("vanilla"), *often, ckpt_path=tmp_path / "checkpoints" / "step_00000002.ckpt")
    assert newest(tmp_path)[0].name == "last.ckpt"
    assert read(tmp_path / "checkpoints" / "last.ckpt")["global_step"] == 5
    left = {path.name for path in (tmp_path / "checkpoints").iterdir()}
    assert left == {"step_00000004.ckpt", "step_00000005.ckpt", "last.ckpt"}
    (tmp_path / "checkpoints" / "last.ckpt").unlink()
    assert newest(tmp_path)[0].name == "step_00000005.ckpt"


def test_resuming_finished_run_changes_no_checkpoint(run, tmp_path):
    run(tmp_path, *words("vanilla"))
    before = {path: path.read_bytes() for path in tmp_path.glob("checkpoints/*.ckpt")}
    trainer = run(tmp_path, *words("vanilla"), ckpt_path=newest(tmp_path)[0])
    assert trainer.global_step == 8
    assert before == {path: path.read_bytes() for path in tmp_path.glob("checkpoints/*.ckpt")}


# Processes of the command, with real signals


def command(folder: Path, *overrides: str) -> subprocess.Popen:
    if sys.platform == "win32":
        pytest.skip("Windows has no signals between processes")
    words = sys.executable, "train.py", f"hydra.run.dir={folder}", *overrides
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    default_sigint = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # ignored in background jobs of a shell
    how = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "preexec_fn": default_sigint}
    return subprocess.Popen(words, cwd=ROOT, env=environment, **how)


def wait_for_rows(folder: Path, process: subprocess.Popen, more_than: int) -> None:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and process.poll() is None:
        path = folder / "metrics.csv"
        if path.exists() and (lines := path.read_text().splitlines())[1:] and int(lines[-1].split(",")[0]) > more_than:
            return
        time.sleep(0.02)
    process.kill()
    raise AssertionError(f"no line after step {more_than}: {process.communicate()[0]}")


SMALL = (
    "model=vanilla",
    "data.image_size=16",
    "data.batch_size=4",
    "network.width=4",
    "trainer.accelerator=cpu",
    "callbacks.metric_logger.every_n_steps=1",
)


def test_signals_stop_command_with_checkpoint_and_exit_status(tmp_path):
    folder, step, overrides = tmp_path / "run", 0, (*SMALL, "trainer.max_steps=1000000")
    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGXCPU):
        process = command(folder, *overrides)
        wait_for_rows(folder, process, step + 2)
        process.send_signal(signum)
        output, _ = process.communicate(timeout=60)
        assert process.returncode == 128 + signum, output
        stopped_at = read(folder / "checkpoints" / "last.ckpt")["global_step"]
        assert stopped_at > step + 2
        assert int(rows(folder)[-1]["step"]) == stopped_at
        message = f"stopped at step {stopped_at:,}: {signum.name}"
        assert f"{message}; to resume: " in output
        assert "python train.py ckpt_path=last hydra.run.dir=" in output
        result = json.loads((folder / "result.json").read_text())
        assert [result[key] for key in ("status", "step", "error")] == ["interrupted", stopped_at, message]
        assert result["metrics"]["images_seen"] == 4 * stopped_at == float(rows(folder)[-1]["images_seen"])
        assert f"{stopped_at:,} generator steps, {4 * stopped_at:,} images seen" in output
        assert "Traceback" not in output
        step, overrides = stopped_at, ("ckpt_path=last",)
    assert [int(row["step"]) for row in rows(folder)] == [*range(1, step + 1)]


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_signal_without_graceful_stop_ends_command(tmp_path, signum):
    process = command(tmp_path / "run", *SMALL, "trainer.max_steps=1000000", "~callbacks.graceful_stop")
    wait_for_rows(tmp_path / "run", process, 2)
    process.send_signal(signum)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + signum, output
    assert f"stopped by {signum.name}" in output
    assert "Traceback" not in output
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert (result["status"], result["error"]) == ("interrupted", f"stopped by {signum.name}")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals between processes")
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_signal_before_first_step_ends_command_immediately(tmp_path, signum):
    """For example while the classifier of the metrics is trained, which takes long and has no state to save."""
    code = (
        "import sys, time; from pathlib import Path; from gan_lightning.callbacks.evaluate import Evaluate\n"
        "Evaluate.on_train_start = lambda *_: (Path('ready').touch(), time.sleep(60))\n"
        "from gan_lightning.cli.train import main; main()"
    )
    line = [sys.executable, "-c", code, *SMALL, "hydra.run.dir=run"]
    process = subprocess.Popen(line, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    while not (tmp_path / "ready").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    process.send_signal(signum)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 128 + signum, output
    assert f"stopped by {signum.name}" in output
    assert "Traceback" not in output
    assert json.loads((tmp_path / "run" / "result.json").read_text())["status"] == "interrupted"


@pytest.mark.parametrize("kind", ["pipe without a reader", "closed terminal"])
def test_run_survives_closed_output(tmp_path, kind):
    """As after ``train.py | head``, or under nohup in a terminal that has been closed."""
    reader, writer = os.pipe() if kind.startswith("pipe") else os.openpty()
    os.close(reader)
    words = sys.executable, "train.py", f"hydra.run.dir={tmp_path}", *SMALL, "trainer.max_steps=5"
    words = *words, "eval.every_n_steps=null", "callbacks.progress.refresh_s=1e-9"
    with os.fdopen(writer) as output:
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        done = subprocess.run(words, cwd=ROOT, env=environment, stdout=output, stderr=output)
    assert done.returncode == 0
    result = json.loads((tmp_path / "result.json").read_text())
    assert (result["status"], result["step"]) == ("finished", 5)
    log = (tmp_path / "train.log").read_text()
    assert "5 generator steps, 20 images seen" in log
    assert "Traceback" not in log


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_killed_rank_ends_ddp_run_with_one_line(tmp_path, rank):
    many = "trainer=ddp", "trainer.accelerator=cpu", "trainer.max_steps=1000000", "eval.every_n_steps=null"
    process = command(tmp_path, *SMALL, *many)
    wait_for_rows(tmp_path, process, 3)
    found = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=True).stdout
    os.kill(int(found.split()[0]) if rank else process.pid, signal.SIGKILL)
    output, _ = process.communicate(timeout=120)  # returns when both ranks have closed the output
    who = "rank 0: rank 1 (SIGKILL)" if rank else "rank 1: rank 0"
    assert f"{who} has ended during training, so the run cannot continue; its checkpoints are intact" in output
    assert "Traceback" not in output
    assert output.count("rank ") == 2
    if rank:
        assert process.returncode == 1
        result = json.loads((tmp_path / "result.json").read_text())
        assert result["status"] == "failed"
        assert result["step"] == int(rows(tmp_path)[-1]["step"])


@pytest.mark.slow
def test_killed_command_resumes_exactly(tmp_path):
    budget = "trainer.max_steps=400", "callbacks.checkpoint.every_n_steps=20", "data.limit=50"
    full, parts = tmp_path / "full", tmp_path / "parts"
    process = command(full, *SMALL, *budget)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    process = command(parts, *SMALL, *budget)
    wait_for_rows(parts, process, 70)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert int(rows(parts)[-1]["step"]) < 400
    process = command(parts, "ckpt_path=last")
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    assert_same_run(full, parts)


@pytest.mark.slow
def test_ddp_command_matches_single_process(run, tmp_path):
    """In float64 and without BatchNorm the averaged gradients of the ranks equal those of one process."""
    words = (
        *SMALL,
        "network.generator.norm=none",
        "model.ema_decay=0.9",
        "trainer.precision=64-true",
        "trainer.max_steps=6",
        "data.limit=26",
        "eval.every_n_steps=3",
        "eval.num_generated=600",
        "feature.width=4",
        "feature.dim=8",
    )
    run(tmp_path / "one", *words)
    process = command(tmp_path / "two", *words, "trainer=ddp", "trainer.accelerator=cpu")
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    one, two = (read(tmp_path / name / "checkpoints" / "last.ckpt") for name in ("one", "two"))
    assert one["global_step"] == two["global_step"] == 6
    for name, value in one["state_dict"].items():
        torch.testing.assert_close(two["state_dict"][name], value, rtol=0, atol=1e-9)
    curves = [checkpoint["callbacks"]["Evaluate"]["curve"] for checkpoint in (one, two)]
    assert [entry["step"] for entry in curves[1]] == [3, 6]
    for name, (value, card) in curves[0][-1]["scores"].items():
        assert curves[1][-1]["scores"][name] == [pytest.approx(value, rel=1e-4), card], name
    assert len(rows(tmp_path / "two")) == 6


@pytest.mark.slow
def test_ddp_run_resumes_and_scores_match_gan_evaluate(tmp_path, monkeypatch):
    """Each rank has its own BatchNorm statistics; the checkpoint and gan-evaluate use those of rank 0."""
    words = *SMALL, "model=dcgan", "trainer=ddp", "trainer.accelerator=cpu", "metric=fid", "feature.width=4"
    more = "eval.every_n_steps=2", "eval.num_generated=600", "eval.num_real=600", "feature.dim=8"
    for step, overrides in (
        (2, (*words, *more, "trainer.max_steps=2")),
        (4, ("ckpt_path=last", "trainer.max_steps=4")),
    ):
        output, _ = (process := command(tmp_path / "run", *overrides)).communicate(timeout=300)
        assert process.returncode == 0, output
        assert "deprecated" not in output
        result = json.loads((tmp_path / "run" / "result.json").read_text())
        assert (result["status"], result["step"]) == ("finished", step)
    assert [int(row["step"]) for row in rows(tmp_path / "run")] == [1, 2, 3, 4]
    monkeypatch.chdir(tmp_path)
    evaluate([tmp_path / "run"], [])
    (row,) = json.loads((tmp_path / "evaluation.json").read_text())["rows"]
    (line,) = row["scores"]
    assert line["card_hash"] == result["cards"]["eval/fd"]
    assert line["value"] == pytest.approx(result["metrics"]["eval/fd"], rel=1e-6)


@pytest.mark.parametrize("place", ["", "checkpoints"])
def test_ckpt_path_accepts_run_directory(run, tmp_path, place):
    run(tmp_path / "run", *words("vanilla"), "trainer.max_steps=4", "callbacks.checkpoint.every_n_steps=2")
    name, overrides, _ = check_command_line([f"ckpt_path={tmp_path / 'run' / place}", "trainer.max_steps=6"])
    assert (name, overrides) == ("resume", ["trainer.max_steps=6"])
    node = ConfigStore.instance().load("resume.yaml").node
    assert Path(node.ckpt_path) == tmp_path / "run" / "checkpoints" / "last.ckpt"
    assert Path(node.hydra.run.dir) == tmp_path / "run"
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty: has no checkpoints, as a run directory has"):
        check_command_line([f"ckpt_path={tmp_path / 'empty'}"])


def test_init_from_accepts_run_directory(run, tmp_path):
    run(tmp_path / "a", *words("vanilla"), "trainer.max_steps=2")
    state = read(tmp_path / "a" / "checkpoints" / "last.ckpt")["state_dict"]
    again = run(tmp_path / "b", *words("vanilla"), f"init_from={tmp_path / 'a'}", "trainer.max_steps=1", "seed=3")
    for name in ("generator", "discriminator"):
        weight = next(key for key in state if key.startswith(f"{name}.") and key.endswith("weight"))
        assert (again.lightning_module.state_dict()[weight] - state[weight]).abs().max() < 0.01


def test_missing_checkpoint_is_reported(tmp_path):
    with pytest.raises(UserError, match="there is no such checkpoint"):
        read(tmp_path / "none.ckpt")
    assert newest(tmp_path)[:2] == (None, [])
