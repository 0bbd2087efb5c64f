"""Base class of the data sets that torchvision downloads, and the search for files that are in another directory."""

import os
import zlib
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from tarfile import TarError
from typing import Any

import torch
from torch import Tensor

from gan_lightning.data.datamodule import ImageData
from gan_lightning.data.validate import check_samples
from gan_lightning.errors import UserError
from gan_lightning.io.files import directories, file_lock


class Downloaded(ImageData):
    """Data set whose files torchvision downloads if they are missing.

    Attributes:
        name: Option of the data set, ``mnist`` for example.
        folder: Directory of the files, relative to ``root``.
        train_files: Names of the files of the training set.
        test_files: Names of the other files.
        dataset: torchvision's class.
    """

    name: str
    folder: str
    train_files: tuple[str, ...]
    test_files: tuple[str, ...]
    dataset: Callable[..., Any]

    @property
    def source(self) -> str:
        """Name of the data set in messages, with the directory of its files."""
        return f"data={self.name} ({self.root / self.folder})"

    def read(self, rows: slice) -> tuple[Tensor, Tensor, list[str]]:
        """Return the training set."""
        images, labels, names = self.read_split(train=True)
        return images[rows], labels[rows], names

    def test(self) -> tuple[Tensor, Tensor, list[str]]:
        """Return the test set."""
        return self.read_split(train=False)

    def read_split(self, train: bool) -> tuple[Tensor, Tensor, list[str]]:
        """Return all images of a split, their labels and the class names; validated before ``limit`` is applied.

        Raises:
            UserError: The files are missing, damaged, or of different data sets.
        """
        self.root = find_data_root(self.root, self.folder, self.train_files[0])
        found = self.fetch(train)
        images = torch.as_tensor(found.data)  # (N, H, W) or (N, H, W, 3)
        images = images[:, None] if images.ndim == 3 else images.permute(0, 3, 1, 2).contiguous()
        names = [name.partition(" - ")[0] for name in found.classes]
        files = ", ".join(name.removesuffix(".gz") for name in (self.train_files if train else self.test_files))
        return check_samples(f"{self.source}, {files}", (images, found.targets, names), True)

    def fetch(self, train: bool) -> Any:
        """Return a split as read by torchvision; one process at a time downloads and reads it.

        Raises:
            UserError: The files are missing and cannot be downloaded, or they are damaged; the message names the
                folder to put them into.
        """
        try:
            with ExitStack() as held:
                with suppress(OSError):  # the directory cannot be written, or its file system has no locks
                    self.root.mkdir(parents=True, exist_ok=True)
                    held.enter_context(file_lock(self.root))
                return self.dataset(self.root, train, download=True)
        except (OSError, EOFError, RuntimeError, TypeError, ValueError, AssertionError, zlib.error, TarError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            files, folder = (*self.train_files, *self.test_files), self.root / self.folder
            raise UserError(
                f"data={self.name}: its files are missing or damaged, and the download failed ({reason}). "
                f"Put {', '.join(files)} into {folder}, or set data.root=FOLDER to the folder that contains them"
                f"{misplaced_file_hint(self.root, folder, files)}"
            ) from error


def find_data_root(root: Path, subfolder: str, file: str) -> Path:
    """Return the directory of the data sets if the user passed the directory of the files or one in between.

    Args:
        root: The directory that the user passed.
        subfolder: Directory of the files, relative to the directory of the data sets.
        file: Name of one of the files; it may exist with or without ``.gz``.
    """
    parts = Path(subfolder).parts
    for passed in range(len(parts), 0, -1):
        inner = root.joinpath(*parts[passed:])
        # Path.exists raises PermissionError.
        exists = any(os.path.exists(inner / name) for name in (file, file.removesuffix(".gz")))  # noqa: PTH110
        if exists and root.parts[-passed:] == parts[:passed]:
            return root.parents[passed - 1]
    return root


def misplaced_file_hint(root: Path, target_folder: Path, files: Sequence[str]) -> str:
    """Return a hint if a file that belongs into ``target_folder`` is elsewhere below ``root``; empty if none is found.

    A file is recognised by its name, with or without ``.gz``, and with ``-`` or ``.`` as separators.
    """

    def plain(name: str) -> str:
        return name.removesuffix(".gz").replace(".", "-")

    wanted = {plain(name): name.removesuffix(".gz") for name in files}
    for folder, found in directories(root, lambda _: None):
        for path in (folder / name for name in sorted(found) if plain(name) in wanted):
            target = target_folder / (wanted[plain(path.name)] + path.suffix * (path.suffix == ".gz"))
            if path != target and os.path.isfile(path):  # noqa: PTH113  (Path.is_file raises PermissionError)
                return f". {path} looks like one of them: move it to {target}, and the others too"
    return ""
