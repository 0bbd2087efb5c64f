"""Coordinates of points in the plane as features."""

from typing import Any

import torch
from torch import Tensor

from gan_lightning.feature import FeatureNetwork, Samples
from gan_lightning.io.cache import TensorCache


class Coordinates(FeatureNetwork):
    """Identity feature network for points in the plane."""

    needs_points = True

    no_logits_reason = "feature=coordinates returns no class logits"
    cheap = True

    def setup(self, data: Samples, store: TensorCache, device: torch.device) -> None:
        """Do nothing."""

    def card(self) -> dict[str, Any]:
        """Return the name of the features."""
        return {"feature": "coordinates"}

    def __call__(self, samples: Tensor) -> tuple[Tensor, None]:
        """Return points (N, 2) as float32."""
        return samples.float(), None
