"""Generator steps per second: ours through Lightning's Trainer, a plain PyTorch loop, and the arithmetic alone.

    make bench                                          # all; writes throughput.json and docs/benchmarks.md
    make bench ARGS="--only conv --rounds 15"           # these anew; the others stay as they are
    make bench ARGS="--only 'dcgan conv 32' --levers"   # with each lever of the trainer
    make bench ARGS="--device gpu --levers"             # on a GPU; writes throughput_gpu.json

All three play in one process and in turn: the plain loop and the floor are guests of our run and take their segments
whenever one of ours is over, so whatever else the machine does strikes all alike. A segment has the same number of
generator steps on all sides. The ratio is ours / plain, the median over all rounds, after a warm-up of each; so is the
share of our time that the floor would take.

Ours is everything that ``python train.py`` does, with all callbacks and TensorBoard as they ship, but for three
things: no picture is drawn (they come ever more rarely, 17 in 100,000 steps), nothing is evaluated (each run tells what
share of its time that takes), and the progress bar writes to memory. On points a segment has whole intervals of the
callbacks, 500 steps with ten lines of scalars and one checkpoint; with perceptrons on pictures it has the scalars.
Elsewhere both are too rare to matter, and the median may leave them out.

plain_loop.py says what the plain loop, always in single precision, and the floor, in ours, are; neither logs anything.
Lightning asks torch by an environment variable to look for GPUs in a way that costs time in every step of an
optimizer; a plain loop knows nothing of it, and runs without.

Memory is the peak of a process of its own that plays some steps of one side, above what it had after the imports.
"""

import argparse
import contextlib
import copy
import io
import json
import math
import multiprocessing
import os
import platform
import re
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter
from typing import Any
from unittest import mock

try:
    import resource
except ImportError:  # on Windows, where the peak of memory is not measured
    resource = None

import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from plain_loop import floor, plain_loop, players_of
from pytorch_lightning import Callback, Trainer
from torch.utils import tensorboard  # noqa: F401  an import as the others are, which Lightning puts off

from gan_lightning.callbacks.sample_grid import SampleGrid
from gan_lightning.cli.train import IGNORED_WARNINGS
from gan_lightning.config.instantiate import instantiate
from gan_lightning.io.paths import CONF
from gan_lightning.model.gan import GAN
from gan_lightning.run.fit import train
from gan_lightning.run.run_dir import versions
from gan_lightning.run.summary import exit_status_and_reason

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "benchmarks.md"
MARKS = [(f"<!-- {device} -->", f"<!-- end of {device} -->") for device in ("cpu", "gpu")]
SIDES = "ours", "plain", "floor"

POINTS = ["data=gaussian_ring", "network.width=64", "network.depth=2"]  # perceptrons 2-64-64
VARIANTS = {name: [f"model={name}"] for name in ("dcgan", "cgan", "acgan", "wgan", "wgan_gp")}

# By setting: overrides, the number that a segment's steps are a multiple of, the least ratio that is aimed at.
SETTINGS = {
    **{f"{name} points": ([f"model={name}", *POINTS], 500, 0.97) for name in ("vanilla", "wgan_gp")},
    **{
        f"{name} mlp {side}": ([f"model={name}", "network=mlp", "data=digits", f"data.image_size={side}"], 50, 1.15)
        for side in (32, 64)
        for name in ("vanilla", "cgan")
    },
    **{
        f"{name} conv {side}": ([*words, "network=dcgan", "data=digits", f"data.image_size={side}"], 1, 1.15)
        for side in (32, 64)
        for name, words in VARIANTS.items()
    },
}
ON_GPU = {
    "dcgan conv 64": (["model=dcgan", "network=dcgan", "data=digits", "data.image_size=64", "data.channels=3"], 1, 3.0),
    "dcgan_cifar10": (["experiment=dcgan_cifar10"], 1, 3.0),
    "wgan_gp_cifar10": (["experiment=wgan_gp_cifar10"], 1, 3.0),
}

TF32, HALF = "trainer.tf32=true", ["trainer.precision=bf16-mixed"]
INNERMOST = "trainer.channels_last=true"
LEVERS = {
    "cpu": {
        "channels outermost": ["trainer.channels_last=false"],
        "compiled": ["trainer.compile=true"],
        **({"bf16": HALF} if torch.cpu._is_avx512_bf16_supported() else {}),  # slower by far where it is emulated
    },
    "gpu": {
        "no graphs": ["trainer.cuda_graphs=false"],
        "TF32": [TF32],
        "TF32, channels innermost": [TF32, INNERMOST],
        "TF32, no graphs": [TF32, "trainer.cuda_graphs=false"],
        "TF32, compiled": [TF32, "trainer.compile=true"],
        "bf16": [*HALF, TF32, INNERMOST],
        "bf16, no graphs": [*HALF, TF32, INNERMOST, "trainer.cuda_graphs=false"],
        "bf16, compiled": [*HALF, TF32, INNERMOST, "trainer.compile=true"],
    },
}


class Duel(Callback):
    """Times segments of the run that it is a guest of, and after each the same number of steps of the other sides.

    The clock is read where steps begin, so that a segment holds whole rounds of Lightning's loop: the fetching of a
    batch, the step and every callback.

    Args:
        rounds: How many segments of each side.
        seconds: About how long a segment of the plain loop takes, or longer where ``interval`` does.
        interval: What the number of steps in a segment is a multiple of.

    Attributes:
        steps: Generator steps of a segment.
        took: Seconds of each segment, by side.
    """

    def __init__(self, rounds: int, seconds: float, interval: int) -> None:
        self.rounds, self.seconds, self.interval = rounds, seconds, interval
        self.steps, self.took = 0, {side: [] for side in SIDES}

    def on_train_start(self, trainer: Trainer, module: GAN) -> None:
        """Set up the other sides with copies of the networks, and choose how long a segment is."""
        data = trainer.datamodule
        self.precision = trainer.precision_plugin
        given = data.scale(data.samples), data.labels, data.batch_size
        self.guests = {
            side: loop(module, copy.deepcopy(players_of(module)), *given)
            for side, loop in (("plain", plain_loop), ("floor", floor))
        }
        for side in self.guests:
            self.play(side, 3)
        steps = 5
        while (took := self.play("plain", steps)) < self.seconds / 4:
            steps *= 2
        self.steps = max(round(steps * self.seconds / took / self.interval), 1) * self.interval
        self.edge = self.warm_up = max(self.steps, 5)

    def on_train_batch_start(self, trainer: Trainer, module: GAN, *_: Any) -> None:
        """At the edge of a segment stop our clock, let the others play, and go on."""
        if trainer.global_step != self.edge:
            return
        if self.edge > self.warm_up:
            self.took["ours"].append(now() - self.since)
            for side in self.guests:
                self.took[side].append(self.play(side, self.steps))
        trainer.should_stop |= len(self.took["ours"]) == self.rounds
        self.edge += self.steps
        self.since = now()

    def play(self, side: str, steps: int) -> float:
        """Seconds for so many steps of a guest."""
        precision = single() if side == "plain" else self.precision.train_step_context()
        with mock.patch.dict(os.environ), precision:
            os.environ.pop("PYTORCH_NVML_BASED_CUDA_CHECK", None)  # which importing Lightning sets
            since = now()
            for _ in range(steps):
                next(self.guests[side])
            return now() - since


@contextlib.contextmanager
def single() -> Iterator[None]:
    """Single precision without TF32, whatever our side has."""
    cudnn, before = torch.backends.cudnn, torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    with cudnn.flags(True, cudnn.benchmark, cudnn.benchmark_limit, cudnn.deterministic, allow_tf32=False):
        yield
    torch.set_float32_matmul_precision(before)


def now() -> float:
    """The clock, when everything that was asked of a GPU is done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return perf_counter()


def composed(overrides: list[str], device: str, *more: str) -> DictConfig:
    """The configuration of a run that is only there to be timed."""
    with initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
        return compose("train", [*overrides, f"trainer={device}", "eval.every_n_steps=null", *more])


def run(config: DictConfig) -> Trainer:
    """Train, as quietly as can be."""
    for pattern in IGNORED_WARNINGS:
        warnings.filterwarnings("ignore", pattern)
    quiet = contextlib.redirect_stderr(io.StringIO())
    with tempfile.TemporaryDirectory() as folder, quiet, mock.patch.object(SampleGrid, "draw"):
        trainer = train(config, Path(folder))
    if status := exit_status_and_reason(trainer)[0]:
        sys.exit(status)
    return trainer


def measure(overrides: list[str], interval: int, device: str, rounds: int, seconds: float) -> dict[str, Any]:
    """Play one setting all ways."""
    duel = f"{{_target_: {Duel.__module__}.Duel, rounds: {rounds}, seconds: {seconds}, interval: {interval}}}"
    trainer = run(composed(overrides, device, "trainer.max_steps=1000000000", f"+callbacks.duel={duel}"))
    duel = next(guest for guest in trainer.callbacks if isinstance(guest, Duel))  # it has ended the run
    ratios = [plain / ours for ours, plain in zip(duel.took["ours"], duel.took["plain"], strict=True)]
    floors = [floor / ours for ours, floor in zip(duel.took["ours"], duel.took["floor"], strict=True)]
    low, _, high = quantiles(ratios, n=4, method="inclusive") if rounds > 1 else [ratios[0]] * 3
    return {f"{side}_steps_per_second": duel.steps / median(took) for side, took in duel.took.items()} | {
        "ratio": median(ratios),
        "ratio_quartiles": [low, high],
        "floor_share": median(floors),
        "steps_per_segment": duel.steps,
    }


def peak(side: str, overrides: list[str], device: str, threads: int) -> float:
    """Megabytes that some steps of one side take at their peak, above what there was before; in a new process."""
    torch.set_num_threads(threads)
    steps = 200 if "data=gaussian_ring" in overrides else 6
    config = composed(overrides, device, f"trainer.max_steps={steps}")
    before = resident("VmRSS")
    if side == "ours":
        run(config)
    else:
        data = instantiate(config.data, "data")
        data.setup()
        config.data_info = {"shape": list(data.shape), "num_classes": data.num_classes}
        model = instantiate(config.model, "model")
        loop = plain_loop(model, players_of(model), data.scale(data.samples), data.labels, data.batch_size)
        del data  # whose samples are held as we hold them, and the loop has its own
        for _ in range(steps):
            next(loop)
    return (resident("VmHWM") - before) / 1e6


def resident(name: str) -> float:
    """Bytes of this process in memory, now or at most; NaN on Windows.

    Where /proc exists it is read, since getrusage on Linux includes the parent's peak.
    """
    status = Path("/proc/self/status")
    if status.exists():
        return 1024 * int(re.search(rf"{name}:\s*(\d+)", status.read_text())[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss if resource else math.nan


def peaks(overrides: list[str], device: str, threads: int) -> dict[str, float]:
    """Both sides' peaks of memory, each of a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        given = overrides, device, threads
        return {f"{side}_megabytes": pool.apply(peak, (side, *given)) for side in ("ours", "plain")}


def processor() -> str:
    """Name of the processor, as well as the system tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.*)", cpuinfo.read_text()) if cpuinfo.exists() else None
    return found[1] if found else platform.processor() or platform.machine()


def this_machine() -> dict[str, Any]:
    """What a figure of speed must be read with."""
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "versions": versions() | {"platform": f"{platform.system()} {platform.machine()}"},
    }


def table(report: dict[str, Any]) -> str:
    """The report as Markdown."""
    machine, lines = report["machine"], []
    for name, row in report["results"].items():
        rates = " | ".join(f"{row[f'{side}_steps_per_second']:.1f}" for side in SIDES)
        spread = "{:.2f} to {:.2f}".format(*row["ratio_quartiles"])
        memory = " | ".join(f"{row[key]:,.0f}" if (key := f"{side}_megabytes") in row else "" for side in SIDES[:2])
        ratio, share = f"{row['ratio']:.2f} ({spread}) | {row['target']}", f"{row['floor_share']:.0%}"
        lines.append(f"| {name} | {rates} | {ratio} | {share} | {memory} |")
    return "\n".join(
        [
            f"{machine['processor']}, {machine['threads']} threads, torch {machine['versions']['torch']}, median of at "
            f"least {min(row['rounds'] for row in report['results'].values())} rounds.",
            "",
            "| | ours | plain | floor | ours / plain (quartiles) | aim | floor / ours | MB ours | MB plain |",
            "|---|---|---|---|---|---|---|---|---|",
            *lines,
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="segments of each side for each setting (%(default)s)")
    parser.add_argument("--seconds", type=float, default=1.0, help="about how long a segment is (%(default)s)")
    parser.add_argument("--only", default="", help="settings whose name has this in it")
    parser.add_argument("--levers", action="store_true", help="each setting with each lever of the trainer too")
    parser.add_argument("--device", choices=LEVERS, default="cpu", help="%(default)s")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="torch's (%(default)s)")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    gpu = args.device == "gpu"
    machine = this_machine() | {"threads": args.threads}
    machine |= {"processor": torch.cuda.get_device_name()} if gpu else {}
    report = {"machine": machine, "results": {}}
    file = HERE / f"throughput{'_gpu' if gpu else ''}.json"
    if file.exists() and (before := json.loads(file.read_text()))["machine"] == machine:
        report = before
    print(f"{machine['processor']}, {args.threads} of {os.cpu_count()} threads, torch {torch.__version__}")
    print(
        f"{'generator steps/s':40}{'ours':>9}{'plain':>9}{'floor':>9}{'ratio':>8}   {'quartiles':14}{'aim':>5}  {'MB'}"
    )
    levers = {"": [], **(LEVERS[args.device] if args.levers else {})}
    for setting, (overrides, interval, target) in (ON_GPU if gpu else SETTINGS).items():
        for lever, words in levers.items() if args.only in setting else ():
            given = [*overrides, *words]
            row = measure(given, interval, args.device, args.rounds, args.seconds) | {"target": target}
            row |= {"overrides": given, "rounds": args.rounds}
            row |= {} if gpu or lever else peaks(given, args.device, args.threads)
            report["results"][title := f"{setting}, {lever}".rstrip(", ")] = row
            rates = "".join(f"{row[f'{side}_steps_per_second']:9.1f}" for side in SIDES)
            spread = "{:.3f}-{:.3f}".format(*row["ratio_quartiles"])
            memory = "/".join(f"{row[f'{side}_megabytes']:.0f}" for side in SIDES[:2] if f"{side}_megabytes" in row)
            print(f"{title:40}{rates}{row['ratio']:8.3f}   {spread:14}{target:5}  {memory}", flush=True)
    file.write_text(json.dumps(report, indent=2) + "\n")
    before, after = PAGE.read_text().split(MARKS[gpu][0])[0], PAGE.read_text().split(MARKS[gpu][1])[1]
    PAGE.write_text(f"{before}{MARKS[gpu][0]}\n{table(report)}\n{MARKS[gpu][1]}{after}")


if __name__ == "__main__":
    main()
