"""Exported generators: load the weights and the description that gan-export wrote, from disk or the Hugging Face Hub.

Both files are data; loading them runs no code.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.errors import InstantiationException
from omegaconf.errors import OmegaConfBaseException
from torch import nn

from gan_lightning.errors import UserError, short_message
from gan_lightning.io.cache import TensorCache
from gan_lightning.io.class_names import validate_class_names
from gan_lightning.io.files import read_json
from gan_lightning.io.paths import DESCRIPTION, WEIGHTS, expand_home
from gan_lightning.model.sampling import SamplingMixin
from gan_lightning.run.checkpoint import build_with_weights, check_tensors_finite, load_model
from gan_lightning.run.trust import check_trusted

FORMAT = 1
MAX_DESCRIPTION_BYTES = 1 << 24  # a description with a thousand class names takes a few thousand


class ExportedGenerator(SamplingMixin):
    """A generator without discriminator and training state.

    Args:
        generator: Maps latents (N, latent_dim) and labels (N,) to samples.
        latent_dim: Size of a latent.
        num_classes: Number of classes; 0 for an unconditional generator.
        class_names: Their names; empty if they are unknown.
    """

    def __init__(
        self, generator: nn.Module, latent_dim: int, num_classes: int, class_names: Sequence[str] = ()
    ) -> None:
        super().__init__()
        self.generator, self.latent_dim, self.num_classes = generator, latent_dim, num_classes
        self.class_names = [*class_names]


def load_exported(folder: Path, trust_checkpoint: bool = False) -> ExportedGenerator:
    """Load the generator of a directory that gan-export wrote, in evaluation mode.

    Args:
        folder: The directory.
        trust_checkpoint: Allow user-supplied classes, which runs their code.

    Raises:
        UserError: A file is missing, damaged or was not written by gan-export, or names an untrusted class.
    """
    folder = expand_home(folder)
    path = folder / DESCRIPTION
    if not path.exists():
        raise UserError(f"{folder}: was not written by gan-export, since it has no {DESCRIPTION}")
    config = read_description(path)
    names = validate_class_names(config.get("class_names"), config["num_classes"], path)
    node = config["generator"]
    if not trust_checkpoint:
        check_trusted(node, path, "gan_lightning.load(folder, trust_checkpoint=True)")
    state = TensorCache(folder).read(folder / WEIGHTS)
    if state is None:
        raise UserError(f"{folder / WEIGHTS}: is missing or damaged")
    try:
        generator = build_with_weights(nn.Module, node, state, folder / WEIGHTS)
        model = ExportedGenerator(generator, config["latent_dim"], config["num_classes"], names).eval()
        check_tensors_finite({"a sample": model.sample(1)}, path)
    except (InstantiationException, OmegaConfBaseException, RuntimeError, IndexError, TypeError) as error:
        raise UserError(f"{path}: the generator that it describes cannot be built ({short_message(error)})") from error
    return model


def load_model_or_export(
    path: Path, trust_checkpoint: bool = False, checkpoint: dict[str, Any] | None = None
) -> SamplingMixin:
    """Load a checkpoint's model or an exported generator, as :func:`gan_lightning.run.checkpoint.choose` returned it.

    Args:
        path: A checkpoint, or a directory that gan-export wrote.
        trust_checkpoint: Allow user-supplied classes, which runs their code.
        checkpoint: Content of the checkpoint if it has been read already.
    """
    return load_exported(path, trust_checkpoint) if path.is_dir() else load_model(path, trust_checkpoint, checkpoint)


def read_description(path: Path) -> dict[str, Any]:
    """Read and validate a description.

    Raises:
        UserError: It cannot be read, or gan-export of this version did not write it.
    """
    try:
        # Links to anywhere are followed, since the Hub's cache consists of links.
        config = read_json(path, Path(path.absolute().anchor), MAX_DESCRIPTION_BYTES)
        if not isinstance(config, dict) or "_target_" not in config["generator"]:
            raise ValueError("no generator")
        sizes = [config[name] for name in ("format", "latent_dim", "num_classes")]
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: was not written by gan-export") from error
    if not all(type(size) is int and 0 <= size < 2**20 for size in sizes) or sizes[1] == 0:
        raise UserError(f"{path}: was not written by gan-export: invalid sizes")
    if sizes[0] > FORMAT:
        raise UserError(f"{path}: is of a later version of gan-lightning (format {sizes[0]}, this one reads {FORMAT})")
    return config


def from_hub(name: str) -> Path:
    """Download a repository of the Hugging Face Hub, at the first call only; return its directory.

    Raises:
        UserError: ``huggingface_hub`` is not installed, or the repository cannot be downloaded.
    """
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise UserError(
            f"{name}: no such file or folder; to download it from the Hub, pip install 'gan-lightning[hub]'"
        ) from error
    try:
        return Path(snapshot_download(name, allow_patterns=[DESCRIPTION, WEIGHTS]))
    except Exception as error:  # many types: network, service, permissions
        raise UserError(
            f"{name}: no such file or folder, and the download from the Hub failed ({short_message(error)})"
        ) from error
