"""Train GANs and write generated image sets, which were fixed before any student network was trained.

    GAN_DATA_DIR=data python benchmarks/compact_features/sets.py    # 45 sets of 2,000 images, and 7 to train on
    python benchmarks/compact_features/sets.py --only sets/cifar10/dcgan --steps 4 8 --images 50   # a small one

Each GAN is trained by the package at width 32 to each of its steps, at which images are sampled from a fixed seed. A
run that was interrupted resumes from its latest checkpoint, which is a minute old at most. All take one and a half
hours on two cores.
"""

import argparse
import logging
import sys
import time
import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from image_sets import DATA, OUT, compose_config, set_path, write_set

from gan_lightning.errors import UserError
from gan_lightning.io.image import to_uint8
from gan_lightning.io.library_warnings import IGNORED_WARNINGS
from gan_lightning.run.checkpoint import load_model, newest
from gan_lightning.run.fit import train
from gan_lightning.run.summary import exit_status_and_reason

QUIET = "eval.every_n_steps=null", "~logger", "~callbacks.sample_grid", "~callbacks.progress"
SAMPLING_SEED = 2026


@dataclass(frozen=True)
class Run:
    """A GAN and the generator steps at which images are sampled.

    Attributes:
        data: Name of the data set.
        model: Variant.
        steps: Generator steps, increasing.
        every: Steps between two checkpoints: ten seconds of training on two cores, a minute if they are busy.
        seed: Seed of the run.
        folder: ``sets`` are compared, ``training`` are images that students are trained on.
    """

    data: str
    model: str
    steps: tuple[int, ...]
    every: int
    seed: int = 0
    folder: str = "sets"

    @property
    def name(self) -> str:
        """Name on the command line."""
        return f"{self.folder}/{self.data}/{self.model}"

    def overrides(self, step: int) -> tuple[str, ...]:
        """Return the overrides of a run to a step."""
        every = min(self.every, step)
        budget = f"trainer.max_steps={step}", f"callbacks.checkpoint.every_n_steps={every}"
        return (f"model={self.model}", *DATA[self.data].overrides, *QUIET, *budget)


RUNS = (
    Run("cifar10", "dcgan", (300, 1000, 3000), 100),
    Run("cifar10", "acgan", (300, 1000, 3000), 100),
    Run("cifar10", "wgan", (100, 400, 1500), 40),
    Run("cifar10", "wgan_gp", (100, 400, 1200), 20),
    Run("cifar10", "vanilla", (300, 1500, 6000), 300),
    Run("anime", "dcgan", (100, 400, 1500), 30),
    Run("anime", "vanilla", (300, 1500, 6000), 300),
    Run("anime", "wgan_gp", (30, 100, 240), 5),
    Run("celeba", "dcgan", (100, 400, 1500), 30),
    Run("celeba", "vanilla", (300, 1500, 6000), 300),
    Run("celeba", "wgan_gp", (30, 100, 240), 5),
    Run("fashion_mnist", "dcgan", (100, 500, 2500), 100),
    Run("fashion_mnist", "vanilla", (300, 1500, 6000), 300),
    Run("mnist", "dcgan", (100, 500, 2500), 100),
    Run("mnist", "wgan", (100, 400, 1500), 40),
    # Other runs than those that are compared, and of data that students may be trained on.
    Run("cifar10", "dcgan", (50, 200, 700), 100, seed=100, folder="training"),
    Run("cifar10", "wgan_gp", (30, 120), 20, seed=100, folder="training"),
    Run("fashion_mnist", "dcgan", (50, 200), 100, seed=100, folder="training"),
)


def generate(run: Run, out: Path, num: int) -> None:
    """Train a GAN to each of its steps and write a set of ``num`` images, unless it exists.

    Raises:
        SystemExit: A signal stopped the run, or its checkpoints are later than the step.
        UserError: The run failed, for example because it diverged.
    """
    for step in run.steps:
        path = set_path(out, run.data, f"{run.model}-{step}", run.folder)
        if path.exists():
            continue
        folder = out / "runs" / f"{run.folder}-{run.data}-{run.model}"
        checkpoint, since = folder / "checkpoints" / f"step_{step:08d}.ckpt", time.time()
        latest = newest(folder)[0]
        if not checkpoint.exists():
            print(f"{run.name}: training to step {step:,}" + (f" from {latest}" if latest else ""), flush=True)
            trainer = train(compose_config(run.overrides(step), run.seed, out), folder, latest)
            if status := exit_status_and_reason(trainer)[0]:
                sys.exit(status)
        if not checkpoint.exists():
            sys.exit(f"{run.name}: the checkpoint of step {step:,} was removed; remove {folder} to train again")
        images = to_uint8(load_model(checkpoint).sample(num, seed=SAMPLING_SEED)).numpy()
        overrides = [*run.overrides(step), f"seed={run.seed}"]
        write_set(path, images, model=run.model, step=step, overrides=overrides, sampling_seed=SAMPLING_SEED)
        print(f"{run.name}: step {step:,} after {time.time() - since:.0f} s, {path}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=OUT, help="folder of the results (%(default)s)")
    parser.add_argument("--images", type=int, default=2000, help="images in each set (%(default)s)")
    parser.add_argument("--steps", type=int, nargs="+", help="generator steps, instead of those of each run")
    parser.add_argument("--only", default="", help="runs whose name contains this: sets/cifar10/dcgan, training, ...")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="torch's (%(default)s)")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    for pattern in IGNORED_WARNINGS:
        warnings.filterwarnings("ignore", pattern)
    failed = []
    for run in RUNS:
        if args.only not in run.name:
            continue
        try:
            generate(replace(run, steps=tuple(args.steps)) if args.steps else run, args.out, args.images)
        except UserError as error:
            failed.append(run.name)
            print(f"{run.name}: {error}", file=sys.stderr, flush=True)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
