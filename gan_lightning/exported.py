"""A generator by itself: a folder with its weights and a description, which is data and nothing else."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf.errors import OmegaConfBaseException
from torch import nn

from gan_lightning.checkpoint import load_model, refuse_foreign, refuse_non_finite, take_state
from gan_lightning.class_names import checked
from gan_lightning.errors import UserError, first_line
from gan_lightning.files import read_json
from gan_lightning.paths import DESCRIPTION, WEIGHTS
from gan_lightning.sampler import Sampler
from gan_lightning.store import Store

FORMAT = 1
MOST_BYTES = 1 << 24  # of a description; ours take a few thousand, a thousand class names among them


class Exported(Sampler):
    """A generator without its game.

    Args:
        generator: Maps latents (N, latent_dim) and labels (N,) to samples.
        latent_dim: Size of the latent.
        num_classes: How many classes may be asked for; 0 for none.
        class_names: Their names; empty where they are unknown.
    """

    def __init__(
        self, generator: nn.Module, latent_dim: int, num_classes: int, class_names: Sequence[str] = ()
    ) -> None:
        super().__init__()
        self.generator, self.latent_dim, self.num_classes = generator, latent_dim, num_classes
        self.class_names = [*class_names]


def load_exported(folder: Path, trust: bool = False) -> Exported:
    """The generator of a folder that gan-export wrote, in evaluation mode.

    Raises:
        UserError: Something is missing, damaged or foreign, or names classes that are not ours.
    """
    path = folder / DESCRIPTION
    if not path.exists():
        raise UserError(f"{folder}: is no folder of gan-export, since it has no {DESCRIPTION}")
    config = described(path)
    names = checked(config.get("class_names"), config["num_classes"], path)
    node = config["generator"]
    if not trust:
        refuse_foreign(node, path, "gan_lightning.load(folder, trust=True)")
    state = Store(folder).read(folder / WEIGHTS)
    if state is None:
        raise UserError(f"{folder / WEIGHTS}: is not there, or damaged")
    try:
        with torch.device("meta"):  # a size that the weights do not have is found before it is allocated
            empty = {name: value.to("meta") for name, value in state.items()}
            take_state(instantiate(node, _convert_="all"), empty, path)
        generator = instantiate(node, _convert_="all")
        take_state(generator, state, folder / WEIGHTS)
        model = Exported(generator, config["latent_dim"], config["num_classes"], names).eval()
        refuse_non_finite({"a sample": model.sample(1)}, path)
    except (InstantiationException, OmegaConfBaseException, RuntimeError, IndexError, TypeError) as error:
        raise UserError(f"{path}: the generator that it describes cannot be built ({first_line(error)})") from error
    return model


def load_chosen(path: Path, trust: bool = False, checkpoint: dict[str, Any] | None = None) -> Sampler:
    """Return the model of a checkpoint or the generator of an export, see :func:`gan_lightning.checkpoint.choose`.

    Args:
        path: A checkpoint, or a folder of gan-export.
        trust: Build classes from outside this package.
        checkpoint: The checkpoint's content where it was read already.
    """
    return load_exported(path, trust) if path.is_dir() else load_model(path, trust, checkpoint)


def described(path: Path) -> dict[str, Any]:
    """What a description says, its form checked."""
    try:
        config = read_json(path, Path(path.absolute().anchor), MOST_BYTES)  # links are the Hub's cache
        if not isinstance(config, dict) or "_target_" not in config["generator"]:
            raise ValueError("no generator")
        sizes = [config[name] for name in ("format", "latent_dim", "num_classes")]
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: was not written by gan-export") from error
    if not all(type(size) is int and 0 <= size < 2**20 for size in sizes) or sizes[1] == 0:
        raise UserError(f"{path}: was not written by gan-export: sizes that make no sense")
    if sizes[0] > FORMAT:
        raise UserError(f"{path}: is of a later version of gan-lightning (format {sizes[0]}, this one reads {FORMAT})")
    return config


def from_hub(name: str) -> Path:
    """The folder that a repository of the Hugging Face Hub is downloaded to, once.

    Raises:
        UserError: The package that does it is not there, or there is no such repository to be had.
    """
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise UserError(
            f"{name}: no such file or folder; from the Hub with pip install 'gan-lightning[hub]'"
        ) from error
    try:
        return Path(snapshot_download(name, allow_patterns=[DESCRIPTION, WEIGHTS]))
    except Exception as error:  # of the network, of the service, of rights: a dozen kinds
        raise UserError(
            f"{name}: no such file or folder, and not to be had from the Hub ({first_line(error)})"
        ) from error
