"""Fault injection: kills, full disks, damaged files, signals and more, and the state of the run after each.

    python tests/support/fault_injection.py                # make faults: at least 200 kills, and the other faults
    python tests/support/fault_injection.py --short        # a few of each, as in test_fault_injection.py
    python tests/support/fault_injection.py --seed 7       # other points in time

Every fault hits a child process, which is forked from this one so that it starts within a second, and which then runs
the program as its command line would. A run that is resumed afterwards must end like an uninterrupted one: the same
weights, optimizer states, metrics, scores, TensorBoard curves and sample grids, bit for bit.
"""

import argparse
import csv
import json
import logging
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny import MODELS

from gan_lightning.cli import evaluate, sample
from gan_lightning.cli import report as page
from gan_lightning.cli import train as program
from gan_lightning.io.signals import SIGNALS
from gan_lightning.run.checkpoint import newest, read

EVERY = 4  # steps between two checkpoints
STEPS = 60
TINY = (
    "data.image_size=16",
    "data.limit=26",
    "data.batch_size=4",
    "network.width=4",
    "trainer=cpu",
    f"trainer.max_steps={STEPS}",
    "eval.every_n_steps=null",
    "callbacks.metric_logger.every_n_steps=1",
    f"callbacks.checkpoint.every_n_steps={EVERY}",
)
EVALUATED = "eval.every_n_steps=20", "eval.num_generated=250", "feature.width=4", "feature.dim=8", "metric=fid"
EXTRAS = {
    "vanilla": ("model.d_steps=2", "network.discriminator.dropout=0.3"),
    "dcgan": ("model.ema_decay=0.9", "data.flip=true", *EVALUATED),
    "cgan": ("trainer.precision=64-true", "loss.label_smoothing=0.1"),
    "acgan": ("model.ema_decay=0.9", "callbacks.learning_rate.schedule=linear_decay", *EVALUATED),
    "wgan": ("model.reuse_fake=true",),
    "wgan_gp": ("callbacks.learning_rate.schedule=linear_decay", "trainer.precision=bf16-mixed"),
}


@dataclass
class Report:
    """Number of injected faults by kind, and the errors that followed them."""

    count: dict[str, int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def note(self, kind: str, error: str | None = None) -> None:
        self.count[kind] = self.count.get(kind, 0) + 1
        if error:
            self.wrong.append(f"{kind}: {error}")
            print(self.wrong[-1], flush=True)


class Process:
    """The program, or another command, in a child process, with its output in a file."""

    def __init__(
        self,
        folder: Path,
        *words: str,
        before: Callable[[], Any] = lambda: None,
        command: Callable[[], Any] = program.main,
    ) -> None:
        self.log = folder.with_suffix(".log")
        self.pid = os.fork()
        if self.pid:
            return
        status = 1
        try:
            output = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(output, 1)
            os.dup2(output, 2)
            sys.stdout = sys.stderr = os.fdopen(1, "w", buffering=1, closefd=False)
            warnings.resetwarnings()  # pytest turns warnings into errors, and the child has inherited that
            before()
            sys.argv = ["train.py", *words]
            command()
            status = 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
        finally:
            sys.stdout.flush()
            os._exit(status)

    def status(self) -> int | None:
        """Return the exit status, negative after a signal; None while the process runs."""
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        return os.waitstatus_to_exitcode(status) if pid else None

    def wait(self) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def until(self, condition: Callable[[], bool], seconds: float = 60) -> int | None:
        """Wait for a condition; return the exit status if the process ends before, else None."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if condition():
                return None
            if (status := self.status()) is not None:
                return status
            time.sleep(0.0005)
        os.kill(self.pid, signal.SIGKILL)
        return self.wait()

    def output(self) -> str:
        return self.log.read_text().replace("\r", "\n")


def step_of(run: Path) -> int:
    """Return the step of the last complete line of metrics.csv."""
    path = run / "metrics.csv"
    lines = path.read_text().split("\n")[1:-1] if path.exists() else []
    return int(lines[-1].split(",")[0]) if lines else 0


def saved_step(run: Path) -> int:
    """Return the step of the newest readable checkpoint."""
    path, *_ = newest(run)
    return read(path)["global_step"] if path else 0


def rows(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(newline="") as file:
        return [{k: v for k, v in row.items() if k != "images_per_second"} for row in csv.DictReader(file)]


def curves(run: Path) -> dict[str, dict[int, float]]:
    """Return TensorBoard's scalars by tag and step; a tag with a repeated step gets an impossible value."""
    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0}).Reload()
    found: dict[str, dict[int, float]] = {}
    for tag in events.Tags()["scalars"]:
        points = events.Scalars(tag)
        steps = [point.step for point in points]
        if steps != sorted(set(steps)):
            found[tag] = {-1: float(len(steps))}
        elif not tag.endswith("images_per_second"):
            found[tag] = {point.step: point.value for point in points}
    return found


def difference(complete: Path, run: Path) -> str | None:
    """Return the first difference between a run and the uninterrupted one, or None."""
    a, b = (read(folder / "checkpoints" / "last.ckpt") for folder in (complete, run))
    for part in ("global_step", "state_dict", "optimizer_states", "lr_schedulers"):
        try:
            torch.testing.assert_close(b[part], a[part], rtol=0, atol=0)
        except AssertionError as error:
            return f"{part} differs: {str(error).splitlines()[-1]}"
    if rows(complete) != rows(run):
        return "metrics.csv differs"
    expected, found = curves(complete), curves(run)
    for tag in expected | found:
        if (a := expected.get(tag)) != (b := found.get(tag)):
            return f"TensorBoard's {tag} differs: {b} instead of {a}"
    for name in ("evaluation.jsonl", *(f"samples/{path.name}" for path in (complete / "samples").iterdir())):
        if (complete / name).exists() and (complete / name).read_bytes() != (run / name).read_bytes():
            return f"{name} differs"
    if parts := [*run.rglob("*.part")]:
        return f"left-over file: {parts[0].name}"
    return None


def overrides_of(variant: str) -> tuple[str, ...]:
    return (f"model={variant}", *TINY, *EXTRAS.get(variant, ()))


def uninterrupted(variant: str, folder: Path) -> Path:
    run = folder / f"{variant}-whole"
    if run.exists():
        return run
    process = Process(run, *overrides_of(variant), f"hydra.run.dir={run}")
    if process.wait():
        raise SystemExit(f"the uninterrupted run failed:\n{process.output()}")
    return run


def start_or_resume(run: Path, variant: str, before: Callable[[], Any] = lambda: None) -> Process:
    """Start or resume a run by the command of a preemptible job."""
    return Process(run, *overrides_of(variant), "ckpt_path=last", f"hydra.run.dir={run}", before=before)


def finish(run: Path, variant: str, complete: Path) -> str | None:
    """Resume a run until it has finished; return what is wrong with it then, or None."""
    process = start_or_resume(run, variant)
    if status := process.wait():
        return f"status {status} after resuming: {process.output()[-300:]}"
    return difference(complete, run)


def kills(report: Report, variant: str, folder: Path, num: int, rng: random.Random) -> None:
    """SIGKILL at start-up, within a step or while a checkpoint is written."""
    complete, run = uninterrupted(variant, folder), folder / f"{variant}-killed"
    for i in range(num):
        before, process = saved_step(run), start_or_resume(run, variant)
        kind = ("kill in the start", "kill in a step", "kill in a save")[rng.choice((0, 1, 1, 2, 2))]
        if kind == "kill in the start":
            end = time.monotonic() + rng.uniform(0, 2)
            ended = process.until(lambda end=end: time.monotonic() > end)
        elif kind == "kill in a step":
            goal = before + rng.randint(0, EVERY + 1)
            ended = process.until(lambda goal=goal: step_of(run) >= goal)
            time.sleep(rng.uniform(0, 0.02))
        else:
            ended = process.until(lambda: any((run / "checkpoints").glob(".*.part")))
        if ended is not None:  # the run has finished already; start a new one
            report.note("end before the kill", f"status {ended}: {process.output()[-300:]}" if ended else None)
            shutil.rmtree(run)
            continue
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        reached, kept = step_of(run), saved_step(run)
        lost = f"{variant} {i}: step {reached} was reached and step {kept} is saved" if reached - kept > EVERY else None
        back = f"{variant} {i}: back from step {before} to {kept}" if kept < before else None
        report.note(kind, lost or back)
    report.note("end after kills", (error := finish(run, variant, complete)) and f"{variant}: {error}")


def damaged_checkpoints(report: Report, folder: Path, num: int, rng: random.Random) -> None:
    """The newest checkpoint is truncated or has a wrong byte: the run resumes from the one before and logs that."""
    variant = "dcgan"
    complete, run = uninterrupted(variant, folder), folder / "damaged"
    for i in range(num):
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(complete, run)
        (run / "checkpoints" / "best.ckpt").unlink()
        path = run / "checkpoints" / f"step_{STEPS:08d}.ckpt"
        content = bytearray(path.read_bytes())
        kind = ("truncated checkpoint", "byte changed in a checkpoint")[i % 2]
        if i % 2:
            place = rng.randrange(len(content))
            content[place] ^= 0xFF
        else:
            del content[rng.randrange(len(content)) :]
        for name in (path, path.with_name("last.ckpt")):  # two hard links to one file
            name.write_bytes(content)
        readable = read_or_none(path)
        process = start_or_resume(run, variant)
        status, output = process.wait(), process.output()
        error = f"status {status}: {output[-300:]}" if status else difference(complete, run)
        if not error and readable is None and f"{path}: cannot be read" not in output:
            error = "no message about it"
        report.note(kind, error and f"{i}: {error}")


def read_or_none(path: Path) -> dict[str, Any] | None:
    """Return the content of a checkpoint, or None if it cannot be read."""
    try:
        return read(path)
    except Exception:
        return None


def full_disks(report: Report, folder: Path, num: int, rng: random.Random) -> None:
    """The size of files is limited: saved checkpoints stay, the exit status is not 0, and the run can be resumed."""
    variant = "cgan"
    complete, run = uninterrupted(variant, folder), folder / "full"
    size = (complete / "checkpoints" / "last.ckpt").stat().st_size
    for _ in range(num):
        limit = rng.randrange(4_000, size)
        shutil.rmtree(run, ignore_errors=True)
        process = start_or_resume(run, variant)
        process.until(lambda: saved_step(run) >= 2 * EVERY)
        os.kill(process.pid, signal.SIGTERM)
        process.wait()
        kept = saved_step(run)
        process = start_or_resume(
            run, variant, lambda limit=limit: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        )
        status, output = process.wait(), process.output()
        error = None
        if not status:
            error = "status 0"
        elif "cannot be written" not in output or "Traceback" in output:
            error = output[-500:]
        elif saved_step(run) < kept:
            error = f"step {kept} was saved, and now step {saved_step(run)} is the newest"
        report.note("full disk", (error := error or finish(run, variant, complete)) and f"limit {limit}: {error}")


def removed_directories(report: Report, folder: Path, num: int) -> None:
    """A directory of the run is removed during training."""
    variant = "vanilla"
    for i in range(num):
        name = ("checkpoints", "samples", "tensorboard", ".")[i % 4]
        run = folder / "removed"
        shutil.rmtree(run, ignore_errors=True)
        process = Process(run, *overrides_of(variant), "trainer.max_steps=300", f"hydra.run.dir={run}")
        process.until(lambda run=run: step_of(run) >= 2 * EVERY)
        shutil.rmtree(run / name, ignore_errors=True)
        status, output = process.wait(), process.output()
        error = "Traceback" in output and output[-500:]
        if status and "cannot be written" not in output:
            error = error or f"status {status} without a reason: {output[-300:]}"
        if not status and not (run / "checkpoints" / "last.ckpt").exists():
            error = error or "status 0 without a checkpoint"
        report.note("folder removed", error and f"{name}: {error}")


def stop_signals(report: Report, folder: Path, num: int, rng: random.Random) -> None:
    """A signal ends the run after the current step, with the signal's exit status and the command to resume."""
    variant = "acgan"
    complete, run = uninterrupted(variant, folder), folder / "signalled"
    for i in range(num):
        signum = SIGNALS[i % len(SIGNALS)]
        process = start_or_resume(run, variant)
        goal = saved_step(run) + rng.randint(1, EVERY)
        if (ended := process.until(lambda goal=goal: step_of(run) >= goal)) is not None:
            report.note("end before the signal", f"status {ended}: {process.output()[-300:]}" if ended else None)
            shutil.rmtree(run)
            continue
        os.kill(process.pid, signum)
        status, output = process.wait(), process.output()
        error = None
        if status not in (128 + signum, 0):
            error = f"status {status}: {output[-300:]}"
        elif status and "python train.py ckpt_path=last hydra.run.dir=" not in output:
            error = f"no command to resume: {output[-300:]}"
        elif step_of(run) != saved_step(run):
            error = f"step {step_of(run)} was reached, step {saved_step(run)} is saved"
        report.note(f"{signum.name}", error)
    report.note("end after signals", finish(run, variant, complete))


def wrong_dates(report: Report, folder: Path, num: int, rng: random.Random) -> None:
    """File dates are wrong, as after unpacking, copying or with a wrong clock: no saved step is lost."""
    variant = "wgan"
    complete, run = uninterrupted(variant, folder), folder / "dated"
    for i in range(num):
        process, goal = start_or_resume(run, variant), saved_step(run) + rng.randint(1, EVERY)
        ended = process.until(lambda goal=goal: step_of(run) >= goal)
        if ended is None:
            os.kill(process.pid, signal.SIGTERM)
            process.wait()
        kept, same = saved_step(run), rng.randrange(2**32)
        for path in run.rglob("*"):
            date = same if i % 2 else rng.randrange(2**32)
            os.utime(path, (date, date))
        found = saved_step(run)
        report.note("file dates changed", f"step {kept} before, {found} after" if found < kept else None)
    report.note("end after changed dates", finish(run, variant, complete))


def wrong_optimizer_state(report: Report, folder: Path, num: int, rng: random.Random) -> None:
    """An optimizer's moments have another size: one line and status 1 or 2, and no crash of the interpreter."""
    complete, run = uninterrupted("wgan_gp", folder), folder / "moments"
    for _ in range(num):
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(complete, run)
        path = run / "checkpoints" / "last.ckpt"
        checkpoint, size = read(path), rng.choice((0, 3, 7))
        states = rng.choice(checkpoint["optimizer_states"])["state"]
        rng.choice([*states.values()])["exp_avg"] = torch.zeros([1] * rng.randrange(3) + [size])
        path.unlink()  # a hard link to the newest step's checkpoint
        torch.save(checkpoint, path)
        process = Process(run, f"ckpt_path={path}", f"trainer.max_steps={STEPS + 4}")
        status, output = process.wait(), process.output()
        wrong = status not in (1, 2) or "Traceback" in output or "exp_avg of weight" not in output
        report.note("moments of another size", f"status {status}: {output[-300:]}" if wrong else None)


def damaged_images(report: Report, folder: Path, num: int, rng: random.Random) -> None:
    """One image of a folder is damaged: an error with its name, or skipped with data.skip_broken=true."""
    root = folder / "images"
    for i in range(num):
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir()
        for j in range(9):
            colour = tuple(rng.randrange(256) for _ in range(3))
            Image.new("RGB", (20, 20), colour).save(root / f"{j}.png")
        damaged = root / f"{rng.randrange(9)}.png"
        content = damaged.read_bytes()
        kind = ("truncated", "empty", "noise")[i % 3]
        changed = {"truncated": content[: len(content) // 2], "empty": b"", "noise": rng.randbytes(200)}[kind]
        damaged.write_bytes(changed)
        run = folder / "of-images"
        words = "data=image_folder", f"data.root={root}", *(w for w in TINY if "limit" not in w), "trainer.max_steps=2"
        for skip in (False, True):
            shutil.rmtree(run, ignore_errors=True)
            process = Process(run, "model=dcgan", *words, f"hydra.run.dir={run}", f"data.skip_broken={skip}".lower())
            status, output = process.wait(), process.output()
            error = None
            if "Traceback" in output or bool(status) == skip:
                error = f"status {status}: {output[-300:]}"
            elif not skip and damaged.name not in output:
                error = f"{damaged.name} is not named: {output[-300:]}"
            report.note("broken image", error and f"{kind}, skip_broken={skip}: {error}")


def interrupted(run: Path, variant: str, rng: random.Random) -> None:
    """Start a new run and stop it by a signal before its end."""
    shutil.rmtree(run, ignore_errors=True)
    process, goal = start_or_resume(run, variant), rng.randint(EVERY, STEPS // 2)
    if process.until(lambda: step_of(run) >= goal) is None:
        os.kill(process.pid, signal.SIGTERM)
        process.wait()


def archives(report: Report, folder: Path, num: int, rng: random.Random) -> None:
    """A stopped run is archived and unpacked elsewhere, as between machines, and resumed there."""
    variant = "cgan"
    complete, run, elsewhere = uninterrupted(variant, folder), folder / "packed", folder / "elsewhere" / "unpacked"
    for i in range(num):
        interrupted(run, variant, rng)
        kept, kind = saved_step(run), ("zip", "gztar")[i % 2]
        packed = shutil.make_archive(str(folder / "archive"), kind, run)
        shutil.rmtree(run)
        shutil.rmtree(elsewhere, ignore_errors=True)
        elsewhere.mkdir(parents=True)
        shutil.unpack_archive(packed, elsewhere)
        found = saved_step(elsewhere)
        error = f"step {kept} was archived, not step {found}" if found != kept else finish(elsewhere, variant, complete)
        report.note("archive unpacked elsewhere", error and f"{kind}: {error}")


def closed_pipes(report: Report, folder: Path, num: int, rng: random.Random) -> None:
    """The reader of the output ends, as ``| head`` does: no step is lost."""
    variant = "wgan"
    complete, run = uninterrupted(variant, folder), folder / "unread"
    for _ in range(num):
        shutil.rmtree(run, ignore_errors=True)
        ours, theirs = os.pipe()
        process = start_or_resume(run, variant, lambda theirs=theirs: os.dup2(theirs, 1))
        os.close(theirs)
        goal = rng.randint(0, STEPS // 2)
        ended = process.until(lambda goal=goal: step_of(run) >= goal)
        os.close(ours)
        status, output = process.wait() if ended is None else ended, process.output()
        error = f"step {step_of(run)} was reached, step {saved_step(run)} is saved" * (step_of(run) != saved_step(run))
        error = error or (f"status {status}: {output[-300:]}" if status < 0 or "Traceback" in output else "")
        report.note("output without a reader", error or finish(run, variant, complete))


def descendants(pid: int) -> set[int]:
    """Return the ids of all descendants of a process."""
    found: set[int] = set()
    for path in Path("/proc").glob(f"{pid}/task/*/children"):
        with suppress(OSError):
            for child in map(int, path.read_text().split()):
                found |= {child} | descendants(child)
    return found


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def sweeps(report: Report, folder: Path, num: int, rng: random.Random, parallel: int) -> None:
    """Sweeps are killed, have failing jobs or unreadable results: exit status and table are correct."""
    place, jobs = folder / "sweep", "seed=1,2"
    words = "-m", *overrides_of("vanilla"), jobs, f"hydra.sweep.dir={place}", "hydra.sweep.subdir=${seed}"

    def end(*more: str) -> tuple[int, str]:
        process = Process(place, *words, *more)
        return process.wait(), process.output()

    def finished() -> str | None:
        results = [json.loads((place / seed / "result.json").read_text()) for seed in "12"]
        wrong = [result for result in results if (result["status"], result["step"]) != ("finished", STEPS)]
        return f"{wrong}" if wrong else None

    for launcher in ["basic"] * num + ["joblib"] * parallel:
        shutil.rmtree(place, ignore_errors=True)
        how = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2") if launcher == "joblib" else ()
        process, goal = Process(place, *words, *how), rng.randint(1, STEPS // 2)
        seed = "1" if launcher == "joblib" else rng.choice("12")
        if process.until(lambda seed=seed, goal=goal: step_of(place / seed) >= goal, 120) is not None:
            report.note("sweep ended before the kill", process.output()[-300:])
            continue
        workers = descendants(process.pid)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        deadline = time.monotonic() + 60
        while (left := [*filter(is_running, workers)]) and time.monotonic() < deadline:
            time.sleep(0.1)
        error = f"workers that still run: {left}" if left else None
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        status, output = end(*how)
        error = error or (f"status {status}: {output[-300:]}" if status else finished())
        report.note(f"sweep killed ({launcher})", error)
    for _ in range(num):
        shutil.rmtree(place / "1", ignore_errors=True)
        (place / "before").mkdir(parents=True, exist_ok=True)
        half = json.dumps({"status": "finished", "step": STEPS})[: rng.randint(0, 30)]
        (place / "before" / "result.json").write_text(half)
        status, output = end()
        error = f"status {status}: {output[-300:]}" if status or "Traceback" in output else finished()
        reported = "before" in output.replace("finished before", "")
        report.note("result of a sweep half written", error or (None if reported else "no message about it"))
    shutil.rmtree(place / "before", ignore_errors=True)
    for _ in range(num):
        shutil.rmtree(folder / "outside", ignore_errors=True)
        away = f"hydra.sweep.subdir={folder / 'outside'}/${{seed}}"
        status, output = end(away, "model.generator_optimizer.lr=1e30", "model.discriminator_optimizer.lr=1e30")
        error = f"status 0 though both failed: {output[-300:]}" if not status else None
        report.note("sweep whose jobs fail elsewhere", error or ("Traceback" in output and output[-300:]) or None)


def leftovers(report: Report, folder: Path, num: int, rng: random.Random) -> None:
    """Other commands are killed: repeating the same command succeeds and leaves no partial file."""
    run, place = uninterrupted("dcgan", folder), folder / "leftovers"
    checkpoint = run / "checkpoints" / "last.ckpt"
    commands = {
        "gan-sample": (sample.main, str(checkpoint), "--num", "2000", "--out", str(place / "samples")),
        "gan-report": (page.main, str(run), "--out", str(place / "report.html")),
        "gan-evaluate": (evaluate.main, str(checkpoint), f"out={place / 'scores'}"),
    }
    for name, (command, *words) in commands.items():
        for _ in range(num):
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir()
            # gan-report and gan-evaluate are killed as soon as their only file exists.
            num_files = rng.randint(2, 200) if name == "gan-sample" else 1
            process = Process(folder / name, *words, command=command)
            if process.until(lambda num_files=num_files: sum(1 for _ in place.rglob("*")) >= num_files) is None:
                os.kill(process.pid, signal.SIGKILL)
                process.wait()
            if name == "gan-report":  # its partial file exists too briefly to be hit
                (place / f".report.html.{process.pid}.part").write_text("<html>")
            process = Process(folder / name, *words, command=command)
            status, output = process.wait(), process.output()
            left = [path.name for path in place.rglob("*") if path.name.endswith(".part")]
            error = f"status {status}: {output[-300:]}" if status or "Traceback" in output else None
            report.note(f"{name} killed", error or (f"left-over files: {left}" if left else None))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--short", action="store_true", help="a few of each")
    parser.add_argument("--seed", type=int, default=0)
    kinds = "damaged, full, removed, signals, dates, moments, images, archives, pipes, sweeps, leftovers"
    parser.add_argument("--only", default="", help=f"variants' kills, or one of {kinds}")
    args = parser.parse_args()
    torch.set_num_threads(1)
    # TensorBoard logs each time that it drops events beyond the restart of a killed run, which is intended.
    logging.getLogger("tensorboard").setLevel(logging.ERROR)
    report, rng, since = Report(), random.Random(args.seed), time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["GAN_CACHE_DIR"] = str(folder / "cache")
        if Path("/dev/shm").is_dir():  # another file system, from which no file can be renamed to the run directory
            os.environ["TMPDIR"] = "/dev/shm"
        for variant in ["vanilla"] if args.short else MODELS:
            if args.only in ("", variant):
                print(f"kills of {variant} ...", flush=True)
                kills(report, variant, folder, 5 if args.short else 36, rng)
        injections = {
            "damaged": lambda: damaged_checkpoints(report, folder, 2 if args.short else 40, rng),
            "full": lambda: full_disks(report, folder, 1 if args.short else 12, rng),
            "removed": lambda: removed_directories(report, folder, 2 if args.short else 12),
            "signals": lambda: stop_signals(report, folder, 6 if args.short else 42, rng),
            "dates": lambda: wrong_dates(report, folder, 2 if args.short else 12, rng),
            "moments": lambda: wrong_optimizer_state(report, folder, 2 if args.short else 12, rng),
            "images": lambda: damaged_images(report, folder, 1 if args.short else 9, rng),
        }
        short = args.short
        injections |= {
            "archives": lambda: archives(report, folder, 1 if short else 10, rng),
            "pipes": lambda: closed_pipes(report, folder, 1 if short else 10, rng),
            "sweeps": lambda: sweeps(report, folder, 1 if short else 5, rng, 0 if short else 3),
            "leftovers": lambda: leftovers(report, folder, 1 if short else 5, rng),
        }
        for kind, inject in injections.items():
            if args.only in ("", kind):
                print(f"{kind} ...", flush=True)
                inject()
    for kind, count in report.count.items():
        wrong = sum(line.startswith(f"{kind}: ") for line in report.wrong)
        print(f"{kind:<30}{count:>5}   {f'{wrong} WRONG' if wrong else 'all survived'}")
    killed = sum(count for kind, count in report.count.items() if kind.startswith("kill"))
    print(f"{sum(report.count.values())} faults, {killed} of them kills, in {time.monotonic() - since:.0f} s")
    print(json.dumps(report.count))
    sys.exit(1 if report.wrong else 0)


if __name__ == "__main__":
    main()
