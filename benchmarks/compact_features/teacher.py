"""Compute Inception's features of all image sets, or of the images that students are distilled on.

    python benchmarks/compact_features/teacher.py sets --weights FILE           # about 7 hours on two cores
    python benchmarks/compact_features/teacher.py distillation --weights FILE   # about 1.5 hours

Features of a set are in ``OUT/features/inception/DATA/NAME.npy`` (float32), with the set's hash; those of training
images in ``OUT/distillation/shard-NNNN.npy`` (float16). Both are written in parts of less than a minute, and parts that
exist are skipped. Images of degraded sets that are unchanged images of another set are not read again.
"""

import argparse
import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from degradations import SELECTIONS
from distillation import DistillationImages, load_distillation_images
from image_sets import OUT, REAL, hash_of, sets_of, write_array
from torch import Tensor

from gan_lightning.feature.inception import Inception
from gan_lightning.io.cache import TensorCache

SHARD = PART = 100  # images: less than a minute, also on a busy machine
Network = Callable[[Tensor], np.ndarray]


def inception(weights: Path) -> tuple[Network, str]:
    """Return a function that computes Inception's features (N, 2048) of uint8 images, and the hash of the weights."""
    network = Inception(weights)
    network.setup(None, TensorCache(weights.parent), torch.device("cpu"))  # with weights, no data or cache is used

    def features(images: Tensor) -> np.ndarray:
        return np.concatenate([network(batch)[0].numpy() for batch in images.split(network.batch)])

    return features, network.sha256


def features_path(out: Path, name: str, network: str = "inception") -> Path:
    """Return the path of the features of a set (``cifar10/dcgan-300``)."""
    return out / "features" / network / f"{name}.npy"


def is_current(path: Path, **expected: str) -> bool:
    """Return whether a file exists and was computed from the expected hashes."""
    if not path.exists():
        return False
    description = json.loads(path.with_suffix(".json").read_text())
    return all(description.get(key) == value for key, value in expected.items())


def image_keys(images: np.ndarray) -> list[bytes]:
    """Return a hash of each image."""
    return [hashlib.sha256(np.ascontiguousarray(image).tobytes()).digest() for image in images]


def set_features(
    images: np.ndarray, network: Network, known: dict[bytes, np.ndarray], parts: Path, name: str
) -> np.ndarray:
    """Return features (N, D) of a set; those of known images are copied, and the others computed in parts.

    Args:
        images: Images (N, C, H, W).
        network: Computes features.
        known: Features by the hash of the image; those of this set are added.
        parts: Folder of the finished parts, which is emptied at the end.
        name: Name of the set, for the progress.
    """
    keys = image_keys(images)
    missing = {key: row for row, key in enumerate(keys) if key not in known}
    rows = [*missing.values()]
    for start in range(0, len(rows), PART):
        chosen, path, since = rows[start : start + PART], parts / f"{start:06}.npy", time.time()
        sha256 = hash_of(images[chosen])
        if not is_current(path, sha256=sha256):
            found = network(torch.from_numpy(images[chosen]))
            write_array(path, found, {"sha256": sha256})
            rate = len(chosen) / (time.time() - since)
            print(f"{name}: {start + len(chosen):,} of {len(rows):,}, {rate:.1f} images/s", flush=True)
        known |= zip((keys[row] for row in chosen), np.load(path), strict=True)
    return np.stack([known[key] for key in keys])


def run_sets(out: Path, network: Network, network_hash: str, only: str) -> None:
    """Compute the features of all sets of images."""
    unchanged: dict[str, dict[bytes, np.ndarray]] = {}  # features of real images, by data set
    for name, path in sets_of(out).items():
        data, _, key = name.partition("/")
        is_real = key == REAL or key.rpartition("-")[0] in SELECTIONS
        target, images = features_path(out, name), np.load(path)
        sha256 = hash_of(images)
        known = unchanged.setdefault(data, {}) if is_real else {}
        if is_current(target, sha256=sha256, network=network_hash):
            if is_real:
                known |= zip(image_keys(images), np.load(target), strict=True)
            continue
        if only not in name:
            continue
        parts = out / "features" / "parts" / network_hash[:8] / name
        features = set_features(images, network, known, parts, name)
        write_array(target, features, {"sha256": sha256, "network": network_hash})
        for part in parts.glob("*"):
            part.unlink()
        print(f"{name}: {target}", flush=True)


def shard_path(out: Path, number: int) -> Path:
    """Return the path of a shard of features of training images."""
    return out / "distillation" / f"shard-{number:04}.npy"


def images_hash(images: list[np.ndarray]) -> str:
    """Return the hash of images of different sizes."""
    return hashlib.sha256(b"".join(image_keys(images))).hexdigest()


def features_by_size(images: list[np.ndarray], network: Network) -> np.ndarray:
    """Return features (N, D) of images (3, H, W) of different sizes, computed in batches of one size."""
    found: dict[int, np.ndarray] = {}
    for shape in dict.fromkeys(image.shape for image in images):
        rows = [row for row, image in enumerate(images) if image.shape == shape]
        batch = torch.from_numpy(np.stack([images[row] for row in rows]))
        found |= zip(rows, network(batch), strict=True)
    return np.stack([found[row] for row in range(len(images))])


def run_distillation(out: Path, source: DistillationImages, network: Network, network_hash: str, num: int) -> None:
    """Compute the features of the first ``num`` training images, rounded up to whole shards."""
    shards = -(-num // SHARD)
    for number in range(shards):
        path, since = shard_path(out, number), time.time()
        if is_current(path, network=network_hash):
            continue
        images = [source[index][0] for index in range(number * SHARD, (number + 1) * SHARD)]
        features = features_by_size(images, network).astype(np.float16)
        write_array(path, features, {"images": images_hash(images), "network": network_hash})
        left = (shards - number - 1) * (time.time() - since) / 3600
        rate = SHARD / (time.time() - since)
        print(f"shard {number + 1:,} of {shards:,}: {rate:.1f} images/s, {left:.1f} hours left", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=("sets", "distillation"))
    parser.add_argument("--weights", type=Path, required=True, help="file with Inception's weights")
    parser.add_argument("--out", type=Path, default=OUT, help="folder of the results (%(default)s)")
    parser.add_argument("--images", type=int, default=40_000, help="training images (%(default)s)")
    parser.add_argument("--only", default="", help="sets whose name contains this: cifar10, celeba/blur-1, ...")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="torch's (%(default)s)")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    network, network_hash = inception(args.weights.expanduser().absolute())
    if args.what == "sets":
        run_sets(args.out, network, network_hash, args.only)
    else:
        run_distillation(args.out, load_distillation_images(args.out), network, network_hash, args.images)


if __name__ == "__main__":
    main()
