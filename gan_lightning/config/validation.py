"""Validation of a composed configuration: all errors are collected, one line each.

This module does not import torch, so that errors are reported within a second.
"""

import difflib
import logging
import re
from collections.abc import Collection, Iterable
from contextlib import suppress
from fnmatch import fnmatchcase
from importlib.util import find_spec
from itertools import chain
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gan_lightning.config.combinations import errors_of_combinations
from gan_lightning.config.constraints import REFERENCES, mismatch
from gan_lightning.config.nodes import is_runtime_value, node_at, referenced_key, target_of, walk, walk_node
from gan_lightning.config.settings import SECTIONS
from gan_lightning.config.signature import REQUIRED, Parameter, read
from gan_lightning.config.synonyms import suggest_value
from gan_lightning.errors import UserError, short_message
from gan_lightning.io.paths import absolute

# Keys whose values are paths of the local file system.
PATHS = ("ckpt_path", "init_from", "data.root", "data.cache", "eval.cache", "feature.weights", "cache")
PATHS += (
    "eval.reference",
    "latent.image",
    "logger.*dir",
    "callbacks.*dir",
    "callbacks.*dirpath",
    "trainer.*dir",
    "trainer.*dirpath",
)

MAX_REFERENCES = 10  # length of a chain of references, which may be circular

OWN_CLASSES = "For your own class, add its folder to PYTHONPATH"

# Extras of this package, by the packages that they install.
EXTRAS = {"wandb": "wandb", "mlflow": "mlflow", "litdata": "stream"}
EXTRAS |= {launcher: launcher for launcher in ("joblib", "submitit", "ray")}


def check(config: DictConfig) -> None:
    """Validate a composed configuration.

    Raises:
        UserError: With all errors.
    """
    if errors := errors_of_values(config, {}) or errors_of_combinations(config):
        raise UserError(*dict.fromkeys(errors))


def make_paths_absolute(config: DictConfig) -> None:
    """Expand ``~`` in the paths of a configuration and make them absolute, in place.

    Interpolations and addresses (``s3://bucket``) are not changed: a checkpoint stores
    ``${oc.env:GAN_DATA_DIR,data}``, which is resolved on each machine.

    Raises:
        UserError: A path starts with ``~``, and the home directory is unknown.
    """
    for key, node in [*walk(config)]:
        if OmegaConf.is_config(node) or not any(fnmatchcase(key, pattern) for pattern in PATHS):
            continue
        text = node._value()
        if key == "eval.reference" and text in REFERENCES:
            continue
        if isinstance(text, str) and text and not text.startswith(("${", "???")) and "://" not in text:
            OmegaConf.update(config, key, str(absolute(text)))


def errors_of_values(
    config: DictConfig,
    known: dict[str, Any],
    within: str = "",
    parameters: dict[str, list[Parameter]] | None = None,
) -> list[str]:
    """Return an error message for each value with a wrong type or out of range, and for each unknown argument.

    Args:
        config: The configuration.
        known: The default of each key; a value that no class constrains must have the type of its default.
        within: A key, to check only this key and those below it; "" for all.
        parameters: The result of :func:`parameters_of` for the configuration; pass it to check many keys in turn.
    """
    errors, parameters = [], parameters_of(config) if parameters is None else parameters
    for path, node in walk_node(node_at(config, within), within) if within else walk(config):
        section = isinstance(known.get(path), DictConfig) and not known[path]._is_none()
        if section and node._is_none():
            errors.append(f"{path}=null: is needed; set its keys, {path}.KEY=VALUE")
        elif section and not isinstance(node, DictConfig) and not node._is_interpolation():
            errors.append(f"{path}={node._value()}: is a section; set its keys, {path}.KEY=VALUE")
            continue
        if path.startswith("hydra"):
            continue
        if isinstance(node, DictConfig):
            errors += unknown_parameters(path, node)
            continue
        if node._is_missing():
            errors.append(f"{path}: is needed, and has no default; set {path}=...")
            continue
        try:
            value = OmegaConf.select(config, path, throw_on_resolution_failure=True)
        except OmegaConfBaseException as error:
            refers_to = (referenced_key(node) or "").partition(".")[0]
            if not any(one.startswith(f"{refers_to}=") for one in errors):  # the section itself is already reported
                errors.append(f"{path}: {short_message(error)}")
            continue
        if referenced_key(node):
            continue  # the value is checked at the key that it interpolates
        value = OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
        found = parameters.get(path) or [Parameter(type_of(known.get(path)), None)]
        for valid, parameter in ((valid, one) for one in found if (valid := mismatch(one.annotation, value))):
            missing = value is None and parameter.default is REQUIRED
            message = f"{path}={'null' if value is None else value}: must be {valid}{suggest_value(path, value)}"
            errors.append(f"{path}: is needed; set {path}=..." if missing else message)
            break
    return errors


def parameters_of(config: DictConfig) -> dict[str, list[Parameter]]:
    """Return the parameters that constrain each key, from the signatures of the classes that receive its value.

    If an argument is an interpolation, such as ``width: ${network.width}``, its annotation constrains the key that it
    refers to.
    """
    found: dict[str, list[Parameter]] = {}
    for path, section in [("", config), *walk(config)]:
        if path.startswith("hydra") or not isinstance(section, DictConfig):
            continue
        patterns = (classes for pattern, classes in SECTIONS.items() if fnmatchcase(path, pattern))
        for signature in filter(None, map(read, [*chain(*patterns), *target_of(section)])):
            for name, parameter in signature.parameters.items():
                key, node = f"{path}.{name}".lstrip("."), node_at(section, name)
                for _ in range(MAX_REFERENCES):
                    if node is None or (refers_to := referenced_key(node)) is None:
                        break
                    key, node = refers_to, None if is_runtime_value(node) else node_at(config, refers_to)
                if node is not None:
                    found.setdefault(key, []).append(parameter)
    return found


def unknown_parameters(path: str, section: DictConfig, taken: Collection[str] | None = None) -> list[str]:
    """Return an error message for each argument that a section's class does not accept.

    Args:
        path: The section's key.
        section: The section.
        taken: Arguments of the class if its source code cannot be read; None if they are unknown.
    """
    errors = []
    for target in target_of(section):
        rejected = {}
        if (found := read(target)) is not None:
            taken = None if found.is_open else found.parameters
            rejected = found.attributes.get("rejected_arguments", {})
        errors += [f"{path}.{key}: is not supported; {rejected[key]}" for key in section if key in rejected]
        errors += [
            f"{path}.{key}: {target} takes no such argument{suggest(str(key), taken)}"
            + (f"; ~{path}.{key} leaves it out" if "_partial_" in section else "")
            for key in section
            if taken is not None and key not in taken and key not in rejected and not str(key).startswith("_")
        ]
    return errors


def type_of(default: Any) -> Any:
    """Return the type of a default value or None; ``Any`` without a default value to compare with."""
    value = default._value() if default is not None and not OmegaConf.is_config(default) else None
    if value is None or default._is_interpolation():
        return Any
    return next((kind | None for kind in (bool, int, float, str) if isinstance(value, kind)), Any)


def unknown_arguments(config: DictConfig) -> list[str]:
    """Return an error message for each invalid argument of another library's class, and for each missing package.

    The classes are imported, which takes seconds.
    """
    from inspect import signature

    from hydra.utils import get_class

    logging.getLogger("hydra.utils").setLevel(logging.CRITICAL)  # Hydra logs what it raises, and it is reported here
    errors = []
    for path, node in walk(config):
        for target in target_of(node):
            try:
                taken = signature(get_class(target)).parameters
            except Exception as error:
                advice = how_to_import(error, [target.partition(".")[0]])
                errors.append(f"{path}._target_={target}: cannot be imported ({short_message(error)}); {advice}")
                continue
            is_open = any(parameter.kind is parameter.VAR_KEYWORD for parameter in taken.values())
            errors += unknown_parameters(path, node, None if is_open else taken)
    return errors


def how_to_install(package: str) -> str:
    """Return the command that installs an optional package."""
    return f"pip install 'gan-lightning[{EXTRAS[package]}]'" if package in EXTRAS else f"pip install {package}"


def how_to_import(error: BaseException, packages: Collection[str] = ()) -> str:
    """Return advice for an error while importing a class: the package to install, or a hint on PYTHONPATH.

    Args:
        error: The error, or one that was raised from it.
        packages: Top-level packages of the classes that the configuration names.
    """
    causes = [error]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) and len(causes) < 10:
        causes.append(cause)
    text = " ".join(map(str, causes))
    # Lightning names a requirement: "Requirement 'wandb>=0.12.10' not met."
    required = re.search(r"Requirement '([\w.-]+)", text)
    missing = next((c.name for c in causes if isinstance(c, ModuleNotFoundError) and c.name), None)
    name = required[1] if required else str(missing or next(iter(packages), "")).partition(".")[0]
    if name in EXTRAS or required or (missing and name not in (*packages, "gan_lightning")):
        return how_to_install(name)
    with suppress(ImportError, ValueError):
        if find_spec(name) is not None:
            return f"{name} is installed, but has no such class"
    return f"is {name} installed? {OWN_CLASSES}"


def suggest(word: str, candidates: Iterable[Any]) -> str:
    """Return a suggestion of the most similar name, as it continues an error message; empty if none is similar."""
    near = most_similar(word, candidates)
    return f" (did you mean {near}?)" if near else ""


def most_similar(word: str, candidates: Iterable[Any]) -> str:
    """Return the most similar name; empty if none is similar. A key is also compared by its last part."""
    candidates = [str(candidate) for candidate in candidates]
    near = [c for c in candidates if c.rpartition(".")[2].casefold() == word.rpartition(".")[2].casefold()][:1]
    near = near or difflib.get_close_matches(word, candidates, 1, 0.6)
    if not near:
        tails = {c.rpartition(".")[2]: c for c in reversed(candidates)}
        near = [tails[tail] for tail in difflib.get_close_matches(word.rpartition(".")[2], tails, 1, 0.75)]
    return near[0] if near else ""
