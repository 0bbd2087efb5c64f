"""Losses of the first hundred steps of each variant, in float64 on one thread: what a refactoring must not change.

    python tests/support/golden.py      # writes the golden folder anew, where a change of the game is meant

The checkpoint beside them is of the version in its name, and is never written anew: later versions must load it.
"""

import json
import sys
import tempfile
from pathlib import Path

import torch
from hydra import compose, initialize_config_dir

from gan_lightning.callbacks.scalars import named
from gan_lightning.fit import train
from gan_lightning.paths import CONF

FOLDER = Path(__file__).with_name("golden")
WORDS = (
    "data.image_size=16",
    "data.limit=26",
    "data.batch_size=4",
    "network.width=4",
    "trainer=cpu",
    "trainer.precision=64-true",
    "trainer.max_steps=100",
    "eval.every_n_steps=null",
    "~callbacks.sample_grid",
    "~callbacks.checkpoint",
    "~logger",
)


def curves(variant: str, run: Path) -> dict[str, list[float]]:
    """Every term of both losses at each step."""
    torch.set_num_threads(1)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", [f"model={variant}", *WORDS])
    steps = [named(terms) for _, terms in train(config, run).lightning_module.history]
    assert len(steps) == 100
    return {name: [float(step[name]) for step in steps] for name in steps[0]}


def main() -> None:
    for variant in sys.argv[1:] or sorted(path.stem for path in (CONF / "model").glob("*.yaml")):
        with tempfile.TemporaryDirectory() as run:
            found = curves(variant, Path(run))
        (FOLDER / f"{variant}.json").write_text(json.dumps(found, indent=0) + "\n")


if __name__ == "__main__":
    main()
