"""Checkpoints: written whole, loaded as data, rebuilt as models."""

import re
import zipfile
from pathlib import Path
from typing import Any

import torch
from hydra.utils import get_class, instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.plugins.io import TorchCheckpointIO

from gan_lightning.errors import UserError
from gan_lightning.files import by_age, whole
from gan_lightning.model.base import GAN

OURS = re.compile(
    r"gan_lightning\.(model|network|loss|data|feature|metric)\.[a-z0-9_]+\.[A-Z][A-Za-z0-9]*|torch\.optim\.[A-Z][A-Za-z]*"
)

PARTS = {"hyper_parameters", "state_dict", "global_step"}


class WholeCheckpointIO(TorchCheckpointIO):
    """Lightning's input and output, but a file is there whole or not at all, whatever kills the run."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write beside the target, flush, rename."""
        with whole(Path(path)) as file:
            torch.save(checkpoint, file)


def read(path: Path) -> dict[str, Any]:
    """What a checkpoint of ours holds, as plain data; nothing in the file is run.

    Raises:
        UserError: The file is missing, damaged or not a checkpoint of ours.
    """
    if not path.is_file():
        raise UserError(f"{path}: there is no such checkpoint")
    try:
        with zipfile.ZipFile(path) as archive:
            if (broken := archive.testzip()) is not None:
                raise zipfile.BadZipFile(broken)
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged files make torch and zipfile raise a dozen kinds
        kind = "it names code to run" if "weights_only" in str(error).lower() else "damaged, or no checkpoint at all"
        raise UserError(f"{path}: cannot be read ({kind})") from error
    if not (isinstance(checkpoint, dict) and checkpoint.keys() >= PARTS and holds_config(checkpoint)):
        raise UserError(f"{path}: a checkpoint, but not one of gan-lightning's: it holds no configuration of ours")
    return checkpoint


def holds_config(checkpoint: dict[str, Any]) -> bool:
    """Whether a checkpoint's hyperparameters hold a configuration with a model in it."""
    kept = checkpoint["hyper_parameters"]
    config = kept.get("config") if isinstance(kept, dict) else None
    return isinstance(config, dict) and "_target_" in (config.get("model") or {})


def config_of(checkpoint: dict[str, Any]) -> DictConfig:
    """The configuration that a checkpoint was made with, interpolations and all."""
    return OmegaConf.create(checkpoint["hyper_parameters"]["config"])


def newest(folder: Path) -> tuple[Path | None, list[str]]:
    """The newest checkpoint of a run folder that can be read, and a sentence for each newer one that cannot."""
    faults = []
    for path in reversed(by_age(folder.glob("checkpoints/*.ckpt"))):
        try:
            read(path)
            return path, faults
        except UserError as error:
            faults += error.faults
    return None, faults


def load_model(path: Path, trust: bool = False) -> GAN:
    """The model of a checkpoint in evaluation mode, see :func:`gan_lightning.load`."""
    checkpoint = read(path)
    node = OmegaConf.to_container(config_of(checkpoint).model, resolve=True)
    if not trust:
        refuse_foreign(node, path)
    state = checkpoint["state_dict"]
    model = instantiate(node, _convert_="all")
    model.to(next(value.dtype for value in state.values() if value.is_floating_point()))  # 64-true, bf16-true
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        reason = str(error).splitlines()[1].strip()
        raise UserError(f"{path}: its weights do not fit the model that it describes: {reason}") from error
    return model.eval()


def refuse_foreign(node: Any, path: Path) -> None:
    """Raise UserError where a configuration names anything but classes of ours and torch's optimizers."""
    if isinstance(node, dict):
        if "_target_" in node:
            target = str(node["_target_"])
            if not is_ours(target):
                raise UserError(
                    f"{path}: names {target!r}, which is no class of this version; loading would run its code. "
                    "If you trust the file: gan_lightning.load(path, trust=True), gan-sample --trust or "
                    "gan-evaluate trust=true"
                )
        node = [*node.values()]
    if isinstance(node, list):
        for part in node:
            refuse_foreign(part, path)


def is_ours(target: str) -> bool:
    """Whether a name is that of a class which this package, or torch.optim, defines itself."""
    try:
        return bool(OURS.fullmatch(target)) and get_class(target).__module__.startswith(target.rpartition(".")[0])
    except Exception:  # there is no such class
        return False


def take_networks(model: GAN, path: Path) -> None:
    """Start a model from the networks of another run, and nothing else of it.

    Raises:
        UserError: The other run's networks are of another kind or size.
    """
    state = read(path)["state_dict"]
    for name in ("generator", "discriminator"):
        weights = {key.removeprefix(f"{name}."): value for key, value in state.items() if key.startswith(f"{name}.")}
        try:
            getattr(model, name).load_state_dict(weights)
        except RuntimeError as error:
            reason = str(error).splitlines()[1].strip()
            raise UserError(f"init_from={path}: its {name} does not fit this one: {reason}") from error
    if model.generator_ema is not None:
        model.generator_ema.network.load_state_dict(model.generator.state_dict())
