"""Overrides and the composition of configurations: the one grammar of all commands, which is Hydra's.

Hydra has no public way to prepend ``--config-dir`` to the search path, nor to parse its flags. Hence the internal
``Hydra.create_main_hydra2``, ``create_config_search_path`` and, in ``command_line.py``, ``get_args_parser``.
"""

import itertools
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import OmegaConf

from gan_lightning.config.synonyms import suggest_option
from gan_lightning.config.validation import EXTRAS, how_to_install, suggest
from gan_lightning.errors import UserError
from gan_lightning.io.paths import CONF, relative_path

SWEEPERS = ("ax", "nevergrad", "optuna")  # optimizing sweepers, each a package of its own
MAX_NESTING = 32  # brackets in an override; from about 100 on, Hydra and OmegaConf exceed Python's recursion limit


@contextmanager
def initialize_hydra(config_dir: str | None = None) -> Iterator[ConfigLoader]:
    """Set up Hydra as ``hydra.main`` does, to call ``hydra.compose`` ahead of it; return its loader of configurations.

    Args:
        config_dir: A directory of the user's own configuration files.

    Raises:
        UserError: A configuration file is not valid YAML, not UTF-8, or refers to itself.
    """
    path = create_config_search_path(str(CONF))
    if config_dir is not None:
        path.prepend("command-line", f"file://{Path(config_dir).absolute()}")
    GlobalHydra.instance().clear()
    try:
        yield Hydra.create_main_hydra2("train", path).config_loader
    except yaml.MarkedYAMLError as error:
        mark, problem = error.problem_mark, " ".join(str(error.problem).split())
        file = relative_path(Path(mark.name)) if mark else "a configuration file"
        raise UserError(f"{file}: not valid YAML{f', line {mark.line + 1}' if mark else ''}: {problem}") from error
    except (yaml.reader.ReaderError, UnicodeDecodeError, RecursionError) as error:  # which name no file
        for file in sorted(Path(config_dir).rglob("*.yaml")) if config_dir else []:
            if file.is_file() and (problem := why_unreadable(file, type(error))):
                raise UserError(f"{relative_path(file)}: cannot be read ({problem})") from error
        raise
    finally:
        GlobalHydra.instance().clear()


def why_unreadable(file: Path, kind: type[Exception]) -> str:
    """Return why reading a configuration file raises a kind of error; empty if it does not."""
    try:
        OmegaConf.load(file)
    except kind as error:
        if isinstance(error, RecursionError):
            return "it refers to itself, or is nested too deeply"
        return f"not plain text in UTF-8: {getattr(error, 'reason', error)}"
    except Exception:  # reported where the file is used
        return ""
    return ""


def parse_override(text: str, parser: OverridesParser | None = None) -> Override:
    """Parse an override; a value that is not of Hydra's grammar, such as ``~/photos (1)``, is taken as a string.

    Raises:
        HydraException: It is not of the form KEY=VALUE.
        ValueError: It has a number of thousands of digits, or is nested too deeply.
    """
    if max(itertools.accumulate((char in "[{(") - (char in "]})") for char in text), default=0) > MAX_NESTING:
        raise ValueError("nested too deeply")
    parser = parser or OverridesParser.create()
    try:
        return parser.parse_overrides([text])[0]
    except HydraException:
        key, sign, value = text.partition("=")
        if not sign or set(value) & set("'\"\\[]{},"):
            raise
        return parser.parse_overrides([f"{key}='{value}'"])[0]


def parse_overrides(
    texts: Iterable[str], loader: ConfigLoader | None = None, problem: str = "not of the form KEY=VALUE"
) -> tuple[list[Override], list[str]]:
    """Parse the overrides of a command line; return those of the right form, and an error for each other one."""
    parser, parsed, errors = OverridesParser.create(config_loader=loader), [], []
    for text in texts:
        try:
            if text.startswith("="):  # from "KEY = VALUE"; Hydra would look for a group without a name
                raise ValueError("without spaces around =")
            parsed.append(parse_override(text, parser))
        except (HydraException, ValueError) as error:  # ValueError also for numbers of thousands of digits
            reason = f" ({str(error).splitlines()[0]})" if "=" in text else ""
            errors.append(f"{text}: {problem}{reason}")
    return parsed, errors


def parse_settings(
    texts: Iterable[str], loader: ConfigLoader, groups: Collection[str], problem: str = "not of the form KEY=VALUE"
) -> tuple[list[Override], list[str]]:
    """Parse the overrides of a command that runs no sweep and whose keys are fixed.

    Args:
        texts: The overrides.
        loader: Hydra's loader of configurations.
        groups: The groups whose options can be chosen; several options only of ``metric``.
        problem: The problem of an override that cannot be parsed, for its error message.

    Returns:
        The overrides that set a single value or choose existing options, and an error for each other one.
    """
    parsed, errors = parse_overrides(texts, problem=problem)
    valid = []
    for override in parsed:
        key, text = override.key_or_group, override.input_line
        names = group_options(loader, key) if key in groups else []
        if override.is_add() or override.is_delete():
            errors.append(f"{text}: keys cannot be added or deleted here")
        elif names and key != "metric" and (override.is_sweep_override() or isinstance(override.value(), list)):
            errors.append(f"{text}: several values; choose one option")
        elif override.is_sweep_override():
            errors.append(f"{text}: several values; give one, or a list: {key}=[{text.partition('=')[2]}]")
        elif names and not (override.value() and all(as_list(override.value()))):
            errors.append(f"{text}: no option is chosen; there are {', '.join(names)}")
        elif found := errors_of_options(override, names) if names else []:
            errors += found
        else:
            valid.append(override)
    return valid, errors


def quote_value(key: str, value: str) -> str:
    """Return an override whose value is a quoted string of Hydra's grammar."""
    value = re.sub(r"\\+(?='|$)", lambda found: found[0] * 2, value).replace("'", "\\'")
    return f"{key}='{value}'"


def group_options(loader: ConfigLoader, group: str) -> list[str]:
    """Return the options of a group; ``base``, which others extend, is none."""
    return [option for option in loader.get_group_options(group, ObjectType.CONFIG) if option != "base"]


def as_list(choice: Any) -> list[Any]:
    """Return the options of a choice, of which there may be several, as in ``metric=[fid,kid]``."""
    return list(choice) if isinstance(choice, Sequence) and not isinstance(choice, str) else [choice]


def values_of(override: Override) -> list[Any]:
    """Return the values of an override, of a sweep several; none for a glob, which selects from existing options."""
    if not override.is_sweep_override():
        return [override.value()]
    return [*override.sweep_iterator()] if override.is_discrete_sweep() and "glob(" not in override.input_line else []


def errors_of_options(override: Override, names: list[str]) -> list[str]:
    """Return an error for each option that a group does not have."""
    group, errors = override.key_or_group, []
    choices = [str(c) for choice in values_of(override) for c in as_list(choice) if c is not None]
    for choice in (choice for choice in choices if choice not in names):
        if group == "hydra/launcher" and (extra := choice.partition("_")[0]) in EXTRAS:
            errors.append(f"{group}={choice}: needs {how_to_install(extra)}")
        elif group == "hydra/sweeper" and choice in SWEEPERS:
            errors.append(f"{group}={choice}: needs {how_to_install(f'hydra-{choice}-sweeper')}")
        else:
            near = suggest_option(group, choice) or suggest(choice, names)
            errors.append(f"{group}={choice}: no such option{near}; there are {', '.join(names)}")
    return errors


def first_choice(override: Override) -> str:
    """Return an override with the first of its values."""
    if not override.is_sweep_override():
        return override.input_line
    if not override.is_discrete_sweep():
        return f"{override.get_key_element()}={override.value().start}"
    return f"{override.get_key_element()}={next(iter(override.sweep_string_iterator()))}"


def list_choices(overrides: Iterable[str]) -> dict[str, list[str]]:
    """Return the choices of several options of a group, which ``hydra.runtime.choices`` lacks."""
    parsed = [o for o in OverridesParser.create().parse_overrides([*overrides]) if not o.is_delete()]
    values = {o.key_or_group: o.value() for o in parsed if "." not in o.key_or_group}
    return {group: [*map(str, value)] for group, value in values.items() if isinstance(value, list)}


def implied_choices(group: str, choice: str) -> dict[str, str]:
    """Return the choices of other groups that an option makes (``override /GROUP``), and those that these make."""
    path = CONF / group / f"{choice}.yaml"
    found: dict[str, str] = {}
    for entry in OmegaConf.load(path).get("defaults", []) if path.exists() else []:
        for key, value in entry.items() if OmegaConf.is_dict(entry) else ():
            if str(key).startswith("override /"):
                name = str(key).removeprefix("override /")
                found |= {name: str(value)} | implied_choices(name, str(value))
    return found
