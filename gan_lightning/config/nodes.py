"""Nodes of a composed configuration: how to go through them, and what their references refer to."""

import re
from collections.abc import Iterator
from typing import Any

from omegaconf import DictConfig, OmegaConf

REFERENCE = re.compile(r"\$\{([a-z_]+(?:\.[a-z_]+)*)\}")  # to another key

# Sections whose values are filled in when a run starts.
FILLED_IN = {
    "run_dir": "hydra.run.dir chooses a run's folder",
    "found": "what the data turn out to be is found when they are loaded",
}


def walk(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every key of a configuration in dotted form, sections too, with what stands there unresolved."""
    for key in node:
        value = node._get_node(key)
        path = f"{prefix}{key}"
        yield path, value
        if isinstance(value, DictConfig) and not value._is_none() and not value._is_interpolation():
            yield from walk(value, f"{path}.")


def walk_from(config: DictConfig, key: str) -> Iterator[tuple[str, Any]]:
    """Yield one key of a configuration in dotted form and every key below it, as :func:`walk` does."""
    section, _, name = key.rpartition(".")
    node = (OmegaConf.select(config, section) if section else config)._get_node(name)
    yield key, node
    if isinstance(node, DictConfig) and not node._is_none() and not node._is_interpolation():
        yield from walk(node, f"{key}.")


def target_of(section: Any) -> list[str]:
    """Return the dotted name of the class that a section describes, in a list; an empty one if it names none."""
    target = node_at(section, "_target_")
    return [str(target._value())] if target is not None and not target._is_missing() else []


def node_at(config: Any, key: str) -> Any:
    """Return what stands at a key, unresolved; None if nothing does."""
    for part in key.split("."):
        if not isinstance(config, DictConfig) or config._is_none() or config._is_interpolation() or part not in config:
            return None
        config = config._get_node(part)
    return config


def referenced_key(node: Any) -> str | None:
    """Return the key that a value refers to, as ``${model.latent_dim}`` does; None if it is no plain reference."""
    found = REFERENCE.fullmatch(str(node._value())) if node._is_interpolation() else None
    return found[1] if found else None


def is_filled_in(node: Any) -> bool:
    """Return whether a value refers to what is known only when a run has started."""
    key = referenced_key(node)
    return key is not None and key.partition(".")[0] in FILLED_IN
