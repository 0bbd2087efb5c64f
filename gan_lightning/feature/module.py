"""A network of the user's own as the feature network."""

import hashlib
import inspect
import json
from collections.abc import Mapping
from contextlib import suppress
from enum import Enum
from functools import partial
from pathlib import PurePath
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gan_lightning.feature import Samples
from gan_lightning.store import Store, fingerprint

PLAIN = bool | int | float | complex | str | bytes | Enum | PurePath | torch.dtype | torch.device


class Module:
    """Any module that takes uint8 pictures (N, C, H, W) and returns features (N, ...), which are flattened.

    >>> python train.py feature=module feature.network._target_=my_package.MyNetwork

    Args:
        network: The module; its name stands on the card, and the sha256 of its weights, its settings and its own code;
            what that calls of other modules is taken to stay.
    """

    classes, no_classes = False, "a module of your own names no classes"
    data_classes = instant = False
    batch, logits_sha256 = 250, ""

    def __init__(self, network: nn.Module) -> None:
        if not isinstance(network, nn.Module):
            raise TypeError(f"network: must be a torch.nn.Module, and is a {type(network).__name__}")
        self.network = network.eval().requires_grad_(False)

    def get_ready(self, data: Samples, store: Store, device: torch.device) -> None:
        """Move to the device."""
        self.sha256 = fingerprint(described(self.network))
        self.network, self.device = self.network.to(device), device

    def card(self) -> dict[str, Any]:
        """Its class, and what it is."""
        kind = type(self.network)
        return {"feature": f"{kind.__module__}.{kind.__qualname__}", "feature_sha256": self.sha256, "resize": "its own"}

    @torch.no_grad()
    def __call__(self, samples: Tensor) -> tuple[Tensor, None]:
        """(N, C, H, W) to (N, D)."""
        return self.network(samples.to(self.device)).flatten(1).float(), None


def described(value: Any, within: tuple[int, ...] = ()) -> Any:
    """Plain data that say what a value computes: tensors, settings and code, in whatever they are nested.

    Code is that of a function, or of all classes of an object that are not torch's. An object that shows no attributes
    stands by the name of its type.
    """
    if isinstance(value, Tensor):
        return fingerprint(value)
    if isinstance(value, np.ndarray | np.generic):
        return [str(value.dtype), *value.shape, hashlib.sha256(value.tobytes()).hexdigest()]
    if value is None or isinstance(value, PLAIN):
        return repr(value)
    if id(value) in within:
        return "itself"
    inner = partial(described, within=(*within, id(value)))
    if isinstance(value, Mapping):
        return [[inner(key), inner(part)] for key, part in value.items()]
    if isinstance(value, list | tuple):
        return [inner(part) for part in value]
    if isinstance(value, set | frozenset):
        return sorted(json.dumps(inner(part)) for part in value)
    if isinstance(value, partial):
        return [inner(value.func), inner(value.args), inner(value.keywords)]
    if isinstance(value, MethodType):
        return [inner(value.__func__), inner(value.__self__)]
    if isinstance(value, staticmethod | classmethod):
        return inner(value.__func__)
    if isinstance(value, property):
        return [inner(value.fget)]
    if isinstance(value, FunctionType):
        kept = inspect.getclosurevars(value).nonlocals
        return [value.__qualname__, source(value), inner(value.__defaults__), inner(value.__kwdefaults__), inner(kept)]
    kind = value if isinstance(value, type) else type(value)
    found = [[parent.__qualname__, inner(own(parent))] for parent in kind.__mro__ if not of_torch(parent)]
    found.append(getattr(value, "__name__", kind.__qualname__))  # of what is built in, torch.relu say
    if isinstance(value, type | ModuleType) or (of_torch(kind) and not isinstance(value, nn.Module)):
        return found
    return [*found, inner({key: part for key, part in getattr(value, "__dict__", {}).items() if key != "training"})]


def of_torch(kind: type) -> bool:
    """Whether a class is taken to stay what it is."""
    return kind.__module__.partition(".")[0] in ("torch", "builtins", "abc", "typing")


def own(kind: type) -> dict[str, Any]:
    """What the user has written into a class."""
    return {key: part for key, part in vars(kind).items() if key in ("__init__", "__call__") or key[:2] != "__"}


def source(function: FunctionType) -> str:
    """Text of a function, or what Python has made of it where the text cannot be had."""
    with suppress(OSError, TypeError):
        return inspect.getsource(function)
    code = function.__code__
    return f"{code.co_code.hex()} {code.co_names} {[part for part in code.co_consts if not isinstance(part, CodeType)]}"
