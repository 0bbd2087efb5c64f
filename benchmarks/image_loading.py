"""Images per second, from files to a batch of floats: gan-lightning, and torchvision's ImageFolder with a DataLoader.

    python benchmarks/image_loading.py               # writes image_loading.json
    python benchmarks/image_loading.py --num 2000

Files of CelebA's shape (178 x 218 JPEG, sine waves and noise) become float batches of 64 in [-1, 1] at 64 x 64,
flipped at random. ImageFolder decodes, crops and resizes each image every time it is read, with one worker process
per core, and without workers. gan-lightning decodes once: the script reports that time, and the rates from the
memory-mapped file (in the page cache) and from memory. All sides are timed alternately; the rate is the median.
"""

import argparse
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from time import perf_counter
from types import SimpleNamespace

import numpy as np
import torch
from PIL import Image
from throughput import this_machine
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder as Folder

from gan_lightning.data.datamodule import StepBatchLoader
from gan_lightning.data.image_folder import ImageFolder

SIDE, BATCH = 64, 64


def write_faces(folder: Path, num: int) -> None:
    """Write JPEG files of CelebA's size, about 9 KB each."""
    rng = np.random.default_rng(0)
    down, right = np.mgrid[0:218, 0:178]
    for i in range(num):
        waves = [np.sin(right / rng.uniform(8, 60) + down / rng.uniform(8, 60) + rng.uniform(0, 6)) for _ in range(3)]
        pixels = 127 + 90 * np.stack(waves, -1) + rng.normal(0, 4, (218, 178, 3))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{i:06}.jpg", quality=90)


def torchvision_batches(root: Path, workers: int) -> Iterator[Tensor]:
    """Yield batches of torchvision's ImageFolder and a DataLoader."""
    steps = [
        transforms.CenterCrop(178),
        transforms.Resize(SIDE),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        transforms.Normalize([0.5] * 3, [0.5] * 3),
    ]
    loader = DataLoader(
        Folder(root, transforms.Compose(steps)),
        BATCH,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=workers > 0,
    )
    while True:
        for images, _ in loader:
            yield images


def our_batches(root: Path, **settings: object) -> Iterator[Tensor]:
    """Yield batches of gan-lightning's ImageFolder, with the processing of a training step."""
    data = ImageFolder(root, SIDE, flip=True, batch_size=BATCH, seed=0, **settings)
    data.setup()
    module = SimpleNamespace(d_steps=1, dtype=torch.float32)
    data.trainer = SimpleNamespace(lightning_module=module, global_step=0, global_rank=0, world_size=1)
    loader = StepBatchLoader(data.samples, data.labels, BATCH, seed=0, stop=10**9, pages=data.pages)
    for batch in loader:
        data.trainer.global_step += 1
        yield data.on_after_batch_transfer(batch, 0)[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--num", type=int, default=10_000, help="number of images (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each side (%(default)s)")
    args = parser.parse_args()
    cores = os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "photos"
        (root / "faces").mkdir(parents=True)
        write_faces(root / "faces", args.num)
        since = perf_counter()
        next(our_batches(root, cache=folder))
        first = perf_counter() - since
        since = perf_counter()
        next(our_batches(root, cache=folder))
        again = perf_counter() - since
        sides = {
            "ImageFolder, no workers": (torchvision_batches(root, 0), 5),
            f"ImageFolder, {cores} workers": (torchvision_batches(root, cores), 20),
            "ours, mapped file": (our_batches(root, cache=folder, memory_gb=0), 200),
            "ours, in memory": (our_batches(root, cache=folder), 200),
        }
        rates = {name: [] for name in sides}
        for batches, steps in sides.values():
            for _ in range(steps):  # start the workers, and read the file into the page cache
                next(batches)
        for _ in range(args.rounds):
            for name, (batches, steps) in sides.items():
                since = perf_counter()
                for _ in range(steps):
                    next(batches)
                rates[name].append(steps * BATCH / (perf_counter() - since))
    found = {"images": args.num, "first_seconds": first, "again_seconds": again}
    found["images_per_second"] = {name: median(rate) for name, rate in rates.items()}
    print(f"{args.num:,} images decoded in {first:.1f} s, read again in {again:.2f} s")
    for name, rate in found["images_per_second"].items():
        print(f"{name:28}{rate:12,.0f} images/s")
    found = {"machine": this_machine()} | found
    Path(__file__).with_suffix(".json").write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
