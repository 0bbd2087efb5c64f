"""Generator steps per second, ours through Lightning's Trainer against a plain PyTorch loop with the same networks.

    make bench ARGS="--rounds 15 --only points"

Both play in one process and in turn: the plain loop is a guest of our run and takes its segment whenever one of ours
is over, so whatever else the machine does strikes both alike. A segment has the same number of generator steps on both
sides. The ratio is ours / plain, the median over all pairs of neighbours, after a warm-up of each.

Ours is everything that ``python train.py`` does, with all callbacks and TensorBoard as they ship, but for three
things: no picture is drawn (they come ever more rarely, 17 in 100,000 steps), nothing is evaluated (each run tells what
share of its time that takes), and the progress bar writes to memory. On points a segment has whole intervals of the
callbacks, 500 steps with ten lines of scalars and one checkpoint; with perceptrons on pictures it has the scalars.
Elsewhere both are too rare to matter, and the median may leave them out.

plain_loop.py is of the usual kind, and logs nothing. Lightning asks torch by an environment variable to look for GPUs
in a way that costs time in every step of an optimizer; a plain loop knows nothing of it, and runs without.
"""

import argparse
import contextlib
import io
import json
import os
import platform
import re
import sys
import tempfile
import warnings
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter
from typing import Any
from unittest import mock

import torch
from hydra import compose, initialize_config_dir
from plain_loop import plain_loop
from pytorch_lightning import Callback, Trainer

from gan_lightning.callbacks.sample_grid import SampleGrid
from gan_lightning.model.base import GAN
from gan_lightning.paths import CONF
from gan_lightning.run import versions
from gan_lightning.train import NOT_FOR_USERS, stopped_by, train

POINTS = ["data=gaussian_ring", "network.width=64", "network.depth=2"]  # perceptrons 2-64-64
MLP = ["network=mlp", "data=digits", "data.image_size=28"]
CONV = ["network=dcgan", "data=digits"]  # 32 x 32, width 32

# By setting: overrides, the number that a segment's steps are a multiple of, the least ratio that we are content with.
SETTINGS = {
    **{f"{name} points": ([f"model={name}", *POINTS], 500, 0.97) for name in ("vanilla", "wgan_gp")},
    **{f"{name} mlp": ([f"model={name}", *MLP], 50, 1.1) for name in ("vanilla", "cgan")},
    **{f"{name} conv": ([f"model={name}", *CONV], 1, 1.0) for name in ("dcgan", "cgan", "acgan", "wgan", "wgan_gp")},
}


class Duel(Callback):
    """Times segments of the run that it is a guest of, and after each the same number of steps of the plain loop.

    The clock is read where steps begin, so that a segment holds whole rounds of Lightning's loop: the fetching of a
    batch, the step and every callback.

    Args:
        rounds: How many pairs of segments.
        seconds: About how long a segment of the plain loop takes, or longer where ``interval`` does.
        interval: What the number of steps in a segment is a multiple of.

    Attributes:
        steps: Generator steps of a segment.
        ours: Seconds of each of our segments.
        plain: Seconds of each of the plain loop's.
    """

    def __init__(self, rounds: int, seconds: float, interval: int) -> None:
        self.rounds, self.seconds, self.interval = rounds, seconds, interval
        self.steps, self.ours, self.plain = 0, [], []

    def on_train_start(self, trainer: Trainer, module: GAN) -> None:
        """Set up the plain loop with copies of the networks, and choose how long a segment is."""
        data = trainer.datamodule
        self.loop = plain_loop(module, data.scale(data.samples), data.labels, data.batch_size)
        self.run_plain(3)
        steps = 5
        while (took := self.run_plain(steps)) < self.seconds / 4:
            steps *= 2
        self.steps = max(round(steps * self.seconds / took / self.interval), 1) * self.interval
        self.edge = self.warm_up = max(self.steps, 5)

    def on_train_batch_start(self, trainer: Trainer, module: GAN, *_: Any) -> None:
        """At the edge of a segment stop our clock, let the plain loop run, and go on."""
        if trainer.global_step != self.edge:
            return
        if self.edge > self.warm_up:
            self.ours.append(perf_counter() - self.since)
            self.plain.append(self.run_plain(self.steps))
        trainer.should_stop |= len(self.ours) == self.rounds
        self.edge += self.steps
        self.since = perf_counter()

    def run_plain(self, steps: int) -> float:
        """Seconds for so many steps of the plain loop."""
        with mock.patch.dict(os.environ):
            os.environ.pop("PYTORCH_NVML_BASED_CUDA_CHECK", None)  # which importing Lightning sets
            since = perf_counter()
            for _ in range(steps):
                next(self.loop)
            return perf_counter() - since


def measure(overrides: list[str], interval: int, rounds: int, seconds: float) -> dict[str, Any]:
    """Play one setting both ways."""
    duel = f"{{_target_: {Duel.__module__}.Duel, rounds: {rounds}, seconds: {seconds}, interval: {interval}}}"
    ours = [
        "trainer=cpu",
        "eval.every_n_steps=null",
        "trainer.max_steps=1000000000",
        f"+callbacks.duel={duel}",
    ]  # the duel ends the run
    with initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
        config = compose("train", [*overrides, *ours])
    quiet = contextlib.redirect_stderr(io.StringIO())
    with tempfile.TemporaryDirectory() as run, quiet, mock.patch.object(SampleGrid, "draw"):
        trainer = train(config, Path(run))
    if status := stopped_by(trainer)[0]:
        sys.exit(status)
    duel = next(guest for guest in trainer.callbacks if isinstance(guest, Duel))
    ratios = [plain / ours for ours, plain in zip(duel.ours, duel.plain, strict=True)]
    low, _, high = quantiles(ratios, n=4, method="inclusive") if rounds > 1 else [ratios[0]] * 3
    return {
        "ours_steps_per_second": duel.steps / median(duel.ours),
        "plain_steps_per_second": duel.steps / median(duel.plain),
        "ratio": median(ratios),
        "ratio_quartiles": [low, high],
        "steps_per_segment": duel.steps,
    }


def processor() -> str:
    """Name of the processor, as well as the system tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.*)", cpuinfo.read_text()) if cpuinfo.exists() else None
    return found[1] if found else platform.processor() or platform.machine()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=9, help="pairs of segments for each setting (%(default)s)")
    parser.add_argument("--seconds", type=float, default=1.0, help="about how long a segment is (%(default)s)")
    parser.add_argument("--only", default="", help="settings whose name has this in it; throughput.json is then left")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="torch's (%(default)s)")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    for pattern in NOT_FOR_USERS:
        warnings.filterwarnings("ignore", pattern)

    machine = {"processor": processor(), "cores": os.cpu_count(), "threads": args.threads}
    machine |= {"versions": versions() | {"platform": f"{platform.system()} {platform.machine()}"}}
    print(f"{machine['processor']}, {args.threads} of {os.cpu_count()} threads, torch {torch.__version__}")
    print(f"{'generator steps/s':20}{'ours':>9}{'plain':>9}{'ratio':>8}   {'quartiles':14}{'target':>6}")
    results = {}
    for name, (overrides, interval, target) in SETTINGS.items():
        if args.only not in name:
            continue
        row = measure(overrides, interval, args.rounds, args.seconds)
        results[name] = row | {"target": target, "overrides": overrides}
        spread = "{:.3f}-{:.3f}".format(*row["ratio_quartiles"])
        rates = f"{row['ours_steps_per_second']:9.1f}{row['plain_steps_per_second']:9.1f}"
        print(f"{name:20}{rates}{row['ratio']:8.3f}   {spread:14}{target:6}", flush=True)
    if not args.only:
        report = {"machine": machine, "rounds": args.rounds, "seconds": args.seconds, "results": results}
        Path(__file__).with_suffix(".json").write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
