"""GAN training on PyTorch Lightning and Hydra: six GAN variants and a VAE baseline, with exact resume."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gan_lightning.model.sampling import SamplingMixin

__version__ = "0.1.0"


def load(path: str | Path, trust_checkpoint: bool = False) -> "SamplingMixin":
    """Rebuild a trained model, in evaluation mode, ready to sample.

    >>> model = gan_lightning.load("runs/.../checkpoints/last.ckpt")
    >>> images = model.sample(64, labels=None, seed=0)  # float (64, C, H, W) in [-1, 1]

    Args:
        path: A gan-lightning checkpoint or a run directory (its best checkpoint, or else the latest readable one),
            which returns the complete :class:`~gan_lightning.model.base.GenerativeModel`; or a folder written by
            gan-export, or the ``owner/name`` of one on the Hugging Face Hub, which returns the generator only.
        trust_checkpoint: Allow classes from outside this package that the file names. Building them runs their code.

    Raises:
        UserError: The file is missing or damaged, is not a gan-lightning file, or names third-party classes without
            ``trust_checkpoint``.
    """
    # Imported here because these modules import torch, which takes seconds and which --help does not need.
    from gan_lightning.export.generator import from_hub, load_exported, load_model_or_export
    from gan_lightning.io.paths import HUB_ID, absolute
    from gan_lightning.run.checkpoint import choose

    place = absolute(path)
    if not place.exists() and place.suffix != ".ckpt" and HUB_ID.fullmatch(str(path)):
        return load_exported(from_hub(str(path)), trust_checkpoint)
    chosen, content = choose(place)
    return load_model_or_export(chosen, trust_checkpoint, content)
