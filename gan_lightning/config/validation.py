"""What a configuration may hold: finds every fault in one, each told in one line.

Nothing here imports torch, so that mistakes are answered at once.
"""

import difflib
import logging
import re
from collections.abc import Collection, Iterator
from fnmatch import fnmatchcase
from itertools import chain
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gan_lightning.config.constraints import ImageSize, describe, mismatch
from gan_lightning.config.settings import SECTIONS
from gan_lightning.config.signature import read
from gan_lightning.errors import UserError, first_line
from gan_lightning.geometry import halvings
from gan_lightning.paths import absolute, shorter

REFERENCE = re.compile(r"\$\{[a-z_]+(\.[a-z_]+)*\}")  # to another key

# Keys whose values are paths of the local file system.
PATHS = ("ckpt_path", "init_from", "data.root", "data.cache", "eval.cache", "feature.weights", "cache")
PATHS += ("latent.picture", "logger.*dir", "callbacks.*dir", "callbacks.*dirpath", "trainer.*dir", "trainer.*dirpath")

FILLED_IN = {
    "run_dir": "hydra.run.dir chooses a run's folder",
    "found": "what the data turn out to be is found when they are loaded",
}

OWN_CLASSES = "A class of your own needs its folder on PYTHONPATH"

# Extras of this package by what they bring.
EXTRAS = {"wandb": "wandb", "mlflow": "mlflow", "litdata": "stream"}
EXTRAS |= {launcher: launcher for launcher in ("joblib", "submitit", "ray")}


def check(config: DictConfig) -> None:
    """Check a composed configuration.

    Raises:
        UserError: With every fault.
    """
    if faults := faults_of_values(config, {}) or faults_of_meaning(config):
        raise UserError(*dict.fromkeys(faults))


def make_paths_absolute(config: DictConfig) -> None:
    """Expand ``~`` in the paths of a configuration, and make them absolute, in place.

    References and addresses (``s3://bucket``) stay: a checkpoint keeps ``${oc.env:GAN_DATA_DIR,data}``, which every
    machine resolves for itself.

    Raises:
        UserError: ``~`` stands for a home directory that cannot be determined.
    """
    for key, node in [*walk(config)]:
        if OmegaConf.is_config(node) or not any(fnmatchcase(key, pattern) for pattern in PATHS):
            continue
        text = node._value()
        if isinstance(text, str) and text and not text.startswith(("${", "???")) and "://" not in text:
            OmegaConf.update(config, key, str(absolute(text)))


def faults_of_values(config: DictConfig, known: dict[str, Any], within: str = "") -> list[str]:
    """Return an error for each value that is of a wrong type, out of range or of a key that its class does not take.

    Args:
        config: The configuration.
        known: The default of each key; what no class restricts must be of its type.
        within: A key, to check only that and what lies below; "" for all.
    """
    faults, constraints = [], constraints_of(config)
    for path, node in walk_from(config, within) if within else walk(config):
        section = isinstance(known.get(path), DictConfig) and not known[path]._is_none()
        if section and node._is_none():
            faults.append(f"{path}=null: is needed, with all that belongs to it")
        if path.startswith("hydra"):
            continue
        if isinstance(node, DictConfig):
            faults += unknown_parameters(path, node)
            continue
        if node._is_missing():
            faults.append(f"{path}: is needed, and has no default: {path}=...")
            continue
        try:
            value = OmegaConf.select(config, path, throw_on_resolution_failure=True)
        except OmegaConfBaseException as error:
            faults.append(f"{path}: {first_line(error)}")
            continue
        if node._is_interpolation() and REFERENCE.fullmatch(str(node._value())):
            continue  # the value is checked where it stands
        value = OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
        found = constraints.get(path) or [type_of(known.get(path))]
        wanted = next((wanted for annotation in found if (wanted := mismatch(annotation, value))), None)
        if wanted:
            faults.append(f"{path}={value}: must be {wanted}")
    return faults


def constraints_of(config: DictConfig) -> dict[str, list[Any]]:
    """Return the annotations that restrict each key, by the signatures of the classes that take its value.

    A class's argument may be a reference, as ``width: ${network.width}``: its annotation restricts what it refers to.
    """
    found: dict[str, list[Any]] = {}
    for path, section in [("", config), *walk(config)]:
        if path.startswith("hydra") or not isinstance(section, DictConfig) or section._is_none():
            continue
        patterns = (classes for pattern, classes in SECTIONS.items() if fnmatchcase(path, pattern))
        for signature in filter(None, map(read, [*chain(*patterns), *target_of(section)])):
            for name, parameter in signature.parameters.items():
                key, node = f"{path}.{name}".lstrip("."), section._get_node(name) if name in section else None
                while node is not None and node._is_interpolation() and REFERENCE.fullmatch(str(node._value())):
                    key = str(node._value())[2:-1]
                    node = None if key.partition(".")[0] in FILLED_IN else node_at(config, key)
                if node is not None:
                    found.setdefault(key, []).append(parameter.annotation)
    return found


def target_of(section: DictConfig) -> list[str]:
    """Return the dotted name of the class that a section describes, in a list; an empty one if it names none."""
    target = section._get_node("_target_") if "_target_" in section else None
    return [str(target._value())] if target is not None and not target._is_missing() else []


def node_at(config: DictConfig, key: str) -> Any:
    """Return what stands at a key, unresolved; None if nothing does."""
    for part in key.split("."):
        if not isinstance(config, DictConfig) or config._is_none() or part not in config:
            return None
        config = config._get_node(part)
    return config


def unknown_parameters(path: str, section: DictConfig, taken: Collection[str] | None = None) -> list[str]:
    """Return an error for each argument that a section's class does not take.

    Args:
        path: The section's key.
        section: The section.
        taken: What the class takes if its source cannot be read; None if that is not known.
    """
    faults = []
    for target in target_of(section):
        if (found := read(target)) is not None:
            taken = None if found.is_open else found.parameters
        faults += [
            f"{path}.{key}: {target} takes no such argument{nearest(str(key), taken)}"
            + (f"; ~{path}.{key} leaves it out" if "_partial_" in section else "")
            for key in (section if taken is not None else ())
            if key not in taken and not str(key).startswith("_")
        ]
    return faults


def type_of(default: Any) -> Any:
    """Return the type that a default's place takes, ``Any`` if there is none to compare with."""
    value = default._value() if default is not None and not OmegaConf.is_config(default) else None
    if value is None or default._is_interpolation():
        return Any
    return next((kind | None for kind in (bool, int, float, str) if isinstance(value, kind)), Any)


def faults_of_meaning(config: DictConfig) -> list[str]:
    """Settings that are right by themselves and make no sense together."""
    model, network, data, trainer = config.model, config.network, config.data, config.trainer
    kind, faults = str(model._target_).rpartition(".")[2], []
    if "loss" in config and "loss" not in model:
        faults.append("loss: has no effect, since the model plays no game; leave it out")
    if "encoder" in model and network.get("discriminator", {}).get("spectral_norm"):
        faults.append(
            "network.discriminator.spectral_norm=true: bounds the slope of a critic, and this network is the encoder; "
            "false"
        )
    of_points = "image_size" not in data
    pair = str(network.generator._target_).split(".")[-2] if "generator" in network else ""
    discriminator = network.get("discriminator", {})
    if of_points and pair != "mlp":
        faults.append(f"network={pair}: makes pictures, and the data are points; network=mlp_points")
    if kind == "DCGAN" and pair == "mlp":
        faults.append(
            "model=dcgan: is the game between convolutional networks, and these are perceptrons; "
            "model=vanilla plays it with them"
        )
    if not of_points:
        faults += faults_of_size(data.image_size, pair)
    faults += faults_of_feature(config)
    if kind in ("CGAN", "ACGAN") and (reason := unlabelled(config)):
        faults.append(f"model={kind.lower()}: is conditional, and {reason}")
    faults += faults_of_sizes(config)
    if "gp_weight" in model and discriminator.get("norm") == "batch":
        faults.append(
            "network.discriminator.norm=batch: a gradient penalty needs a critic that looks at each sample by itself, "
            "which BatchNorm does not; none or layer"
        )
    if "gp_weight" in model and str(trainer.precision).endswith("16-true"):
        mixed = str(trainer.precision).replace("true", "mixed")
        faults.append(
            f"trainer.precision={trainer.precision}: a gradient penalty needs weights of single precision; {mixed}"
        )
    lipschitz = "gp_weight" in model or "clip_value" in model or discriminator.get("spectral_norm")
    if "loss" in model and str(config.loss._target_).endswith(".Wasserstein") and not lipschitz:
        faults.append(
            "loss=wasserstein: needs a Lipschitz critic; model=wgan, model=wgan_gp or "
            "network.discriminator.spectral_norm=true"
        )
    if model.get("reuse_fake") and model.get("generator_batch", 1) > 1:
        faults.append("model.generator_batch: has no effect with model.reuse_fake=true; set that to false")
    players = OmegaConf.to_container(network)
    told = {name: bool(players[name].get("num_classes")) for name in ("generator", "discriminator") if name in players}
    if discriminator.get("conditioning") == "projection" and not told["discriminator"]:
        faults.append("network.discriminator.conditioning=projection: has no effect but with model=cgan")
    if kind != "ACGAN" and len(set(told.values())) == 2:
        knows, other = sorted(told, key=told.get, reverse=True)
        faults.append(
            f"network.{knows}.num_classes: tells the class to the {knows} alone; network.{other}.num_classes too, "
            "or model=cgan"
        )
    if kind == "ACGAN" and not (model.class_weight_real or model.class_weight_fake):
        faults.append(
            "model.class_weight_real, model.class_weight_fake: both zero leaves the class unlearned; model=dcgan"
        )
    if kind == "ACGAN" and not model.class_weight_generator:
        faults.append("model.class_weight_generator: zero makes a generator that ignores the class; model=dcgan")
    if trainer.accelerator == "mps" and str(trainer.precision).startswith("64"):
        faults.append(f"trainer.precision={trainer.precision}: Apple's GPUs have no double precision; 32-true")
    ranks = ranks_of(trainer)
    if ranks != 1 and trainer.strategy in ("auto", "ddp"):
        faults.append(
            f"trainer.devices={trainer.devices}: several devices need trainer=ddp, which knows that an update of one "
            "player leaves the other's weights unused"
        )
    if fault := unshared(data.batch_size, ranks or 1):
        faults.append(fault)
    elif data.batch_size // (ranks or 1) == 1 and "batch" in (network.generator.get("norm"), discriminator.get("norm")):
        faults.append("data.batch_size: BatchNorm needs at least 2 samples a device")
    for player in ("generator", "discriminator") if trainer.precision == "16-mixed" else ():
        if model.get(f"{player}_clip_norm") and model[f"{player}_optimizer"].get("fused"):
            faults.append(
                f"model.{player}_clip_norm: with trainer.precision=16-mixed a fused optimizer unscales after clipping; "
                f"model.{player}_optimizer.fused=false"
            )
    # A resumed run has its own weights, and the file may be on another machine.
    if (path := config.get("init_from")) and not config.get("ckpt_path") and not absolute(path).is_file():
        faults.append(f"init_from={shorter(Path(path))}: there is no such file")
    if is_folder(data) and data.root is None:
        faults.append("data.root: is needed, the folder of your pictures: data.root=FOLDER")
    elif is_folder(data) and not absolute(data.root).is_dir():
        faults.append(f"data.root={str(shorter(Path(data.root)))!r}: there is no such folder")
    return faults


def ranks_of(trainer: DictConfig) -> int | None:
    """How many processes train; None where that is as many as there are devices."""
    devices = trainer.devices
    if isinstance(devices, str) and "," in devices:
        devices = [part for part in devices.split(",") if part.strip()]
    elif isinstance(devices, str) and devices.strip().isdecimal():
        devices = int(devices)
    if isinstance(devices, str) or (isinstance(devices, int) and devices < 0):
        return None
    return max(devices if isinstance(devices, int) else len(devices), 1) * trainer.get("num_nodes", 1)


def unshared(batch_size: int, ranks: int) -> str | None:
    """Why a minibatch cannot be shared; None if it can."""
    if batch_size % ranks:
        return f"data.batch_size={batch_size}: must be a multiple of the {ranks} devices that share it"
    return None


def faults_of_sizes(config: DictConfig) -> list[str]:
    """Why networks do not fit the latents and labels that they are given."""
    faults, classes = [], config.get("found", {}).get("num_classes")
    for name in ("generator", "discriminator"):
        network = config.network.get(name, {})
        size, wanted = network.get("latent_dim"), config.model.get("latent_dim")
        if size != wanted and isinstance(size, int):
            faults.append(f"network.{name}.latent_dim={size}: must be model.latent_dim={wanted}; set that")
        labels = network.get("num_classes")
        if isinstance(labels, int) and labels and classes is not None and labels != classes:
            faults.append(f"network.{name}.num_classes={labels}: the data have {classes}; leave it out")
    return faults


def faults_of_feature(config: DictConfig) -> list[str]:
    """Why a feature network or a metric cannot look at the data."""
    if "feature" not in config:  # of a checkpoint from before there were any
        return []
    feature = str(config.feature._get_node("_target_")._value()).split(".")[-2]
    if "image_size" not in config.data and feature in ("classifier", "inception"):
        return [f"feature={feature}: looks at pictures, and the data are points; feature=plane"]
    size = config.data.get("image_size")
    least = min(
        (side for side in ([size] if isinstance(size, int) else size or []) if isinstance(side, int)), default=4
    )
    if feature == "classifier" and least < 4 and config.get("eval", {}).get("every_n_steps", 1) is not None:
        return [f"data.image_size={size}: feature=classifier needs at least 4 pixels a side; eval.every_n_steps=null"]
    if "image_size" in config.data and feature == "plane":
        return ["feature=plane: looks at points, and the data are pictures; feature=classifier"]
    if "image_size" in config.data and "modes" in config.get("metric", {}):
        return ["metric=modes: measures points, and the data are pictures; metric=class_histogram finds lost classes"]
    return []


def faults_of_size(image_size: Any, pair: str) -> list[str]:
    """Why a pair of networks cannot make pictures of a size."""
    size = [image_size, image_size] if isinstance(image_size, int) else [*image_size]
    if len(size) != 2 or not all(isinstance(side, int) and 0 < side < 2**16 for side in size):
        return [f"data.image_size={image_size}: must be {describe(ImageSize)}"]
    if pair in ("dcgan", "resnet"):
        try:
            halvings(*size)
        except ValueError as error:
            return [f"data.image_size={image_size}: network={pair} cannot make it; {error}"]
    return []


def unlabelled(config: DictConfig) -> str | None:
    """Why a data set has no labels, as far as that can be told; None if it has."""
    data, found = config.data, config.get("found", {}).get("num_classes")
    if found is not None:
        return None if found else "the data turned out to have no labels"
    if "attribute" in data and data.attribute is None:
        return "these data have no labels until one is chosen: data.attribute=Smiling, say"
    if data.get("num_classes") == 0:
        return "these data have no labels until data.num_classes says of how many classes they are"
    folder = absolute(data.root) if is_folder(data) and data.root else None
    if folder and folder.is_dir() and not any(path.is_dir() for path in folder.iterdir()):
        return f"{str(shorter(folder))!r} has no sub-folders to be its classes"
    return None


def is_folder(data: DictConfig) -> bool:
    """Whether the data are a folder of the user's own pictures, which ``root`` names."""
    return str(data._target_).endswith(".ImageFolder")


def unknown_arguments(config: DictConfig) -> list[str]:
    """Arguments that the classes of other libraries do not take, and packages that are not there; imports them."""
    from inspect import signature

    from hydra.utils import get_class

    logging.getLogger("hydra.utils").setLevel(logging.CRITICAL)  # it logs what it raises; we tell it, shorter
    faults = []
    for path, node in walk(config):
        for target in target_of(node) if isinstance(node, DictConfig) else ():
            try:
                taken = signature(get_class(target)).parameters
            except Exception as error:
                advice = how_to_import(error, [target.partition(".")[0]])
                faults.append(f"{path}._target_={target}: cannot be imported ({first_line(error)}); {advice}")
                continue
            is_open = any(parameter.kind is parameter.VAR_KEYWORD for parameter in taken.values())
            faults += unknown_parameters(path, node, None if is_open else taken)
    return faults


def how_to_install(package: str) -> str:
    """Return the command that installs an optional package."""
    return f"pip install 'gan-lightning[{EXTRAS[package]}]'" if package in EXTRAS else f"pip install {package}"


def how_to_import(error: BaseException, packages: Collection[str] = ()) -> str:
    """Return advice for an error of importing a class: the package to install, or where Python looks for classes.

    Args:
        error: The error, or one that it caused.
        packages: Packages of the classes that the configuration names.
    """
    causes = [error]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) and len(causes) < 10:
        causes.append(cause)
    text = " ".join(map(str, causes))
    # Lightning names a requirement: "Requirement 'wandb>=0.12.10' not met."
    required = re.search(r"Requirement '([\w.-]+)", text)
    missing = next((c.name for c in causes if isinstance(c, ModuleNotFoundError) and c.name), None)
    name = required[1] if required else str(missing or next(iter(packages), "")).partition(".")[0]
    if name in EXTRAS or required or (missing and name not in (*packages, "gan_lightning")):
        return how_to_install(name)
    return f"is {name} installed? {OWN_CLASSES}" if name != "gan_lightning" else f"{name} has no such class"


def walk(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every key of a configuration in dotted form, sections too, with what stands there unresolved."""
    for key in node:
        value = node._get_node(key)
        path = f"{prefix}{key}"
        yield path, value
        if isinstance(value, DictConfig) and not value._is_none() and not value._is_interpolation():
            yield from walk(value, f"{path}.")


def walk_from(config: DictConfig, key: str) -> Iterator[tuple[str, Any]]:
    """Yield one key of a configuration in dotted form and every key below it, as :func:`walk` does."""
    section, _, name = key.rpartition(".")
    node = (OmegaConf.select(config, section) if section else config)._get_node(name)
    yield key, node
    if isinstance(node, DictConfig) and not node._is_none() and not node._is_interpolation():
        yield from walk(node, f"{key}.")


def nearest(word: str, candidates: Any) -> str:
    """The nearest valid name, as the middle of a sentence."""
    candidates = [str(candidate) for candidate in candidates]
    near = [c for c in candidates if c.rpartition(".")[2].casefold() == word.rpartition(".")[2].casefold()][:1]
    near = near or difflib.get_close_matches(word, candidates, 1, 0.6)
    if not near:
        tails = {c.rpartition(".")[2]: c for c in reversed(candidates)}
        near = [tails[tail] for tail in difflib.get_close_matches(word.rpartition(".")[2], tails, 1, 0.75)]
    return f", the nearest is {near[0]}" if near else ""
