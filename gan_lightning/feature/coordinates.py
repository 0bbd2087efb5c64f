"""Coordinates of points in the plane as features."""

from typing import Any

import torch
from torch import Tensor

from gan_lightning.feature import Samples
from gan_lightning.io.cache import TensorCache


class Coordinates:
    """Identity feature network for points in the plane."""

    needs_points = True

    classes, no_logits_reason = False, "feature=coordinates returns no class logits"
    predicts_data_classes, cheap = False, True
    batch, logits_sha256 = 250, ""

    def setup(self, data: Samples, store: TensorCache, device: torch.device) -> None:
        """Do nothing."""

    def card(self) -> dict[str, Any]:
        """Return the name of the features."""
        return {"feature": "coordinates"}

    def __call__(self, samples: Tensor) -> tuple[Tensor, None]:
        """Return points (N, 2) as float32."""
        return samples.float(), None
