"""Overrides of gan-evaluate: parsing, validation, and merging with the configuration of a run."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from gan_lightning.config.combinations import errors_of_combinations
from gan_lightning.config.compose import as_list, composer, group_options, parse_override
from gan_lightning.config.nodes import walk
from gan_lightning.config.validation import errors_of_values, make_paths_absolute, nearest
from gan_lightning.errors import UserError, short_message
from gan_lightning.evaluation.score import FIELDS
from gan_lightning.io.paths import absolute, absolute_environment, relative_path
from gan_lightning.run.command_line import options_with_key

HELD_OUT = "held_out"  # in place of a path: real samples that are not used for training
IN_TRAINING = ("eval.every_n_steps", "eval.best_by", "data.batch_size", "data.flip")
GROUPS = ("protocol", "feature", "metric", "data")


@dataclass
class EvaluateRequest:
    """Parsed overrides of gan-evaluate.

    Args:
        own: Settings of the command itself.
        sections: Configurations of the groups that were chosen.
        values: Other values by key.
    """

    own: DictConfig
    sections: dict[str, Any] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)


def parse_request(overrides: Sequence[str]) -> tuple[EvaluateRequest, list[str]]:
    """Parse overrides; return them with the error messages of invalid ones."""
    absolute_environment()
    with composer() as hydra:
        loader, errors = hydra.config_loader, []
        defaults = loader.load_configuration("evaluate", [], RunMode.RUN, from_shell=False)
        chosen, values = [], {}
        for text in overrides:
            try:
                override = parse_override(text)
            except (HydraException, ValueError):
                errors.append(f"{text}: neither an existing path nor KEY=VALUE")
                continue
            key, names = override.key_or_group, group_options(loader, override.key_or_group)
            if override.is_sweep_override():
                fix = f"{key}=[{text.partition('=')[2]}]" if key in ("allow", "metric") else "evaluate them one by one"
                errors.append(f"{text}: several values; {fix}")
            elif names and key not in GROUPS:
                errors.append(f"{key}: is stored in the checkpoint; only {', '.join(GROUPS)} can be chosen")
            elif not names:
                values[key] = override.value()
            elif not any(as_list(override.value())):
                errors.append(f"{key}={text.partition('=')[2]}: no option is chosen; there are {', '.join(names)}")
            elif unknown := [choice for choice in as_list(override.value()) if choice not in names]:
                suggestion = nearest(str(unknown[0]), names)
                errors.append(f"{key}={unknown[0]}: no such option{suggestion}; there are {', '.join(names)}")
            else:
                chosen.append(text)
        try:
            composed = loader.load_configuration("evaluate", chosen, RunMode.RUN, from_shell=False)
        except HydraException as error:
            return EvaluateRequest(defaults), [*errors, short_message(error)]
        training = loader.load_configuration("train", [], RunMode.RUN, from_shell=False)
    OmegaConf.set_struct(composed, False)
    groups = {text.partition("=")[0] for text in chosen}
    sections = {
        name: composed[name]
        for name in ("data", "feature", "metric")
        if name in groups or ("protocol" in groups and composed.get(name) != defaults.get(name))  # by the protocol
    }
    if "protocol" in groups:
        sections["eval"] = composed.eval
    own = [key for key in defaults if key not in (*GROUPS, "eval", "hydra", "seed")]
    for key in [key for key in values if key in own]:
        composed[key] = values.pop(key)
    known = {path for node in (training, composed) for path, _ in walk(node) if not path.startswith("hydra")}
    for key in values:
        if key in IN_TRAINING:
            errors.append(f"{key}: has no effect outside training")
        elif key in ("data", "feature", "metric", "eval"):
            errors.append(f"{key}={values[key]}: is a section; choose an option, or set {key}.KEY=VALUE")
        elif key.partition(".")[0] not in ("data", "feature", "metric", "eval"):
            settable = [*own, *GROUPS, *(path for path in known if path.partition(".")[0] in (*GROUPS, "eval"))]
            problem = "belongs to training" if key in known else f"there is no such key{nearest(key, settable)}"
            errors.append(f"{key}: {problem}; {', '.join(own)} and keys of {', '.join(GROUPS)}, eval can be set")
    partial = OmegaConf.create()  # types and ranges; whether a section has the key is checked when it is known
    for key in [key for key in values if "." in key]:
        OmegaConf.update(partial, key, values[key])
    errors += errors_of_own_settings(composed) + errors_of_values(partial, {})
    return EvaluateRequest(composed, sections, values), errors


def errors_of_own_settings(composed: DictConfig) -> list[str]:
    """Return the error messages of the command's own settings, and reset invalid ones to valid values."""
    errors = []
    if composed.which not in ("last", "best", "both"):
        errors.append(f"which={composed.which}: must be one of last, best, both")
        composed.which = "last"
    for key in ("out", "sort_by"):
        if composed[key] is not None and not isinstance(composed[key], str):
            errors.append(f"{key}={composed[key]}: must be a name")
            composed[key] = None
    if composed.out is not None and not Path(composed.out).name:
        errors.append(f"out={composed.out}: must be a name")
        composed.out = None
    if composed.out is not None:
        composed.out = str(relative_path(absolute(composed.out)))
    if not isinstance(composed.trust_checkpoint, bool):
        errors.append(f"trust_checkpoint={composed.trust_checkpoint}: must be true or false")
    for name in map(str, as_list(composed.allow)):
        if name not in FIELDS:
            errors.append(
                f"allow={name}: no card has such a field{nearest(name, FIELDS)}; there are {', '.join(FIELDS)}"
            )
    return errors


def resolve_config(stored: DictConfig, request: EvaluateRequest) -> DictConfig:
    """Apply overrides to the evaluation settings of a run.

    Raises:
        UserError: The chosen data, feature or metric do not have a key, or do not accept a value.
    """
    config = OmegaConf.create({"seed": 0, **{key: request.own[key] for key in ("feature", "metric", "eval")}})
    for part in (stored, OmegaConf.create(request.sections)):
        for key in part:
            if key == "eval":  # the cache directory belongs to this machine; it may lack a home directory
                own = {"cache": request.own.eval._get_node("cache")._value()}
                config.eval = OmegaConf.merge(config.eval, part._get_node("eval"), own)
            else:
                config[key] = part._get_node(key)
    if "cache" in config.data:
        config.data.cache = "${eval.cache}"
    known, errors = dict(walk(config)), []
    for key, value in request.values.items():
        if key in known or (key.startswith("feature.network") and "network" in config.feature):
            OmegaConf.update(config, key, value, merge=True, force_add=True)
        else:
            errors.append(f"{key}: there is no such key{options_with_key(key) or nearest(key, known)}")
    chosen = OmegaConf.create({key: config[key] for key in ("seed", "data", "feature", "metric", "eval")})
    errors += errors_of_values(chosen, {}) or errors_of_combinations(chosen)
    if errors:
        raise UserError(*errors)
    make_paths_absolute(chosen)
    return chosen
