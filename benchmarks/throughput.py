"""Generator steps per second: gan-lightning, a plain PyTorch loop, and the arithmetic of the networks alone.

    make bench                                          # all settings; writes throughput.json and docs/benchmarks.md
    make bench ARGS="--only conv --rounds 15"           # only these; the other rows are kept
    make bench ARGS="--only 'dcgan conv 32' --options"   # with other settings of the trainer, too
    make bench ARGS="--device gpu --options"             # on a GPU; writes throughput_gpu.json

All three sides run alternately in one process: a callback of the run executes a segment of the plain loop and of the
floor after each segment of the run, so that other load on the machine affects all sides alike. A segment has the same
number of generator steps on all sides. The ratio is ours / plain, the median over all rounds, after a warm-up of each
side; the floor's share of our time is a median, too.

"Ours" is everything that ``python train.py`` does, with the default callbacks and TensorBoard, with three exceptions:
no sample grids (17 in 100,000 steps), no evaluation (each run reports its share of the time), and the progress bar
writes to memory. On points a segment has whole intervals of the callbacks, 500 steps with ten lines of metrics and
one checkpoint; with MLPs on images it has whole intervals of the metrics. Elsewhere both are too rare to
matter, and the median may exclude them.

plain_loop.py describes the plain loop, which always runs in single precision, and the floor, which runs in the
precision of ours; neither logs anything. Lightning sets an environment variable that makes torch's check for GPUs,
and thus every optimizer step, slower; the plain loop runs without it.

Memory is the peak of a separate process that runs some steps of one side, minus its memory after the imports.
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
except ImportError:  # on Windows, where peak memory is not measured
    resource = None

import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from plain_loop import floor, networks_of, plain_loop
from pytorch_lightning import Callback, Trainer
from torch.utils import tensorboard  # noqa: F401  imported here, since Lightning imports it lazily

from gan_lightning.callbacks.sample_grid import SampleGrid
from gan_lightning.config.instantiate import instantiate
from gan_lightning.io.library_warnings import IGNORED_WARNINGS
from gan_lightning.io.paths import CONF
from gan_lightning.model.gan import GAN
from gan_lightning.run.fit import train
from gan_lightning.run.run_dir import versions
from gan_lightning.run.summary import exit_status_and_reason

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "benchmarks.md"
MARKS = [(f"<!-- {device} -->", f"<!-- end of {device} -->") for device in ("cpu", "gpu")]
SIDES = "ours", "plain", "floor"

POINTS = ["data=gaussian_ring", "network.width=64", "network.depth=2"]  # MLPs 2-64-64
VARIANTS = {name: [f"model={name}"] for name in ("dcgan", "cgan", "acgan", "wgan", "wgan_gp")}

# By setting: overrides, the divisor of a segment's number of steps, the target of the ratio.
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
CHANNELS_LAST = "trainer.channels_last=true"
OPTIONS = {
    "cpu": {
        "channels first": ["trainer.channels_last=false"],
        "compiled": ["trainer.compile=true"],
        **({"bf16": HALF} if torch.cpu._is_avx512_bf16_supported() else {}),  # much slower if emulated
    },
    "gpu": {
        "no graphs": ["trainer.cuda_graphs=false"],
        "TF32": [TF32],
        "TF32, channels last": [TF32, CHANNELS_LAST],
        "TF32, no graphs": [TF32, "trainer.cuda_graphs=false"],
        "TF32, compiled": [TF32, "trainer.compile=true"],
        "bf16": [*HALF, TF32, CHANNELS_LAST],
        "bf16, no graphs": [*HALF, TF32, CHANNELS_LAST, "trainer.cuda_graphs=false"],
        "bf16, compiled": [*HALF, TF32, CHANNELS_LAST, "trainer.compile=true"],
    },
}


class Timer(Callback):
    """Times segments of the run, and after each of them the same number of steps of the other sides.

    Segments begin and end at the start of a step, so that they contain whole iterations of Lightning's loop: fetching
    the batch, the step and all callbacks.

    Args:
        rounds: Number of segments of each side.
        seconds: Approximate time of a segment of the plain loop; longer if ``interval`` requires it.
        interval: Divisor of the number of steps in a segment.

    Attributes:
        steps: Generator steps per segment.
        took: Seconds of each segment, by side.
    """

    def __init__(self, rounds: int, seconds: float, interval: int) -> None:
        self.rounds, self.seconds, self.interval = rounds, seconds, interval
        self.steps, self.took = 0, {side: [] for side in SIDES}

    def on_train_start(self, trainer: Trainer, module: GAN) -> None:
        """Set up the other sides with copies of the networks, and choose the length of a segment."""
        data = trainer.datamodule
        self.precision = trainer.precision_plugin
        given = data.scale(data.samples), data.labels, data.batch_size
        self.others = {
            side: loop(module, copy.deepcopy(networks_of(module)), *given)
            for side, loop in (("plain", plain_loop), ("floor", floor))
        }
        for side in self.others:
            self.run_steps(side, 3)
        steps = 5
        while (took := self.run_steps("plain", steps)) < self.seconds / 4:
            steps *= 2
        self.steps = max(round(steps * self.seconds / took / self.interval), 1) * self.interval
        self.edge = self.warm_up = max(self.steps, 5)

    def on_train_batch_start(self, trainer: Trainer, module: GAN, *_: Any) -> None:
        """At the end of a segment, record its time and run the other sides."""
        if trainer.global_step != self.edge:
            return
        if self.edge > self.warm_up:
            self.took["ours"].append(now() - self.since)
            for side in self.others:
                self.took[side].append(self.run_steps(side, self.steps))
        trainer.should_stop |= len(self.took["ours"]) == self.rounds
        self.edge += self.steps
        self.since = now()

    def run_steps(self, side: str, steps: int) -> float:
        """Run steps of another side; return the seconds."""
        precision = single() if side == "plain" else self.precision.train_step_context()
        with mock.patch.dict(os.environ), precision:
            os.environ.pop("PYTORCH_NVML_BASED_CUDA_CHECK", None)  # set by importing Lightning
            since = now()
            for _ in range(steps):
                next(self.others[side])
            return now() - since


@contextlib.contextmanager
def single() -> Iterator[None]:
    """Switch to single precision without TF32."""
    cudnn, before = torch.backends.cudnn, torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    with cudnn.flags(True, cudnn.benchmark, cudnn.benchmark_limit, cudnn.deterministic, allow_tf32=False):
        yield
    torch.set_float32_matmul_precision(before)


def now() -> float:
    """Return the time after all work queued on the GPU is done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return perf_counter()


def composed(overrides: list[str], device: str, *more: str) -> DictConfig:
    """Return the configuration of a run without evaluation."""
    with initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
        return compose("train", [*overrides, f"trainer={device}", "eval.every_n_steps=null", *more])


def run(config: DictConfig) -> Trainer:
    """Train without warnings, progress bar and sample grids; return the trainer."""
    for pattern in IGNORED_WARNINGS:
        warnings.filterwarnings("ignore", pattern)
    quiet = contextlib.redirect_stderr(io.StringIO())
    with tempfile.TemporaryDirectory() as folder, quiet, mock.patch.object(SampleGrid, "draw"):
        trainer = train(config, Path(folder))
    if status := exit_status_and_reason(trainer)[0]:
        sys.exit(status)
    return trainer


def measure(overrides: list[str], interval: int, device: str, rounds: int, seconds: float) -> dict[str, Any]:
    """Measure all sides of one setting."""
    timer = f"{{_target_: {Timer.__module__}.Timer, rounds: {rounds}, seconds: {seconds}, interval: {interval}}}"
    trainer = run(composed(overrides, device, "trainer.max_steps=1000000000", f"+callbacks.timer={timer}"))
    timer = next(callback for callback in trainer.callbacks if isinstance(callback, Timer))  # it has stopped the run
    ratios = [plain / ours for ours, plain in zip(timer.took["ours"], timer.took["plain"], strict=True)]
    floors = [floor / ours for ours, floor in zip(timer.took["ours"], timer.took["floor"], strict=True)]
    low, _, high = quantiles(ratios, n=4, method="inclusive") if rounds > 1 else [ratios[0]] * 3
    return {f"{side}_steps_per_second": timer.steps / median(took) for side, took in timer.took.items()} | {
        "ratio": median(ratios),
        "ratio_quartiles": [low, high],
        "floor_share": median(floors),
        "steps_per_segment": timer.steps,
    }


def peak(side: str, overrides: list[str], device: str, threads: int) -> float:
    """Return the megabytes of peak memory of some steps, minus those before; for a new process."""
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
        loop = plain_loop(model, networks_of(model), data.scale(data.samples), data.labels, data.batch_size)
        del data  # the loop has its own copy of the samples
        for _ in range(steps):
            next(loop)
    return (resident("VmHWM") - before) / 1e6


def resident(name: str) -> float:
    """Return the resident memory of this process in bytes, current or peak; NaN on Windows.

    Read /proc where it exists, since getrusage on Linux includes the parent's peak.
    """
    status = Path("/proc/self/status")
    if status.exists():
        return 1024 * int(re.search(rf"{name}:\s*(\d+)", status.read_text())[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss if resource else math.nan


def peaks(overrides: list[str], device: str, threads: int) -> dict[str, float]:
    """Return the peak memory of both sides, each measured in a new process."""
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        given = overrides, device, threads
        return {f"{side}_megabytes": pool.apply(peak, (side, *given)) for side in ("ours", "plain")}


def processor() -> str:
    """Return the name of the processor, as far as the system provides it."""
    cpuinfo = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.*)", cpuinfo.read_text()) if cpuinfo.exists() else None
    return found[1] if found else platform.processor() or platform.machine()


def this_machine() -> dict[str, Any]:
    """Return the hardware and versions on which the results depend."""
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "versions": versions() | {"platform": f"{platform.system()} {platform.machine()}"},
    }


def table(report: dict[str, Any]) -> str:
    """Return the report as a Markdown table."""
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
    parser.add_argument("--seconds", type=float, default=1.0, help="approximate time of a segment (%(default)s)")
    parser.add_argument("--only", default="", help="only settings whose name contains this")
    parser.add_argument("--options", action="store_true", help="each setting also with other settings of the trainer")
    parser.add_argument("--device", choices=OPTIONS, default="cpu", help="%(default)s")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="threads of torch (%(default)s)")
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
    options = {"": [], **(OPTIONS[args.device] if args.options else {})}
    for setting, (overrides, interval, target) in (ON_GPU if gpu else SETTINGS).items():
        for option, words in options.items() if args.only in setting else ():
            given = [*overrides, *words]
            row = measure(given, interval, args.device, args.rounds, args.seconds) | {"target": target}
            row |= {"overrides": given, "rounds": args.rounds}
            row |= {} if gpu or option else peaks(given, args.device, args.threads)
            report["results"][title := f"{setting}, {option}".rstrip(", ")] = row
            rates = "".join(f"{row[f'{side}_steps_per_second']:9.1f}" for side in SIDES)
            spread = "{:.3f}-{:.3f}".format(*row["ratio_quartiles"])
            memory = "/".join(f"{row[f'{side}_megabytes']:.0f}" for side in SIDES[:2] if f"{side}_megabytes" in row)
            print(f"{title:40}{rates}{row['ratio']:8.3f}   {spread:14}{target:5}  {memory}", flush=True)
    file.write_text(json.dumps(report, indent=2) + "\n")
    before, after = PAGE.read_text().split(MARKS[gpu][0])[0], PAGE.read_text().split(MARKS[gpu][1])[1]
    PAGE.write_text(f"{before}{MARKS[gpu][0]}\n{table(report)}\n{MARKS[gpu][1]}{after}")


if __name__ == "__main__":
    main()
