"""A user-supplied feature network, and a hash of what it computes."""

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

from gan_lightning.feature import FeatureNetwork, Samples
from gan_lightning.io.cache import TensorCache, fingerprint

PLAIN = bool | int | float | complex | str | bytes | Enum | PurePath | torch.dtype | torch.device


class CustomModule(FeatureNetwork):
    """Any module that takes uint8 images (N, C, H, W) and returns features (N, ...), which are flattened.

    >>> python train.py feature=custom feature.network._target_=my_package.MyNetwork

    Args:
        network: The module. The protocol card has its name and a hash of its weights, its settings and its classes'
            code, but not of the functions of other modules that it calls.
    """

    no_logits_reason = "feature=custom returns no class logits"

    def __init__(self, network: nn.Module) -> None:
        if not isinstance(network, nn.Module):
            raise TypeError(f"network: must be a torch.nn.Module, and is a {type(network).__name__}")
        self.network = network.eval().requires_grad_(False)

    def setup(self, data: Samples, store: TensorCache, device: torch.device) -> None:
        """Compute the hash, and move the module to the device."""
        self.sha256 = fingerprint(describe(self.network))
        self.network, self.device = self.network.to(device), device

    def card(self) -> dict[str, Any]:
        """Return the name of the module's class and its hash."""
        kind = type(self.network)
        return {"feature": f"{kind.__module__}.{kind.__qualname__}", "feature_sha256": self.sha256, "resize": "its own"}

    @torch.no_grad()
    def __call__(self, samples: Tensor) -> tuple[Tensor, None]:
        """Return features (N, D) of uint8 images (N, C, H, W)."""
        return self.network(samples.to(self.device)).flatten(1).float(), None


def describe(value: Any, within: tuple[int, ...] = ()) -> Any:
    """Describe what a value computes as JSON-compatible data: nested tensors, settings and code.

    Code is that of a function, or of all classes of an object except torch's. An object without attributes is described
    by the name of its type.
    """
    if isinstance(value, Tensor):
        return fingerprint(value)
    if isinstance(value, np.ndarray | np.generic):
        return [str(value.dtype), *value.shape, hashlib.sha256(value.tobytes()).hexdigest()]
    if value is None or isinstance(value, PLAIN):
        return repr(value)
    if id(value) in within:
        return "itself"
    inner = partial(describe, within=(*within, id(value)))
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
        defaults, closure = inner(value.__defaults__), inner(inspect.getclosurevars(value).nonlocals)
        return [value.__qualname__, source_of(value), defaults, inner(value.__kwdefaults__), closure]
    kind = value if isinstance(value, type) else type(value)
    parents = [parent for parent in kind.__mro__ if not is_builtin(parent)]
    found: list[Any] = [[parent.__qualname__, inner(own_attributes(parent))] for parent in parents]
    found.append(getattr(value, "__name__", kind.__qualname__))  # identifies builtins such as torch.relu
    if isinstance(value, type | ModuleType) or (is_builtin(kind) and not isinstance(value, nn.Module)):
        return found
    return [*found, inner({key: part for key, part in getattr(value, "__dict__", {}).items() if key != "training"})]


def is_builtin(kind: type) -> bool:
    """Return whether a class belongs to torch or Python, whose code is not hashed."""
    return kind.__module__.partition(".")[0] in ("torch", "builtins", "abc", "typing")


def own_attributes(kind: type) -> dict[str, Any]:
    """Return the attributes that a class defines itself, without Python's special ones."""
    return {key: part for key, part in vars(kind).items() if key in ("__init__", "__call__") or key[:2] != "__"}


def source_of(function: FunctionType) -> str:
    """Return the source code of a function, or its bytecode if the source is unavailable."""
    with suppress(OSError, TypeError):
        return inspect.getsource(function)
    code = function.__code__
    return f"{code.co_code.hex()} {code.co_names} {[part for part in code.co_consts if not isinstance(part, CodeType)]}"
