"""Disk cache of tensors that take long to compute, such as features and trained classifiers."""

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

from gan_lightning.io.files import atomic_write, file_lock
from gan_lightning.io.paths import cache_directory

log = logging.getLogger(__name__)


class TensorCache:
    """A directory of safetensors files, each with the SHA-256 of its tensors; a damaged file is computed again.

    Several processes may share it: one computes, and the others wait for the file. If the directory cannot be written,
    results are not cached.

    Args:
        folder: The directory; ``~`` is the user's home. If that is unknown, results are not cached.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = cache_directory(folder)

    def get(self, name: str, compute: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """Return the cached tensors of a name; compute and cache them if they are missing.

        Args:
            name: Name of the entry, which must contain everything that the tensors depend on.
            compute: Returns the tensors by name.
        """
        if self.folder is None:
            return as_stored(compute())
        path = self.folder / f"{name}.safetensors"
        if (found := self.read(path)) is not None:
            return found
        with ExitStack() as held:
            try:
                held.enter_context(file_lock(path.with_suffix(".lock")))
                if (found := self.read(path)) is not None:
                    return found
                if path.exists():
                    log.warning(f"{path}: damaged; it is computed again")
            except OSError as error:
                self.warn(name, error)
            tensors = as_stored(compute())
            if self.folder.is_dir():
                try:
                    self.write(path, tensors)
                except OSError as error:
                    self.warn(name, error)
        return tensors

    def warn(self, name: str, error: OSError) -> None:
        """Log a warning that an entry cannot be cached."""
        log.warning(f"{self.folder}: cannot be written ({error.strerror}); {name} is not cached; set eval.cache=FOLDER")

    def read(self, path: Path) -> dict[str, Tensor] | None:
        """Return the tensors of a file; None if it is missing or damaged."""
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
        """Write tensors and their checksum atomically."""
        with atomic_write(path) as file:
            file.write(safetensors.torch.save(tensors, {"sha256": checksum(tensors)}))


def as_stored(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors as they are read from a file: detached, on the CPU, contiguous."""
    return {key: value.detach().cpu().contiguous() for key, value in tensors.items()}


def checksum(tensors: dict[str, Tensor]) -> str:
    """Return the SHA-256 of named tensors."""
    return fingerprint(*(part for name in sorted(tensors) for part in (name, tensors[name])))


def fingerprint(*parts: Tensor | Any) -> str:
    """Return the SHA-256 of tensors, with their shapes and dtypes, and of JSON-compatible data."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, Tensor):
            digest.update(f"{tuple(part.shape)} {part.dtype}".encode())
            digest.update(part.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        else:
            digest.update(json.dumps(part, sort_keys=True).encode())
    return digest.hexdigest()
