"""Six GANs that read like their papers, train with one command and resume exactly."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gan_lightning.model.base import GAN

__version__ = "0.1.0"


def load(path: str | Path, trust: bool = False) -> "GAN":
    """Rebuild a trained model from a checkpoint alone, in evaluation mode, ready to sample.

    >>> model = gan_lightning.load("runs/.../checkpoints/last.ckpt")
    >>> images = model.sample(64, labels=None, seed=0)  # float (64, C, H, W) in [-1, 1]

    Args:
        path: A checkpoint of ours.
        trust: Build classes from outside this package that the checkpoint names, which runs their code.

    Raises:
        UserError: The file is missing, damaged, foreign, or names classes that are not ours.
    """
    from gan_lightning.checkpoint import load_model  # imports torch, which --help does without

    return load_model(Path(path), trust)
