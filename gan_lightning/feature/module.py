"""A network of the user's own as the feature network."""

import inspect
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from gan_lightning.feature import Samples
from gan_lightning.store import Store, fingerprint


class Module:
    """Any module that takes uint8 pictures (N, C, H, W) and returns features (N, ...), which are flattened.

    >>> python train.py feature=module feature.network._target_=my_package.MyNetwork

    Args:
        network: The module; its name stands on the card, and the sha256 of its weights, its code and its settings.
    """

    classes, no_classes = False, "a module of your own names no classes"
    data_classes = instant = False

    def __init__(self, network: nn.Module) -> None:
        if not isinstance(network, nn.Module):
            raise TypeError(f"network: must be a torch.nn.Module, and is a {type(network).__name__}")
        self.network = network.eval().requires_grad_(False)

    def get_ready(self, data: Samples, store: Store, device: torch.device) -> None:
        """Move to the device."""
        self.sha256 = fingerprint(*self.network.state_dict().values(), *map(described, self.network.modules()))
        self.network, self.device = self.network.to(device), device

    def card(self) -> dict[str, Any]:
        """Its class, and what it is."""
        kind = type(self.network)
        return {"feature": f"{kind.__module__}.{kind.__qualname__}", "feature_sha256": self.sha256, "resize": "its own"}

    @torch.no_grad()
    def __call__(self, samples: Tensor) -> tuple[Tensor, None]:
        """(N, C, H, W) to (N, D)."""
        return self.network(samples.to(self.device)).flatten(1).float(), None


def described(module: nn.Module) -> list[Any]:
    """What a module computes besides its weights: its code, where that can be had, and its plain attributes."""
    code = type(module).__qualname__
    if not type(module).__module__.startswith("torch."):
        with suppress(OSError, TypeError):
            code = inspect.getsource(type(module))
    plain = {name: value for name, value in vars(module).items() if isinstance(value, bool | int | float | str | tuple)}
    return [code, {name: repr(value) for name, value in plain.items() if name != "training"}]
