"""What gan-evaluate was asked to do: the words that were typed, checked, and laid over a run's own config."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from gan_lightning.card import FIELDS
from gan_lightning.command_line import options_with_key
from gan_lightning.config.combinations import errors_of_combinations
from gan_lightning.config.compose import as_list, composer, group_options, parse_override
from gan_lightning.config.nodes import walk
from gan_lightning.config.validation import faults_of_values, make_paths_absolute, nearest
from gan_lightning.errors import UserError, first_line
from gan_lightning.paths import absolute, absolute_environment, shorter

HELD_OUT = "held_out"  # in the place of a path: the real samples that training never sees
IN_TRAINING = ("eval.every_n_steps", "eval.best_by", "data.batch_size", "data.flip")
GROUPS = ("protocol", "feature", "metric", "data")


@dataclass
class Asked:
    """What was typed.

    Args:
        own: The command's own settings.
        sections: The options of groups that were chosen.
        values: Values by key.
    """

    own: DictConfig
    sections: dict[str, Any] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)


def parse(typed: Sequence[str]) -> tuple[Asked, list[str]]:
    """What was typed, and what is wrong with it."""
    absolute_environment()
    with composer() as hydra:
        loader, faults = hydra.config_loader, []
        plain = loader.load_configuration("evaluate", [], RunMode.RUN, from_shell=False)
        chosen, values = [], {}
        for text in typed:
            try:
                override = parse_override(text)
            except (HydraException, ValueError):
                faults.append(f"{text}: neither a path that exists nor of the form KEY=VALUE")
                continue
            key, names = override.key_or_group, group_options(loader, override.key_or_group)
            if override.is_sweep_override():
                right = (
                    f"{key}=[{text.partition('=')[2]}]" if key in ("allow", "metric") else "evaluate them one by one"
                )
                faults.append(f"{text}: several values; {right}")
            elif names and key not in GROUPS:
                faults.append(f"{key}: a checkpoint says itself what it is; {', '.join(GROUPS)} may be chosen")
            elif not names:
                values[key] = override.value()
            elif not any(as_list(override.value())):
                faults.append(f"{key}={text.partition('=')[2]}: none is chosen; there are {', '.join(names)}")
            elif wrong := [choice for choice in as_list(override.value()) if choice not in names]:
                near = nearest(str(wrong[0]), names)
                faults.append(f"{key}={wrong[0]}: no such option{near}; there are {', '.join(names)}")
            else:
                chosen.append(text)
        try:
            composed = loader.load_configuration("evaluate", chosen, RunMode.RUN, from_shell=False)
        except HydraException as error:
            return Asked(plain), [*faults, first_line(error)]
        every = loader.load_configuration("train", [], RunMode.RUN, from_shell=False)
    OmegaConf.set_struct(composed, False)
    groups = {text.partition("=")[0] for text in chosen}
    sections = {
        name: composed[name]
        for name in ("data", "feature", "metric")
        if name in groups or ("protocol" in groups and composed.get(name) != plain.get(name))  # which it brings along
    }
    if "protocol" in groups:
        sections["eval"] = composed.eval
    own = [key for key in plain if key not in (*GROUPS, "eval", "hydra", "seed")]
    for key in [key for key in values if key in own]:
        composed[key] = values.pop(key)
    known = {path for node in (every, composed) for path, _ in walk(node) if not path.startswith("hydra")}
    for key in values:
        if key in IN_TRAINING:
            faults.append(f"{key}: has no effect, since it matters in training alone")
        elif key in ("data", "feature", "metric", "eval"):
            faults.append(f"{key}={values[key]}: a section; choose an option of it, or set {key}.KEY=VALUE")
        elif key.partition(".")[0] not in ("data", "feature", "metric", "eval"):
            taken = [*own, *GROUPS, *(path for path in known if path.partition(".")[0] in (*GROUPS, "eval"))]
            wrong = "belongs to training" if key in known else f"there is no such key{nearest(key, taken)}"
            faults.append(f"{key}: {wrong}; {', '.join(own)} and keys of {', '.join(GROUPS)}, eval may be set")
    alone = OmegaConf.create()  # what they are in a section is looked at when that is known
    for key in [key for key in values if "." in key]:
        OmegaConf.update(alone, key, values[key])
    return Asked(composed, sections, values), faults + faults_of_own(composed) + faults_of_values(alone, {})


def faults_of_own(composed: DictConfig) -> list[str]:
    """What is wrong with the command's own settings; those are put aside."""
    faults = []
    if composed.which not in ("last", "best", "both"):
        faults.append(f"which={composed.which}: must be one of last, best, both")
        composed.which = "last"
    for key in ("out", "sort_by"):
        if composed[key] is not None and not isinstance(composed[key], str):
            faults.append(f"{key}={composed[key]}: must be a name")
            composed[key] = None
    if composed.out is not None and not Path(composed.out).name:
        faults.append(f"out={composed.out}: must be a name")
        composed.out = None
    if composed.out is not None:
        composed.out = str(shorter(absolute(composed.out)))
    if not isinstance(composed.trust, bool):
        faults.append(f"trust={composed.trust}: must be true or false")
    for name in map(str, as_list(composed.allow)):
        if name not in FIELDS:
            faults.append(
                f"allow={name}: no card has such a field{nearest(name, FIELDS)}; there are {', '.join(FIELDS)}"
            )
    return faults


def merged(stored: DictConfig, asked: Asked) -> DictConfig:
    """What a run was evaluated by, with what was typed in its place.

    Raises:
        UserError: A key that the chosen data, feature or metric do not have, or a value that they do not take.
    """
    config = OmegaConf.create({"seed": 0, **{key: asked.own[key] for key in ("feature", "metric", "eval")}})
    for part in (stored, OmegaConf.create(asked.sections)):
        for key in part:
            if key == "eval":  # the cache is the place's, not the run's
                config.eval = OmegaConf.merge(config.eval, part._get_node("eval"), {"cache": asked.own.eval.cache})
            else:
                config[key] = part._get_node(key)
    if "cache" in config.data:
        config.data.cache = "${eval.cache}"
    known, faults = dict(walk(config)), []
    for key, value in asked.values.items():
        if key in known or (key.startswith("feature.network") and "network" in config.feature):
            OmegaConf.update(config, key, value, merge=True, force_add=True)
        else:
            faults.append(f"{key}: there is no such key{options_with_key(key) or nearest(key, known)}")
    chosen = OmegaConf.create({key: config[key] for key in ("seed", "data", "feature", "metric", "eval")})
    faults += faults_of_values(chosen, {}) or errors_of_combinations(chosen)
    if faults:
        raise UserError(*faults)
    make_paths_absolute(chosen)
    return chosen
