"""A network of the user's own as the feature network."""

from typing import Any

import torch
from torch import Tensor, nn

from gan_lightning.feature import Samples
from gan_lightning.store import Store, fingerprint


class Module:
    """Any module that takes uint8 pictures (N, C, H, W) and returns features (N, ...), which are flattened.

    >>> python train.py feature=module feature.network._target_=my_package.MyNetwork

    Args:
        network: The module; its name and the sha256 of its weights stand on the card.
    """

    classes, no_classes = False, "a module of your own names no classes"

    def __init__(self, network: nn.Module) -> None:
        self.network = network.eval().requires_grad_(False)

    def get_ready(self, data: Samples, store: Store, device: torch.device) -> None:
        """Move to the device."""
        self.network, self.device = self.network.to(device), device

    def card(self) -> dict[str, Any]:
        """Its class, and its weights."""
        kind = type(self.network)
        weights = fingerprint(*(value for _, value in sorted(self.network.state_dict().items())))
        return {"feature": f"{kind.__module__}.{kind.__qualname__}", "feature_sha256": weights, "resize": "its own"}

    @torch.no_grad()
    def __call__(self, samples: Tensor) -> tuple[Tensor, None]:
        """(N, C, H, W) to (N, D)."""
        return self.network(samples.to(self.device)).flatten(1).float(), None
