"""The command line of gan-train: everything that was typed is checked, then handed to Hydra.

The order of things: the line is taken apart, a checkpoint to go on from replaces the configuration, then groups, keys,
values and what they mean together are looked at, and all that was found is raised as one UserError. Nothing here
imports torch but to go on from a checkpoint.
"""

import copy
import math
import os
import re
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path, get_args_parser
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gan_lightning.config.combinations import errors_of_combinations, world_size
from gan_lightning.config.launch import errors_of_launch, num_processes
from gan_lightning.config.nodes import FILLED_IN, node_at, walk
from gan_lightning.config.synonyms import suggest_key, suggest_option
from gan_lightning.config.validation import (
    EXTRAS,
    faults_of_values,
    how_to_install,
    make_paths_absolute,
    nearest,
    parameters_of,
)
from gan_lightning.errors import UserError, first_line
from gan_lightning.paths import CONF, absolute, shorter
from gan_lightning.resume import OF_OPTIMIZER, OPTIONAL, changes, resume, tell

SWEEPERS = ("ax", "nevergrad", "optuna")  # optimizing ones, each a package of its own
OTHER_CONFIGS = ("evaluate", "explore")  # configurations of other commands
OF_OTHERS = {"latent": "gan-explore"}  # groups of which another command knows
BATCH = 10  # jobs of a sweep that are composed together
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
    if faults := faults_of_flags(args):
        raise UserError(*faults)
    if args.config_dir:
        args.config_dir = str(absolute(args.config_dir))
    if args.help:
        with Composer(args.config_dir) as hydra:
            print(help_text(hydra))
        raise SystemExit
    if args.hydra_help or args.shell_completion or args.info is not None:
        return "train", argv, None
    if rest:
        keys = [flag.partition("=")[0] for flag in rest]
        settings = [f"{key}: settings have no dashes{suggest_key(key)}" for key in keys if suggest_key(key)]
        flags = f"{' '.join(rest)}: not a flag; settings are KEY=VALUE; --help shows the groups and keys"
        raise UserError(flags, *settings)
    if args.config_dir and not Path(args.config_dir).is_dir():
        raise UserError(f"--config-dir {shorter(Path(args.config_dir))}: there is no such folder")
    name, overrides = args.config_name or "train", args.overrides
    with Composer(args.config_dir) as hydra, reporting_invalid_yaml():
        parser, faults, parsed = OverridesParser.create(config_loader=hydra.config_loader), errors_of_launch(), []
        for text in overrides:
            if text.startswith("="):  # of "KEY = VALUE"; Hydra would look for a group without a name
                faults.append(f"{text}: not of the form KEY=VALUE, without blanks")
                continue
            try:
                parsed.append(parse_one(parser, text))
            except (HydraException, ValueError) as error:  # the latter of numbers of thousands of digits
                why = f" ({str(error).splitlines()[0]})" if "=" in text else ""
                faults.append(f"{text}: not of the form KEY=VALUE{why}")
        if not args.multirun:
            faults += [f"{o.input_line}: several values; add -m for a sweep" for o in parsed if o.is_sweep_override()]
            parsed = [o for o in parsed if not o.is_sweep_override()]
        before: dict[str, Any] | None = None
        may_set_directories = ("hydra", "experiment", "debug")  # files of conf may set hydra.run.dir as well
        others = any(o.key_or_group.startswith(may_set_directories) for o in parsed)
        if not faults and (args.multirun or args.config_dir or args.config_name or others or set_in_home()):
            parsed = with_absolute_directories(hydra, name, parsed, args.multirun)
        typed = {o.key_or_group: o for o in parsed}
        overrides = [o.input_line for o in parsed]
        if "ckpt_path" in typed and typed["ckpt_path"].value() is not None and not faults:
            name, parsed, before = resume(hydra.config_loader, typed, parsed, args.multirun)
            overrides = [o.input_line for o in parsed]
        unnamed = name == "train" and "hydra.run.dir" not in typed and not args.multirun
        if unnamed and not faults and num_processes() > 1:
            faults.append(
                "hydra.run.dir: several processes were started, and each would name the run's folder by its own clock; "
                "hydra.run.dir=FOLDER"
            )
        faults += faults_of_overrides(hydra, name, parsed, before, args.multirun)
        if args.multirun and not faults and (jobs := num_jobs(parsed)) > BATCH:
            tell(f"sweep of {jobs:,} jobs")
            overrides += batch_limit(hydra, name, parsed)
    if faults:
        raise UserError(*dict.fromkeys(faults))
    sweep_dir = Path(typed["hydra.sweep.dir"].value()) if args.multirun else None
    return name, [*flags_of(args), *overrides], sweep_dir


def batch_limit(hydra: Hydra, name: str, parsed: list[Override]) -> list[str]:
    """Return the override that lets a large sweep start soon, where its launcher and sweeper take it.

    Hydra composes every job of a batch before the first one starts, which takes a second for five.
    """
    lines = [first_choice(o) for o in parsed]
    settings = hydra.config_loader.load_configuration(name, lines, RunMode.MULTIRUN, from_shell=False).hydra
    choices = settings.runtime.choices
    if choices["hydra/launcher"] != "basic" or choices["hydra/sweeper"] != "basic":
        tell("composing all of them before the first starts, up to 0.3 s each")
        return []
    return [f"hydra.sweeper.max_batch_size={BATCH}"] if settings.sweeper.max_batch_size is None else []


def faults_of_flags(args: Namespace) -> list[str]:
    """Return an error for each of Hydra's flags that is unsafe, not supported here or without effect."""
    faults = []
    if args.experimental_rerun is not None:
        faults.append(
            "--experimental-rerun: unpickles a file, which runs the code in it; resume a run with ckpt_path=FILE"
        )
    if args.config_path is not None:
        faults.append("--config-path: not supported; --config-dir FOLDER adds a folder of your own files")
    if args.config_name in OTHER_CONFIGS:
        faults.append(f"--config-name {args.config_name}: belongs to gan-{args.config_name}, not to training")
    faults += [
        f"--{name}: has no effect without --cfg"
        for name in ("package", "resolve")
        if getattr(args, name) and not args.cfg and not args.help
    ]
    modes = {"--run": args.run, "--multirun": args.multirun, "--cfg": args.cfg, "--info": args.info is not None}
    modes["--shell-completion"] = args.shell_completion
    if len(given := [flag for flag, value in modes.items() if value]) > 1:
        faults.append(f"{' '.join(given)}: mutually exclusive; use one of them")
    return faults


def flags_of(args: Namespace) -> list[str]:
    """Return the flags for Hydra; the name of the configuration is passed separately."""
    flags = [f"--{name}" for name in ("run", "multirun", "resolve") if getattr(args, name)]
    values = {name: getattr(args, name) for name in ("cfg", "package", "config_dir")}
    return flags + [f"--{name.replace('_', '-')}={value}" for name, value in values.items() if value is not None]


def with_absolute_directories(hydra: Hydra, name: str, parsed: list[Override], sweeping: bool) -> list[Override]:
    """Replace the directory of a run and of a sweep by its absolute path, wherever it was set.

    Hydra does not expand ``~`` and Lightning does, so that a run would be written to two directories; and
    ``ckpt_path=last`` and the records of a sweep need the directory before Hydra has resolved it.

    Raises:
        UserError: The directory cannot be determined.
    """
    loader, ours, lines = hydra.config_loader, OmegaConf.load(CONF / "train.yaml").hydra, []
    for override in parsed:
        if override.is_sweep_override() or override.is_delete() or override.key_or_group == "ckpt_path":
            continue
        # Values are forced: a key of the checkpoint's model may be missing in the default one.
        forced = override.key_or_group not in OPTIONAL and not options(loader, override.key_or_group)
        lines.append(f"++{override.input_line.lstrip('+')}" if forced else override.input_line)
    try:
        config = loader.load_configuration(name, lines, RunMode.RUN, from_shell=False)
    except (HydraException, OmegaConfBaseException, ValueError):  # the last of a group that is set to null
        return parsed  # the checks that follow report what is wrong
    parser, found = OverridesParser.create(), {}
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
            no_runs = Path(place).anchor, os.path.expanduser("~")  # the root directory and the home directory
            if key == "dir" and (not place.strip() or str(absolute(place)) in no_runs):
                raise UserError(f"{path}={place}: not a directory for runs; {path}=FOLDER")
            found[path] = parser.parse_overrides([quoted(path, str(absolute(place)))])[0]
    except OmegaConfBaseException as error:
        raise UserError(f"{path}={text}: {first_line(error)}") from error
    finally:
        HydraConfig.instance().cfg = None
    return [o for o in parsed if o.key_or_group not in found] + [*found.values()]


def set_in_home() -> bool:
    """Return whether conf/train.yaml itself puts runs or sweeps below the home directory."""
    ours = OmegaConf.load(CONF / "train.yaml").hydra
    return any(str(node._get_node("dir")._value()).startswith("~") for node in (ours.run, ours.sweep))


def quoted(key: str, value: str) -> str:
    """Return an override of Hydra's grammar whose value is a quoted text."""
    value = re.sub(r"\\+(?='|$)", lambda found: found[0] * 2, value).replace("'", "\\'")
    return f"{key}='{value}'"


def parse_one(parser: OverridesParser, text: str) -> Override:
    """What was typed as one word; a value that Hydra's grammar does not take, as ~/pictures (1), is text.

    Raises:
        HydraException: It is not of the form KEY=VALUE.
        ValueError: It has a number of thousands of digits.
    """
    try:
        return parser.parse_overrides([text])[0]
    except HydraException:
        key, sign, value = text.partition("=")
        if not sign or set(value) & set("'\"\\[]{},"):
            raise
        return parser.parse_overrides([f"{key}='{value}'"])[0]


def help_text(hydra: Hydra) -> str:
    """The groups with their options, and the keys that are used most."""
    groups = {group: options(hydra.config_loader, group) for group in hydra.config_loader.list_groups("")}
    listed = "\n".join(
        f"{group}: {', '.join(names)}" for group, names in groups.items() if group not in ("hydra", *OF_OTHERS)
    )
    return OmegaConf.load(CONF / "train.yaml").hydra.help.template.replace("$APP_CONFIG_GROUPS", listed)


def options(loader: ConfigLoader, group: str) -> list[str]:
    """What a group may be set to; ``base`` is only there to build on."""
    return [option for option in loader.get_group_options(group, ObjectType.CONFIG) if option != "base"]


@contextmanager
def reporting_invalid_yaml() -> Iterator[None]:
    """Raise UserError with the file and the line where a configuration file is not valid YAML."""
    try:
        yield
    except yaml.MarkedYAMLError as error:
        mark, problem = error.problem_mark, " ".join(str(error.problem).split())
        file = shorter(Path(mark.name)) if mark else "a configuration file"
        raise UserError(f"{file}: not valid YAML{f', line {mark.line + 1}' if mark else ''}: {problem}") from error


class Composer:
    """Hydra as ``hydra.main`` will set it up, for composing ahead of it."""

    def __init__(self, config_dir: str | None) -> None:
        self.path = create_config_search_path(str(CONF))
        if config_dir is not None:
            self.path.prepend("command-line", f"file://{Path(config_dir).absolute()}")

    def __enter__(self) -> Hydra:
        GlobalHydra.instance().clear()
        return Hydra.create_main_hydra2("train", self.path)

    def __exit__(self, *_: object) -> None:
        GlobalHydra.instance().clear()


def faults_of_overrides(
    hydra: Hydra, name: str, parsed: list[Override], before: dict[str, Any] | None, sweeping: bool
) -> list[str]:
    """Every fault of parsed overrides: their groups, keys and values, and what they mean together."""
    loader, faults, groups, values = hydra.config_loader, [], [], []
    for override in parsed:
        group = override.key_or_group
        if override.is_delete() and not (group.partition(".")[0] in OPTIONAL or OF_OPTIMIZER.fullmatch(group)):
            faults.append(f"{override.input_line}: is needed; only {', '.join(OPTIONAL)} can be left out")
            continue
        names = options(loader, group)
        if group == "hydra.mode":
            faults.append(f"{override.input_line}: -m runs a sweep")
            continue
        if group.partition(".")[0] in OF_OTHERS:
            faults.append(f"{override.input_line}: belongs to {OF_OTHERS[group.partition('.')[0]]}, not to training")
            continue
        if not names:
            values.append(override)
            continue
        if None in chosen(override) and not override.is_delete():
            faults.append(f"{override.input_line}: {without(group, names)}")
            continue
        wrong = [str(c) for choice in chosen(override) for c in each(choice) if c is not None and str(c) not in names]
        for choice in wrong:
            if group == "hydra/launcher" and (extra := str(choice).partition("_")[0]) in EXTRAS:
                faults.append(f"{group}={choice}: needs {how_to_install(extra)}")
            elif group == "hydra/sweeper" and choice in SWEEPERS:
                faults.append(f"{group}={choice}: needs {how_to_install(f'hydra-{choice}-sweeper')}")
            else:
                near = suggest_option(group, str(choice)) or nearest(choice, names)
                faults.append(f"{group}={choice}: no such option{near}; there are {', '.join(names)}")
        if not wrong:
            groups.append(override)

    def compose(overrides: list[str]) -> DictConfig:
        return loader.load_configuration(name, overrides, RunMode.RUN, from_shell=False)

    picked = [first_choice(o) for o in groups]
    try:
        plain = compose(picked)
        choices = plain.hydra.runtime.choices
        bare = plain
        if choices.get("experiment") or choices.get("debug"):
            drop = ("experiment", "debug")
            kept = {group: c for group, c in choices.items() if group not in drop and not group.startswith("hydra")}
            bare = compose([f"{group}={choice}" for group, choice in kept.items() if choice])
    except (HydraException, OmegaConfBaseException) as error:
        return [*faults, first_line(error)]
    known = {path: value for path, value in walk(bare) if not path.startswith("hydra")}
    good = []
    for override in values:
        key, adds = override.key_or_group, override.is_add() or override.is_force_add()
        if key.partition(".")[0] in FILLED_IN:
            faults.append(f"{key}: {FILLED_IN[key.partition('.')[0]]}")
        elif key.startswith("loss.") and "loss" not in known:
            faults.append(f"{key}: has no effect, since the model has no adversarial loss; leave it out")
        elif (
            key.startswith("hydra")
            or key in known
            or (adds and in_foreign_class(plain, key))
            or (own_section(key, known) and (adds or node_at(plain, key) is not None))
        ):
            good.append(override)
        else:
            sections = [path for path, node in known.items() if isinstance(node, DictConfig)]
            more = elsewhere(key) if key.rpartition(".")[0] in known else ""
            near = nearest(key, sections) if override.is_delete() else more or suggestion(key, known)
            faults.append(f"{key}: there is no such key{near}")
    try:
        if all(o.type == OverrideType.CHANGE and not (o.package or o.is_sweep_override()) for o in good):
            full = copy.deepcopy(plain)  # composing takes ten times as long
            for override in good:
                OmegaConf.update(full, override.key_or_group, override.value(), merge=True)
        else:
            full = compose(picked + [first_choice(o) for o in good])
    except (HydraException, OmegaConfBaseException) as error:
        return [*faults, first_line(error)]
    try:
        make_paths_absolute(full)
    except UserError as error:
        return [*faults, *error.faults]
    where = " or ".join(f"{group}={choices[group]}" for group in ("experiment", "debug") if choices.get(group))
    where = where or "a file of your own"
    for path, _ in walk(full):
        if path in known or path.startswith("hydra") or in_foreign_class(full, path):
            continue
        if section := own_section(path, known):
            if node_at(full, f"{section}._target_") is None:
                faults.append(f"{section}: names no class; +{section}._target_=CLASS adds one of your own")
        else:
            faults.append(f"{path}: there is no such key{nearest_key(path, known)} (in {where})")
    reported = {fault.partition(":")[0] for fault in faults}
    faults += [fault for fault in faults_of_values(full, known) if fault.partition(":")[0] not in reported]
    for override in good:
        if override.is_sweep_override():
            faults += faults_of_sweep(override, full, known)
    wrong = {re.split("[=:]", fault, maxsplit=1)[0] for fault in faults}
    right = [o for o in good if o.key_or_group not in wrong]
    together = full if len(right) == len(good) else compose(picked + [first_choice(o) for o in right])
    if not (faults and faults_of_values(together, known)):
        typed = [o.key_or_group for o in right]
        faults += errors_without_effect(typed, OmegaConf.to_container(together))
        if not sweeping:  # a combination that does not work fails its own job of a sweep, not the others
            faults += errors_of_combinations(together, typed)
    if sweeping and world_size(full.trainer) != 1:
        faults.append(
            "trainer.devices: a sweep runs every job on one device; start jobs on several devices one by one, "
            "or with a launcher that gives each job a process of its own"
        )
    if before is not None and not faults:
        told, others = changes(before, OmegaConf.to_container(full), full.force)
        tell(*told)
        faults += others
    return faults


def faults_of_sweep(override: Override, config: DictConfig, known: dict[str, Any]) -> list[str]:
    """Return an error for each invalid value of a sweep; composing every one anew would take a second for five."""
    config, key, faults, parser = copy.deepcopy(config), override.key_or_group, [], OverridesParser.create()
    if not override.is_discrete_sweep() or "glob(" in override.input_line:
        return []
    parameters = parameters_of(config)
    for text in override.sweep_string_iterator():
        try:
            value = parser.parse_override(f"{key}={text}").value()
            OmegaConf.update(config, key, value, merge=True, force_add=True)
        except (HydraException, OmegaConfBaseException) as error:
            faults.append(f"{key}: {first_line(error)}")
            continue
        faults += faults_of_values(config, known, key, parameters)
    return faults


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


def without(group: str, names: list[str]) -> str:
    """What to type instead of GROUP=null."""
    if group in ("experiment", "debug"):
        return "leave it out; there is none by default"
    return f"~{group} leaves it out" if group in OPTIONAL else f"is needed; there are {', '.join(names)}"


def chosen(override: Override) -> list[Any]:
    """Every value of an override; a glob picks among options that exist, so it has none to check."""
    if not override.is_sweep_override():
        return [override.value()]
    return [*override.sweep_iterator()] if override.is_discrete_sweep() and "glob(" not in override.input_line else []


def each(choice: Any) -> list[Any]:
    """The options of a choice; several may be taken together, as in metric=[fid,kid]."""
    return list(choice) if isinstance(choice, Sequence) and not isinstance(choice, str) else [choice]


def all_choices(override: Override) -> list[str]:
    """An override once for each of its values."""
    if not override.is_sweep_override():
        return [override.input_line]
    if not override.is_discrete_sweep():
        return [f"{override.get_key_element()}={override.value().start}"]
    return [f"{override.get_key_element()}={text}" for text in override.sweep_string_iterator()]


def first_choice(override: Override) -> str:
    """An override with the first of its values."""
    return all_choices(override)[0]


def in_foreign_class(config: DictConfig, key: str) -> bool:
    """Whether a key belongs to a class that is not ours, whose own signature says what it takes."""
    target = node_at(config, f"{key.rpartition('.')[0]}._target_") if "." in key else None
    # One that has still to be named is the user's own; our Trainer passes on what Lightning's takes.
    ours = re.compile(r"gan_lightning\.(?!trainer\.)")
    return target is not None and (target._is_missing() or not ours.match(str(target._value())))


def own_section(key: str, known: dict[str, Any]) -> str:
    """Return the section of a class of the user's own that a key adds to, as ``callbacks.mine``; empty for others."""
    section = ".".join(key.split(".")[:2])
    return section if section.startswith(OPEN_SECTIONS) and section not in known else ""


def suggestion(key: str, known: dict[str, Any]) -> str:
    """Return what to use for an unknown key: a key of the same name elsewhere, a synonym, or the nearest key."""
    near = nearest_key(key, known)
    same_name = near.rpartition(".")[2] == key.rpartition(".")[2] and "." in key
    return near if same_name else suggest_key(key) or near


def nearest_key(key: str, known: dict[str, Any]) -> str:
    """The nearest key; that of a section only where none of its parts is named."""
    return nearest(key, [path for path, node in known.items() if "." not in key or not isinstance(node, DictConfig)])


def elsewhere(key: str) -> str:
    """Which options of the same group do have a key, so that the user sees why it means nothing here."""
    group, _, tail = key.partition(".")
    if "optimizer." in tail:
        place, _, tail = tail.partition(".")
        group, choice = "optimizer", f"optimizer@model.{place}"
    else:
        choice = group
    owners = []
    for path in sorted((CONF / group).glob("*.yaml")) if tail else []:
        node = OmegaConf.load(path)
        keys = dict(walk(node))
        if "base" in node.get("defaults", []):
            keys |= dict(walk(OmegaConf.load(path.with_name("base.yaml"))))
        if path.stem != "base" and (key if group in node else tail) in keys:
            owners.append(path.stem)
    return f" here; it is a setting of {choice}={', '.join(owners)}" if owners else ""
