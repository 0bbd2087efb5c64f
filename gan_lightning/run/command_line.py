"""The command line of gan-train: validated as a whole, then passed to Hydra.

Order: parse the flags and overrides; with ``ckpt_path``, replace the configuration by that of the checkpoint; check
groups, keys, values and combinations; raise all errors in one UserError. Imports torch only to read a checkpoint.
"""

import copy
import math
import os
import re
from argparse import Namespace
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from hydra import compose
from hydra._internal.utils import get_args_parser  # Hydra's flags; there is no public way to them
from hydra.core.config_loader import ConfigLoader
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gan_lightning.config.combinations import errors_of_combinations, world_size
from gan_lightning.config.compose import (
    errors_of_options,
    first_choice,
    group_options,
    initialize_hydra,
    parse_override,
    parse_overrides,
    quote_value,
    values_of,
)
from gan_lightning.config.launch import errors_of_launch, num_processes
from gan_lightning.config.nodes import RUNTIME_KEYS, node_at, nodes_by_option, walk
from gan_lightning.config.synonyms import suggest_key
from gan_lightning.config.validation import (
    errors_of_values,
    make_paths_absolute,
    most_similar,
    parameters_of,
    suggest,
)
from gan_lightning.errors import UserError, short_message
from gan_lightning.io.paths import CONF, absolute, relative_path
from gan_lightning.run.resume import OF_OPTIMIZER, OPTIONAL, compare_settings, print_rank_zero, resume

OTHER_CONFIGS = ("evaluate", "explore")  # configurations of other commands
OTHER_COMMANDS = {"latent": "gan-explore"}  # groups of other commands
BATCH = 10  # jobs of a sweep that Hydra composes before it starts the first of them
NONE = ("none", "null", "no", "off", "false")  # names that users try for leaving out a group
OPEN_SECTIONS = ("callbacks.", "logger.", "metric.")  # to which a user may add classes


def check_command_line(argv: list[str]) -> tuple[str, list[str], Path | None]:
    """Validate the whole command line.

    Returns:
        The name of the configuration to compose, the arguments for Hydra, and the directory of the sweep, None without
        ``-m``.

    Raises:
        UserError: With every error.
    """
    args, rest = get_args_parser().parse_known_intermixed_args(argv)
    if errors := errors_of_flags(args):
        raise UserError(*errors)
    if args.config_dir:
        args.config_dir = str(absolute(args.config_dir))
    if args.help:
        with initialize_hydra(args.config_dir) as loader:
            print(help_text(loader))
        raise SystemExit
    if args.hydra_help or args.shell_completion or args.info is not None:
        return "train", argv, None
    if rest:
        keys = [flag.partition("=")[0] for flag in rest]
        settings = [f"{key}: settings have no dashes{suggest_key(key)}" for key in keys if suggest_key(key)]
        flags = f"{' '.join(rest)}: not a flag; settings are KEY=VALUE; --help shows the groups and keys"
        raise UserError(flags, *settings)
    if args.config_dir and not Path(args.config_dir).is_dir():
        raise UserError(f"--config-dir {relative_path(Path(args.config_dir))}: there is no such folder")
    name, before = args.config_name or "train", None
    with initialize_hydra(args.config_dir) as loader:
        parsed, errors = parse_overrides(args.overrides, loader)
        errors = errors_of_launch() + errors
        if not args.multirun:
            errors += [f"{o.input_line}: several values; add -m for a sweep" for o in parsed if o.is_sweep_override()]
            parsed = [o for o in parsed if not o.is_sweep_override()]
        may_set_directories = ("hydra", "experiment", "debug")  # files of conf may set hydra.run.dir as well
        others = any(o.key_or_group.startswith(may_set_directories) for o in parsed)
        if not errors and (args.multirun or args.config_dir or args.config_name or others or set_in_home()):
            parsed = make_directories_absolute(loader, name, parsed, args.multirun)
        typed = {o.key_or_group: o for o in parsed}
        if "ckpt_path" in typed and typed["ckpt_path"].value() is not None and not errors:
            name, parsed, before = resume(loader, typed, parsed, args.multirun)
        overrides = [o.input_line for o in parsed]
        unnamed = name == "train" and "hydra.run.dir" not in typed and not args.multirun
        if unnamed and not errors and num_processes() > 1:
            errors.append(
                "hydra.run.dir: several processes were started, and each would name the run directory by its own "
                "clock; hydra.run.dir=FOLDER"
            )
        errors += errors_of_overrides(loader, name, parsed, before, args.multirun)
        if args.multirun and not errors and (jobs := num_jobs(parsed)) > BATCH:
            print_rank_zero(f"sweep of {jobs:,} jobs")
            overrides += batch_limit(name, parsed)
    if errors:
        raise UserError(*dict.fromkeys(errors))
    sweep_dir = Path(typed["hydra.sweep.dir"].value()) if args.multirun else None
    return name, [*flags_of(args), *overrides], sweep_dir


def batch_limit(name: str, parsed: list[Override]) -> list[str]:
    """Return the override that lets a large sweep start soon, where its launcher and sweeper take it.

    Hydra composes every job of a batch before the first one starts, which takes a second for five.
    """
    lines = [first_choice(o) for o in parsed]
    settings = compose(name, lines, return_hydra_config=True).hydra
    choices = settings.runtime.choices
    if choices["hydra/launcher"] != "basic" or choices["hydra/sweeper"] != "basic":
        print_rank_zero("composing all of them before the first starts, up to 0.3 s each")
        return []
    return [f"hydra.sweeper.max_batch_size={BATCH}"] if settings.sweeper.max_batch_size is None else []


def errors_of_flags(args: Namespace) -> list[str]:
    """Return an error for each of Hydra's flags that is unsafe, not supported here or without effect."""
    errors = []
    if args.experimental_rerun is not None:
        errors.append(
            "--experimental-rerun: unpickles a file, which runs the code in it; resume a run with ckpt_path=FILE"
        )
    if args.config_path is not None:
        errors.append("--config-path: not supported; --config-dir FOLDER adds a folder of your own files")
    if args.config_name in OTHER_CONFIGS:
        errors.append(f"--config-name {args.config_name}: belongs to gan-{args.config_name}, not to training")
    errors += [
        f"--{name}: has no effect without --cfg"
        for name in ("package", "resolve")
        if getattr(args, name) and not args.cfg and not args.help
    ]
    modes = {"--run": args.run, "--multirun": args.multirun, "--cfg": args.cfg, "--info": args.info is not None}
    modes["--shell-completion"] = args.shell_completion
    if len(given := [flag for flag, value in modes.items() if value]) > 1:
        errors.append(f"{' '.join(given)}: mutually exclusive; use one of them")
    return errors


def flags_of(args: Namespace) -> list[str]:
    """Return the flags for Hydra; the name of the configuration is passed separately."""
    flags = [f"--{name}" for name in ("run", "multirun", "resolve") if getattr(args, name)]
    values = {name: getattr(args, name) for name in ("cfg", "package", "config_dir")}
    return flags + [f"--{name.replace('_', '-')}={value}" for name, value in values.items() if value is not None]


def make_directories_absolute(
    loader: ConfigLoader, name: str, parsed: list[Override], sweeping: bool
) -> list[Override]:
    """Replace the directory of a run and of a sweep by its absolute path, wherever it was set.

    Hydra does not expand ``~`` and Lightning does, so that a run would be written to two directories; and
    ``ckpt_path=last`` and the records of a sweep need the directory before Hydra has resolved it.

    Raises:
        UserError: The directory cannot be determined, or is the root or home directory.
    """
    ours, lines = OmegaConf.load(CONF / "train.yaml").hydra, []
    for override in parsed:
        if override.is_sweep_override() or override.is_delete() or override.key_or_group == "ckpt_path":
            continue
        # Values are forced: a key of the checkpoint's model may be missing in the default one.
        forced = override.key_or_group not in OPTIONAL and not group_options(loader, override.key_or_group)
        lines.append(f"++{override.input_line.lstrip('+')}" if forced else override.input_line)
    try:
        config = compose(name, lines, return_hydra_config=True)
    except (HydraException, OmegaConfBaseException, ValueError):  # the last of a group that is set to null
        return parsed  # the checks that follow report what is wrong
    found = {}
    HydraConfig.instance().set_config(config)  # for references such as ${hydra:runtime.choices.model}
    try:
        for section, key in (("run", "dir"), ("sweep", "dir"), ("sweep", "subdir")):
            path, text = f"hydra.{section}.{key}", config.hydra[section]._get_node(key)._value()
            unchanged = isinstance(text, str) and text == ours[section]._get_node(key)._value() and text[:1] != "~"
            if not isinstance(text, str) or (unchanged and not (sweeping and path == "hydra.sweep.dir")):
                continue
            if key == "subdir" and not text.startswith("~"):
                continue  # relative to the directory of the sweep, and resolved by each job
            place = text if key == "subdir" else str(OmegaConf.select(config, path))
            real = os.path.realpath(absolute(place))
            no_runs = Path(real).anchor, os.path.realpath(os.path.expanduser("~"))  # noqa: PTH111 (a home may be unknown)
            if key == "dir" and (not place.strip() or real in no_runs):
                raise UserError(f"{path}={place}: not a directory for runs; {path}=FOLDER")
            found[path] = parse_override(quote_value(path, str(absolute(place))))
    except OmegaConfBaseException as error:
        raise UserError(f"{path}={text}: {short_message(error)}") from error
    finally:
        HydraConfig.instance().cfg = None
    return [o for o in parsed if o.key_or_group not in found] + [*found.values()]


def set_in_home() -> bool:
    """Return whether conf/train.yaml itself puts runs or sweeps below the home directory."""
    ours = OmegaConf.load(CONF / "train.yaml").hydra
    return any(str(node._get_node("dir")._value()).startswith("~") for node in (ours.run, ours.sweep))


def help_text(loader: ConfigLoader) -> str:
    """Return the text of --help: the groups with their options, and the most important keys."""
    groups = {group: group_options(loader, group) for group in loader.list_groups("")}
    listed = "\n".join(
        f"{group}: {', '.join(names)}" for group, names in groups.items() if group not in ("hydra", *OTHER_COMMANDS)
    )
    return OmegaConf.load(CONF / "train.yaml").hydra.help.template.replace("$APP_CONFIG_GROUPS", listed)


def errors_of_overrides(
    loader: ConfigLoader, name: str, parsed: list[Override], before: dict[str, Any] | None, sweeping: bool
) -> list[str]:
    """Return every error of parsed overrides: groups, keys, values, combinations, and changes of a resumed run.

    Args:
        loader: Hydra's loader of configurations.
        name: Name of the configuration.
        parsed: The overrides.
        before: The configuration of the run that is resumed.
        sweeping: Whether the overrides are of a sweep.
    """
    groups, values, errors = split_groups(loader, parsed)
    compose_with = partial(compose, name, return_hydra_config=True)

    def with_values(overrides: list[Override]) -> DictConfig:
        if any(o.type != OverrideType.CHANGE or o.package or o.is_sweep_override() for o in overrides):
            return compose_with([first_choice(o) for o in [*groups, *overrides]])
        config = copy.deepcopy(plain)  # composing takes ten times as long
        for override in overrides:
            OmegaConf.update(config, override.key_or_group, override.value(), merge=True)
        return config

    try:
        plain, groups, wrong = apply_valid(lambda chosen: compose_with([first_choice(o) for o in chosen]), groups)
        errors += wrong
        choices = plain.hydra.runtime.choices
        bare = plain
        if choices.get("experiment") or choices.get("debug"):
            drop = ("experiment", "debug")
            kept = {group: c for group, c in choices.items() if group not in drop and not group.startswith("hydra")}
            bare = compose_with([f"{group}={choice}" for group, choice in kept.items() if choice])
        known = {path: value for path, value in walk(bare) if not path.startswith("hydra")}
        good, wrong = split_keys(values, plain, known)
        errors += wrong
        full, good, wrong = apply_valid(with_values, good)
        errors += wrong
        make_paths_absolute(full)
    except (HydraException, OmegaConfBaseException) as error:
        return [*errors, short_message(error)]
    except UserError as error:
        return [*errors, *error.errors]
    chosen = [f"{group}={choices[group]}" for group in ("experiment", "debug") if choices.get(group)]
    errors += errors_of_files(full, known, " or ".join(chosen) or "a file of your own")
    reported = {error.partition(":")[0] for error in errors}
    errors += [error for error in errors_of_values(full, known) if error.partition(":")[0] not in reported]
    for override in good:
        if override.is_sweep_override():
            errors += errors_of_sweep(override, full, known)
    rejected = {re.split("[=:]", error, maxsplit=1)[0] for error in errors}
    right = [o for o in good if o.key_or_group not in rejected]
    together, right, _ = (full, right, []) if len(right) == len(good) else apply_valid(with_values, right)
    if not (errors and errors_of_values(together, known)):
        typed = [o.key_or_group for o in right]
        errors += errors_without_effect(typed, OmegaConf.to_container(together))
        if not sweeping:  # a combination that does not work fails its own job of a sweep, not the others
            errors += errors_of_combinations(together, typed)
    if sweeping and world_size(full.trainer) != 1:
        errors.append(
            "trainer.devices: a sweep runs every job on one device; start jobs on several devices one by one, "
            "or with a launcher that gives each job a process of its own"
        )
    if before is not None and not errors:
        notes, others = compare_settings(before, OmegaConf.to_container(full), full.force_resume)
        print_rank_zero(*notes)
        errors += others
    return errors


def apply_valid(
    apply: Callable[[list[Override]], DictConfig], overrides: list[Override]
) -> tuple[DictConfig, list[Override], list[str]]:
    """Return the configuration of the overrides that Hydra accepts, these overrides, and its error for each other one.

    An override may need another one, as that of an optimizer needs the model that has it, so that those which fail are
    tried again with those that do not.
    """
    try:
        return apply(overrides), overrides, []
    except (HydraException, OmegaConfBaseException):
        config, good, left, errors = apply([]), list[Override](), overrides, list[str]()
    for _ in overrides:
        failed, errors = [], []
        for override in left:
            try:
                config = apply([*good, override])
                good.append(override)
            except (HydraException, OmegaConfBaseException) as error:
                failed.append(override)
                errors.append(short_message(error))
        if len(failed) in (0, len(left)):
            break
        left = failed
    return config, good, errors


def split_groups(loader: ConfigLoader, parsed: list[Override]) -> tuple[list[Override], list[Override], list[str]]:
    """Split overrides into valid choices of groups and those of values; return both, and the errors of the others."""
    groups, values, errors = [], [], []
    for override in parsed:
        group, section = override.key_or_group, override.key_or_group.partition(".")[0]
        names = group_options(loader, group)
        if override.is_delete() and not (section in OPTIONAL or OF_OPTIMIZER.fullmatch(group)):
            errors.append(f"{override.input_line}: is needed; only {', '.join(OPTIONAL)} can be left out")
        elif group == "hydra.mode":
            errors.append(f"{override.input_line}: -m runs a sweep")
        elif section in OTHER_COMMANDS:
            errors.append(f"{override.input_line}: belongs to {OTHER_COMMANDS[section]}, not to training")
        elif not names:
            values.append(override)
        elif group == "optimizer" and override.package is None:
            errors.append(f"{override.input_line}: each network has an optimizer of its own{suggest_key(group)}")
        elif None in values_of(override) and not override.is_delete():
            errors.append(f"{override.input_line}: {advice_for_null(group, names)}")
        elif group in OPTIONAL and str(override.value()).lower() in NONE and not override.is_delete():
            errors.append(f"{override.input_line}: no such option; {advice_for_null(group, names)}")
        elif found := errors_of_options(override, names):
            errors += found
        else:
            groups.append(override)
    return groups, values, errors


def split_keys(values: list[Override], plain: DictConfig, known: dict[str, Any]) -> tuple[list[Override], list[str]]:
    """Return the overrides of values whose keys exist or may be added, and the errors of the others.

    Args:
        values: Overrides of values.
        plain: The configuration of the chosen options.
        known: The keys of that configuration, without those of experiments.
    """
    good, errors = [], []
    sections = [path for path, node in known.items() if isinstance(node, DictConfig)]
    for override in values:
        key, adds = override.key_or_group, override.is_add() or override.is_force_add()
        added = adds and belongs_to_third_party(plain, key)
        own = user_section(key, known) and (adds or node_at(plain, key) is not None)
        if key.partition(".")[0] in RUNTIME_KEYS:
            errors.append(f"{key}: {RUNTIME_KEYS[key.partition('.')[0]]}")
        elif key.startswith("loss.") and "loss" not in known:
            errors.append(f"{key}: has no effect, since the model has no adversarial loss; leave it out")
        elif override.is_add() and key in known:
            errors.append(f"{override.input_line}: {key} exists already; leave out the +")
        elif key.startswith("hydra") or key in known or added or own:
            good.append(override)
        else:
            more = options_with_key(key) if key.rpartition(".")[0] in known else ""
            near = suggest(key, sections) if override.is_delete() else more or suggest_known_key(key, known)
            errors.append(f"{key}: there is no such key{near}")
    return good, errors


def errors_of_files(config: DictConfig, known: dict[str, Any], where: str) -> list[str]:
    """Return an error for each unknown key that a configuration file sets; ``where`` names the file."""
    errors = []
    for path, _ in walk(config):
        if path in known or path.startswith("hydra") or belongs_to_third_party(config, path):
            continue
        if section := user_section(path, known):
            if node_at(config, f"{section}._target_") is None:
                errors.append(f"{section}: names no class; +{section}._target_=CLASS adds one of your own")
        else:
            errors.append(f"{path}: there is no such key{suggest_known_key(path, known)} (in {where})")
    return errors


def errors_of_sweep(override: Override, config: DictConfig, known: dict[str, Any]) -> list[str]:
    """Return an error for each invalid value of a sweep; composing each separately would take a second for five."""
    config, key, errors, parser = copy.deepcopy(config), override.key_or_group, [], OverridesParser.create()
    if not override.is_discrete_sweep() or "glob(" in override.input_line:
        return []
    parameters = parameters_of(config)
    for text in override.sweep_string_iterator():
        try:
            value = parser.parse_override(f"{key}={text}").value()
            OmegaConf.update(config, key, value, merge=True, force_add=True)
        except (HydraException, OmegaConfBaseException) as error:
            errors.append(f"{key}: {short_message(error)}")
            continue
        errors += errors_of_values(config, known, key, parameters)
    return errors


def num_jobs(parsed: list[Override]) -> int:
    """Return the number of jobs of a sweep over every combination; intervals, of optimizing sweepers, count once."""
    discrete = (o for o in parsed if o.is_sweep_override() and o.is_discrete_sweep())
    return math.prod(len([*o.sweep_iterator()]) for o in discrete)


def errors_without_effect(typed: list[str], config: dict[str, Any]) -> list[str]:
    """Return an error for each setting of the evaluation that was set and is not used."""
    if config["eval"]["every_n_steps"] is None:
        message = "eval.best_by: has no effect with eval.every_n_steps=null; set that to a number of steps"
        return [message] if "eval.best_by" in typed else []
    if "evaluate" in (config.get("callbacks") or {}):
        return []
    unused = (key for key in typed if key.startswith("eval.") and key != "eval.cache")
    return [f"{key}: has no effect, since callbacks.evaluate was left out" for key in unused]


def advice_for_null(group: str, names: list[str]) -> str:
    """Return the advice for GROUP=null."""
    if group in ("experiment", "debug"):
        return "leave it out; there is none by default"
    return f"~{group} leaves it out" if group in OPTIONAL else f"is needed; there are {', '.join(names)}"


def belongs_to_third_party(config: DictConfig, key: str) -> bool:
    """Return whether a key is an argument of a third-party or user-supplied class, which its signature determines.

    So are the arguments of our Trainer that it passes on to Lightning's, and keys of an argument that is a dictionary.
    """
    section = key.rpartition(".")[0]
    target = node_at(config, f"{section}._target_") if section else None
    if section and target is None:
        return belongs_to_third_party(config, section)
    ours = re.compile(r"gan_lightning\.(?!trainer\.)")
    return target is not None and (target._is_missing() or not ours.match(str(target._value())))


def user_section(key: str, known: dict[str, Any]) -> str:
    """Return the section of a user-supplied class that a key belongs to, such as ``callbacks.mine``; else ``""``."""
    section = ".".join(key.split(".")[:2])
    return section if section.startswith(OPEN_SECTIONS) and section not in known else ""


def suggest_known_key(key: str, known: dict[str, Any]) -> str:
    """Return what to use for an unknown key: a key of the same name elsewhere, a synonym, or the nearest key.

    Sections are suggested only for a key without a dot.
    """
    candidates = [path for path, node in known.items() if "." not in key or not isinstance(node, DictConfig)]
    near, last = suggest(key, candidates), most_similar(key, candidates).rpartition(".")[2]
    return near if "." in key and last == key.rpartition(".")[2] else suggest_key(key) or near


def options_with_key(key: str) -> str:
    """Return which other options of a group have a key; the end of an error message, empty if there is none."""
    group, _, tail = key.partition(".")
    if "optimizer." in tail:
        place, _, tail = tail.partition(".")
        group, choice = "optimizer", f"optimizer@model.{place}"
    else:
        choice = group
    owners = [option for option, nodes in nodes_by_option(group).items() if tail and tail in nodes]
    return f" here; it is a setting of {choice}={', '.join(owners)}" if owners else ""
