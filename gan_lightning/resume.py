"""Resume a run: the configuration of its checkpoint with the command line's overrides on top.

A checkpoint stores the resolved configuration. It is composed anew from the stored choices, so that places, values of
the environment and references between keys are those of the configuration files; stored values replace the others.
"""

import copy
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gan_lightning.config.compose import as_list, implied_choices
from gan_lightning.config.nodes import FILLED_IN, walk
from gan_lightning.config.validation import make_paths_absolute
from gan_lightning.errors import UserError
from gan_lightning.paths import CONF, absolute, shorter
from gan_lightning.run import first_rank, printed

OF_THE_LINE = ("hydra", "ckpt_path", "init_from", "objective", "force", "trust")  # what each command says for itself
OPTIONAL = ("callbacks", "logger", "debug", "experiment", "hydra")
OF_OPTIMIZER = re.compile(r"model\.\w*optimizer\.\w+")  # a setting that the one of another choice does not take

# A resumed run with another value of these would be another run. Places may differ, and a lower rate may save a run.
MEANING = ("model", "network", "loss", "penalty", "augment", "data", "seed")
MAY_CHANGE = ("data.root", "data.cache", "data.memory_gb")
MAY_CHANGE += tuple(f"model.{name}optimizer.lr" for name in ("", "generator_", "discriminator_"))
MEANING_GROUPS = (*MEANING, "experiment", "optimizer", "debug")
FORCEABLE_GROUPS = ("loss", "penalty", "augment", "data")  # the others bring parts of each other


def resume(
    loader: ConfigLoader, typed: dict[str, Override], parsed: list[Override], sweeping: bool
) -> tuple[str, list[Override], DictConfig | None]:
    """Register the configuration with which a run is resumed as ``resume``, for Hydra to compose.

    Returns:
        The configuration's name, the overrides to apply to it, and the configuration that the checkpoint was made with,
        which is None where there is no checkpoint yet and the run starts from scratch.
    """
    path, run = find_checkpoint(typed, sweeping)
    rest = [o for o in parsed if o.key_or_group not in ("ckpt_path", "hydra.run.dir")]
    if path is None:
        return "train", [*rest, typed["hydra.run.dir"]], None
    from gan_lightning.checkpoint import NOT_STORED, config_of, read, refuse_absent_data, refuse_foreign, refuse_places

    checkpoint = read(path)
    if run is None and path.parent.name != "checkpoints":
        raise UserError(f"ckpt_path={path}: it lies outside a run's folder; say where to go on: hydra.run.dir=FOLDER")
    run = absolute(run or path.resolve().parent.parent)
    stored, choices = config_of(checkpoint), checkpoint["hyper_parameters"]["choices"]
    forced, trusted = (key in typed and typed[key].value() is True for key in ("force", "trust"))
    composed = compose(loader, choices)
    config = with_references(stored, composed)
    if not trusted:
        refuse_foreign(checkpoint["hyper_parameters"]["config"], path, "trust=true", typed)
        refuse_places(OmegaConf.to_container(config), path, "trust=true", typed)
        refuse_absent_data(config, path, typed)
    make_paths_absolute(config)
    tell(f"going on from {path}, step {checkpoint['global_step']:,}")
    node, faults, kept, picked = OmegaConf.to_container(config), [], [], {}
    last = {(o.key_or_group, o.package): o for o in rest}
    for override in rest:
        group, value = override.key_or_group, override.value()
        key = f"{group}@{override.package}" if override.package else group
        section, _, inside = group.partition(".")
        there = OmegaConf.select(config, group, throw_on_resolution_failure=False) is not None
        if override.is_delete() and section in OPTIONAL and not (inside and there):
            node.pop(group, None)  # a whole group; what is left out already needs nothing
        elif override.is_delete() and OF_OPTIMIZER.fullmatch(group) and not there:
            continue  # the command line that started the run
        elif override.is_add() and there:
            kept += OverridesParser.create().parse_overrides([f"++{override.input_line.lstrip('+')}"])
        elif "." in group or section == "hydra" or not loader.get_group_options(group):
            kept.append(override)
        elif override is not last[group, override.package] or (
            value == choices.get(key) and (there or group not in ("callbacks", "logger"))
        ):
            continue  # the stored choice, with the values that were set in it; or one that a later override replaces
        elif group in (*MEANING_GROUPS,) and not (forced and group in FORCEABLE_GROUPS):
            faults.append(other_meaning(key, choices.get(key), value, group in FORCEABLE_GROUPS))
        else:
            kept.append(override)
            if set(as_list(value)) <= set(loader.get_group_options(group)):  # otherwise an error that is reported later
                picked[group] = value
    if faults:
        raise UserError(*faults)
    if picked:
        brought = {
            name: c for group, choice in picked.items() for name, c in implied_choices(group, str(choice)).items()
        }
        anew = compose(loader, choices | brought | picked)
        change(node, OmegaConf.to_container(composed), OmegaConf.to_container(anew))
        node |= {group: OmegaConf.to_container(anew)[group] for group in picked if group not in node and group in anew}
        entries = [{name: choice} for name, choice in brought.items() if name not in picked]
        node["defaults"] = [*entries, *({name: choices.get(name) or c} for name, c in picked.items()), "_self_"]
    unknown = [key for key, value in leaves(node) if value == NOT_STORED and key not in typed]
    if unknown:
        raise UserError(*(f"{key}: a value of the environment, which is not stored; {key}=VALUE" for key in unknown))
    node |= {"ckpt_path": str(absolute(path)), "force": False, "trust": False}  # not kept from one command to the next
    node["hydra"] = OmegaConf.to_container(OmegaConf.load(CONF / "train.yaml").hydra) | {"run": {"dir": str(run)}}
    ConfigStore.instance().store(name="resume", node=node)
    return "resume", kept, OmegaConf.to_container(config)


def find_checkpoint(typed: dict[str, Override], sweeping: bool) -> tuple[Path | None, Path | None]:
    """Return the checkpoint that ``ckpt_path`` names, None for a new run, and the run directory if it was given."""
    if sweeping:
        raise UserError("ckpt_path: a sweep cannot go on with a run; leave out -m or ckpt_path")
    asked = str(typed["ckpt_path"].value())
    run = shorter(absolute(str(typed["hydra.run.dir"].value()))) if "hydra.run.dir" in typed else None
    place = run if asked == "last" else shorter(absolute(asked))
    if place is None:
        raise UserError("ckpt_path=last: of which run? Add hydra.run.dir=FOLDER, or name a file: ckpt_path=FILE")
    if asked != "last" and "init_from" in typed and typed["init_from"].value() is not None:
        raise UserError("init_from: has no effect on a run that goes on; leave out either ckpt_path or init_from")
    if asked != "last" and not place.exists():
        raise UserError(f"ckpt_path={place}: there is no such checkpoint")
    from gan_lightning.checkpoint import newest, no_run  # torch

    path: Path | None = place
    if asked == "last" or place.is_dir():
        path, notes = newest(place.parent if place.name == "checkpoints" and asked != "last" else place)
        tell(*notes)
        if path is None and asked != "last":
            raise UserError(f"ckpt_path={place}: {no_run(place)}")
        if path is None and notes:
            raise UserError(f"ckpt_path=last: {run} holds checkpoints, but none that can be read")
    return path, run


def compose(loader: ConfigLoader, choices: dict[str, Any]) -> DictConfig:
    """Compose the configuration of choices, those left out that are not available here, without Hydra's own."""
    lines = []
    for key, choice in choices.items():
        names = loader.get_group_options(key.partition("@")[0])
        if choice and not key.startswith("hydra") and set(as_list(choice)) <= set(names):
            lines.append(f"{key}={choice if isinstance(choice, str) else '[' + ','.join(choice) + ']'}")
    try:
        config = loader.load_configuration("train", lines, RunMode.RUN, from_shell=False)
    except HydraException:  # files have changed since, and choices do not fit each other any more
        config = loader.load_configuration("train", [], RunMode.RUN, from_shell=False)
    return OmegaConf.masked_copy(config, [key for key in config if key != "hydra"])


def with_references(stored: DictConfig, composed: DictConfig) -> DictConfig:
    """Return the stored values with the references of a composed configuration, where these lead to the same values.

    So an override of ``network.width`` or ``eval.num`` has its effect wherever it is referred to.
    """
    from gan_lightning.checkpoint import NOT_STORED

    node = OmegaConf.to_container(stored)
    references = {key: part._value() for key, part in walk(composed) if part._is_interpolation()}
    for of_sections in (False, True):  # a section may be referred to whose own values have references
        found = {}
        for key, text in references.items():
            section, _, name = key.rpartition(".")
            parent = get(node, section)
            if isinstance(parent, dict) and name in parent and isinstance(parent[name], dict) == of_sections:
                found[key], parent[name] = parent[name], text
        config = OmegaConf.create(node)
        for key, value in found.items():
            if value != NOT_STORED and resolved(config, key) != resolved(stored, key):
                section, _, name = key.rpartition(".")
                get(node, section)[name] = value
    return OmegaConf.create(node)


def get(node: dict[str, Any], key: str) -> Any:
    """Return the value of a dotted key of nested dictionaries, None where there is none."""
    for name in filter(None, key.split(".")):
        node = node.get(name) if isinstance(node, dict) else None
    return node


def resolved(config: DictConfig, key: str) -> Any:
    """Return the resolved plain value of a key, None where its references lead nowhere."""
    try:
        value = OmegaConf.select(config, key)
        return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
    except OmegaConfBaseException:
        return None


def change(node: dict[str, Any], old: dict[str, Any], new: dict[str, Any]) -> None:
    """Apply to nested dictionaries the differences between two others."""
    for name in [*old, *(name for name in new if name not in old)]:
        if name not in new:
            node.pop(name, None)
        elif all(isinstance(parts.get(name), dict) for parts in (node, old, new)):
            change(node[name], old[name], new[name])
        elif name not in old or old[name] != new[name]:
            node[name] = copy.deepcopy(new[name])


def changes(before: dict[str, Any], after: dict[str, Any], force: bool) -> tuple[list[str], list[str]]:
    """What differs from the settings that a run was started with: lines, and faults where it would be another run.

    What is typed anew for every command, and what belongs to the place rather than the run, is no difference.
    """
    old, new, told, faults = dict(leaves(before)), dict(leaves(after)), [], []
    for key in dict.fromkeys([*old, *new]):
        section = key.partition(".")[0]
        if old.get(key) in (new.get(key), "<not stored>") or section in (*FILLED_IN, *OF_THE_LINE):
            continue
        if section in MEANING and key not in MAY_CHANGE and not force:
            faults.append(other_meaning(key, old.get(key), new.get(key)))
        else:
            told.append(f"changed: {key} from {old.get(key)} to {new.get(key)}")
    return told, faults


def tell(*lines: str) -> None:
    """Print, once for all ranks of a run."""
    if first_rank():
        print(*lines, sep="\n", end="\n" if lines else "")
        printed.extend(lines)


def leaves(node: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of plain nested dictionaries, with its key in dotted form."""
    for key, value in node.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def other_meaning(key: str, old: Any, new: Any, forceable: bool = True) -> str:
    """The fault of going on under another setting."""
    forced = "; force=true goes on all the same" if forceable else ""
    return (
        f"{key}: the run was started with {old}, not {new}; going on would make it another run. "
        f"A new run may start from its networks: init_from=FILE{forced}"
    )
