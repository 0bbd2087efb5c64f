"""The format of a checkpoint: which keys it has, of which types and ranges.

:func:`format_error` validates the content of a file when it is read, before any of it is resolved, built or loaded.
``checkpoint.py`` compares what depends on the model: names and shapes of weights and of optimizer state.
"""

import math
import re
from collections.abc import Callable
from typing import Any

from torch import Tensor

from gan_lightning.config.description import FORMAT_VERSION

LIGHTNING_VERSION = re.compile(r"[2-9]\.\d+\.\d+((a|b|rc|\.dev|\.post)\d+)?")  # of older ones Lightning rewrites files
NESTING = 32  # levels of the configuration; OmegaConf and Hydra recurse

# Stored in place of the run directory, and of caches, the default data.root and values of the environment.
RUN_DIR, NOT_STORED = "<run_dir>", "<not stored>"
DATA_DIR = "${oc.env:GAN_DATA_DIR,data}"  # the default data.root

Check = Callable[[Any, str], str]


def form_error(value: Any, form: Any, key: str) -> str:
    """Return the first difference of a value from a form as one sentence; empty if there is none.

    Args:
        value: Untrusted plain data.
        form: A type; a list of one form, for lists of any length; a dictionary of forms, whose keys are needed unless
            they end with ``?``; ``{str: form}`` for dictionaries with any names; a tuple of forms that all apply; or a
            function of the value and its key that returns the sentence.
        key: The value's key, for the sentence.
    """
    if isinstance(form, type):
        return "" if isinstance(value, form) else f"{key} is {shown(value)}, not of type {form.__name__}"
    if isinstance(form, tuple):
        return next(filter(None, (form_error(value, part, key) for part in form)), "")
    if callable(form):
        return form(value, key)
    if isinstance(form, list):
        entries = enumerate(value) if isinstance(value, list) else ()
        errors = (form_error(entry, form[0], f"{key}[{index}]") for index, entry in entries)
        return form_error(value, list, key) or next(filter(None, errors), "")
    if not isinstance(value, dict):
        return form_error(value, dict, key)
    if str in form:
        if odd := [name for name in value if not isinstance(name, str)]:
            return f"{key} has the key {shown(odd[0])}, which is not a string"
        form = dict.fromkeys(value, form[str])
    for name, part in form.items():
        there = name.removesuffix("?")
        if there in value or there == name:
            path = f"{key}.{there}" if key else there
            if error := form_error(value[there], part, path) if there in value else f"{path} is missing":
                return error
    return ""


def shown(value: Any) -> str:
    """Return a short description of a value for an error message."""
    if isinstance(value, int) and value.bit_length() > 64:
        return f"a number of {value.bit_length()} bits"
    return f"{value!r:.40}" if isinstance(value, str | int | float | None) else f"of type {type(value).__name__}"


def values(expected: str, fits: Callable[[Any], bool]) -> Check:
    """Return a check of single values."""
    return lambda value, key: "" if fits(value) else f"{key} is {shown(value)}, not {expected}"


def plain(node: Any, key: str, levels: int = NESTING) -> str:
    """Check that a configuration has only dictionaries, lists, resolved strings, finite numbers, booleans and None."""
    if levels < 0:
        return f"{key:.40}... is nested more than {NESTING} levels deep"
    if isinstance(node, dict | list):
        odd = [name for name in node if not isinstance(name, str | int)] if isinstance(node, dict) else []
        if odd:
            return f"{key} has the key {shown(odd[0])}, which is not a string"
        parts = node.items() if isinstance(node, dict) else enumerate(node)
        return next(filter(None, (plain(part, f"{key}.{name}", levels - 1) for name, part in parts)), "")
    if isinstance(node, str) and "${" in node:
        return f"{key} is {shown(node)}, an interpolation, and the configuration is stored resolved"
    fits = node is None or isinstance(node, str) or (isinstance(node, float) and math.isfinite(node))
    return "" if fits or (isinstance(node, int) and node.bit_length() < 64) else f"{key} is {shown(node)}"


def is_choice(value: Any) -> bool:
    """Return whether a value is an option of a group, or several."""
    several = isinstance(value, list) and all(isinstance(name, str) for name in value)
    return value is None or isinstance(value, str) or several


COUNT = values("a whole number from 0 to 2147483647", lambda value: type(value) is int and 0 <= value < 2**31)
SEED = values("a whole number from 0 to 4294967295", lambda value: type(value) is int and 0 <= value < 2**32)
NUMBER = values("a number", lambda value: isinstance(value, float) or (type(value) is int and abs(value) < 2**63))
NOISE = values(
    "a number of at least 0, or None", lambda value: value is None or (type(value) is float and 0 <= value < math.inf)
)
CHOICE = values("a string, a list of strings or None", is_choice)
LIGHTNING = values(
    "a version of Lightning from 2.0 on",
    lambda value: isinstance(value, str) and bool(LIGHTNING_VERSION.fullmatch(value)),
)
SCORE = values(
    "[number, card]", lambda v: isinstance(v, list | tuple) and list(map(type, v)) in ([float, str], [int, str])
)

PROGRESS = {"total": {str: COUNT}, "current": {str: COUNT}}
BATCHES = PROGRESS | {"is_last_batch?": bool}
FIT_LOOP = {
    "state_dict?": {"combined_loader?": [dict]},
    "epoch_progress?": PROGRESS,
    "epoch_loop.state_dict?": {"_batches_that_stepped?": COUNT},
    "epoch_loop.batch_progress?": BATCHES,
    "epoch_loop.scheduler_progress?": PROGRESS,
    "epoch_loop.automatic_optimization.state_dict?": dict,
    "epoch_loop.automatic_optimization.optim_progress?": {"optimizer": {"step": PROGRESS, "zero_grad": PROGRESS}},
    "epoch_loop.manual_optimization.state_dict?": dict,
    "epoch_loop.manual_optimization.optim_step_progress": {"total": {"ready": COUNT, "completed": COUNT}} | PROGRESS,
    "epoch_loop.val_loop.state_dict?": dict,
    "epoch_loop.val_loop.batch_progress?": BATCHES,
}
CALLBACKS = {
    "Checkpoint?": {"seconds": NUMBER},
    "Evaluate?": {
        "curve": [{"step": COUNT, "scores": {str: SCORE}}],
        "cards": {str: dict},
        "seconds?": NUMBER,
    },
    "EarlyStopping?": {"noise": NOISE},
    "TrainingMonitor?": {"peak": NUMBER, "ill": {str: COUNT}, "found": [COUNT]},
}
OPTIONAL_SECTION = values("a dictionary", lambda value: value is None or isinstance(value, dict))
CONFIG = {
    "seed": SEED,
    "model": {"_target_": str},
    "network": dict,
    "data": {"_target_": str},
    "trainer": dict,
    "eval": dict,
    "logger?": OPTIONAL_SECTION,
    "callbacks?": OPTIONAL_SECTION,
}
HYPER_PARAMETERS = {
    "format_version": COUNT,
    "config": (plain, CONFIG),
    "choices": {str: CHOICE},
    "overrides": [str],
    "recipe?": [str],
    "versions": {str: str},
}
FORM = {
    "pytorch-lightning_version": LIGHTNING,
    "global_step": COUNT,
    "epoch": COUNT,
    "state_dict": {str: Tensor},
    "optimizer_states": [dict],
    "lr_schedulers": [dict],
    "loops": {"fit_loop": FIT_LOOP},
    "callbacks": ({str: dict}, CALLBACKS),
    "MixedPrecision?": dict,
    "hyper_parameters": HYPER_PARAMETERS,
}


def format_error(checkpoint: Any) -> str:
    """Return why the content of a file is no checkpoint of this format, as one sentence; empty if it is one."""
    kept: Any = checkpoint.get("hyper_parameters") if isinstance(checkpoint, dict) else None
    config = kept.get("config") if isinstance(kept, dict) else None
    if not (isinstance(config, dict) and isinstance(config.get("model"), dict) and "state_dict" in checkpoint):
        return "a checkpoint, but not one of gan-lightning's: it holds no configuration of ours"
    if (found := kept.get("format_version", 1)) != FORMAT_VERSION:
        versions = kept["versions"] if isinstance(kept.get("versions"), dict) else {}
        by = shown(versions["gan-lightning"]) if "gan-lightning" in versions else "an unknown version"
        return (
            f"its checkpoint format is {shown(found)}, and this gan-lightning reads format {FORMAT_VERSION}; "
            f"use the version that wrote it ({by})"
        )
    if error := form_error(checkpoint, FORM, ""):
        return f"not a valid checkpoint: {error}"
    progress = checkpoint["loops"]["fit_loop"]["epoch_loop.manual_optimization.optim_step_progress"]
    if (steps := progress["total"]["completed"]) != checkpoint["global_step"]:
        return f"not a valid checkpoint: its loops count {steps} steps, its global_step is {checkpoint['global_step']}"
    return ""
