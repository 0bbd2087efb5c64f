"""Checks of combinations: settings that are valid by themselves but do not work together.

A class declares what it requires of the other parts of a run and what it provides, as literal class attributes, which
:mod:`gan_lightning.config.signature` reads without importing torch::

    class WGANGP(GAN):
        needs_double_backward = True
        provides_lipschitz_critic = True

    class Discriminator(nn.Module):
        provides_per_sample_gradients = {"norm": ("none", "layer")}

``needs_X`` is ``True``; or a text with advice for the error message; or a dictionary of the class's own settings, any
of which makes it require X. ``provides_X`` is ``True``, ``False``, or a dictionary of settings, any of which provides
it. In a dictionary, a tuple lists the values that match; any other object is an example value, and every value except
null, zero and false matches. A requirement is unmet if some parts declare whether they provide X and none of them
provides it; capabilities that no part declares are not checked, so that classes without declarations are accepted.
``effective_with`` maps settings to a capability, or to other settings of the class, without which they have no effect.

This module names no class.
"""

import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gan_lightning.config.constraints import REFERENCES
from gan_lightning.config.image_size import num_downsamplings
from gan_lightning.config.launch import error_of_nodes
from gan_lightning.config.nodes import is_runtime_value, node_at, nodes_by_option, target_of, walk
from gan_lightning.config.signature import REQUIRED, Signature, read
from gan_lightning.io.paths import LABEL_FILES, SHARD_SUFFIXES, absolute, relative_path, split_at_file

# Requirements that consist of several capabilities.
IMPLIED = {"double_backward": ("per_sample_gradients", "float32_weights")}
# Descriptions of capabilities in messages, where the name is not sufficient.
DESCRIPTIONS = {
    "per_sample_gradients": "gradients of each sample by itself (double backward), and BatchNorm mixes samples",
    "float32_weights": "weights of single precision (double backward)",
    "lipschitz_critic": "a Lipschitz critic",
    "images": "images, and the data are points",
    "points": "points, and the data are images",
    "halved_sides": "an image size whose sides are multiples of 4, from 8 on",
    "four_pixels": "at least 4 pixels a side",
    "several_samples": "at least 2 samples a device at once (BatchNorm)",
    "unnormalized_weights": "weights without spectral normalization",
    "class_aware_generator": "a generator that is given the class too (model=cgan gives it to both)",
    "class_aware_discriminator": "a discriminator that is given the class too (model=cgan gives it to both)",
    "generator_clipping": "unscaled gradients, and with 16-mixed a fused optimizer unscales after clipping",
    "discriminator_clipping": "unscaled gradients, and with 16-mixed a fused optimizer unscales after clipping",
    "single_precision": "single precision",
    "whole_minibatch": "the whole minibatch at once",
    "one_generator_batch": "a generator batch of the discriminator's size",
    "discriminator_class_loss": "a class loss of the discriminator",
    "generator_class_loss": "a class loss of the generator",
}
UNKNOWN = "the data's"  # instead of a value that is only known after the data are loaded
LABELLED = LABEL_FILES + SHARD_SUFFIXES  # ends of the names of files that may have labels of images
MAX_CHOICES = 3  # values of one setting in a message

Setting = tuple[str, Any, Any]  # the key, the value, and the values that match a declaration


@dataclass(frozen=True)
class Part:
    """A part of a run: a section of the configuration that names a class, or declarations derived from its values."""

    key: str
    section: DictConfig
    signature: Signature

    def value(self, name: str) -> Any:
        """Return the resolved value of a setting; ``REQUIRED`` if the class has no such setting."""
        node, parameter = node_at(self.section, name), self.signature.parameters.get(name)
        if node is None:
            return parameter.default if parameter else None if "." in name else REQUIRED
        if is_runtime_value(node):
            return UNKNOWN
        try:
            return OmegaConf.select(self.section, name)
        except OmegaConfBaseException:
            return UNKNOWN

    def settings(self, declared: dict[str, Any], matching: bool) -> list[Setting]:
        """Return the settings of a declaration that match, or those that do not: key, value and matching values."""
        values = ((name, self.value(name), choices) for name, choices in declared.items())
        found = [one for one in values if one[1] is not REQUIRED and one[1] is not ...]
        return [(f"{self.key}.{n}", v, choices) for n, v, choices in found if matches(v, choices) is matching]

    def provides(self, capability: str) -> bool | None:
        """Return whether this part provides a capability; None if it does not declare it."""
        declared = self.signature.attributes.get(f"provides_{capability}")
        if not isinstance(declared, dict):
            return None if declared is None else bool(declared)
        return True if self.settings(declared, True) else False if self.settings(declared, False) else None

    def missing(self, capability: str) -> list[Setting]:
        """Return the settings that would provide a capability if changed: key, value and matching values."""
        declared = self.signature.attributes.get(f"provides_{capability}")
        return self.settings(declared, False) if isinstance(declared, dict) else []


def matches(value: Any, choices: Any) -> bool:
    """Return whether a value is one of the declared choices; for an example, whether the value is set (truthy)."""
    if value is UNKNOWN:
        return True
    return str(value) in map(str, choices) if isinstance(choices, tuple) else bool(value)


def errors_of_combinations(config: DictConfig, typed: Collection[str] = ()) -> list[str]:
    """Return an error message for each unmet requirement, and for each setting that has no effect.

    Args:
        config: The composed configuration, each value of which is valid by itself.
        typed: Keys that the user set.
    """
    parts = [*parts_of(config)]
    if any(part.signature.attributes.get("needs_labels") for part in parts):
        parts += label_declarations(config, parts)
    unmet = {lead: text for part in reversed(parts) for lead, text in unmet_requirements(part, parts)}
    errors = [f"{lead}: {text}" for (lead, _), text in reversed(unmet.items())]
    errors += [error for part in parts for error in errors_without_effect(part, parts, typed)]
    for part in parts:
        name = part.signature.attributes.get("class_folders")
        if name and (path := part.value(name)) and not (absolute(path).is_dir() or split_at_file(absolute(path))[0]):
            errors.append(f"{part.key}.{name}={str(relative_path(Path(path)))!r}: there is no such folder or file")
    return [*dict.fromkeys([*errors_of_numbers(config), *errors])]


def reference_error(reference: str) -> str:
    """Return the error message for an ``eval.reference`` that is neither a choice nor an existing path; "" for none."""
    if reference in REFERENCES or absolute(reference).exists() or split_at_file(absolute(reference))[0]:
        return ""
    choices = f"must be one of {', '.join(REFERENCES)}, or a folder or archive of images"
    return f"eval.reference={relative_path(Path(reference))}: {choices}"


def errors_without_effect(part: Part, parts: list[Part], typed: Collection[str]) -> Iterator[str]:
    """Yield an error message for each setting that the user set and that has no effect."""
    for name, needed in part.signature.attributes.get("effective_with", {}).items():
        if f"{part.key}.{name}" not in typed:
            continue
        if isinstance(needed, str) and provided(needed, parts) is False:
            yield f"{part.key}.{name}: has no effect, since it needs {description(needed)}"
        elif isinstance(needed, dict) and (unset := part.settings(needed, False)):
            values = ", ".join(f"{key}={format_value(value)}" for key, value, _ in unset)
            yield f"{part.key}.{name}: has no effect with {values}"


def parts_of(config: DictConfig) -> Iterator[Part]:
    """Yield the parts that a configuration names, and declarations that follow from image and batch sizes."""
    for key, section in walk(config):
        for target in target_of(section) if not key.startswith("hydra") else ():
            if signature := read(target):
                yield Part(key, section, signature)
    data: Any = config.get("data") or {}
    size = [data.image_size] * 2 if isinstance(data.get("image_size"), int) else data.get("image_size")
    if size:
        try:
            num_downsamplings(*size)
        except ValueError:
            yield declaration("data", data, "halved_sides", {"image_size": (32, 64)})
        if min(size) < 4 and config.get("eval", {}).get("every_n_steps", 1) is not None:
            yield declaration("data", data, "four_pixels", {"image_size": (32,)})
    ranks = (world_size(config.trainer) if "trainer" in config else None) or 1
    if "batch_size" in data and data.batch_size == ranks:
        yield declaration("data", data, "several_samples", {"batch_size": (2 * ranks,)})
    if "batch_size" in data and "trainer" in config and (size := config.trainer.get("micro_batch")):
        yield from micro_batch_declarations(config, size, data.batch_size // ranks)


def micro_batch_declarations(config: DictConfig, size: int, num_rows: int) -> Iterator[Part]:
    """Yield what follows from the size of micro batches and from that of a device's minibatch."""
    if size >= num_rows * (config.get("model") or {}).get("generator_batch_multiplier", 1):
        yield declaration("trainer", config.trainer, "whole_minibatch", True)
    elif num_rows > 1 and 1 in (size, num_rows % size):
        larger = next(n for n in range(size + 1, num_rows + 2) if num_rows % n != 1)
        yield declaration("trainer", config.trainer, "several_samples", {"micro_batch": (larger,)})


def label_declarations(config: DictConfig, parts: list[Part]) -> list[Part]:
    """Declare whether the data have labels, by the loaded data or by what an image folder contains.

    The caller calls this only if a part needs labels, since a directory may contain millions of files.
    """
    num_classes = config.get("data_info", {}).get("num_classes")
    if num_classes:
        return [declaration("data", config.data, "labels", True)]
    found = []
    for part in parts:
        name = part.signature.attributes.get("class_folders")
        folder = part.value(name) if name else None
        if folder and not may_have_classes(absolute(folder)):
            advice = "FOLDER with a sub-folder for each class or labels.csv"
            found.append(declaration(part.key, part.section, "labels", {name: (advice,)}))
    if num_classes == 0 and provided("labels", parts + found) is None:
        found.append(declaration("data", config.data, "labels", False))
    return found


def may_have_classes(path: Path) -> bool:
    """Return whether an image folder may have labels: sub-directories, a file of labels, an archive or a table.

    The result is True for an archive, which is not read here, and for a directory that cannot be read, which another
    check reports.
    """
    try:
        with os.scandir(path) as entries:
            return any(entry.is_dir() or entry.name.endswith(LABELLED) for entry in entries)
    except OSError:
        return True


def declaration(key: str, section: DictConfig, capability: str, declared: Any) -> Part:
    """Return a part with a declaration that is derived from values of the configuration, not from a class."""
    return Part(key, section, Signature(attributes={f"provides_{capability}": declared}))


def unmet_requirements(part: Part, parts: list[Part]) -> Iterator[tuple[tuple[str, str], str]]:
    """Yield for each requirement that no part meets: the start of the message and the capability, and its rest."""
    for name, needed in part.signature.attributes.items():
        if not name.startswith("needs_") or not needed:
            continue
        causes = part.settings(needed, True) if isinstance(needed, dict) else []
        if isinstance(needed, dict) and not causes:
            continue
        name = name.removeprefix("needs_")
        for capability in IMPLIED.get(name, (name,)):
            if provided(capability, parts) is False:
                cause = f"{causes[0][0]}={format_value(causes[0][1])}" if causes else option_of(part)
                lacking = [(one, one.missing(capability)) for one in parts if one.provides(capability) is False]
                advice = needed if isinstance(needed, str) else suggest_fixes(capability, part, lacking, causes)
                yield requirement_error(cause, advice, capability, lacking)


def provided(capability: str, parts: list[Part]) -> bool | None:
    """Return whether any part provides a capability; None if no part declares it."""
    known = [found for part in parts if (found := part.provides(capability)) is not None]
    return any(known) if known else None


def requirement_error(
    cause: str, advice: str, capability: str, lacking: list[tuple[Part, list[Setting]]]
) -> tuple[tuple[str, str], str]:
    """Return the message for an unmet requirement: its start and the capability, and its rest."""
    text = f"needs {description(capability)}" + (f"; {advice}" if advice else "")
    if all(settings for _, settings in lacking):
        lead = ", ".join(f"{key}={format_value(value)}" for _, settings in lacking for key, value, _ in settings)
        return (lead, capability), f"{cause} {text}"
    return (cause, capability), text


def suggest_fixes(capability: str, part: Part, lacking: list[tuple[Part, list[Setting]]], causes: list[Setting]) -> str:
    """Return the options and settings that would meet or remove a requirement of a part, as overrides."""
    found, own = [], part.key.partition(".")[0]
    for group in (other.key.partition(".")[0] for other, settings in lacking if not settings):
        if group == "data":  # suggest another option for the part, not other data
            found += [f"{own}={option}" for option in with_attribute(own, f"needs_{capability}", False)]
        else:
            found += [f"{group}={option}" for option in with_attribute(group, f"provides_{capability}", True)]
    for key, _, choices in (one for _, settings in lacking for one in settings):
        listed = choices[:MAX_CHOICES] if isinstance(choices, tuple) else (choices,)
        found += [f"{key}={format_value(choice)}" for choice in listed]
    found += [f"{key}=false" for key, value, _ in causes if value is True]
    *first, last = [*dict.fromkeys(found)] or [""]
    return " or ".join(filter(None, [", ".join(first), last]))


def description(capability: str) -> str:
    """Return the description of a capability in messages."""
    return DESCRIPTIONS.get(capability, capability.replace("_", " "))


def format_value(value: Any) -> str:
    """Return a value as it is typed in an override."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)


def option_of(part: Part) -> str:
    """Return ``GROUP=OPTION`` for a part's class; ``KEY._target_=CLASS`` if no option in conf/ names that class."""
    group, (target,) = part.key.partition(".")[0], target_of(part.section)
    option = next((name for name, targets in options_of(group).items() if target in targets), None)
    return f"{group}={option}" if option else f"{part.key}._target_={target}"


def with_attribute(group: str, name: str, wanted: bool) -> list[str]:
    """Return the options of a group by an attribute of their classes.

    Args:
        group: The group.
        name: Name of the class attribute.
        wanted: True for options with a class whose attribute is true, False for options without one.
    """
    found = {
        option: [bool(signature.attributes.get(name)) for signature in map(read, targets) if signature]
        for option, targets in options_of(group).items()
    }
    return [option for option, has in found.items() if has and (any(has) if wanted else not any(has))]


def options_of(group: str) -> dict[str, list[str]]:
    """Return the classes that each option of a group names, including those from its defaults."""
    return {
        option: [str(n._value()) for key, n in nodes.items() if key.endswith("_target_") and not n._is_missing()]
        for option, nodes in nodes_by_option(group).items()
    }


def errors_of_numbers(config: DictConfig) -> Iterator[str]:
    """Yield an error message for each size, number of devices or file that is inconsistent with the others."""
    if "loss" in config and "model" in config and "loss" not in config.model:
        yield "loss: has no effect, since the model has no adversarial loss; leave it out"
    if config.get("augment") and "model" in config and "augment" not in config.model:
        yield "augment: has no effect, since the model has no discriminator; leave it out"
    if (reference := config.get("eval", {}).get("reference")) and (error := reference_error(reference)):
        yield error
    if "trainer" in config:
        ranks = world_size(config.trainer)
        if ranks != 1 and config.trainer.strategy in ("auto", "ddp"):
            yield (
                f"trainer.devices={config.trainer.devices}: several devices need trainer=ddp, whose strategy "
                "supports updates that leave the other network's weights unused"
            )
        if error := divisibility_error(config.data.batch_size, ranks or 1):
            yield error
        if error := error_of_nodes(config.trainer.get("num_nodes", 1)):
            yield error
    classes = config.get("data_info", {}).get("num_classes")
    for key in config.get("network") or ():
        network = node_at(config.network, key)
        if not isinstance(network, DictConfig) or network._is_interpolation():
            continue
        size, wanted = network.get("latent_dim"), config.model.get("latent_dim")
        if size != wanted and isinstance(size, int):
            yield f"network.{key}.latent_dim={size}: must equal model.latent_dim={wanted}; set model.latent_dim instead"
        labels = network.get("num_classes")
        if isinstance(labels, int) and labels and classes is not None and labels != classes:
            yield f"network.{key}.num_classes={labels}: the data have {classes} classes; remove it"
    # A resumed run has its own weights, and the file may be on another machine.
    if (path := config.get("init_from")) and not config.get("ckpt_path") and not absolute(path).exists():
        yield f"init_from={relative_path(Path(path))}: there is no such file or run directory"


def world_size(trainer: DictConfig) -> int | None:
    """Return the number of processes that train; None if it is the number of available devices."""
    devices = trainer.devices
    if isinstance(devices, str) and "," in devices:
        devices = [part for part in devices.split(",") if part.strip()]
    elif isinstance(devices, str) and devices.strip().isdecimal():
        devices = int(devices)
    if isinstance(devices, str) or (isinstance(devices, int) and devices < 0):
        return None
    return max(devices if isinstance(devices, int) else len(devices), 1) * trainer.get("num_nodes", 1)


def divisibility_error(batch_size: int, ranks: int) -> str | None:
    """Return an error message if a minibatch cannot be divided among the devices; None if it can."""
    if batch_size % ranks:
        return f"data.batch_size={batch_size}: must be a multiple of the {ranks} devices that share it"
    return None
