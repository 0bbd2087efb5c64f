"""Write the real image sets: the reference, other real images, and their degradations in three severities.

    GAN_DATA_DIR=data python benchmarks/compact_features/real.py

The reference has 5,000 images (anime faces: 2,843). Real and degraded sets have 2,000 images that are not in it: of the
test split, or of the other images where there is none. Colour data sets except anime faces get all degradations, gray
ones blur, noise and lost classes. Sets that exist are skipped. The time is two minutes.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from degradations import GRAY_KINDS, SELECTIONS, SEVERITIES, degrade, select
from image_sets import DATA, NUM_REFERENCE, OUT, REAL, REFERENCE, load_data, set_path, write_set

SEED = 2026
DEGRADED = "cifar10", "celeba", "fashion_mnist", "mnist"


def read_real(name: str, out: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the reference (n, C, H, W), the other real images, and their classes (all 0 if there are none)."""
    data, of = load_data(name, out), DATA[name]
    if of.split is None:
        others, labels = data.held_out()
        return data.samples[-NUM_REFERENCE:].numpy(), others.numpy(), labels.numpy()
    labels = np.zeros(len(data.samples), np.int64)
    for number, attribute in enumerate(of.attributes):
        labels += load_data(name, out, f"data.attribute={attribute}").labels.numpy() << number
    # Anime faces come in turns from the folders of hair colours, so that both parts have them all.
    reference = data.samples[of.split : of.split + NUM_REFERENCE].numpy()
    return reference, data.samples[: of.split].numpy(), labels[: of.split]


def kinds_of(name: str) -> tuple[str, ...]:
    """Return the degradations of a data set."""
    return () if name not in DEGRADED else tuple(SEVERITIES) if DATA[name].colour else GRAY_KINDS


def write_real_sets(name: str, out: Path, num: int, num_reference: int) -> None:
    """Write those sets of a data set that do not exist: ``num`` images each, and ``num_reference`` in the reference."""
    wanted: dict[str, dict[str, Any]] = {REFERENCE: {}, REAL: {}}
    for kind in kinds_of(name):
        for severity, value in enumerate(SEVERITIES[kind], 1):
            wanted[f"{kind}-{severity}"] = {"kind": kind, "severity": severity, "value": value}
    if all(set_path(out, name, key).exists() for key in wanted):
        return
    reference, others, labels = read_real(name, out)
    for key, entry in wanted.items():
        path = set_path(out, name, key)
        if path.exists():
            continue
        rng = np.random.default_rng([SEED, entry.get("severity", 0), [*SEVERITIES].index(entry.get("kind", "blur"))])
        if key == REFERENCE:
            images = reference[:num_reference]
        elif entry.get("kind") in SELECTIONS:
            images = others[select(others, labels, entry["kind"], entry["value"], num, rng)]
        else:
            images = others[:num]
            images = degrade(images, entry["kind"], entry["value"], rng) if entry else images
        write_set(path, images, **entry)
        print(f"{name}/{key}: {len(images):,} images, {path}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=OUT, help="folder of the results (%(default)s)")
    parser.add_argument("--images", type=int, default=2000, help="images in each set but the reference (%(default)s)")
    parser.add_argument("--reference", type=int, default=NUM_REFERENCE, help="images in each reference (%(default)s)")
    parser.add_argument("--only", default="", help="data sets whose name contains this")
    args = parser.parse_args()
    for name in DATA:
        if args.only in name:
            write_real_sets(name, args.out, args.images, args.reference)


if __name__ == "__main__":
    main()
