"""Golden files: losses of the first hundred steps of each variant, in float64 on one thread.

python tests/support/golden.py                # rewrite the losses, after an intended change of training
python tests/support/golden.py checkpoint     # write format_N.ckpt of the current checkpoint format, and its samples
"""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from hydra import compose, initialize_config_dir

import gan_lightning
from gan_lightning.callbacks.metric_logger import named
from gan_lightning.io.paths import CONF
from gan_lightning.run.checkpoint_format import FORMAT_VERSION
from gan_lightning.run.fit import train

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
    """Train for a hundred steps; return the values of every loss term."""
    torch.set_num_threads(1)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", [f"model={variant}", *WORDS])
    steps = [named(terms) for _, terms in train(config, run).lightning_module.history]
    assert len(steps) == 100
    return {name: [float(step[name]) for step in steps] for name in steps[0]}


CHECKPOINT_WORDS = (
    "model=wgan_gp",
    "model.latent_dim=8",
    "model.ema_decay=0.9",
    "data.image_size=8",
    "data.limit=26",
    "data.batch_size=4",
    "network.width=2",
    "trainer=cpu",
    "trainer.max_steps=6",
    "eval.every_n_steps=null",
)


def write_checkpoint() -> None:
    """Write a checkpoint of the current format, and samples of its model."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        argv = sys.executable, "-m", "gan_lightning.cli.train", *CHECKPOINT_WORDS, f"hydra.run.dir={folder}/run"
        subprocess.run(argv, check=True)
        path = FOLDER / f"format_{FORMAT_VERSION}.ckpt"
        shutil.copyfile(Path(folder, "run", "checkpoints", "last.ckpt"), path)
    torch.save(gan_lightning.load(path).sample(4, seed=0), path.with_suffix(".pt"))


def main() -> None:
    if sys.argv[1:] == ["checkpoint"]:
        write_checkpoint()
        return
    for variant in sys.argv[1:] or sorted(path.stem for path in (CONF / "model").glob("*.yaml")):
        with tempfile.TemporaryDirectory() as run:
            found = curves(variant, Path(run))
        (FOLDER / f"{variant}.json").write_text(json.dumps(found, indent=0) + "\n")


if __name__ == "__main__":
    main()
