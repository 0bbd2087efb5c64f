"""The data sets and image sets of this folder: where they are stored, and how real images are read.

An image set is a file ``OUT/sets/DATA/NAME.npy`` of uint8 images (N, C, H, W), with a JSON file of the same name that
has its hash and what it was made from. Files are written atomically, and a script skips those that exist.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from gan_lightning.config.instantiate import instantiate
from gan_lightning.io.cache import fingerprint
from gan_lightning.io.files import atomic_write
from gan_lightning.io.paths import CONF

ROOT = Path(__file__).parents[2]
OUT = ROOT / "data" / "compact_features"
REFERENCE, REAL = "reference", "real"


@dataclass(frozen=True)
class DataSet:
    """A data set whose images are generated and degraded.

    Attributes:
        overrides: Overrides that select it; ``{root}`` is the folder of the data sets.
        colour: Whether its images have three channels.
        seen: Whether student networks are trained on it. The real images of the reference are never trained on.
        split: Index of the first reference image; None where the other images come from a test split.
        attributes: CelebA's attributes whose combinations are the classes; none for the data set's own classes.
    """

    overrides: tuple[str, ...]
    colour: bool
    seen: bool
    split: int | None = None
    attributes: tuple[str, ...] = ()


DATA = {
    "cifar10": DataSet(("data=cifar10",), colour=True, seen=True),
    "anime": DataSet(
        ("data=image_folder", "data.root='{root}/anime'", "data.image_size=64"), colour=True, seen=False, split=2000
    ),
    "celeba": DataSet(("data=celeba",), colour=True, seen=False, split=5000, attributes=("Male", "Young")),
    "fashion_mnist": DataSet(("data=fashion_mnist", "data.image_size=32"), colour=False, seen=True),
    "mnist": DataSet(("data=mnist", "data.image_size=32"), colour=False, seen=True),
}
NUM_REFERENCE = 5000
MAX_REAL = 10_000  # images of a data set without test split that are read


def compose_config(overrides: Sequence[str], seed: int, out: Path) -> DictConfig:
    """Compose a configuration for a CPU; decoded images are cached below ``out``."""
    root = os.environ.get("GAN_DATA_DIR", "data")
    lines = [line.format(root=Path(root).absolute()) for line in overrides]
    with initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
        return compose("train", [*lines, f"seed={seed}", "trainer=cpu", f"eval.cache='{out.absolute() / 'cache'}'"])


def load_data(name: str, out: Path, *overrides: str) -> Any:
    """Return the data module of a data set, set up."""
    limit = () if DATA[name].split is None else (f"data.limit={MAX_REAL}",)
    data = instantiate(compose_config((*DATA[name].overrides, *limit, *overrides), 0, out).data, "data")
    data.setup()
    data.verify()
    return data


def set_path(out: Path, data: str, name: str, folder: str = "sets") -> Path:
    """Return the path of an image set; ``folder`` is ``training`` for generated images that students are trained on."""
    return out / folder / data / f"{name}.npy"


def write_array(path: Path, array: np.ndarray, description: dict[str, Any]) -> None:
    """Write an array as .npy, after a JSON file of the same name with its description.

    An existing array is removed first, so that an interrupted call leaves no array with another one's description.
    """
    path.unlink(missing_ok=True)
    with atomic_write(path.with_suffix(".json"), "w") as file:
        json.dump(description, file, indent=1)
    with atomic_write(path) as file:
        np.save(file, np.ascontiguousarray(array))


def write_set(path: Path, images: np.ndarray, **description: Any) -> None:
    """Write an image set and its JSON file, with the set's hash."""
    if images.dtype != np.uint8 or images.ndim != 4:
        raise ValueError(f"images must be uint8 of shape (N, C, H, W), not {images.dtype} {images.shape}")
    write_array(path, images, {"images": len(images), "sha256": hash_of(images)} | description)


def hash_of(array: np.ndarray) -> str:
    """Return the SHA-256 of an array with its shape and type."""
    return fingerprint(torch.from_numpy(np.ascontiguousarray(array)))


def sets_of(out: Path) -> dict[str, Path]:
    """Return the paths of all image sets by name (``cifar10/dcgan-300``): references, real images, and the others."""
    paths = (out / "sets").glob("*/*.npy")
    found = {f"{path.parent.name}/{path.stem}": path for path in paths if path.parent.name in DATA}
    first = [name for key in (REFERENCE, REAL) for name in found if name.endswith(f"/{key}")]
    return {name: found[name] for name in dict.fromkeys([*first, *sorted(found)])}
