"""Functions to traverse the nodes of a composed configuration and to follow its interpolations."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from gan_lightning.io.paths import CONF

REFERENCE = re.compile(r"\$\{([a-z_]+(?:\.[a-z_]+)*)\}")  # an interpolation of another key

# Sections that are filled in when a run starts, and what to set instead.
RUNTIME_KEYS = {
    "run_dir": "set hydra.run.dir to choose the run directory",
    "data_info": "the shape and the number of classes are read from the data",
}


def walk(section: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every dotted key of a configuration, including sections, with its unresolved node."""
    for key in section:
        yield from walk_node(section._get_node(key), f"{prefix}{key}")


def walk_node(node: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yield the dotted key of a node and every key below it, as :func:`walk` does."""
    yield path, node
    if isinstance(node, DictConfig) and not node._is_none() and not node._is_interpolation():
        yield from walk(node, f"{path}.")


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


@cache
def nodes_by_option(group: str) -> dict[str, dict[str, Any]]:
    """Return for each option of a group the nodes of its section by their keys in it, including those it inherits."""
    files = (path for path in sorted((CONF / group).glob("*.yaml")) if path.stem != "base")
    return {path.stem: nodes_of_file(path) for path in files}


def nodes_of_file(path: Path) -> dict[str, Any]:
    """Return the nodes of an option's file and of the files in its defaults."""
    node = OmegaConf.load(path)
    nodes: dict[str, Any] = {}
    for name in node.get("defaults", []):
        if isinstance(name, str) and name != "_self_":
            nodes |= nodes_of_file(path.with_name(f"{name.partition('@')[0]}.yaml"))
    section = node.get(path.parent.name, node)  # a file of @package _global_ has a section for each group
    return nodes | dict(walk(section))


def flatten(node: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values of nested dictionaries with their dotted keys."""
    for key, value in node.items():
        if isinstance(value, dict):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
