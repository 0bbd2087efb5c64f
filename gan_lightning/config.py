"""What a configuration may hold: finds every fault in one, each told in one line.

Nothing here imports torch, so that mistakes are answered at once.
"""

import difflib
import logging
import math
import re
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gan_lightning.errors import UserError, first_line
from gan_lightning.geometry import halvings
from gan_lightning.paths import absolute, shorter


@dataclass(frozen=True)
class Rule:
    """What one setting may be.

    Args:
        kind: int, float (which takes whole numbers too), bool, str or list.
        low: Smallest value.
        high: Largest value.
        above: ``low`` itself is excluded.
        below: ``high`` itself is excluded.
        choices: The only values.
        optional: null is one more.
        each: What each entry of a list may be.
        length: How many entries a list has; None for any number from one on.
        words: How to say all this, where it is said better by hand.
    """

    kind: type | tuple[type, ...]
    low: float = -math.inf
    high: float = math.inf
    above: bool = False
    below: bool = False
    choices: tuple[str, ...] = ()
    optional: bool = False
    each: "Rule | None" = None
    length: int | None = None
    words: str = ""

    def fault(self, value: Any) -> str | None:
        """What would be right, or None where the value is."""
        kinds = self.kind if isinstance(self.kind, tuple) else (self.kind,)
        if value is None:
            fits = self.optional
        elif isinstance(value, bool):
            fits = bool in kinds
        elif isinstance(value, int | float):
            typed = isinstance(value, kinds) or (float in kinds and isinstance(value, int))
            high_enough = value > self.low if self.above else value >= self.low
            low_enough = value < self.high if self.below else value <= self.high
            fits = typed and high_enough and low_enough and math.isfinite(value)
        elif self.each is not None and isinstance(value, list):
            long = len(value) == self.length if self.length else len(value) > 0
            fits = long and not any(self.each.fault(part) for part in value)
        else:
            fits = isinstance(value, kinds) and (not self.choices or value in self.choices)
        return None if fits else self.wanted()

    def wanted(self) -> str:
        """The rule in words."""
        if self.words:
            words = self.words
        elif self.choices:
            words = f"one of {', '.join(self.choices)}"
        elif self.each is not None:
            words = f"a list{f' of {self.length}' if self.length else ''}, each {self.each.wanted()}"
        else:
            names = {int: "a whole number", float: "a number", bool: "true or false", str: "text", list: "a list"}
            kinds = self.kind if isinstance(self.kind, tuple) else (self.kind,)
            words = " or ".join(names[kind] for kind in kinds)
            if self.low > -math.inf:
                words += f" {'above' if self.above else 'of at least'} {self.low:.10g}"
            if self.high < math.inf:
                words += (
                    f"{' and' if self.low > -math.inf else ''} {'below' if self.below else 'at most'} {self.high:.10g}"
                )
        return words + (" or null" if self.optional else "")


REFERENCE = re.compile(r"\$\{[a-z_]+(\.[a-z_]+)*\}")  # to another key

# Keys whose values are paths of the local file system.
PATHS = ("ckpt_path", "init_from", "data.root", "data.cache", "eval.cache", "feature.weights", "cache")
PATHS += ("latent.picture", "logger.*dir", "callbacks.*dir", "callbacks.*dirpath", "trainer.*dir", "trainer.*dirpath")

OWN_CLASSES = "A class of your own needs its folder on PYTHONPATH"

# Extras of this package by what they bring.
EXTRAS = {"wandb": "wandb", "mlflow": "mlflow", "litdata": "stream"}
EXTRAS |= {launcher: launcher for launcher in ("joblib", "submitit", "ray")}

COUNT = Rule(int, 1, 2**31 - 1)
POSITIVE = Rule(float, low=0, above=True)
SHARE = Rule(float, 0, 1, below=True)  # of what a whole would leave nothing
CLASS = Rule((int, str), low=0, words="the name or the number of a class")
NORM = Rule(str, choices=("none", "batch", "layer"))
INIT_STD = Rule(float, low=0, above=True, optional=True)

RULES = {
    "seed": Rule(int, 0, 2**32 - 1),
    "ckpt_path": Rule(str, optional=True),
    "init_from": Rule(str, optional=True),
    "force": Rule(bool),
    "trust": Rule(bool),
    "objective": Rule(str, optional=True),
    "fps": Rule(int, 1, 100),
    "latent.seeds": Rule(list, each=Rule(int, 0, 2**32 - 1)),
    "latent.seed": Rule(int, 0, 2**32 - 1),
    "latent.classes": Rule(list, optional=True, each=CLASS),
    "latent.factors": Rule(list, each=Rule(float, -1e6, 1e6)),
    "latent.steps": Rule(int, 1, 100_000),
    "latent.num": Rule(int, 1, 10_000),
    "latent.starts": Rule(int, 1, 10_000),
    "latent.start": CLASS,
    "latent.end": CLASS,
    "latent.method": Rule(str, choices=("first_layer", "pca", "boundary", "classifier", "random")),
    "latent.targets": Rule(list, optional=True, each=CLASS),
    "latent.k": COUNT,
    "latent.reach": Rule(float, 0, 1e6, above=True),
    "latent.samples": Rule(int, 8, 100_000),
    "latent.picture": Rule(str),
    "latent.lr": Rule(float, 0, 1e6, above=True),
    "latent.prior": Rule(float, 0, 1e6),
    "loss.label_smoothing": SHARE,
    "model.latent_dim": COUNT,
    "model.d_steps": COUNT,
    "model.generator_batch": COUNT,
    "model.ema_decay": Rule(float, 0, 1, above=True, below=True, optional=True),
    "model.*_clip_norm": Rule(float, low=0, above=True, optional=True),
    "model.clip_value": POSITIVE,
    "model.gp_weight": POSITIVE,
    "model.class_weight_*": Rule(float, low=0),
    "model.deviation": POSITIVE,
    "model.beta": Rule(float, low=0),
    "model.*optimizer.lr": POSITIVE,
    "model.*optimizer.betas": Rule(list, each=SHARE, length=2),
    "model.*optimizer.momentum": SHARE,
    "network.width": COUNT,
    "network.depth": Rule(int, 1, 1000),
    "network.*.embed_dim": COUNT,
    "network.*.norm": NORM,
    "network.*.init_std": INIT_STD,
    "network.*.dropout": SHARE,
    "network.generator.upsample": Rule(str, choices=("transposed", "nearest")),
    "network.discriminator.conditioning": Rule(str, choices=("concat", "projection")),
    "data.root": Rule(str, optional=True),
    "data.image_size": Rule((int, list), 1, 2**16 - 1, words="a side or [height,width] in pixels"),
    "data.channels": Rule(int, choices=("1", "3")),
    "data.limit": Rule(int, low=1, optional=True),
    "data.attribute": Rule(str, optional=True),
    "data.cache": Rule(str, optional=True),
    "data.memory_gb": Rule(float, low=0),
    "data.cache_gb": POSITIVE,
    "data.num_classes": Rule(int, 0, 1_000_000),
    "data.known": COUNT,
    "data.window": COUNT,
    "data.batch_size": COUNT,
    "data.num": COUNT,
    "data.modes": Rule(int, 1, 10_000),
    "data.centres": Rule(
        list, each=Rule(list, each=Rule(float, -1e6, 1e6), length=2), words="a list of pairs, [[0,0],[1,2]] say"
    ),
    "data.side": Rule(int, 1, 100),
    "data.deviation": Rule(float, low=0),
    "data.radius": POSITIVE,
    "data.spacing": POSITIVE,
    "eval.every_n_steps": Rule(int, low=1, optional=True),
    "eval.best_by": Rule(str, optional=True),
    "eval.num": Rule(int, 2, 2**31 - 1),
    "eval.num_real": Rule(int, 2, 2**31 - 1, optional=True),
    "eval.split": Rule(str, choices=("train", "test")),
    "eval.labels": Rule(str, choices=("data", "uniform")),
    "eval.seed": Rule(int, 0),
    "eval.cache": Rule(str),
    "feature.weights": Rule(str, optional=True),
    "feature.resize": Rule(str, choices=("tf1", "bilinear", "bicubic")),
    "feature.epochs": COUNT,
    "feature.width": COUNT,
    "feature.dim": COUNT,
    "metric.*.subsets": COUNT,
    "metric.*.subset_size": Rule(int, low=2),
    "metric.*.splits": COUNT,
    "metric.*.k": COUNT,
    "metric.*.seed": Rule(int, 0, 2**32 - 1),
    "metric.modes.deviations": POSITIVE,
    "trainer.max_steps": COUNT,
    "trainer.accelerator": Rule(str, choices=("auto", "cpu", "gpu", "cuda", "mps", "tpu")),
    "trainer.precision": Rule(
        (str, int),
        choices=("32-true", "32", "bf16-mixed", "16-mixed", "64-true", "64", "bf16-true", "16-true"),
    ),
    "trainer.devices": Rule((int, str, list), low=-1),
    "trainer.num_nodes": COUNT,
    "trainer.benchmark": Rule(bool, optional=True),
    "trainer.cuda_graphs": Rule(bool, optional=True),
    "trainer.deterministic": Rule((bool, str), choices=("warn",), words="true, false or warn"),
    "trainer.profiler": Rule(str, choices=("simple", "advanced", "pytorch"), optional=True),
    "callbacks.evaluate.every_n_steps": Rule(int, low=1, optional=True),
    "callbacks.*.every_n_steps": COUNT,
    "callbacks.checkpoint.keep": Rule(int, low=1, optional=True),
    "callbacks.learning_rate.schedule": Rule(str, choices=("constant", "linear_decay")),
    "callbacks.progress.refresh_s": POSITIVE,
    "callbacks.sample_grid.rows": Rule(int, 1, 100),
    "callbacks.sample_grid.columns": Rule(int, 1, 100),
    "callbacks.sample_grid.points": Rule(int, 1, 1_000_000),
    "callbacks.sample_grid.seed": Rule(int, 0),
}


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
    """Values of a wrong type or out of range; keys without a rule must be of the type of their default.

    Args:
        config: The configuration.
        known: The default of each key.
        within: A key, to check only that and what lies below; "" for all.
    """
    faults = []
    for path, node in walk_from(config, within) if within else walk(config):
        section = isinstance(known.get(path), DictConfig) and not known[path]._is_none()
        if section and node._is_none():
            faults.append(f"{path}=null: is needed, with all that belongs to it")
        if path.startswith("hydra") or isinstance(node, DictConfig):
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
            continue  # it is looked at where it stands
        value = OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
        rule = next((rule for pattern, rule in RULES.items() if fnmatchcase(path, pattern)), None)
        if rule is not None:
            choices = rule.choices and isinstance(value, int) and not isinstance(value, bool)
            wanted = rule.fault(value) if not choices else None if str(value) in rule.choices else rule.wanted()
        else:
            wanted = of_default_type(value, known.get(path))
        if wanted:
            faults.append(f"{path}={value}: must be {wanted}")
    return faults


def of_default_type(value: Any, default: Any) -> str | None:
    """What a value should be to be of its default's type, or None where it is or there is nothing to compare with."""
    before = default._value() if default is not None and not OmegaConf.is_config(default) else None
    if before is None or default._is_interpolation() or value is None:
        return None
    for kind in (bool, int, float, str):
        if isinstance(before, kind):
            return Rule(kind).fault(value)
    return None


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
    if (path := config.get("init_from")) and not config.get("ckpt_path") and not absolute(path).exists():
        faults.append(f"init_from={shorter(Path(path))}: there is no such file or run directory")
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
        return [f"data.image_size={image_size}: must be {RULES['data.image_size'].wanted()}"]
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
        if not (isinstance(node, DictConfig) and "_target_" in node):
            continue
        target = str(node._get_node("_target_")._value())
        try:
            taken = signature(get_class(target)).parameters
        except Exception as error:
            package = target.partition(".")[0]
            faults.append(
                f"{path}._target_={target}: cannot be imported ({first_line(error)}); {how_to_import(error, [package])}"
            )
            continue
        if any(parameter.kind is parameter.VAR_KEYWORD for parameter in taken.values()):
            continue
        faults += [
            f"{path}.{key}: {target} takes no such argument{nearest(str(key), taken)}"
            + (f"; ~{path}.{key} leaves it out" if "_partial_" in node else "")
            for key in node
            if key not in taken and not str(key).startswith("_")
        ]
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
    with suppress(ImportError, ValueError):
        if find_spec(name) is not None:
            return f"{name} is installed, but has no such class"
    return f"is {name} installed? {OWN_CLASSES}"


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
