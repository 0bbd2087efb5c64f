"""Overrides of gan-evaluate: parsing, validation, and merging with the configuration of a run."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra import compose
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from gan_lightning.config.combinations import errors_of_combinations
from gan_lightning.config.compose import as_list, group_options, initialize_hydra, parse_settings
from gan_lightning.config.nodes import walk
from gan_lightning.config.validation import errors_of_values, make_paths_absolute, suggest
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
    with initialize_hydra() as loader:
        settings, errors = parse_settings(overrides, loader, GROUPS, "neither an existing path nor KEY=VALUE")
        chosen, values = {}, {}
        for key, override in ((one.key_or_group, one) for one in settings):
            if key in GROUPS:
                chosen[key] = override.input_line
            elif group_options(loader, key):
                errors.append(f"{key}: is stored in the checkpoint; only {', '.join(GROUPS)} can be chosen")
            else:
                values[key] = override.value()
        defaults, training = compose("evaluate"), compose("train")
        try:
            config = compose("evaluate", [*chosen.values()])
        except HydraException as error:
            return EvaluateRequest(defaults), [*errors, short_message(error)]
    OmegaConf.set_struct(config, False)
    sections = {
        name: config[name]
        for name in ("data", "feature", "metric")
        if name in chosen or ("protocol" in chosen and config.get(name) != defaults.get(name))  # by the protocol
    }
    if "protocol" in chosen:
        sections["eval"] = config.eval
    own = [key for key in defaults if key not in (*GROUPS, "eval", "seed")]
    config.update({key: values.pop(key) for key in own if key in values})
    known = {path for node in (training, config) for path, _ in walk(node)}
    for key in values:
        if key in IN_TRAINING:
            errors.append(f"{key}: has no effect outside training")
        elif key in ("data", "feature", "metric", "eval"):
            errors.append(f"{key}={values[key]}: is a section; choose an option, or set {key}.KEY=VALUE")
        elif key.partition(".")[0] not in ("data", "feature", "metric", "eval"):
            settable = [*own, *GROUPS, *(path for path in known if path.partition(".")[0] in (*GROUPS, "eval"))]
            problem = "belongs to training" if key in known else f"there is no such key{suggest(key, settable)}"
            errors.append(f"{key}: {problem}; {', '.join(own)} and keys of {', '.join(GROUPS)}, eval can be set")
    for name in (name for name in map(str, as_list(config.allow)) if name not in FIELDS):
        errors.append(f"allow={name}: no card has such a field{suggest(name, FIELDS)}; there are {', '.join(FIELDS)}")
    partial = OmegaConf.create({key: config[key] for key in own})
    for key in (key for key in values if "." in key):  # whether a section has the key is checked when it is known
        OmegaConf.update(partial, key, values[key])
    errors += errors_of_values(partial, {})
    if isinstance(config.out, str):
        config.out = str(relative_path(absolute(config.out)))
        errors += [] if Path(config.out).name else [f"out={config.out}: must be a name"]
    return EvaluateRequest(config, sections, values), errors


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
            errors.append(f"{key}: there is no such key{options_with_key(key) or suggest(key, known)}")
    chosen = OmegaConf.create({key: config[key] for key in ("seed", "data", "feature", "metric", "eval")})
    errors += errors_of_values(chosen, {}) or errors_of_combinations(chosen)
    if errors:
        raise UserError(*errors)
    make_paths_absolute(chosen)
    return chosen
