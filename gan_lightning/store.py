"""What is computed once and kept: tensors on disk under names that say everything they depend on."""

import hashlib
import json
import logging
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from gan_lightning.files import locked, whole
from gan_lightning.paths import cache_directory

log = logging.getLogger(__name__)


class Store:
    """A folder of safetensors files, each with the sha256 of its tensors; a damaged one is made anew.

    Several processes may share it: who asks first computes, and the others wait for the file. Where the folder cannot
    be written, everything is computed and nothing kept.

    Args:
        folder: ``~`` is the user's home; where that is unknown, nothing is kept.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = cache_directory(folder)

    def get(self, name: str, compute: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """The tensors of a name, computed where they are not there."""
        if self.folder is None:
            return kept(compute())
        path = self.folder / f"{name}.safetensors"
        if (found := self.read(path)) is not None:
            return found
        with ExitStack() as held:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                held.enter_context(locked(path.with_suffix(".lock"), others_make(name)))
                if (found := self.read(path)) is not None:
                    return found
                if path.exists():
                    log.warning(f"{path}: damaged; it is made anew")
            except OSError as error:
                self.warn(name, error)
            tensors = kept(compute())
            if self.folder.is_dir():
                try:
                    self.write(path, tensors)
                except OSError as error:
                    self.warn(name, error)
        return tensors

    def warn(self, name: str, error: OSError) -> None:
        """Nothing is lost but time."""
        log.warning(f"{self.folder}: cannot be written ({error.strerror}); {name} is not kept. eval.cache=FOLDER")

    def read(self, path: Path) -> dict[str, Tensor] | None:
        """What a file holds; None where it is missing or damaged."""
        if not path.is_file():
            return None
        try:
            tensors = safetensors.torch.load_file(path)
            with safetensors.safe_open(path, "pt") as file:
                expected = (file.metadata() or {}).get("sha256")
        except (OSError, safetensors.SafetensorError):
            expected, tensors = None, {}
        return tensors if expected == checksum(tensors) else None

    def write(self, path: Path, tensors: dict[str, Tensor]) -> None:
        """Write whole, with the checksum."""
        with whole(path) as file:
            file.write(safetensors.torch.save(tensors, {"sha256": checksum(tensors)}))


def kept(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors as a file would hold them."""
    return {key: value.detach().cpu().contiguous() for key, value in tensors.items()}


def others_make(name: str) -> Callable[[], None]:
    """Tell what is waited for."""
    return lambda: log.info(f"waiting for another process, which makes {name}")


def checksum(tensors: dict[str, Tensor]) -> str:
    """Of named tensors."""
    return fingerprint(*(part for name in sorted(tensors) for part in (name, tensors[name])))


def fingerprint(*parts: Tensor | Any) -> str:
    """Sha256 of tensors, with their shapes and types, and of plain data."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, Tensor):
            digest.update(f"{tuple(part.shape)} {part.dtype}".encode())
            digest.update(part.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
        else:
            digest.update(json.dumps(part, sort_keys=True).encode())
    return digest.hexdigest()
