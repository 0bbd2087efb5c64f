"""Input and output of checkpoints with atomic writes."""

from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO

from gan_lightning.io.files import atomic_write, set_aside
from gan_lightning.io.paths import expand_home


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's checkpoint input and output, with atomic writes."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a temporary file, flush it and rename it to the path."""
        target = expand_home(Path(path))
        set_aside(target)
        with atomic_write(target) as file:
            try:
                torch.save(checkpoint, file)
            except RuntimeError as error:
                # On a full disk torch's writer fails again when it is closed, and that error hides the first one.
                if isinstance(error.__context__, OSError):
                    raise error.__context__ from None
                raise
