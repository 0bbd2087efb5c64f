"""Stopped at any step and resumed is never stopped, bit for bit."""

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
    """What no one catches."""


def kill() -> None:
    raise Killed


@contextmanager
def in_step(step: int, action: Callable[[], Any]) -> Iterator[None]:
    """Let something happen in the middle of a generator step, counted from 1."""
    backward_terms = GenerativeModel.backward_terms

    def disturbed(self: GenerativeModel, player: str, *args: Any) -> Any:
        if player == "g" and self.global_step == step - 1:
            action()
        return backward_terms(self, player, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(GenerativeModel, "backward_terms", disturbed)
        yield


def terminate() -> None:
    signal.raise_signal(signal.SIGTERM)


def events(folder: Path) -> EventAccumulator:
    found = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0, "images": 0, "tensors": 0})
    return found.Reload()


def test_stopped_twice_and_resumed_is_never_stopped(run, tmp_path, learner):
    full, parts = tmp_path / "full", tmp_path / "parts"
    run(full, *words(learner))
    ckpt_path = None
    for step in (3, 5):
        with in_step(step, terminate):
            trainer = run(parts, *words(learner), ckpt_path=ckpt_path)
        assert trainer.global_step == step, "a signal lets the step end, and only that"
        ckpt_path, faults, _ = newest(parts)
        assert not faults
        assert read(ckpt_path)["global_step"] == step
        if step == 3:
            assert [int(row["step"]) for row in rows(parts)] == [1, 2, 3]
    assert run(parts, *words(learner), ckpt_path=ckpt_path).global_step == 8
    assert_same_run(full, parts)


@pytest.mark.parametrize(("name", "limit"), [("dcgan", 12), ("cgan", 12), ("wgan", 20)])
def test_stopped_at_the_end_of_an_epoch(run, tmp_path, name, limit):
    """After three minibatches of 4 of 12, and with five a step after each step."""
    full, parts = tmp_path / "full", tmp_path / "parts"
    run(full, *words(name), f"data.limit={limit}")
    with in_step(3, terminate):
        assert run(parts, *words(name), f"data.limit={limit}").global_step == 3
    run(parts, *words(name), f"data.limit={limit}", ckpt_path=newest(parts)[0])
    assert_same_run(full, parts)


@pytest.mark.parametrize("name", ["dcgan", "wgan_gp"])
def test_killed_and_resumed_from_an_earlier_checkpoint(run, tmp_path, name):
    full, parts = tmp_path / "full", tmp_path / "parts"
    run(full, *words(name))
    with in_step(7, kill), pytest.raises(Killed):
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


def test_a_half_written_line_of_metrics_is_dropped(run, tmp_path):
    """A line that breaks off within its step's number would pass for an earlier step."""
    with in_step(7, kill), pytest.raises(Killed):
        run(tmp_path, *words("vanilla"))
    with (tmp_path / "metrics.csv").open("a") as file:
        file.write("1")  # of step 1,000
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
def test_a_damaged_line_of_metrics_costs_no_other(run, tmp_path, caplog, kind):
    run(tmp_path, *words("vanilla"), "trainer.max_steps=4")
    lost = damage(kind, tmp_path / "metrics.csv")
    run(tmp_path, *words("vanilla"), "trainer.max_steps=6", ckpt_path=newest(tmp_path)[0])
    found = rows(tmp_path)
    assert [int(row["step"]) for row in found] == [step for step in range(1, 7) if step not in lost]
    assert all(float(row["d/adversarial"]) for row in found)
    if kind in KINDS:
        assert f"{tmp_path / 'metrics.csv'}: skipped 1 damaged lines: 4" in caplog.text


@pytest.mark.parametrize("header", [b'"', b"", b"a,"])
def test_metrics_whose_header_is_damaged_are_renamed_and_not_overwritten(run, tmp_path, caplog, header):
    run(tmp_path, *words("vanilla"), "trainer.max_steps=4")
    path = tmp_path / "metrics.csv"
    content = header + path.read_bytes()
    path.write_bytes(content if header else content.partition(b"\r\n")[2])  # without a header at all
    damaged = path.read_bytes()
    run(tmp_path, *words("vanilla"), "trainer.max_steps=6", ckpt_path=newest(tmp_path)[0])
    assert [int(row["step"]) for row in rows(tmp_path)] == [5, 6]
    assert (tmp_path / "metrics.csv.1").read_bytes() == damaged
    assert f"{path}: none of its lines can be read; it is renamed to metrics.csv.1" in caplog.text


def test_figures_of_another_loss_do_not_replace_metrics_that_cannot_be_read(run, tmp_path):
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
def test_a_damaged_result_does_not_keep_a_run_from_going_on(run, tmp_path, result):
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
def test_going_on_with_a_loss_that_has_other_figures(run, tmp_path, before, after):
    """``loss=... force_resume=true``: a critic's accuracy is no figure, a discriminator's is one."""
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


def test_killed_before_the_first_checkpoint_starts_afresh(run, tmp_path):
    """The figures of its first life are not those of its second."""
    with in_step(3, kill), pytest.raises(Killed):
        run(tmp_path, *words("vanilla"))
    assert newest(tmp_path)[:2] == (None, [])
    run(tmp_path, *words("vanilla"))
    assert [int(row["step"]) for row in rows(tmp_path)] == [*range(1, 9)]
    found = events(tmp_path)
    for tag in found.Tags()["scalars"]:
        assert [event.step for event in found.Scalars(tag)] == [*range(1, 9)], tag
    assert [event.step for event in found.Images("samples")] == [1, 2, 5, 8]


def test_resume_differs_where_the_seed_does(run, tmp_path):
    """What the tests above compare can differ."""
    for seed in (0, 1):
        run(tmp_path / str(seed), *words("vanilla"), f"seed={seed}")
    with pytest.raises(AssertionError):
        assert_same_run(tmp_path / "0", tmp_path / "1")


def test_a_run_can_go_on_with_another_rate(run, tmp_path):
    """The way out that a diverged run is told."""
    with in_step(3, terminate):
        run(tmp_path, *words("vanilla"))
    lower = "model.generator_optimizer.lr=1e-6", "model.discriminator_optimizer.lr=2e-6"
    run(tmp_path, *words("vanilla"), *lower, ckpt_path=newest(tmp_path)[0])
    rates = [(float(row["g/lr"]), float(row["d/lr"])) for row in rows(tmp_path)]
    assert rates == [(2e-4, 2e-4)] * 3 + [(1e-6, 2e-6)] * 5


def test_a_run_that_went_back_goes_on_from_where_it_went(run, tmp_path):
    """After a resume from an earlier step, checkpoints of later steps belong to a continuation that was abandoned."""
    often = "callbacks.checkpoint.every_n_steps=2", "callbacks.checkpoint.keep=2"
    run(tmp_path, *words("vanilla"), *often, "callbacks.checkpoint.keep=null")
    with in_step(5, terminate):
        run(tmp_path, *words("vanilla"), *often, ckpt_path=tmp_path / "checkpoints" / "step_00000002.ckpt")
    assert newest(tmp_path)[0].name == "last.ckpt"
    assert read(tmp_path / "checkpoints" / "last.ckpt")["global_step"] == 5
    left = {path.name for path in (tmp_path / "checkpoints").iterdir()}
    assert left == {"step_00000004.ckpt", "step_00000005.ckpt", "last.ckpt"}
    (tmp_path / "checkpoints" / "last.ckpt").unlink()
    assert newest(tmp_path)[0].name == "step_00000005.ckpt"


def test_a_finished_run_has_nothing_to_do(run, tmp_path):
    run(tmp_path, *words("vanilla"))
    before = {path: path.read_bytes() for path in tmp_path.glob("checkpoints/*.ckpt")}
    trainer = run(tmp_path, *words("vanilla"), ckpt_path=newest(tmp_path)[0])
    assert trainer.global_step == 8
    assert before == {path: path.read_bytes() for path in tmp_path.glob("checkpoints/*.ckpt")}


# The command, with real signals


def command(folder: Path, *overrides: str) -> subprocess.Popen:
    if sys.platform == "win32":
        pytest.skip("Windows has no signals between processes")
    words = sys.executable, "train.py", f"hydra.run.dir={folder}", *overrides
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    heard = partial(
        signal.signal, signal.SIGINT, signal.SIG_DFL
    )  # which what a shell has put into the background is not
    how = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "preexec_fn": heard}
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


def test_signals_stop_the_command_with_a_checkpoint(tmp_path):
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
        told = f"stopped at step {stopped_at:,}: {signum.name}"
        assert f"{told}; to go on: " in output
        assert "python train.py ckpt_path=last hydra.run.dir=" in output
        result = json.loads((folder / "result.json").read_text())
        assert [result[key] for key in ("status", "step", "error")] == ["interrupted", stopped_at, told]
        assert result["metrics"]["images_seen"] == 4 * stopped_at == float(rows(folder)[-1]["images_seen"])
        assert f"{stopped_at:,} generator steps, {4 * stopped_at:,} images seen" in output
        assert "Traceback" not in output
        step, overrides = stopped_at, ("ckpt_path=last",)
    assert [int(row["step"]) for row in rows(folder)] == [*range(1, step + 1)]


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_that_only_lightning_hears_ends_the_command(tmp_path, signum):
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
def test_a_signal_before_the_first_step_ends_the_command_at_once(tmp_path, signum):
    """While the classifier of the metrics is trained, say, which has nothing to save and takes long."""
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
def test_a_run_whose_output_nobody_reads_any_more_goes_on(tmp_path, kind):
    """As after ``train.py | head``, or in a terminal that was closed while nohup protects the run."""
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
def test_a_process_of_several_that_is_killed_ends_the_run_in_one_line(tmp_path, rank):
    many = "trainer=ddp", "trainer.accelerator=cpu", "trainer.max_steps=1000000", "eval.every_n_steps=null"
    process = command(tmp_path, *SMALL, *many)
    wait_for_rows(tmp_path, process, 3)
    found = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=True).stdout
    os.kill(int(found.split()[0]) if rank else process.pid, signal.SIGKILL)
    output, _ = process.communicate(timeout=120)  # until both have closed it
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
def test_a_killed_command_goes_on(tmp_path):
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
def test_two_processes_train_as_one(run, tmp_path):
    """In float64 and without BatchNorm the ranks' gradients add up to those of one process."""
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
        assert curves[1][-1]["scores"][name] == [pytest.approx(value, rel=1e-4), card], "the ranks share one evaluation"
    assert len(rows(tmp_path / "two")) == 6


@pytest.mark.slow
def test_two_processes_go_on_and_are_judged_as_their_checkpoint_is(tmp_path, monkeypatch):
    """Each rank's BatchNorm has statistics of its own; the checkpoint has those of the first, and so has the judge."""
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
    assert line["card_hash"] == result["cards"]["eval/fid"]
    assert line["value"] == pytest.approx(result["metrics"]["eval/fid"], rel=1e-6)


@pytest.mark.parametrize("place", ["", "checkpoints"])
def test_a_run_directory_stands_for_its_newest_checkpoint(run, tmp_path, place):
    run(tmp_path / "run", *words("vanilla"), "trainer.max_steps=4", "callbacks.checkpoint.every_n_steps=2")
    name, overrides, _ = check_command_line([f"ckpt_path={tmp_path / 'run' / place}", "trainer.max_steps=6"])
    assert (name, overrides) == ("resume", ["trainer.max_steps=6"])
    node = ConfigStore.instance().load("resume.yaml").node
    assert Path(node.ckpt_path) == tmp_path / "run" / "checkpoints" / "last.ckpt"
    assert Path(node.hydra.run.dir) == tmp_path / "run"
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty: has no checkpoints, as a run directory has"):
        check_command_line([f"ckpt_path={tmp_path / 'empty'}"])


def test_a_run_may_start_from_the_networks_of_a_run_directory(run, tmp_path):
    run(tmp_path / "a", *words("vanilla"), "trainer.max_steps=2")
    state = read(tmp_path / "a" / "checkpoints" / "last.ckpt")["state_dict"]
    again = run(tmp_path / "b", *words("vanilla"), f"init_from={tmp_path / 'a'}", "trainer.max_steps=1", "seed=3")
    for name in ("generator", "discriminator"):
        weight = next(key for key in state if key.startswith(f"{name}.") and key.endswith("weight"))
        assert (again.lightning_module.state_dict()[weight] - state[weight]).abs().max() < 0.01


def test_refusals_tell_what_is_wrong(tmp_path):
    with pytest.raises(UserError, match="there is no such checkpoint"):
        read(tmp_path / "none.ckpt")
    assert newest(tmp_path)[:2] == (None, [])
