"""Checks of the configuration in an untrusted checkpoint, before anything that it names is built, run or written."""

import re
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any

from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf

from gan_lightning.errors import UserError
from gan_lightning.io.paths import absolute, split_at_file
from gan_lightning.run.checkpoint_format import DATA_DIR, NOT_STORED

CLASS = r"\.[A-Z][A-Za-z0-9]*"
ALLOWED_TARGETS = re.compile(
    rf"gan_lightning\.(model|network|loss|augment|data|feature|metric|callbacks)\.[a-z0-9_]+{CLASS}|torch\.optim{CLASS}"
    rf"|gan_lightning\.trainer\.Trainer|pytorch_lightning\.Trainer|pytorch_lightning\.loggers{CLASS}"
)
TRUST = "gan_lightning.load(path, trust_checkpoint=True), gan-sample --trust-checkpoint "
TRUST += "or gan-evaluate trust_checkpoint=true"
CALLS = {"_args_", "_partial_", "_recursive_", "_convert_"}  # keys of Hydra's instantiate(), beside _target_
WRITERS, PATHS = ("logger.", "trainer.", "callbacks."), ("_dir", "dirpath", "_uri", "_location")


def check_trusted(node: Any, path: Path, how: str = TRUST, overridden: Container[str] = (), key: str = "") -> None:
    """Reject a configuration that could run code of an untrusted file.

    Args:
        node: The configuration, resolved, or a part of it.
        path: The file that it is from.
        how: The option that trusts it.
        overridden: Keys of the command line, whose values are trusted.
        key: The key of the part.

    Raises:
        UserError: It names a class that is not allowed, changes how a class is called, or has an interpolation.
    """
    for name, value in entries(node, key):
        problem = ""
        if isinstance(value, dict):
            allowed = {"_partial_"} if str(value.get("_target_")).startswith("torch.optim.") else set()
            if calls := value.keys() & (CALLS - allowed):
                problem = f"{name}.{min(calls)} changes how a class is called".removeprefix(".")
        elif isinstance(value, str) and name not in overridden:
            if name.rpartition(".")[2] == "_target_" and not is_allowed_target(value):
                problem = f"names {value!r}, which is no class of this version; loading would run its code"
            elif "${" in value:
                problem = f"{name}={value!r} would be computed while loading"
        if problem:
            raise UserError(f"{path}: {problem}. If you trust the file: {how}")


def check_write_paths(node: Any, path: Path, how: str, overridden: Container[str]) -> None:
    """Reject a configuration that writes to a path outside of the run directory.

    Args:
        node: The configuration; its references are those of this version's files.
        path: The file that it is from.
        how: The option that trusts it.
        overridden: Keys of the command line, whose values are trusted.

    Raises:
        UserError: A logger, a callback or the trainer has such a path.
    """
    for key, value in entries(node):
        if not isinstance(value, str) or key in overridden or not key.startswith(WRITERS):
            continue
        known = value == NOT_STORED or value.startswith("${")
        if ".." in value or (not known and (key.endswith(PATHS) or "/" in value or value.startswith("~"))):
            raise UserError(f"{path}: {key}={value!r} writes outside the run directory. If you trust the file: {how}")


def entries(node: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield nested dictionaries and lists and all of their entries, each with its dotted key."""
    yield key, node
    for name, part in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        yield from entries(part, f"{key}.{name}".removeprefix("."))


def check_data_exists(config: DictConfig, path: Path, overridden: Container[str] = ()) -> None:
    """Reject a data directory or file of a checkpoint that does not exist, since data would be downloaded to it.

    Raises:
        UserError: There is no such directory or file, and the command line does not set ``data.root``.
    """
    data = OmegaConf.to_container(config).get("data")
    root = data.get("root") if isinstance(data, dict) else None
    if not isinstance(root, str) or root == DATA_DIR or "data.root" in overridden:
        return
    if not root or not (absolute(root).is_dir() or split_at_file(absolute(root))[0]):
        raise UserError(f"{path}: its data were in {root!r}, which does not exist; data.root=FOLDER sets another")


def is_allowed_target(target: str) -> bool:
    """Return whether a name is that of a class of this package, or an allowed one of torch or Lightning."""
    try:
        allowed = ALLOWED_TARGETS.fullmatch(target)
        return bool(allowed) and get_class(target).__module__.startswith(target.rpartition(".")[0])
    except Exception:  # there is no such class
        return False
