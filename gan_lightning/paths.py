"""Where the configuration lives: beside the package in a clone, inside it in a wheel."""

import os
import re
from pathlib import Path

from gan_lightning.errors import UserError

PACKAGE = Path(__file__).parent
CONF = next(path for path in (PACKAGE / "conf", PACKAGE.parent / "conf") if path.is_dir())

DESCRIPTION, WEIGHTS = "config.json", "generator.safetensors"  # of a folder of gan-export

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")  # owner/name, of the Hugging Face Hub


def absolute(path: str | os.PathLike[str]) -> Path:
    """Expand ``~`` and return an absolute path. Every path that a user passes goes through this once, at the entry.

    Raises:
        UserError: ``~`` stands for a home directory that cannot be determined.
    """
    try:
        return Path(path).expanduser().absolute()
    except RuntimeError as error:
        raise UserError(f"{path}: the home directory is unknown; set HOME, or give a path without ~") from error
