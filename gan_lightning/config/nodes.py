"""Functions to traverse the nodes of a composed configuration and to follow its interpolations."""

import re
from collections.abc import Iterator
from typing import Any

from omegaconf import DictConfig, OmegaConf

REFERENCE = re.compile(r"\$\{([a-z_]+(?:\.[a-z_]+)*)\}")  # an interpolation of another key

# Sections that are filled in when a run starts, and what to set instead.
RUNTIME_KEYS = {
    "run_dir": "set hydra.run.dir to choose the run directory",
    "data_info": "the shape and the number of classes are read from the data",
}


def walk(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every dotted key of a configuration, including sections, with its unresolved node."""
    for key in node:
        value = node._get_node(key)
        path = f"{prefix}{key}"
        yield path, value
        if isinstance(value, DictConfig) and not value._is_none() and not value._is_interpolation():
            yield from walk(value, f"{path}.")


def walk_from(config: DictConfig, key: str) -> Iterator[tuple[str, Any]]:
    """Yield one dotted key of a configuration and every key below it, as :func:`walk` does."""
    section, _, name = key.rpartition(".")
    node = (OmegaConf.select(config, section) if section else config)._get_node(name)
    yield key, node
    if isinstance(node, DictConfig) and not node._is_none() and not node._is_interpolation():
        yield from walk(node, f"{key}.")


def target_of(section: Any) -> list[str]:
    """Return the dotted name of a section's class (``_target_``) in a list; an empty list if it has none."""
    target = node_at(section, "_target_")
    return [str(target._value())] if target is not None and not target._is_missing() else []


def node_at(config: Any, key: str) -> Any:
    """Return the unresolved node at a dotted key; None if there is none."""
    for part in key.split("."):
        if not isinstance(config, DictConfig) or config._is_none() or config._is_interpolation() or part not in config:
            return None
        config = config._get_node(part)
    return config


def referenced_key(node: Any) -> str | None:
    """Return the key that a value interpolates, as in ``${model.latent_dim}``; None for any other value."""
    found = REFERENCE.fullmatch(str(node._value())) if node._is_interpolation() else None
    return found[1] if found else None


def is_runtime_value(node: Any) -> bool:
    """Return whether a value interpolates a section that is filled in when a run starts."""
    key = referenced_key(node)
    return key is not None and key.partition(".")[0] in RUNTIME_KEYS


def flatten(node: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values of nested dictionaries with their dotted keys."""
    for key, value in node.items():
        if isinstance(value, dict):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
