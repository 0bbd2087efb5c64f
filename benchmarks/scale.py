"""Scaling of speed and memory with the size of the data set, the number of steps and the number of processes.

    python benchmarks/scale.py          # minutes; writes scale.json

Size: microseconds per image to gather, flip and scale batches, over whole epochs, with 1,000 to 1,000,000 images of
3 x 32 x 32 in memory.
Length: steps per second and resident memory at the beginning and the end of 20,000 steps of MLPs on points.
Processes: images per second of ``model=dcgan`` at 32 x 32 with one thread and 64 images per process: one process on one
core; two independent processes, each on its core; and two processes of one run, ``trainer=ddp trainer.devices=2``. The
three are measured alternately.
"""

import csv
import json
import os
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path
from statistics import median
from time import perf_counter
from types import SimpleNamespace
from typing import Any

import torch
from pytorch_lightning import Callback, Trainer
from throughput import composed, resident, run, this_machine

from gan_lightning.data.datamodule import StepBatchLoader
from gan_lightning.data.image_folder import ImageFolder
from gan_lightning.model.gan import GAN

DCGAN = ["model=dcgan", "data=digits", "trainer.accelerator=cpu"]
DCGAN += ["eval.every_n_steps=null", "callbacks.metric_logger.every_n_steps=20"]


def measure_size(num: int) -> float:
    """Return the microseconds per image to load batches from a data set of this size."""
    data = ImageFolder("photos", 32, flip=True, batch_size=64, seed=0)
    data.samples, data.labels = torch.randint(0, 256, (num, 3, 32, 32), dtype=torch.uint8), torch.zeros(num)
    module = SimpleNamespace(d_steps=1, dtype=torch.float32)
    data.trainer = SimpleNamespace(lightning_module=module, global_step=0, global_rank=0, world_size=1)
    steps = max(num // 64, 2000)
    since = perf_counter()
    for batch in StepBatchLoader(data.samples, data.labels, 64, seed=0, stop=steps):
        data.on_after_batch_transfer(batch, 0)
        data.trainer.global_step += 1
    return 1e6 * (perf_counter() - since) / (64 * steps)


class SpeedAndMemory(Callback):
    """Records time and resident memory after every thousand steps."""

    def __init__(self) -> None:
        self.notes = []

    def on_train_batch_end(self, trainer: Trainer, module: GAN, *_: Any) -> None:
        """Append time and memory in megabytes."""
        if trainer.global_step % 1000 == 0:
            self.notes.append((perf_counter(), resident("VmRSS") / 1e6))


def measure_length(steps: int) -> dict[str, float]:
    """Return rate and memory at the beginning and the end of a long run."""
    words = ["model=vanilla", "data=gaussian_ring", "network.width=64", "network.depth=2", f"trainer.max_steps={steps}"]
    trainer = run(composed(words, "cpu", f"+callbacks.watch={{_target_: {SpeedAndMemory.__module__}.SpeedAndMemory}}"))
    notes = next(callback for callback in trainer.callbacks if isinstance(callback, SpeedAndMemory)).notes
    rates = [1000 / (after[0] - before[0]) for before, after in pairwise(notes)]
    return {
        "first_steps_per_second": median(rates[:5]),
        "last_steps_per_second": median(rates[-5:]),
        "megabytes_at_1000": notes[0][1],
        "megabytes_at_the_end": notes[-1][1],
    }


def rate(folder: Path) -> float:
    """Return the median rate in a run's metrics.csv, without its first two lines."""
    with (folder / "metrics.csv").open() as file:
        return median(float(row["images_per_second"]) for row in list(csv.DictReader(file))[2:])


def concurrent_rate(folder: Path, num: int, *words: str) -> float:
    """Return the images per second of concurrent runs, each pinned to one core unless it has overrides."""
    runs = [folder / str(i) for i in range(num)]
    line = [sys.executable, str(Path(__file__).parent.parent / "train.py"), *DCGAN, *words]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    processes = []
    for i, place in enumerate(runs):
        pinned = ["taskset", "-c", str(i)] if not words and sys.platform == "linux" else []
        command = [*pinned, *line, f"hydra.run.dir={place}", "trainer.max_steps=200"]
        processes.append(
            subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        )
    if any(process.wait() for process in processes):
        sys.exit("a run failed")
    return sum(rate(place) for place in runs)


def measure_processes(rounds: int) -> dict[str, float]:
    """Return the images per second of one process, two independent ones, and two of one run."""
    sides = {
        "one": (1,),
        "two_independent": (2,),
        "two_of_one_run": (1, "trainer=ddp", "trainer.devices=2", "data.batch_size=128"),
    }
    found = {name: [] for name in sides}
    for _ in range(rounds):
        for name, given in sides.items():
            with tempfile.TemporaryDirectory() as folder:
                found[name].append(concurrent_rate(Path(folder), *given))
    return {name: median(rates) for name, rates in found.items()}


def main() -> None:
    report: dict[str, Any] = {"machine": this_machine()}
    report["microseconds_an_image"] = {}
    for num in (1000, 10_000, 100_000, 1_000_000):
        report["microseconds_an_image"][num] = measure_size(num)
        print(f"{num:12,} images: {report['microseconds_an_image'][num]:.2f} microseconds per image", flush=True)
    report["length"] = measure_length(20_000)
    print(report["length"], flush=True)
    report["images_per_second"] = measure_processes(3)
    print(report["images_per_second"])
    Path(__file__).with_suffix(".json").write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
