"""GAN training on PyTorch Lightning and Hydra: six GAN variants and a VAE baseline, with exact resume.

The functions of this module are the public interface for Python, see ``docs/python.md``.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gan_lightning.model.base import GenerativeModel
    from gan_lightning.model.sampling import SamplingMixin

__version__ = "0.1.0"

# Modules of the other public names. They are imported at first use, since importing torch takes seconds.
MODULES = {
    "Trainer": "gan_lightning.trainer",
    "UserError": "gan_lightning.errors",
    "default_callbacks": "gan_lightning.run.python",
    "evaluate": "gan_lightning.run.python",
    "from_dataset": "gan_lightning.data.dataset",
    "train": "gan_lightning.run.python",
}
__all__ = ["Trainer", "UserError", "default_callbacks", "evaluate", "from_dataset", "load", "train"]


def __getattr__(name: str) -> Any:
    """Import a public name from its module."""
    if name not in MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(MODULES[name]), name)


def __dir__() -> list[str]:
    """Return the public names, also those that have not been imported yet."""
    return sorted(__all__)


def load(path: str | Path, trust_checkpoint: bool = False, model: "GenerativeModel | None" = None) -> "SamplingMixin":
    """Return a trained model, in evaluation mode, ready to sample.

    >>> model = gan_lightning.load("runs/.../checkpoints/last.ckpt")
    >>> images = model.sample(64, labels=None, seed=0)  # float (64, C, H, W) in [-1, 1]

    Args:
        path: A gan-lightning checkpoint or a run directory (its best checkpoint, or else the latest readable one),
            which returns the complete :class:`~gan_lightning.model.base.GenerativeModel`; or a folder written by
            gan-export, or the ``owner/name`` of one on the Hugging Face Hub, which returns the generator only.
        trust_checkpoint: Allow classes from outside this package that the file names. Building them runs their code.
        model: A model into which the weights are loaded, for one that was trained in Python with networks of your own:
            construct it as it was trained. None rebuilds the model from the checkpoint.

    Raises:
        UserError: The file is missing or damaged, is not a gan-lightning file, names third-party classes without
            ``trust_checkpoint``, does not describe the model, or does not fit ``model``.
    """
    # Imported here because these modules import torch, which takes seconds and which --help does not need.
    from gan_lightning.export.generator import from_hub, load_exported, load_model_or_export
    from gan_lightning.io.paths import HUB_ID, absolute
    from gan_lightning.run.checkpoint import choose, load_into

    place = absolute(path)
    if model is not None:
        return load_into(model, place)
    if not place.exists() and place.suffix != ".ckpt" and HUB_ID.fullmatch(str(path)):
        return load_exported(from_hub(str(path)), trust_checkpoint)
    chosen, content = choose(place)
    return load_model_or_export(chosen, trust_checkpoint, content)
