"""Descriptions of objects that were constructed in Python, as a configuration and a checkpoint store them.

A class that derives from :class:`~gan_lightning.config.constraints.Validated` records the description of its
constructor's arguments, so that :func:`gan_lightning.load` can construct an equal object. Nothing here imports torch.
"""

import dataclasses
import functools
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FORMAT_VERSION = 4  # of checkpoints; formats 2 and 3 had other names of settings, files without a version have format 1
RECORDED = "constructor_arguments"  # attribute with the described arguments
OBJECT = "<object> "  # start of the string that stands for an object that cannot be described


def description_of(value: Any) -> Any:
    """Return plain data from which Hydra's ``instantiate`` constructs an equal value.

    An object is described by its class (``_target_``) and its constructor's arguments if these were recorded, as for
    all classes of this package; a dataclass by its fields; a ``functools.partial`` by its class and keywords.
    Any other object becomes the string ``"<object> module.Class"``, see :func:`undescribed`.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int | float | str | Path):
        return plain_scalar(value)
    if isinstance(value, Mapping) and all(isinstance(name, str) for name in value):
        return {name: description_of(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        found = []
        for part in value:  # up to the first object, since a list may be a data set
            found.append(description_of(part))
            if objects := undescribed(found[-1]):
                return OBJECT + objects[0]
        return found
    if isinstance(arguments := getattr(value, "__dict__", {}).get(RECORDED), dict):
        return {"_target_": path_of(type(value)), **arguments}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = (field.name for field in dataclasses.fields(value) if field.init)
        return {"_target_": path_of(type(value))} | {name: description_of(getattr(value, name)) for name in fields}
    if isinstance(value, functools.partial) and isinstance(value.func, type) and not value.args:
        return {"_target_": path_of(value.func), "_partial_": True} | description_of(value.keywords)
    return OBJECT + path_of(type(value))


def plain_scalar(value: float | str | Path) -> Any:
    """Return a number or a text as plain data; a checkpoint stores neither interpolations nor infinite numbers."""
    if isinstance(value, str | Path):
        return str(value) if "${" not in str(value) else f"{OBJECT}str"
    value = int(value) if isinstance(value, int) else float(value)
    fits = value.bit_length() < 64 if isinstance(value, int) else math.isfinite(value)
    return value if fits else f"{OBJECT}{type(value).__name__}"


def path_of(cls: type) -> str:
    """Return the shortest path by which a class can be imported, such as ``torch.optim.Adam``."""
    parts = cls.__module__.split(".")
    packages = (".".join(parts[:end]) for end in range(1, len(parts) + 1))
    found = (name for name in packages if vars(sys.modules.get(name, cls)).get(cls.__qualname__) is cls)
    return f"{next(found, cls.__module__)}.{cls.__qualname__}"


def undescribed(node: Any) -> list[str]:
    """Return the classes of the objects in a description that could not be described, each once."""
    if isinstance(node, str):
        return [node.removeprefix(OBJECT)] if node.startswith(OBJECT) else []
    parts = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    return list(dict.fromkeys(name for part in parts for name in undescribed(part)))
