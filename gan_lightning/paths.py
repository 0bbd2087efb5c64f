"""Where the configuration lives: beside the package in a clone, inside it in a wheel."""

import re
from pathlib import Path

PACKAGE = Path(__file__).parent
CONF = next(path for path in (PACKAGE / "conf", PACKAGE.parent / "conf") if path.is_dir())

DESCRIPTION, WEIGHTS = "config.json", "generator.safetensors"  # of a folder of gan-export

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")  # owner/name, of the Hugging Face Hub


def of_run(folder: Path) -> str:
    """Where the checkpoint of a run is whose folder stands in the place of one; "" of any other path."""
    checkpoint = folder / "checkpoints" / "last.ckpt"
    return f"; a run's checkpoint is {checkpoint}" if checkpoint.exists() else ""
