"""Kills, full disks, damaged files, archives, signals, sweeps and leftovers, and what is left of a run after them.

    python tests/support/faults.py                # make faults: at least 200 kills, and the rest
    python tests/support/faults.py --short        # a few of each, as the tests do
    python tests/support/faults.py --seed 7       # other moments

Every fault hits a process of its own, which is forked from this one so that it starts in a second and then runs
the program as its command line would. A run that goes on afterwards must end as one that was never disturbed: the same
weights, optimizers, figures, scores, TensorBoard curves and pictures, bit for bit.
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
from tiny import LEARNERS

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
JUDGED = "eval.every_n_steps=20", "eval.num_generated=250", "feature.width=4", "feature.dim=8", "metric=fid"
EXTRAS = {
    "vanilla": ("model.d_steps=2", "network.discriminator.dropout=0.3"),
    "dcgan": ("model.ema_decay=0.9", "data.flip=true", *JUDGED),
    "cgan": ("trainer.precision=64-true", "loss.label_smoothing=0.1"),
    "acgan": ("model.ema_decay=0.9", "callbacks.learning_rate.schedule=linear_decay", *JUDGED),
    "wgan": ("model.reuse_fake=true",),
    "wgan_gp": ("callbacks.learning_rate.schedule=linear_decay", "trainer.precision=bf16-mixed"),
}


@dataclass
class Report:
    """Faults by kind: how many there were, and what was wrong after which."""

    count: dict[str, int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def note(self, kind: str, fault: str | None = None) -> None:
        self.count[kind] = self.count.get(kind, 0) + 1
        if fault:
            self.wrong.append(f"{kind}: {fault}")
            print(self.wrong[-1], flush=True)


class Process:
    """The program, or another command, in a process of its own, with its output in a file."""

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
            warnings.resetwarnings()  # of whoever has started it, as pytest makes errors of them
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
        """How it ended, as a shell tells it; None while it runs."""
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        return os.waitstatus_to_exitcode(status) if pid else None

    def wait(self) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def until(self, ready: Callable[[], bool], seconds: float = 60) -> int | None:
        """Wait for something to come true; the status if the process ends before."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if ready():
                return None
            if (status := self.status()) is not None:
                return status
            time.sleep(0.0005)
        os.kill(self.pid, signal.SIGKILL)
        return self.wait()

    def output(self) -> str:
        return self.log.read_text().replace("\r", "\n")


def step_of(run: Path) -> int:
    """The step of the last whole line of figures."""
    path = run / "metrics.csv"
    lines = path.read_text().split("\n")[1:-1] if path.exists() else []
    return int(lines[-1].split(",")[0]) if lines else 0


def saved_step(run: Path) -> int:
    """The step of the newest checkpoint that can be read."""
    path, *_ = newest(run)
    return read(path)["global_step"] if path else 0


def rows(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(newline="") as file:
        return [{k: v for k, v in row.items() if k != "images_per_second"} for row in csv.DictReader(file)]


def curves(run: Path) -> dict[str, dict[int, float]]:
    """TensorBoard's scalars; a step that is there twice is a fault."""
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
    """What of a run is not as in the one that was never disturbed."""
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
        return f"left behind: {parts[0].name}"
    return None


def words_of(variant: str) -> tuple[str, ...]:
    return (f"model={variant}", *TINY, *EXTRAS.get(variant, ()))


def never_disturbed(variant: str, folder: Path) -> Path:
    run = folder / f"{variant}-whole"
    if run.exists():
        return run
    process = Process(run, *words_of(variant), f"hydra.run.dir={run}")
    if process.wait():
        raise SystemExit(f"the run that is to compare with failed:\n{process.output()}")
    return run


def going_on(run: Path, variant: str, before: Callable[[], Any] = lambda: None) -> Process:
    """The one line that a job which may be killed consists of."""
    return Process(run, *words_of(variant), "ckpt_path=last", f"hydra.run.dir={run}", before=before)


def finish(run: Path, variant: str, complete: Path) -> str | None:
    """Let a run go on to its end; what is wrong with it then."""
    process = going_on(run, variant)
    if status := process.wait():
        return f"status {status} on going on: {process.output()[-300:]}"
    return difference(complete, run)


def kills(report: Report, variant: str, folder: Path, num: int, moments: random.Random) -> None:
    """SIGKILL at any time: in the start, in a step, in the middle of a save."""
    complete, run = never_disturbed(variant, folder), folder / f"{variant}-killed"
    for i in range(num):
        before, process = saved_step(run), going_on(run, variant)
        kind = ("kill in the start", "kill in a step", "kill in a save")[moments.choice((0, 1, 1, 2, 2))]
        if kind == "kill in the start":
            end = time.monotonic() + moments.uniform(0, 2)
            ended = process.until(lambda end=end: time.monotonic() > end)
        elif kind == "kill in a step":
            goal = before + moments.randint(0, EVERY + 1)
            ended = process.until(lambda goal=goal: step_of(run) >= goal)
            time.sleep(moments.uniform(0, 0.02))
        else:
            ended = process.until(lambda: any((run / "checkpoints").glob(".*.part")))
        if ended is not None:  # at the end already: there is a life after it
            report.note("end before the kill", f"status {ended}: {process.output()[-300:]}" if ended else None)
            shutil.rmtree(run)
            continue
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        reached, kept = step_of(run), saved_step(run)
        lost = f"{variant} {i}: step {reached} was reached and {kept} is kept" if reached - kept > EVERY else None
        back = f"{variant} {i}: back from step {before} to {kept}" if kept < before else None
        report.note(kind, lost or back)
    report.note("end after kills", (fault := finish(run, variant, complete)) and f"{variant}: {fault}")


def damaged(report: Report, folder: Path, num: int, moments: random.Random) -> None:
    """The newest checkpoint is cut off, or has a wrong byte: the one before is taken, and that is said."""
    variant = "dcgan"
    complete, run = never_disturbed(variant, folder), folder / "damaged"
    for i in range(num):
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(complete, run)
        (run / "checkpoints" / "best.ckpt").unlink()
        path = run / "checkpoints" / f"step_{STEPS:08d}.ckpt"
        content = bytearray(path.read_bytes())
        kind = ("truncated checkpoint", "byte changed in a checkpoint")[i % 2]
        if i % 2:
            place = moments.randrange(len(content))
            content[place] ^= 0xFF
        else:
            del content[moments.randrange(len(content)) :]
        for name in (path, path.with_name("last.ckpt")):  # two names of one file
            name.write_bytes(content)
        earlier = read_or_none(path)
        process = going_on(run, variant)
        status, output = process.wait(), process.output()
        fault = f"status {status}: {output[-300:]}" if status else difference(complete, run)
        if not fault and earlier is None and f"{path}: cannot be read" not in output:
            fault = "nothing was said of it"
        report.note(kind, fault and f"{i}: {fault}")


def read_or_none(path: Path) -> dict[str, Any] | None:
    """What a checkpoint holds, or None where it is found to be damaged."""
    try:
        return read(path)
    except Exception:
        return None


def full_disks(report: Report, folder: Path, num: int, moments: random.Random) -> None:
    """No file can grow beyond a size: what was saved before stays, the status is not 0, and the run can go on."""
    variant = "cgan"
    complete, run = never_disturbed(variant, folder), folder / "full"
    size = (complete / "checkpoints" / "last.ckpt").stat().st_size
    for _ in range(num):
        limit = moments.randrange(4_000, size)
        shutil.rmtree(run, ignore_errors=True)
        process = going_on(run, variant)
        process.until(lambda: saved_step(run) >= 2 * EVERY)
        os.kill(process.pid, signal.SIGTERM)
        process.wait()
        kept = saved_step(run)
        process = going_on(
            run, variant, lambda limit=limit: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        )
        status, output = process.wait(), process.output()
        fault = None
        if not status:
            fault = "status 0"
        elif "cannot be written" not in output or "Traceback" in output:
            fault = output[-500:]
        elif saved_step(run) < kept:
            fault = f"step {kept} was kept, and {saved_step(run)} is left"
        report.note("full disk", (fault := fault or finish(run, variant, complete)) and f"limit {limit}: {fault}")


def removed(report: Report, folder: Path, num: int) -> None:
    """A folder is removed while the run is in it."""
    variant = "vanilla"
    for i in range(num):
        name = ("checkpoints", "samples", "tensorboard", ".")[i % 4]
        run = folder / "removed"
        shutil.rmtree(run, ignore_errors=True)
        process = Process(run, *words_of(variant), "trainer.max_steps=300", f"hydra.run.dir={run}")
        process.until(lambda run=run: step_of(run) >= 2 * EVERY)
        shutil.rmtree(run / name, ignore_errors=True)
        status, output = process.wait(), process.output()
        fault = "Traceback" in output and output[-500:]
        if status and "cannot be written" not in output:
            fault = fault or f"status {status}, and no reason: {output[-300:]}"
        if not status and not (run / "checkpoints" / "last.ckpt").exists():
            fault = fault or "status 0 without a checkpoint"
        report.note("folder removed", fault and f"{name}: {fault}")


def signals(report: Report, folder: Path, num: int, moments: random.Random) -> None:
    """A signal ends the run at a step's edge, with its status and what to type; a second one at once."""
    variant = "acgan"
    complete, run = never_disturbed(variant, folder), folder / "signalled"
    for i in range(num):
        signum = SIGNALS[i % len(SIGNALS)]
        process = going_on(run, variant)
        goal = saved_step(run) + moments.randint(1, EVERY)
        if (ended := process.until(lambda goal=goal: step_of(run) >= goal)) is not None:
            report.note("end before the signal", f"status {ended}: {process.output()[-300:]}" if ended else None)
            shutil.rmtree(run)
            continue
        os.kill(process.pid, signum)
        status, output = process.wait(), process.output()
        fault = None
        if status not in (128 + signum, 0):
            fault = f"status {status}: {output[-300:]}"
        elif status and "python train.py ckpt_path=last hydra.run.dir=" not in output:
            fault = f"not said how to go on: {output[-300:]}"
        elif step_of(run) != saved_step(run):
            fault = f"step {step_of(run)} was reached and {saved_step(run)} is kept"
        report.note(f"{signum.name}", fault)
    report.note("end after signals", finish(run, variant, complete))


def dates(report: Report, folder: Path, num: int, moments: random.Random) -> None:
    """File dates are as an archive, a copy or a wrong clock leaves them: nothing that is saved is lost."""
    variant = "wgan"
    complete, run = never_disturbed(variant, folder), folder / "dated"
    for i in range(num):
        process, goal = going_on(run, variant), saved_step(run) + moments.randint(1, EVERY)
        ended = process.until(lambda goal=goal: step_of(run) >= goal)
        if ended is None:
            os.kill(process.pid, signal.SIGTERM)
            process.wait()
        kept, same = saved_step(run), moments.randrange(2**32)
        for path in run.rglob("*"):
            date = same if i % 2 else moments.randrange(2**32)
            os.utime(path, (date, date))
        found = saved_step(run)
        report.note("file dates changed", f"step {kept} before, {found} after" if found < kept else None)
    report.note("end after changed dates", finish(run, variant, complete))


def wrong_moments(report: Report, folder: Path, num: int, moments: random.Random) -> None:
    """Moments of an optimizer have another size: one line and status 2 or 1, and never the death of the interpreter."""
    complete, run = never_disturbed("wgan_gp", folder), folder / "moments"
    for _ in range(num):
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(complete, run)
        path = run / "checkpoints" / "last.ckpt"
        checkpoint, size = read(path), moments.choice((0, 3, 7))
        states = moments.choice(checkpoint["optimizer_states"])["state"]
        moments.choice([*states.values()])["exp_avg"] = torch.zeros([1] * moments.randrange(3) + [size])
        path.unlink()  # it is another name of the newest step's
        torch.save(checkpoint, path)
        process = Process(run, f"ckpt_path={path}", f"trainer.max_steps={STEPS + 4}")
        status, output = process.wait(), process.output()
        wrong = status not in (1, 2) or "Traceback" in output or "exp_avg of weight" not in output
        report.note("moments of another size", f"status {status}: {output[-300:]}" if wrong else None)


def pictures(report: Report, folder: Path, num: int, moments: random.Random) -> None:
    """A picture among others is broken: told with its name, or left out where that is asked for."""
    root = folder / "pictures"
    for i in range(num):
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir()
        for j in range(9):
            colour = tuple(moments.randrange(256) for _ in range(3))
            Image.new("RGB", (20, 20), colour).save(root / f"{j}.png")
        victim = root / f"{moments.randrange(9)}.png"
        content = victim.read_bytes()
        kind = ("truncated", "empty", "noise")[i % 3]
        changed = {"truncated": content[: len(content) // 2], "empty": b"", "noise": moments.randbytes(200)}[kind]
        victim.write_bytes(changed)
        run = folder / "of-pictures"
        words = "data=image_folder", f"data.root={root}", *(w for w in TINY if "limit" not in w), "trainer.max_steps=2"
        for skip in (False, True):
            shutil.rmtree(run, ignore_errors=True)
            process = Process(run, "model=dcgan", *words, f"hydra.run.dir={run}", f"data.skip_broken={skip}".lower())
            status, output = process.wait(), process.output()
            fault = None
            if "Traceback" in output or bool(status) == skip:
                fault = f"status {status}: {output[-300:]}"
            elif not skip and victim.name not in output:
                fault = f"{victim.name} is not named: {output[-300:]}"
            report.note("broken picture", fault and f"{kind}, skip_broken={skip}: {fault}")


def interrupted(run: Path, variant: str, moments: random.Random) -> None:
    """A run that a signal stopped somewhere before its end."""
    shutil.rmtree(run, ignore_errors=True)
    process, goal = going_on(run, variant), moments.randint(EVERY, STEPS // 2)
    if process.until(lambda: step_of(run) >= goal) is None:
        os.kill(process.pid, signal.SIGTERM)
        process.wait()


def archives(report: Report, folder: Path, num: int, moments: random.Random) -> None:
    """A stopped run is packed and unpacked in another place, as it is moved between machines: it goes on there."""
    variant = "cgan"
    complete, run, elsewhere = never_disturbed(variant, folder), folder / "packed", folder / "elsewhere" / "unpacked"
    for i in range(num):
        interrupted(run, variant, moments)
        kept, kind = saved_step(run), ("zip", "gztar")[i % 2]
        packed = shutil.make_archive(str(folder / "archive"), kind, run)
        shutil.rmtree(run)
        shutil.rmtree(elsewhere, ignore_errors=True)
        elsewhere.mkdir(parents=True)
        shutil.unpack_archive(packed, elsewhere)
        found = saved_step(elsewhere)
        fault = (
            f"step {kept} was packed, and {found} is found" if found != kept else finish(elsewhere, variant, complete)
        )
        report.note("archive unpacked elsewhere", fault and f"{kind}: {fault}")


def pipes(report: Report, folder: Path, num: int, moments: random.Random) -> None:
    """Whoever reads the output ends, as ``| head`` does: no step is lost."""
    variant = "wgan"
    complete, run = never_disturbed(variant, folder), folder / "unread"
    for _ in range(num):
        shutil.rmtree(run, ignore_errors=True)
        ours, theirs = os.pipe()
        process = going_on(run, variant, lambda theirs=theirs: os.dup2(theirs, 1))
        os.close(theirs)
        goal = moments.randint(0, STEPS // 2)
        ended = process.until(lambda goal=goal: step_of(run) >= goal)
        os.close(ours)
        status, output = process.wait() if ended is None else ended, process.output()
        fault = f"step {step_of(run)} was reached and {saved_step(run)} is kept" * (step_of(run) != saved_step(run))
        fault = fault or (f"status {status}: {output[-300:]}" if status < 0 or "Traceback" in output else "")
        report.note("output without a reader", fault or finish(run, variant, complete))


def below(pid: int) -> set[int]:
    """Processes that a process has started, with theirs."""
    found: set[int] = set()
    for path in Path("/proc").glob(f"{pid}/task/*/children"):
        with suppress(OSError):
            for child in map(int, path.read_text().split()):
                found |= {child} | below(child)
    return found


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def sweeps(report: Report, folder: Path, num: int, moments: random.Random, parallel: int) -> None:
    """Sweeps are killed, fail, or lie beside results that cannot be read: the status and the table are right."""
    place, jobs = folder / "sweep", "seed=1,2"
    words = "-m", *words_of("vanilla"), jobs, f"hydra.sweep.dir={place}", "hydra.sweep.subdir=${seed}"

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
        process, goal = Process(place, *words, *how), moments.randint(1, STEPS // 2)
        seed = "1" if launcher == "joblib" else moments.choice("12")
        if process.until(lambda seed=seed, goal=goal: step_of(place / seed) >= goal, 120) is not None:
            report.note("sweep ended before the kill", process.output()[-300:])
            continue
        workers = below(process.pid)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        deadline = time.monotonic() + 60
        while (left := [*filter(is_running, workers)]) and time.monotonic() < deadline:
            time.sleep(0.1)
        fault = f"workers outlive it: {left}" if left else None
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        status, output = end(*how)
        fault = fault or (f"status {status}: {output[-300:]}" if status else finished())
        report.note(f"sweep killed ({launcher})", fault)
    for _ in range(num):
        shutil.rmtree(place / "1", ignore_errors=True)
        (place / "before").mkdir(parents=True, exist_ok=True)
        half = json.dumps({"status": "finished", "step": STEPS})[: moments.randint(0, 30)]
        (place / "before" / "result.json").write_text(half)
        status, output = end()
        fault = f"status {status}: {output[-300:]}" if status or "Traceback" in output else finished()
        said = "before" in output.replace("finished before", "")
        report.note("result of a sweep half written", fault or (None if said else "nothing is said of it"))
    shutil.rmtree(place / "before", ignore_errors=True)
    for _ in range(num):
        shutil.rmtree(folder / "outside", ignore_errors=True)
        away = f"hydra.sweep.subdir={folder / 'outside'}/${{seed}}"
        status, output = end(away, "model.generator_optimizer.lr=1e30", "model.discriminator_optimizer.lr=1e30")
        fault = f"status 0 though both failed: {output[-300:]}" if not status else None
        report.note("sweep whose jobs fail elsewhere", fault or ("Traceback" in output and output[-300:]) or None)


def leftovers(report: Report, folder: Path, num: int, moments: random.Random) -> None:
    """Other commands are killed: the same line, typed again, does its work and leaves nothing half written."""
    run, place = never_disturbed("dcgan", folder), folder / "leftovers"
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
            # A report and a table of scores are one file each, and done when there are two.
            num_files = moments.randint(2, 200) if name == "gan-sample" else 1
            process = Process(folder / name, *words, command=command)
            if process.until(lambda num_files=num_files: sum(1 for _ in place.rglob("*")) >= num_files) is None:
                os.kill(process.pid, signal.SIGKILL)
                process.wait()
            if name == "gan-report":  # whose half-written file is there for a moment only
                (place / f".report.html.{process.pid}.part").write_text("<html>")
            process = Process(folder / name, *words, command=command)
            status, output = process.wait(), process.output()
            left = [path.name for path in place.rglob("*") if path.name.endswith(".part")]
            fault = f"status {status}: {output[-300:]}" if status or "Traceback" in output else None
            report.note(f"{name} killed", fault or (f"left behind: {left}" if left else None))


def main() -> None:
    take = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    take.add_argument("--short", action="store_true", help="a few of each")
    take.add_argument("--seed", type=int, default=0)
    kinds = "damaged, full, removed, signals, dates, moments, pictures, archives, pipes, sweeps, leftovers"
    take.add_argument("--only", default="", help=f"variants' kills, or one of {kinds}")
    args = take.parse_args()
    torch.set_num_threads(1)
    # TensorBoard tells each time that it drops what a killed run had written too much, as it should.
    logging.getLogger("tensorboard").setLevel(logging.ERROR)
    report, moments, since = Report(), random.Random(args.seed), time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["GAN_CACHE_DIR"] = str(folder / "cache")
        if Path("/dev/shm").is_dir():  # another file system, from which nothing can be renamed to here
            os.environ["TMPDIR"] = "/dev/shm"
        for variant in ["vanilla"] if args.short else LEARNERS:
            if args.only in ("", variant):
                print(f"kills of {variant} ...", flush=True)
                kills(report, variant, folder, 5 if args.short else 36, moments)
        others = {
            "damaged": lambda: damaged(report, folder, 2 if args.short else 40, moments),
            "full": lambda: full_disks(report, folder, 1 if args.short else 12, moments),
            "removed": lambda: removed(report, folder, 2 if args.short else 12),
            "signals": lambda: signals(report, folder, 6 if args.short else 42, moments),
            "dates": lambda: dates(report, folder, 2 if args.short else 12, moments),
            "moments": lambda: wrong_moments(report, folder, 2 if args.short else 12, moments),
            "pictures": lambda: pictures(report, folder, 1 if args.short else 9, moments),
        }
        few = args.short
        others |= {
            "archives": lambda: archives(report, folder, 1 if few else 10, moments),
            "pipes": lambda: pipes(report, folder, 1 if few else 10, moments),
            "sweeps": lambda: sweeps(report, folder, 1 if few else 5, moments, 0 if few else 3),
            "leftovers": lambda: leftovers(report, folder, 1 if few else 5, moments),
        }
        for kind, disturb in others.items():
            if args.only in ("", kind):
                print(f"{kind} ...", flush=True)
                disturb()
    for kind, count in report.count.items():
        wrong = sum(line.startswith(f"{kind}: ") for line in report.wrong)
        print(f"{kind:<30}{count:>5}   {f'{wrong} WRONG' if wrong else 'all survived'}")
    killed = sum(count for kind, count in report.count.items() if kind.startswith("kill"))
    print(f"{sum(report.count.values())} faults, {killed} of them kills, in {time.monotonic() - since:.0f} s")
    print(json.dumps(report.count))
    sys.exit(1 if report.wrong else 0)


if __name__ == "__main__":
    main()
