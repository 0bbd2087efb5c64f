"""What a configuration may hold: finds every fault in one, each told in one line.

Nothing here imports torch, so that mistakes are answered at once. The order of things: the command line is taken
apart, a checkpoint to go on from replaces the configuration, then groups, keys, values and what they mean together
are looked at, and all that was found is raised as one UserError.
"""

import difflib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path, get_args_parser
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gan_lightning.errors import UserError
from gan_lightning.geometry import halvings
from gan_lightning.paths import CONF


@dataclass(frozen=True)
class Rule:
    """What one setting may be.

    Args:
        kind: int, float (which takes whole numbers too), bool, str or list.
        low: Smallest value, or the bound that it must exceed if ``above``.
        high: Largest value, or the bound that it must stay below if ``above``.
        above: Bounds themselves are excluded.
        choices: The only values.
        optional: null is one more.
    """

    kind: type | tuple[type, ...]
    low: float = -math.inf
    high: float = math.inf
    above: bool = False
    choices: tuple[str, ...] = ()
    optional: bool = False

    def fault(self, value: Any) -> str | None:
        """What would be right, or None where the value is."""
        kinds = self.kind if isinstance(self.kind, tuple) else (self.kind,)
        if value is None:
            fits = self.optional
        elif isinstance(value, bool):
            fits = bool in kinds
        elif isinstance(value, int | float):
            typed = isinstance(value, kinds) or (float in kinds and isinstance(value, int))
            inside = self.low < value < self.high if self.above else self.low <= value <= self.high
            fits = typed and inside and math.isfinite(value)
        else:
            fits = isinstance(value, kinds) and (not self.choices or value in self.choices)
        return None if fits else self.wanted()

    def wanted(self) -> str:
        """The rule in words."""
        if self.choices:
            words = f"one of {', '.join(self.choices)}"
        else:
            names = {int: "a whole number", float: "a number", bool: "true or false", str: "text", list: "a list"}
            kinds = self.kind if isinstance(self.kind, tuple) else (self.kind,)
            words = " or ".join(names[kind] for kind in kinds)
            if self.low > -math.inf:
                words += f" {'above' if self.above else 'of at least'} {self.low:g}"
            if self.high < math.inf:
                words += (
                    f"{' and' if self.low > -math.inf else ''} {'below' if self.above else 'at most'} {self.high:g}"
                )
        return words + (" or null" if self.optional else "")


COUNT = Rule(int, low=1)
POSITIVE = Rule(float, low=0, above=True)
NORM = Rule(str, choices=("none", "batch", "layer"))
INIT_STD = Rule(float, low=0, above=True, optional=True)
PATH = Rule(str)

RULES = {
    "seed": Rule(int, 0, 2**32 - 1),
    "ckpt_path": Rule(str, optional=True),
    "init_from": Rule(str, optional=True),
    "objective": Rule(str, optional=True),
    "loss.label_smoothing": Rule(float, 0, 1),
    "model.latent_dim": COUNT,
    "model.d_steps": COUNT,
    "model.generator_batch": COUNT,
    "model.ema_decay": Rule(float, 0, 1, above=True, optional=True),
    "model.*_clip_norm": Rule(float, low=0, above=True, optional=True),
    "model.clip_value": POSITIVE,
    "model.gp_weight": Rule(float, low=0, above=True),
    "model.class_weight_*": Rule(float, low=0),
    "model.*_optimizer.lr": POSITIVE,
    "model.*_optimizer.betas": Rule(list),
    "model.*_optimizer.momentum": Rule(float, 0, 1),
    "network.width": COUNT,
    "network.depth": COUNT,
    "network.*.embed_dim": COUNT,
    "network.*.norm": NORM,
    "network.*.init_std": INIT_STD,
    "network.*.dropout": Rule(float, 0, 1),
    "network.generator.upsample": Rule(str, choices=("transposed", "nearest")),
    "network.discriminator.conditioning": Rule(str, choices=("concat", "projection")),
    "data.root": PATH,
    "data.path": PATH,
    "data.image_size": Rule((int, list), low=1),
    "data.channels": Rule(int, choices=("1", "3")),
    "data.limit": Rule(int, low=1, optional=True),
    "data.attribute": Rule(str, optional=True),
    "data.batch_size": COUNT,
    "data.num": COUNT,
    "data.modes": COUNT,
    "data.side": COUNT,
    "data.deviation": Rule(float, low=0),
    "data.radius": POSITIVE,
    "data.spacing": POSITIVE,
    "trainer.max_steps": COUNT,
    "trainer.precision": Rule(
        (str, int),
        choices=("32-true", "32", "bf16-mixed", "16-mixed", "64-true", "64", "bf16-true", "16-true"),
    ),
    "trainer.devices": Rule((int, str, list), low=-1),
    "trainer.num_nodes": COUNT,
    "trainer.benchmark": Rule(bool, optional=True),
    "trainer.deterministic": Rule((bool, str), choices=("warn",)),
    "trainer.profiler": Rule(str, choices=("simple", "advanced", "pytorch"), optional=True),
    "callbacks.*.every_n_steps": COUNT,
    "callbacks.checkpoint.keep": Rule(int, low=1, optional=True),
    "callbacks.learning_rate.schedule": Rule(str, choices=("constant", "linear_decay")),
    "callbacks.progress.refresh_s": POSITIVE,
    "callbacks.sample_grid.rows": COUNT,
    "callbacks.sample_grid.columns": COUNT,
    "callbacks.sample_grid.points": COUNT,
    "callbacks.sample_grid.seed": Rule(int, 0),
}

FILLED_IN = {
    "run_dir": "hydra.run.dir chooses a run's folder",
    "found": "what the data turn out to be is found when they are loaded",
}

# What a run is: going on with other values would be another run. Folders may move.
MEANING = ("model", "network", "loss", "data", "seed")
MAY_MOVE = ("data.root", "data.path")
MEANING_GROUPS = ("model", "network", "loss", "data", "experiment", "optimizer")


# ----------------------------------------------------------------------------------------------------------------------
# The command line
# ----------------------------------------------------------------------------------------------------------------------


def check_command_line(argv: list[str]) -> tuple[str, list[str]]:
    """Check all that was typed; return the name of the configuration to compose and what Hydra shall be told.

    Raises:
        UserError: With every fault.
    """
    args, rest = get_args_parser().parse_known_args(argv)
    flags = [word for word in argv if word not in args.overrides]
    if args.help or args.hydra_help or args.shell_completion or args.info is not None:
        return "train", argv
    if rest:
        raise UserError(f"{' '.join(rest)}: not a flag; --help shows the groups and keys, --hydra-help the flags")
    if args.config_dir and not Path(args.config_dir).is_dir():
        raise UserError(f"--config-dir {args.config_dir}: there is no such folder")
    name, overrides = args.config_name or "train", args.overrides
    with composer(args.config_dir) as hydra:
        parser, faults, parsed = OverridesParser.create(config_loader=hydra.config_loader), [], []
        for text in overrides:
            try:
                parsed += parser.parse_overrides([text])
            except HydraException as error:
                faults.append(f"{text}: not of the form KEY=VALUE ({first_line(error)})")
        if not args.multirun:
            faults += [f"{o.input_line}: several values; add -m for a sweep" for o in parsed if o.is_sweep_override()]
            parsed = [o for o in parsed if not o.is_sweep_override()]
        before: dict[str, Any] | None = None
        typed = {o.key_or_group: o for o in parsed}
        if "ckpt_path" in typed and typed["ckpt_path"].value() is not None and not faults:
            name, parsed, before = resume(typed, parsed, args.multirun)
            overrides = [o.input_line for o in parsed]
        faults += faults_of_overrides(hydra, name, parsed, before, args.multirun)
    if faults:
        raise UserError(*dict.fromkeys(faults))
    return name, [*flags, *overrides]


def composer(config_dir: str | None) -> "Composer":
    """Hydra's machinery as ``hydra.main`` will set it up, for composing ahead of it."""
    return Composer(config_dir)


class Composer:
    """A Hydra instance for the time of a check."""

    def __init__(self, config_dir: str | None) -> None:
        self.path = create_config_search_path(str(CONF))
        if config_dir is not None:
            self.path.prepend("command-line", f"file://{Path(config_dir).absolute()}")

    def __enter__(self) -> Hydra:
        GlobalHydra.instance().clear()
        return Hydra.create_main_hydra2("train", self.path)

    def __exit__(self, *_: object) -> None:
        GlobalHydra.instance().clear()
        Plugins.instance()


def faults_of_overrides(
    hydra: Hydra, name: str, parsed: list[Override], before: dict[str, Any] | None, sweeping: bool
) -> list[str]:
    """Every fault of parsed overrides: their groups, keys and values, and what they mean together."""
    loader, faults, groups, values = hydra.config_loader, [], [], []
    for override in parsed:
        options = loader.get_group_options(override.key_or_group, ObjectType.CONFIG)
        if not options:
            values.append(override)
            continue
        wrong = [str(choice) for choice in chosen(override) if choice is not None and str(choice) not in options]
        faults += [
            f"{override.key_or_group}={choice}: no such option{nearest(choice, options)}; there are {', '.join(options)}"
            for choice in wrong
        ]
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
        key = override.key_or_group
        if key.partition(".")[0] in FILLED_IN:
            faults.append(f"{key}: {FILLED_IN[key.partition('.')[0]]}")
        elif key.startswith("hydra") or key in known or (override.is_add() and in_foreign_class(plain, key)):
            good.append(override)
        else:
            faults.append(f"{key}: there is no such key{nearest(key, known)}{elsewhere(key)}")
    try:
        full = compose(picked + [first_choice(o) for o in good])
    except (HydraException, OmegaConfBaseException) as error:
        return [*faults, first_line(error)]
    for path, _ in walk(full):
        if path not in known and not path.startswith("hydra") and not in_foreign_class(full, path):
            faults.append(
                f"{path}: there is no such key{nearest(path, known)} (in the file of an experiment or your own)"
            )
    faults += faults_of_values(full, known)
    for override in good:
        for text in all_choices(override)[1:]:
            others = [first_choice(o) for o in good if o is not override]
            faults += faults_of_values(compose(picked + others + [text]), known)
    if not sweeping and not faults:
        faults += faults_of_meaning(full)
    if sweeping and (full.trainer.get("num_nodes", 1) != 1 or full.trainer.devices not in (1, "1", [0])):
        faults.append(
            "trainer.devices: a sweep runs every job on one device; start jobs on several devices one by one, "
            "or with a launcher that gives each job a process of its own"
        )
    if before is not None and not faults:
        faults += changes(before, OmegaConf.to_container(full))
    return faults


def chosen(override: Override) -> list[Any]:
    """Every value of an override; a glob picks among options that exist, so it has none to check."""
    if not override.is_sweep_override():
        return [override.value()]
    return [*override.sweep_iterator()] if override.is_discrete_sweep() and "glob(" not in override.input_line else []


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


def walk(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every key of a configuration in dotted form, sections too, with what stands there unresolved."""
    for key in node:
        value = node._get_node(key)
        path = f"{prefix}{key}"
        yield path, value
        if isinstance(value, DictConfig) and not value._is_none() and not value._is_interpolation():
            yield from walk(value, f"{path}.")


def in_foreign_class(config: DictConfig, key: str) -> bool:
    """Whether a key belongs to a class that is not ours, whose own signature says what it takes."""
    parent = OmegaConf.select(config, key.rpartition(".")[0], default=None) if "." in key else None
    target = parent.get("_target_") if isinstance(parent, DictConfig) else None
    return target is not None and not str(target).startswith("gan_lightning.")


def nearest(word: str, candidates: Any) -> str:
    """The nearest valid name, as the middle of a sentence."""
    candidates = [str(candidate) for candidate in candidates]
    near = difflib.get_close_matches(word, candidates, 1, 0.6)
    if not near and "." not in word:
        near = [c for c in candidates if c.rpartition(".")[2] == word][:1]
    if not near:
        tails = {c.rpartition(".")[2]: c for c in reversed(candidates)}
        near = [tails[tail] for tail in difflib.get_close_matches(word.rpartition(".")[2], tails, 1, 0.75)]
    return f", the nearest is {near[0]}" if near else ""


def elsewhere(key: str) -> str:
    """Which options of the same group do have a key, so that the user sees why it means nothing here."""
    group, _, tail = key.partition(".")
    owners = []
    for path in sorted((CONF / group).glob("*.yaml")) if tail else []:
        node = OmegaConf.load(path)
        if OmegaConf.select(node, key if group in node else tail, default=None) is not None:
            owners.append(path.stem)
    return f"; it is a setting of {group}={', '.join(owners)}" if owners else ""


def first_line(error: Exception) -> str:
    """What an error of Hydra's says, short."""
    text = str(error.__cause__ or error).strip()
    return " ".join(line.strip() for line in text.splitlines()[:2])


# ----------------------------------------------------------------------------------------------------------------------
# Going on with a run
# ----------------------------------------------------------------------------------------------------------------------


def resume(
    typed: dict[str, Override], parsed: list[Override], sweeping: bool
) -> tuple[str, list[Override], dict[str, Any] | None]:
    """Replace the configuration by that of the checkpoint to go on from.

    Returns:
        The configuration's name, the overrides that are left, and the configuration the checkpoint was made with;
        the last is None where there is no checkpoint yet and the run starts afresh.
    """
    from gan_lightning.checkpoint import config_of, newest, read  # needs torch

    if sweeping:
        raise UserError("ckpt_path: a sweep cannot go on with a run; leave out -m or ckpt_path")
    parser = OverridesParser.create()
    asked = Path(str(typed["ckpt_path"].value()))
    folder = typed.get("hydra.run.dir")
    run = Path(str(folder.value())) if folder else None
    rest = [o for o in parsed if o.key_or_group not in ("ckpt_path", "hydra.run.dir")]
    if str(asked) == "last":
        if run is None:
            raise UserError("ckpt_path=last: of which run? Add hydra.run.dir=FOLDER, or name a file: ckpt_path=FILE")
        path, notes = newest(run)
        for note in notes:
            print(note)
        if path is None and notes:
            raise UserError(f"ckpt_path=last: {run} holds checkpoints, but none that can be read")
        if path is None:
            return "train", [*rest, *parser.parse_overrides([f"hydra.run.dir='{run}'"])], None
        asked = path
    elif run is None:
        run = asked.resolve().parent.parent
        if asked.is_file() and asked.parent.name != "checkpoints":
            raise UserError(
                f"ckpt_path={asked}: it lies outside a run's folder; say where to go on: hydra.run.dir=FOLDER"
            )
    checkpoint = read(asked)
    stored, choices = config_of(checkpoint), checkpoint["hyper_parameters"].get("choices", {})
    print(f"going on from {asked}, step {checkpoint['global_step']:,}")

    faults, kept, replaced = [], [], []
    for override in rest:
        group = override.key_or_group
        if group not in choices and group not in ("experiment", "debug"):
            kept.append(override)
        elif group.partition("@")[0] in MEANING_GROUPS or group in ("experiment", "debug"):
            key = f"{group}@{override.package}" if override.package else group
            if str(override.value()) != str(choices.get(key)):
                faults.append(other_meaning(key, choices.get(key), override.value()))
        else:
            kept.append(override)
            replaced.append(group)
    if faults:
        raise UserError(*faults)
    node = {key: value for key, value in OmegaConf.to_container(stored).items() if key not in replaced}
    hydra_node = OmegaConf.to_container(OmegaConf.load(CONF / "train.yaml").hydra)
    hydra_node["run"] = {"dir": str(run)}
    defaults = ["_self_", *({group: choices[group]} for group in replaced)]
    node |= {"defaults": defaults, "hydra": hydra_node, "ckpt_path": str(asked)}
    ConfigStore.instance().store(name="resume", node=node)
    return "resume", kept, OmegaConf.to_container(stored)


def changes(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """A fault for every setting whose change would make it another run."""
    old = {path: value for path, value in leaves(before) if path.partition(".")[0] in MEANING}
    new = {path: value for path, value in leaves(after) if path.partition(".")[0] in MEANING}
    return [
        other_meaning(key, old.get(key), new.get(key))
        for key in dict.fromkeys([*old, *new])
        if old.get(key) != new.get(key) and key not in MAY_MOVE
    ]


def leaves(node: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of plain nested dictionaries, with its key in dotted form."""
    for key, value in node.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def other_meaning(key: str, old: Any, new: Any) -> str:
    """The fault of going on under another setting."""
    return (
        f"{key}: the run was started with {old}, not {new}; going on would make it another run. "
        "A new run may start from its networks: init_from=FILE"
    )


# ----------------------------------------------------------------------------------------------------------------------
# Values, and what they mean together
# ----------------------------------------------------------------------------------------------------------------------


def check(config: DictConfig) -> None:
    """Check a composed configuration.

    Raises:
        UserError: With every fault.
    """
    if faults := faults_of_values(config, {}) or faults_of_meaning(config):
        raise UserError(*dict.fromkeys(faults))


def faults_of_values(config: DictConfig, known: dict[str, Any]) -> list[str]:
    """Values of a wrong type or out of range; keys without a rule must be of the type of their default."""
    faults = []
    for path, node in walk(config):
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
    if kind in ("CGAN", "ACGAN") and (reason := unlabelled(config)):
        faults.append(f"model={kind.lower()}: is conditional, and {reason}")
    if "gp_weight" in model and discriminator.get("norm") == "batch":
        faults.append(
            "network.discriminator.norm=batch: a gradient penalty needs a critic that looks at each sample by itself, "
            "which BatchNorm does not; none or layer"
        )
    lipschitz = "gp_weight" in model or "clip_value" in model or discriminator.get("spectral_norm")
    if str(config.loss._target_).endswith(".Wasserstein") and not lipschitz:
        faults.append(
            "loss=wasserstein: needs a Lipschitz critic; model=wgan, model=wgan_gp or "
            "network.discriminator.spectral_norm=true"
        )
    if model.get("reuse_fake") and model.get("generator_batch", 1) > 1:
        faults.append("model.generator_batch: has no effect with model.reuse_fake=true; set that to false")
    projected = discriminator.get("conditioning") == "projection"
    if projected and not OmegaConf.to_container(config.network)["discriminator"].get("num_classes"):
        faults.append("network.discriminator.conditioning=projection: has no effect but with model=cgan")
    if kind == "ACGAN" and not (model.class_weight_real or model.class_weight_fake):
        faults.append(
            "model.class_weight_real, model.class_weight_fake: both zero leaves the class unlearned; model=dcgan"
        )
    workers = trainer.devices if isinstance(trainer.devices, int) else 1
    ranks = max(workers, 1) * trainer.get("num_nodes", 1)
    if data.batch_size % ranks:
        faults.append(f"data.batch_size={data.batch_size}: must be a multiple of the {ranks} devices that share it")
    elif data.batch_size // ranks == 1 and "batch" in (network.generator.get("norm"), discriminator.get("norm")):
        faults.append("data.batch_size: BatchNorm needs at least 2 samples a device")
    clips = model.get("generator_clip_norm") or model.get("discriminator_clip_norm")
    if trainer.precision == "16-mixed" and clips and model.generator_optimizer.get("fused"):
        faults.append(
            "model.generator_clip_norm: with trainer.precision=16-mixed a fused optimizer unscales after clipping; "
            "model.generator_optimizer.fused=false model.discriminator_optimizer.fused=false"
        )
    if (path := config.get("init_from")) and not Path(path).is_file():
        faults.append(f"init_from={path}: there is no such file")
    for key in ("path",):
        if key in data and not Path(data[key]).is_dir():
            faults.append(f"data.{key}={data[key]}: there is no such folder")
    return faults


def faults_of_size(image_size: Any, pair: str) -> list[str]:
    """Why a pair of networks cannot make pictures of a size."""
    size = [image_size, image_size] if isinstance(image_size, int) else [*image_size]
    if len(size) != 2 or not all(isinstance(side, int) and side > 0 for side in size):
        return [f"data.image_size={image_size}: must be a side or [height,width] in pixels"]
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
    if "path" in data and Path(data.path).is_dir() and not any(p.is_dir() for p in Path(data.path).iterdir()):
        return f"{data.path} has no sub-folders to be its classes"
    return None


def unknown_arguments(config: DictConfig) -> list[str]:
    """Arguments that the classes of other libraries do not take, and packages that are not there; imports them."""
    from inspect import signature

    from hydra.utils import get_class

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
                f"{path}._target_={target}: cannot be imported ({first_line(error)}); is {package} installed?"
            )
            continue
        if any(parameter.kind is parameter.VAR_KEYWORD for parameter in taken.values()):
            continue
        faults += [
            f"{path}.{key}: {target} takes no such argument{nearest(str(key), taken)}"
            for key in node
            if key not in taken and not str(key).startswith("_")
        ]
    return faults
