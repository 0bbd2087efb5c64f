"""Points in the plane are their own features."""

from typing import Any

import torch
from torch import Tensor

from gan_lightning.feature import Samples
from gan_lightning.store import Store


class Plane:
    """Coordinates as features."""

    needs_points = True

    classes, no_classes = False, "coordinates name no classes"
    data_classes, instant = False, True
    batch, logits_sha256 = 250, ""

    def get_ready(self, data: Samples, store: Store, device: torch.device) -> None:
        """Nothing to do."""

    def card(self) -> dict[str, Any]:
        """The coordinates."""
        return {"feature": "coordinates"}

    def __call__(self, samples: Tensor) -> tuple[Tensor, None]:
        """(N, 2) to (N, 2)."""
        return samples.float(), None
