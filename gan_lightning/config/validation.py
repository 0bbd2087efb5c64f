"""What a configuration may hold: finds every fault in one, each told in one line.

Nothing here imports torch, so that mistakes are answered at once.
"""

import difflib
import logging
import re
from collections.abc import Collection
from contextlib import suppress
from fnmatch import fnmatchcase
from importlib.util import find_spec
from itertools import chain
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gan_lightning.config.combinations import errors_of_combinations
from gan_lightning.config.constraints import mismatch
from gan_lightning.config.nodes import is_filled_in, node_at, referenced_key, target_of, walk, walk_from
from gan_lightning.config.settings import SECTIONS
from gan_lightning.config.signature import REQUIRED, Parameter, read
from gan_lightning.config.synonyms import suggest_value
from gan_lightning.errors import UserError, first_line
from gan_lightning.paths import absolute

# Keys whose values are paths of the local file system.
PATHS = ("ckpt_path", "init_from", "data.root", "data.cache", "eval.cache", "feature.weights", "cache")
PATHS += ("latent.picture", "logger.*dir", "callbacks.*dir", "callbacks.*dirpath", "trainer.*dir", "trainer.*dirpath")

MAX_REFERENCES = 10  # that are followed one after the other, since they may go round in a circle

OWN_CLASSES = "A class of your own needs its folder on PYTHONPATH"

# Extras of this package by what they bring.
EXTRAS = {"wandb": "wandb", "mlflow": "mlflow", "litdata": "stream"}
EXTRAS |= {launcher: launcher for launcher in ("joblib", "submitit", "ray")}


def check(config: DictConfig) -> None:
    """Check a composed configuration.

    Raises:
        UserError: With every fault.
    """
    if faults := faults_of_values(config, {}) or errors_of_combinations(config):
        raise UserError(*dict.fromkeys(faults))


def make_paths_absolute(config: DictConfig) -> None:
    """Expand ``~`` in the paths of a configuration, and make them absolute, in place.

    References and addresses (``s3://bucket``) stay: a checkpoint keeps ``${oc.env:GAN_DATA_DIR,data}``, which every
    machine resolves for itself.

    Raises:
        UserError: ``~`` stands for a home directory that cannot be determined.
    """
    for key, node in [*walk(config)]:
        if OmegaConf.is_config(node) or not any(fnmatchcase(key, pattern) for pattern in PATHS):
            continue
        text = node._value()
        if isinstance(text, str) and text and not text.startswith(("${", "???")) and "://" not in text:
            OmegaConf.update(config, key, str(absolute(text)))


def faults_of_values(
    config: DictConfig,
    known: dict[str, Any],
    within: str = "",
    parameters: dict[str, list[Parameter]] | None = None,
) -> list[str]:
    """Return an error for each value that is of a wrong type, out of range or of a key that its class does not take.

    Args:
        config: The configuration.
        known: The default of each key; what no class restricts must be of its type.
        within: A key, to check only that and what lies below; "" for all.
        parameters: What :func:`parameters_of` returns for the configuration, where many values are checked in turn.
    """
    faults, parameters = [], parameters_of(config) if parameters is None else parameters
    for path, node in walk_from(config, within) if within else walk(config):
        section = isinstance(known.get(path), DictConfig) and not known[path]._is_none()
        if section and node._is_none():
            faults.append(f"{path}=null: is needed, with all that belongs to it")
        elif section and not isinstance(node, DictConfig) and not node._is_interpolation():
            faults.append(f"{path}={node._value()}: is a section; set its keys, {path}.KEY=VALUE")
            continue
        if path.startswith("hydra"):
            continue
        if isinstance(node, DictConfig):
            faults += unknown_parameters(path, node)
            continue
        if node._is_missing():
            faults.append(f"{path}: is needed, and has no default: {path}=...")
            continue
        try:
            value = OmegaConf.select(config, path, throw_on_resolution_failure=True)
        except OmegaConfBaseException as error:
            refers_to = (referenced_key(node) or "").partition(".")[0]
            if not any(fault.startswith(f"{refers_to}=") for fault in faults):  # that section is the error
                faults.append(f"{path}: {first_line(error)}")
            continue
        if referenced_key(node):
            continue  # the value is checked where it stands
        value = OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
        found = parameters.get(path) or [Parameter(type_of(known.get(path)), None)]
        for wanted, parameter in ((wanted, one) for one in found if (wanted := mismatch(one.annotation, value))):
            needed = value is None and parameter.default is REQUIRED
            told = f"{path}={'null' if value is None else value}: must be {wanted}{suggest_value(path, value)}"
            faults.append(f"{path}: is needed: {path}=..." if needed else told)
            break
    return faults


def parameters_of(config: DictConfig) -> dict[str, list[Parameter]]:
    """Return the parameters that restrict each key, by the signatures of the classes that take its value.

    A class's argument may be a reference, as ``width: ${network.width}``: its annotation restricts what it refers to.
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
                    key, node = refers_to, None if is_filled_in(node) else node_at(config, refers_to)
                if node is not None:
                    found.setdefault(key, []).append(parameter)
    return found


def unknown_parameters(path: str, section: DictConfig, taken: Collection[str] | None = None) -> list[str]:
    """Return an error for each argument that a section's class does not take.

    Args:
        path: The section's key.
        section: The section.
        taken: What the class takes if its source cannot be read; None if that is not known.
    """
    faults = []
    for target in target_of(section):
        rejected = {}
        if (found := read(target)) is not None:
            taken = None if found.is_open else found.parameters
            rejected = found.attributes.get("rejected_arguments", {})
        faults += [f"{path}.{key}: is not supported; {rejected[key]}" for key in section if key in rejected]
        faults += [
            f"{path}.{key}: {target} takes no such argument{nearest(str(key), taken)}"
            + (f"; ~{path}.{key} leaves it out" if "_partial_" in section else "")
            for key in (section if taken is not None else ())
            if key not in taken and key not in rejected and not str(key).startswith("_")
        ]
    return faults


def type_of(default: Any) -> Any:
    """Return the type that a default's place takes, ``Any`` if there is none to compare with."""
    value = default._value() if default is not None and not OmegaConf.is_config(default) else None
    if value is None or default._is_interpolation():
        return Any
    return next((kind | None for kind in (bool, int, float, str) if isinstance(value, kind)), Any)


def unknown_arguments(config: DictConfig) -> list[str]:
    """Arguments that the classes of other libraries do not take, and packages that are not there; imports them."""
    from inspect import signature

    from hydra.utils import get_class

    logging.getLogger("hydra.utils").setLevel(logging.CRITICAL)  # it logs what it raises; we tell it, shorter
    faults = []
    for path, node in walk(config):
        for target in target_of(node):
            try:
                taken = signature(get_class(target)).parameters
            except Exception as error:
                advice = how_to_import(error, [target.partition(".")[0]])
                faults.append(f"{path}._target_={target}: cannot be imported ({first_line(error)}); {advice}")
                continue
            is_open = any(parameter.kind is parameter.VAR_KEYWORD for parameter in taken.values())
            faults += unknown_parameters(path, node, None if is_open else taken)
    return faults


def how_to_install(package: str) -> str:
    """Return the command that installs an optional package."""
    return f"pip install 'gan-lightning[{EXTRAS[package]}]'" if package in EXTRAS else f"pip install {package}"


def how_to_import(error: BaseException, packages: Collection[str] = ()) -> str:
    """Return advice for an error of importing a class: the package to install, or where Python looks for classes.

    Args:
        error: The error, or one that it caused.
        packages: Packages of the classes that the configuration names.
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


def nearest(word: str, candidates: Any) -> str:
    """The nearest valid name, as the middle of a sentence."""
    candidates = [str(candidate) for candidate in candidates]
    near = [c for c in candidates if c.rpartition(".")[2].casefold() == word.rpartition(".")[2].casefold()][:1]
    near = near or difflib.get_close_matches(word, candidates, 1, 0.6)
    if not near:
        tails = {c.rpartition(".")[2]: c for c in reversed(candidates)}
        near = [tails[tail] for tail in difflib.get_close_matches(word.rpartition(".")[2], tails, 1, 0.75)]
    return f", the nearest is {near[0]}" if near else ""
