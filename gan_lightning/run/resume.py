"""Resume a run: the configuration of its checkpoint, with the overrides of the command line on top.

A checkpoint stores the resolved configuration. On resume, the stored choices are composed again, which brings back
directories, values of the environment and references between keys, and the stored values replace the others.
"""

import copy
import re
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gan_lightning.config.compose import as_list, implied_choices, parse_override
from gan_lightning.config.launch import is_rank_zero
from gan_lightning.config.nodes import RUNTIME_KEYS, flatten, walk
from gan_lightning.config.validation import make_paths_absolute
from gan_lightning.errors import UserError
from gan_lightning.io.paths import CONF, absolute, relative_path
from gan_lightning.run.run_dir import deferred_lines

# Never taken from the checkpoint.
PER_COMMAND = ("hydra", "ckpt_path", "init_from", "objective", "force_resume", "trust_checkpoint")
OPTIONAL = ("callbacks", "logger", "debug", "experiment", "hydra")  # groups that may be left out
OF_OPTIMIZER = re.compile(r"model\.\w*optimizer\.\w+")  # ~KEY: another optimizer may lack the setting

# Other values in these sections would make it another run. Data may move, and a lower rate may save a run.
IDENTITY_SECTIONS = ("model", "network", "loss", "penalty", "augment", "data", "seed")
RESUMABLE_KEYS = ("data.root", "data.cache", "data.memory_gb")
RESUMABLE_KEYS += tuple(f"model.{name}optimizer.lr" for name in ("", "generator_", "discriminator_"))
IDENTITY_GROUPS = (*IDENTITY_SECTIONS, "experiment", "optimizer", "debug")
FORCEABLE_GROUPS = ("loss", "penalty", "augment", "data")  # the options of the other groups depend on each other


def resume(
    loader: ConfigLoader, typed: dict[str, Override], parsed: list[Override], sweeping: bool
) -> tuple[str, list[Override], DictConfig | None]:
    """Register the configuration with which a run is resumed as ``resume``, for Hydra to compose.

    Args:
        loader: Hydra's loader of configurations.
        typed: The last override of each key.
        parsed: All overrides, in order.
        sweeping: Whether the command is a sweep, which cannot resume a single run.

    Returns:
        The configuration's name, the overrides to apply to it, and the configuration of the checkpoint, which is None
        where there is no checkpoint yet and a new run starts.

    Raises:
        UserError: There is no checkpoint to read, it is not trusted, or an override would make it another run.
    """
    path, run = find_checkpoint(typed, sweeping)
    overrides = [o for o in parsed if o.key_or_group not in ("ckpt_path", "hydra.run.dir")]
    if path is None:
        return "train", [*overrides, typed["hydra.run.dir"]], None
    from gan_lightning.run.checkpoint import config_of, read
    from gan_lightning.run.checkpoint_format import NOT_STORED
    from gan_lightning.run.trust import check_data_exists, check_trusted, check_write_paths

    checkpoint = read(path)
    if not checkpoint["hyper_parameters"]["config"]["eval"]:  # of a model that was constructed in Python
        raise UserError(
            f"ckpt_path={path}: was trained in Python by trainer.fit, and has no configuration; resume it there: "
            "trainer.fit(model, data, ckpt_path=PATH)"
        )
    if run is None and path.parent.name != "checkpoints":
        raise UserError(f"ckpt_path={path}: not in a run directory; choose one to continue in: hydra.run.dir=FOLDER")
    run = absolute(run or path.resolve().parent.parent)
    stored, choices = config_of(checkpoint), checkpoint["hyper_parameters"]["choices"]
    forced, trusted = (key in typed and typed[key].value() is True for key in ("force_resume", "trust_checkpoint"))
    composed = compose(loader, choices)
    config = with_references(stored, composed)
    if not trusted:
        check_trusted(checkpoint["hyper_parameters"]["config"], path, "trust_checkpoint=true", typed)
        check_write_paths(OmegaConf.to_container(config), path, "trust_checkpoint=true", typed)
        check_data_exists(config, path, typed)
    make_paths_absolute(config)
    print_rank_zero(f"resuming from {path}, step {checkpoint['global_step']:,}")
    node = OmegaConf.to_container(config)
    kept, picked = apply_overrides(loader, overrides, config, node, choices, forced)
    if picked:
        implied: dict[str, str] = {}
        for group, choice in picked.items():
            implied |= implied_choices(group, str(choice))
        recomposed = OmegaConf.to_container(compose(loader, choices | implied | picked))
        apply_differences(node, OmegaConf.to_container(composed), recomposed)
        node |= {group: recomposed[group] for group in picked if group not in node and group in recomposed}
        entries = [{name: choice} for name, choice in implied.items() if name not in picked]
        node["defaults"] = [*entries, *({name: choices.get(name) or c} for name, c in picked.items()), "_self_"]
    unknown = [key for key, value in flatten(node) if value == NOT_STORED and key not in typed]
    if unknown:
        raise UserError(*(f"{key}: came from the environment and is not stored; {key}=VALUE" for key in unknown))
    node |= {"ckpt_path": str(absolute(path)), "force_resume": False, "trust_checkpoint": False}
    node["hydra"] = OmegaConf.to_container(OmegaConf.load(CONF / "train.yaml").hydra) | {"run": {"dir": str(run)}}
    ConfigStore.instance().store(name="resume", node=node)
    return "resume", kept, OmegaConf.to_container(config)


def find_checkpoint(typed: dict[str, Override], sweeping: bool) -> tuple[Path | None, Path | None]:
    """Return the checkpoint that ``ckpt_path`` names, None for a new run, and the run directory if it was given.

    Raises:
        UserError: There is no such checkpoint, or other overrides contradict ``ckpt_path``.
    """
    if sweeping:
        raise UserError("ckpt_path: a sweep cannot resume a single run; leave out -m or ckpt_path")
    value = str(typed["ckpt_path"].value())
    run = relative_path(absolute(str(typed["hydra.run.dir"].value()))) if "hydra.run.dir" in typed else None
    place = run if value == "last" else relative_path(absolute(value))
    if place is None:
        raise UserError("ckpt_path=last: of which run? Add hydra.run.dir=FOLDER, or name a file: ckpt_path=FILE")
    if value != "last" and "init_from" in typed and typed["init_from"].value() is not None:
        raise UserError("init_from: has no effect on a resumed run; leave out either ckpt_path or init_from")
    if value != "last" and not place.exists():
        raise UserError(f"ckpt_path={place}: there is no such checkpoint")
    from gan_lightning.run.checkpoint import newest, no_checkpoint_reason  # torch

    path: Path | None = place
    if value == "last" or place.is_dir():
        path, notes, _ = newest(place.parent if place.name == "checkpoints" and value != "last" else place)
        print_rank_zero(*notes)
        if path is None and value != "last":
            raise UserError(f"ckpt_path={place}: {no_checkpoint_reason(place)}")
        if path is None and notes:
            raise UserError(f"ckpt_path=last: {run} holds checkpoints, but none that can be read")
    return path, run


def apply_overrides(
    loader: ConfigLoader,
    overrides: list[Override],
    config: DictConfig,
    node: dict[str, Any],
    choices: dict[str, Any],
    forced: bool,
) -> tuple[list[Override], dict[str, Any]]:
    """Return the overrides that Hydra shall apply, and the choices that differ from the stored ones.

    Overrides of the command line that started the run are accepted and have no effect. Groups that are left out are
    removed from ``node``.

    Raises:
        UserError: A choice would make it another run.
    """
    errors, kept, picked = [], [], {}
    last = {(o.key_or_group, o.package): o for o in overrides}
    for override in overrides:
        group, value = override.key_or_group, override.value()
        key = f"{group}@{override.package}" if override.package else group
        section, _, inside = group.partition(".")
        exists = OmegaConf.select(config, group, throw_on_resolution_failure=False) is not None
        same = value == choices.get(key) and (exists or group not in ("callbacks", "logger"))
        if override.is_delete() and section in OPTIONAL and not (inside and exists):
            node.pop(group, None)
        elif override.is_delete() and OF_OPTIMIZER.fullmatch(group) and not exists:
            continue
        elif override.is_add() and exists:
            kept.append(parse_override(f"++{override.input_line.lstrip('+')}"))
        elif "." in group or section == "hydra" or not loader.get_group_options(group):
            kept.append(override)
        elif same or override is not last[group, override.package]:
            continue
        elif group in IDENTITY_GROUPS and not (forced and group in FORCEABLE_GROUPS):
            errors.append(identity_error(key, choices.get(key), value, group in FORCEABLE_GROUPS))
        else:
            kept.append(override)
            if set(as_list(value)) <= set(loader.get_group_options(group)):  # otherwise an error that is reported later
                picked[group] = value
    if errors:
        raise UserError(*errors)
    return kept, picked


def compose(loader: ConfigLoader, choices: dict[str, Any]) -> DictConfig:
    """Compose the configuration of stored choices, without Hydra's own section and without options that are gone."""
    lines = []
    for key, choice in choices.items():
        names = loader.get_group_options(key.partition("@")[0])
        if choice and not key.startswith("hydra") and set(as_list(choice)) <= set(names):
            lines.append(f"{key}={choice if isinstance(choice, str) else '[' + ','.join(choice) + ']'}")
    try:
        config = loader.load_configuration("train", lines, RunMode.RUN, from_shell=False)
    except HydraException:  # configuration files have changed, and the choices are not compatible any more
        config = loader.load_configuration("train", [], RunMode.RUN, from_shell=False)
    return OmegaConf.masked_copy(config, [key for key in config if key != "hydra"])


def with_references(stored: DictConfig, composed: DictConfig) -> DictConfig:
    """Replace stored values by the references of a composed configuration that resolve to the same values.

    An override of ``network.width`` or ``eval.num_generated`` then has its effect wherever the key is referred to.
    """
    from gan_lightning.run.checkpoint_format import NOT_STORED

    node = OmegaConf.to_container(stored)
    references = {key: part._value() for key, part in walk(composed) if part._is_interpolation()}
    for of_sections in (False, True):  # a referenced section may contain references of its own
        replaced = {}
        for key, text in references.items():
            section, _, name = key.rpartition(".")
            parent = get(node, section)
            if isinstance(parent, dict) and name in parent and isinstance(parent[name], dict) == of_sections:
                replaced[key], parent[name] = parent[name], text
        config = OmegaConf.create(node)
        for key, value in replaced.items():
            if value != NOT_STORED and resolve(config, key) != resolve(stored, key):
                section, _, name = key.rpartition(".")
                get(node, section)[name] = value
    return OmegaConf.create(node)


def get(node: dict[str, Any], key: str) -> Any:
    """Return the value of a dotted key of nested dictionaries, None where there is none."""
    for name in filter(None, key.split(".")):
        node = node.get(name) if isinstance(node, dict) else None
    return node


def resolve(config: DictConfig, key: str) -> Any:
    """Return the resolved plain value of a key, None where a reference cannot be resolved."""
    try:
        value = OmegaConf.select(config, key)
        return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
    except OmegaConfBaseException:
        return None


def apply_differences(node: dict[str, Any], old: dict[str, Any], new: dict[str, Any]) -> None:
    """Apply to nested dictionaries the differences between two others."""
    for name in [*old, *(name for name in new if name not in old)]:
        if name not in new:
            node.pop(name, None)
        elif all(isinstance(parts.get(name), dict) for parts in (node, old, new)):
            apply_differences(node[name], old[name], new[name])
        elif name not in old or old[name] != new[name]:
            node[name] = copy.deepcopy(new[name])


def compare_settings(before: dict[str, Any], after: dict[str, Any], force_resume: bool) -> tuple[list[str], list[str]]:
    """Compare the settings of a resumed run with those it was started with.

    Settings of a single command and directories are not compared.

    Returns:
        A line for each accepted difference, and an error for each that would make it another run.
    """
    from gan_lightning.run.checkpoint_format import NOT_STORED

    old, new, notes, errors = dict(flatten(before)), dict(flatten(after)), [], []
    for key in dict.fromkeys([*old, *new]):
        section = key.partition(".")[0]
        if old.get(key) in (new.get(key), NOT_STORED) or section in (*RUNTIME_KEYS, *PER_COMMAND):
            continue
        if section in IDENTITY_SECTIONS and key not in RESUMABLE_KEYS and not force_resume:
            errors.append(identity_error(key, old.get(key), new.get(key)))
        else:
            notes.append(f"changed: {key} from {old.get(key)} to {new.get(key)}")
    return notes, errors


def print_rank_zero(*lines: str) -> None:
    """Print lines in the first process of a run; the run's log gets them when it is opened."""
    if is_rank_zero():
        print(*lines, sep="\n", end="\n" if lines else "")
        deferred_lines.extend(lines)


def identity_error(key: str, old: Any, new: Any, forceable: bool = True) -> str:
    """Return the error of a setting that would make a resumed run another run."""
    forced = "; force_resume=true resumes all the same" if forceable else ""
    return (
        f"{key}: the run was started with {old}, not {new}, and with that it would be another run. "
        f"A new run may start from its networks: init_from=FILE{forced}"
    )
