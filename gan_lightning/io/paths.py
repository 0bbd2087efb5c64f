"""Paths: the folder of the configuration, and the absolute paths of users' arguments and environment variables."""

import logging
import os
import re
from pathlib import Path

from gan_lightning.errors import UserError

PACKAGE = Path(__file__).parents[1]
# The configuration is beside the package in a clone and inside it in a wheel.
CONF = next(path for path in (PACKAGE / "conf", PACKAGE.parent / "conf") if path.is_dir())

DESCRIPTION, WEIGHTS = "config.json", "generator.safetensors"  # files of a folder written by gan-export

VARIABLES = ("GAN_DATA_DIR", "GAN_CACHE_DIR")

log = logging.getLogger(__name__)
warned: set[str | os.PathLike[str]] = set()  # paths whose warning has been logged

LABEL_FILES = "labels.csv", "dataset.json"  # labels of the images in a folder or an archive
SHARD_SUFFIXES = ".tar", ".parquet", ".arrow"  # files of which a folder of images may consist

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")  # owner/name on the Hugging Face Hub


def absolute(path: str | os.PathLike[str]) -> Path:
    """Expand ``~`` and return an absolute path. Every path that a user passes goes through this once, at the entry.

    As in a shell, ``./~`` is a directory of that name.

    Raises:
        UserError: ``~`` is used and the home directory cannot be determined.
    """
    text = os.path.expanduser(path)  # noqa: PTH111  (Path() would turn ./~ into ~)
    if text.startswith("~") and not os.path.lexists(text):
        raise UserError(f"{path}: the home directory is unknown; set HOME, or give a path without ~")
    return Path(text).absolute()


def split_at_file(path: Path) -> tuple[Path | None, str]:
    """Return the file that a path is or leads through, and the rest: ``photos.zip/train`` is a folder in an archive.

    Returns:
        The file, None if there is none; and the rest with ``/``, empty for the file itself.
    """
    for file in (path, *path.parents):
        if file.is_file():
            inside = path.relative_to(file).as_posix()
            return file, "" if inside == "." else inside
    return None, ""


def expand_home(path: Path) -> Path:
    """Return a path of a Python function's caller with ``~`` expanded; others stay as they are, also in messages."""
    return absolute(path) if str(path).startswith("~") else path


def absolute_environment() -> None:
    """Make the paths in gan-lightning's environment variables absolute, also for processes that this one starts.

    Raises:
        UserError: ``~`` is used and the home directory cannot be determined.
    """
    for name in VARIABLES:
        if value := os.environ.get(name):
            os.environ[name] = str(absolute(value))


def cache_directory(path: str | os.PathLike[str] | None) -> Path | None:
    """Return a cache's absolute directory; log a warning and return None if its ``~`` cannot be expanded.

    A container may run under a user id without a passwd entry and without HOME. Runs then work without a cache.
    """
    if path is None:
        return None
    try:
        return absolute(path)
    except UserError:
        if path not in warned:
            warned.add(path)
            log.warning(
                f"{path}: the home directory is unknown, so nothing is cached; GAN_CACHE_DIR=FOLDER or set HOME"
            )
        return None


def relative_path(path: Path) -> Path:
    """Return a path relative to the working directory if it is inside it, for messages.

    A path that would begin with ``~`` stays absolute, since libraries would expand it to the home directory.
    """
    short = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    return path if str(short).startswith("~") else short
