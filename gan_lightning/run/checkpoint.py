"""Checkpoints: atomic writes, reading as plain data, validation of weights and optimizer state, building models."""

import copy
import logging
import math
import time
import warnings
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gan_lightning.callbacks.checkpoint import saved_step, without_weights
from gan_lightning.config.description import undescribed
from gan_lightning.config.nodes import walk
from gan_lightning.errors import UserError, escape_control, first_and_count, short_message
from gan_lightning.io.class_names import class_order_error, validate_class_names
from gan_lightning.io.files import samples_by_step
from gan_lightning.io.paths import DESCRIPTION, WEIGHTS, absolute, expand_home, relative_path
from gan_lightning.model.base import GenerativeModel
from gan_lightning.run.checkpoint_format import DATA_DIR, NOT_STORED, RUN_DIR, format_error
from gan_lightning.run.run_dir import find_runs
from gan_lightning.run.trust import check_trusted

log = logging.getLogger(__name__)
Module = TypeVar("Module", bound=torch.nn.Module)

MAX_LISTED = 10  # runs in a message

CACHE_DIR = "${oc.env:GAN_CACHE_DIR,'~/.cache/gan-lightning'}"
CACHES = "eval.cache", "data.cache", "callbacks.evaluate.cache"
REPLACED = dict.fromkeys(CACHES, "${eval.cache}") | {"eval.cache": CACHE_DIR, "data.root": DATA_DIR}
RUN_SECTIONS = "model", "network", "loss", "penalty", "augment", "data"  # environment values are stored in these

# Values of torch's optimizers that are counts, or means or maxima of squares or absolute values.
NON_NEGATIVE = "step", "exp_avg_sq", "max_exp_avg_sq", "square_avg", "sum", "acc_delta", "exp_inf"
MAX_LISTINGS = 10  # of a directory whose checkpoints a running process removes while they are read


def read(path: Path) -> dict[str, Any]:
    """Return the content of a checkpoint as plain data; no code in the file is run.

    Raises:
        UserError: The file is missing, damaged, not a checkpoint of this package or of another format version.
    """
    path = expand_home(path)
    if not path.is_file():
        raise UserError(f"{path}: there is no such checkpoint")
    try:
        with path.open("rb") as file:  # opened once: a running process may replace or remove the name in between
            with zipfile.ZipFile(file) as archive:
                # torch does not compress, so that a compressed file may be a decompression bomb.
                if any(part.compress_type != zipfile.ZIP_STORED for part in archive.infolist()):
                    raise zipfile.BadZipFile("compressed")
                if (broken := archive.testzip()) is not None:
                    raise zipfile.BadZipFile(broken)
            file.seek(0)
            checkpoint = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise UserError(f"{path}: there is no such checkpoint") from error
    except Exception as error:  # torch and zipfile raise a dozen types of exceptions for damaged files
        kind = "it names code to run" if "weights_only" in str(error).lower() else "damaged, or no checkpoint at all"
        raise UserError(f"{path}: cannot be read ({kind})") from error
    if error := format_error(checkpoint):
        raise UserError(f"{path}: {error}")
    return checkpoint


def storable_config(config: DictConfig) -> dict[str, Any]:
    """Resolve a configuration for a checkpoint, without directories and values of the environment.

    These belong to the machine or are secrets. Values of the environment in the model and the data are stored, since
    the run depends on them.
    """
    config = copy.deepcopy(config)
    config.run_dir = RUN_DIR
    for key, node in [*walk(config)]:
        text = node._value()
        if not isinstance(text, str):
            continue
        place = key in CACHES or (key == "data.root" and text == DATA_DIR)
        if place or ("${oc.env:" in text and key.partition(".")[0] not in RUN_SECTIONS):
            OmegaConf.update(config, key, NOT_STORED)
    return OmegaConf.to_container(config, resolve=True)


def config_of(checkpoint: dict[str, Any]) -> DictConfig:
    """Return the configuration of a checkpoint, in which directories are references to those of this machine."""

    def filled(node: Any, key: str) -> Any:
        if isinstance(node, dict):
            return {name: filled(part, f"{key}.{name}".removeprefix(".")) for name, part in node.items()}
        if isinstance(node, list):
            return [filled(part, key) for part in node]
        if node == NOT_STORED or (key in CACHES and isinstance(node, str)):
            return REPLACED.get(key, node)
        in_run = isinstance(node, str) and (node == RUN_DIR or node.startswith(f"{RUN_DIR}/"))
        return node.replace(RUN_DIR, "${run_dir}", 1) if in_run else node

    stored = {name: part for name, part in checkpoint["hyper_parameters"]["config"].items() if name != "run_dir"}
    return OmegaConf.create(filled(stored, "") | {"run_dir": None})


def newest(folder: Path, best_first: bool = False) -> tuple[Path | None, list[str], dict[str, Any] | None]:
    """Return the latest readable checkpoint of a run directory, see :func:`newest_first`.

    Returns:
        The path, a message for each later checkpoint that cannot be read, and the content. Path and content are None
        if there is no readable checkpoint.
    """
    folder, messages = expand_home(folder), dict[str, None]()
    for _ in range(MAX_LISTINGS):
        vanished = False
        for path in newest_first(folder / "checkpoints", best_first):
            try:
                content = read(path)
                return path, [*messages], content
            except UserError as error:
                gone = not (path.exists() or path.is_symlink())
                vanished |= gone
                messages |= {} if gone else dict.fromkeys(error.errors)
        if not vanished:
            break
    return None, [*messages], None


def newest_first(folder: Path, best_first: bool = False) -> list[Path]:
    """Return the checkpoints of a directory, ``last.ckpt`` first, then from the highest step to the lowest.

    The order comes from names and contents, never from file dates, which archives, copies and wrong clocks change.

    Args:
        folder: The directory.
        best_first: Put ``best.ckpt`` before all others.
    """
    first = [folder / name for name in (*["best.ckpt"] * best_first, "last.ckpt")]
    found, steps = sorted(folder.glob("*.ckpt")), {path: step for step, path in samples_by_step(folder, ".ckpt")}
    # best.ckpt, or a copy under another name
    steps |= {path: saved_step(path) for path in found if path not in steps and path not in first}
    return [path for path in first if path in found] + sorted(steps, key=steps.__getitem__, reverse=True)


class History(NamedTuple):
    """The commands of a run up to a checkpoint.

    Attributes:
        overrides: The typed overrides of all of them.
        recipe: The overrides that the recipe of ``experiment=photos`` chose.
        seconds: The duration of the run.
    """

    overrides: list[str]
    recipe: list[str]
    seconds: float


def history(path: Path) -> History:
    """Return the history of a run; its parts are empty or 0 where the checkpoint does not contain them.

    A duration longer than the time since 1970 is damaged or made up.
    """
    checkpoint, overrides, recipe, seconds = without_weights(path), [], [], 0.0
    with suppress(KeyError, TypeError):  # another version's checkpoint, or one without that callback
        overrides = [str(word) for word in checkpoint["hyper_parameters"]["overrides"]]
        recipe = [str(word) for word in checkpoint["hyper_parameters"].get("recipe", [])]
        seconds = checkpoint["callbacks"]["Checkpoint"]["seconds"]
    possible = isinstance(seconds, int | float) and 0 <= seconds <= time.time()
    return History(overrides, recipe, float(seconds) if possible else 0.0)


def choose(place: Path) -> tuple[Path, dict[str, Any] | None]:
    """Return the checkpoint to load for a path: the best one of a run directory, or else the latest readable one.

    A file and a directory of gan-export are returned as they are. All commands and :func:`gan_lightning.load` use this.

    Returns:
        The path, and the checkpoint's content where it was read to choose, so that it is not read a second time.

    Raises:
        UserError: A directory has no readable checkpoint, several runs, or is not a run directory.
    """
    place = relative_path(absolute(place))
    if not place.is_dir() or any((place / name).exists() for name in (DESCRIPTION, WEIGHTS)):
        return place, None
    run = relative_path(absolute(place).parent) if absolute(place).name == "checkpoints" else place
    chosen, messages, content = newest(run, best_first=True)
    if chosen is None:
        raise UserError(*messages or [f"{place}: {no_checkpoint_reason(place)}"])
    for message in messages:
        log.warning(message)
    return chosen, content


def no_checkpoint_reason(place: Path) -> str:
    """Return why a directory has no checkpoint to load."""
    found = find_runs(place)
    runs = [run for run in found if any(run.glob("checkpoints/*.ckpt"))]
    if runs:
        return f"holds {len(runs)} runs, and one is needed: {first_and_count(runs, MAX_LISTED)}"
    if found == [place]:
        return "this run has saved no checkpoint; its result.json or train.log may contain the reason"
    return f"has no checkpoints, as a run directory has, and is no folder of gan-export, since it has no {DESCRIPTION}"


def chosen_checkpoint(place: Path) -> tuple[Path, dict[str, Any] | None]:
    """Return what :func:`choose` returns for a command, and print the path where it is not what the user named."""
    path, content = choose(place)
    if absolute(path) != absolute(place):
        print(escape_control(f"using {path}"))
    return path, content


def load_model(path: Path, trust_checkpoint: bool = False, checkpoint: dict[str, Any] | None = None) -> GenerativeModel:
    """Return the model of a checkpoint in evaluation mode, see :func:`gan_lightning.load`.

    Args:
        path: The checkpoint.
        trust_checkpoint: Allow third-party classes, whose code is run.
        checkpoint: Its content, if it has been read already.
    """
    checkpoint = checkpoint or read(path)
    try:
        node = OmegaConf.to_container(config_of(checkpoint).model, resolve=True)
        if found := undescribed(node):
            raise UserError(
                f"{path}: was trained in Python with {first_and_count(found, MAX_LISTED)}, whose arguments a "
                "checkpoint does not hold; construct the model as it was trained, and pass it: "
                "gan_lightning.load(path, model=model)"
            )
        if not trust_checkpoint:
            check_trusted(node, path, key="model")
        model = build_with_weights(GenerativeModel, node, checkpoint["state_dict"], path)
    except (InstantiationException, OmegaConfBaseException) as error:
        raise UserError(f"{path}: the model that it describes cannot be built ({short_message(error)})") from error
    model.class_names = validate_class_names(checkpoint["hyper_parameters"].get("class_names"), model.num_classes, path)
    return model.eval()


def load_into(model: GenerativeModel, path: Path) -> GenerativeModel:
    """Load the weights of a checkpoint or a run directory into a model, and return it in evaluation mode.

    Args:
        model: A model of the same class and networks as the one that was trained.
        path: The path, see :func:`choose`.

    Raises:
        UserError: The file cannot be read, or its weights do not fit the model or are not finite.
    """
    path, content = choose(path)
    if path.is_dir():
        raise UserError(f"{path}: was written by gan-export; load it without model=")
    content = content or read(path)
    check_tensors_finite(content["state_dict"], path)
    load_state(model, content["state_dict"], f"{path}: its weights do not fit the model that was passed")
    model.class_names = validate_class_names(content["hyper_parameters"].get("class_names"), model.num_classes, path)
    return model.eval()


def build_with_weights(kind: type[Module], node: Any, state: dict[str, torch.Tensor], path: Path) -> Module:
    """Build a network and load its weights, in their data type and memory format.

    It is built on the meta device first, so that weights that do not fit are found before memory is allocated.

    Args:
        kind: The class that it must be an instance of.
        node: Its configuration.
        state: Its weights.
        path: The file that they are from.

    Raises:
        UserError: The weights do not fit or are not finite, or the configuration describes something else.
    """
    unfit = f"{path}: its weights do not fit the model that it describes"
    with torch.device("meta"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*a meta parameter")  # nothing is loaded here
        described = instantiate(node, _convert_="all")
        if not isinstance(described, kind):
            raise UserError(f"{path}: its configuration describes a {type(described).__name__}, not a {kind.__name__}")
        load_state(described, state, unfit)
    check_tensors_finite(state, path)
    network = instantiate(node, _convert_="all")
    network.to(next(value.dtype for value in state.values() if value.is_floating_point()))  # 64-true, bf16-true
    if any(is_channels_last(value) for value in state.values()):  # other kernels would round differently
        network.to(memory_format=torch.channels_last)
    load_state(network, state, unfit)
    return network


def is_channels_last(value: Any) -> bool:
    """Return whether a tensor has the memory format channels last, and not the contiguous one as well."""
    tensor = isinstance(value, torch.Tensor) and value.dim() == 4
    return tensor and value.is_contiguous(memory_format=torch.channels_last) and not value.is_contiguous()


def load_state(network: torch.nn.Module, state: dict[str, torch.Tensor], unfit: str) -> None:
    """Load weights into a network.

    They are compared first, since torch converts integers to weights silently, and raises many types of exceptions
    for other values.

    Args:
        network: The network, which may lie on the meta device.
        state: The weights.
        unfit: Start of the message.

    Raises:
        UserError: A tensor is not dense, differs from the network's in shape or type, is missing or is unexpected.
    """
    expected = network.state_dict()
    for name, value in state.items():
        if name in expected and (problem := difference(value, expected[name])):
            raise UserError(f"{unfit}: {name} {problem}")
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        reason = str(error).splitlines()[1].strip()
        raise UserError(f"{unfit}: {reason}") from error


def difference(value: Any, expected: Any) -> str:
    """Return the difference in type or shape of a checkpoint's value from the one it replaces; empty if it fits."""
    if isinstance(expected, torch.Tensor) != isinstance(value, torch.Tensor):
        number = isinstance(value, int | float) and isinstance(expected, torch.Tensor) and expected.dim() == 0
        return "" if number else f"is {type(value).__name__}, not {type(expected).__name__}"
    if isinstance(value, torch.Tensor):
        if value.layout != torch.strided or value.is_quantized or (value.is_meta and not expected.is_meta):
            return "is no plain tensor"
        if value.shape != expected.shape:
            return f"has the shape {list(value.shape)}, not {list(expected.shape)}"
        kinds = [(x.is_floating_point(), x.is_complex(), x.dtype == torch.bool) for x in (value, expected)]
        return "" if kinds[0] == kinds[1] else f"has the type {value.dtype}, not {expected.dtype}"
    if isinstance(expected, list | tuple):
        if not isinstance(value, list | tuple) or len(value) != len(expected):
            return f"is {value!r:.40}, not {len(expected)} values"
        return next(filter(None, map(difference, value, expected)), "")
    if None in (value, expected):  # many settings of optimizers are a value or None
        return ""
    numbers = [isinstance(x, int | float) and not isinstance(x, bool) for x in (value, expected)]
    same = all(numbers) or type(value) is type(expected)
    return "" if same else f"is {value!r:.40}, not of the type {type(expected).__name__}"


def check_training_state(
    initial: GenerativeModel, checkpoint: dict[str, Any], path: Path, allow_missing: bool = False
) -> None:
    """Compare the state of optimizers and gradient scaler in a checkpoint with that of this model.

    torch loads moments of any size, and its fused kernels then write out of bounds. The expected state is found by one
    update of each optimizer.

    Args:
        initial: A copy of the model with its initial weights, which is updated here. A weight that differs from them
            in the checkpoint has been updated, so that its optimizer must have state for it.
        checkpoint: The content of the checkpoint, whose weights fit the model.
        path: Its path.
        allow_missing: Accept that updated weights have no optimizer state; training resumes with fresh state.

    Raises:
        UserError: The state is of another form, missing, or has values that training cannot produce.
    """
    unfit = f"{path}: its state of the optimizers does not fit the model that it describes"
    stored, optimizers = checkpoint["optimizer_states"], initial.configure_optimizers()
    if allow_missing and not stored:
        optimizers = []
    if len(stored) != len(optimizers):
        advice = "" if stored else "; force_resume=true resumes with fresh state"
        raise UserError(f"{unfit}: {len(stored)} optimizers, not {len(optimizers)}{advice}")
    names, weights = {weight: name for name, weight in initial.named_parameters()}, checkpoint["state_dict"]
    for number, (found, optimizer) in enumerate(zip(stored, optimizers, strict=True)):
        trained = [weight for group in optimizer.param_groups for weight in group["params"]]
        updated = {
            i: names[w] for i, w in enumerate(trained) if not torch.equal(w.cpu(), weights[names[w]].to(w.dtype))
        }
        if problem := state_difference(found, optimizer):
            raise UserError(f"{unfit}: optimizer {number}: {problem}")
        for weight, state in found["state"].items():
            kept = {name: value for name, value in state.items() if isinstance(value, torch.Tensor | int | float)}
            values = {f"{name} of weight {weight}": torch.as_tensor(value) for name, value in kept.items()}
            check_tensors_finite({f"optimizer {number}: {name}": value for name, value in values.items()}, path)
            negative = [name for name, value in values.items() if name.startswith(NON_NEGATIVE) and (value < 0).any()]
            if negative:
                raise UserError(f"{unfit}: optimizer {number}: {negative[0]} has negative values")
        # The update in state_difference() shows which weights have state; SGD without momentum has none.
        missing = [
            name for i, name in updated.items() if optimizer.state_dict()["state"].get(i) and i not in found["state"]
        ]
        if missing and not allow_missing:
            raise UserError(
                f"{path}: the state of optimizer {number} is missing for {len(missing)} weights that have been updated "
                f"({first_and_count(missing, 3)}), so it would not be the same run; "
                "force_resume=true resumes with fresh state"
            )
    scaler, expected = checkpoint.get("MixedPrecision") or {}, torch.amp.GradScaler("cpu").state_dict()
    fits = isinstance(scaler, dict) and scaler.keys() in (set(), expected.keys())
    fits = fits and not any(difference(value, expected[name]) or value is None for name, value in scaler.items())
    if not fits or not all(0 <= value < math.inf for value in scaler.values()):
        raise UserError(f"{path}: its state of the gradient scaler is none")


def state_difference(found: Any, optimizer: torch.optim.Optimizer) -> str:
    """Return how a stored optimizer state differs in form from the state after an update; empty if it fits.

    The stored settings are not compared, since those of the configuration take their place.

    Args:
        found: The stored state.
        optimizer: An optimizer as it is configured, over a copy of the weights; it makes one update.
    """
    if not (isinstance(found, dict) and isinstance(found.get("state"), dict)):
        return "there is no state"
    groups, others = found.get("param_groups"), optimizer.state_dict()["param_groups"]
    if not (isinstance(groups, list) and len(groups) == len(others)):
        return "other groups of weights"
    for group, other in zip(groups, others, strict=True):
        weights = group.get("params") if isinstance(group, dict) else None
        if not (isinstance(weights, list) and all(type(weight) is int for weight in weights)):
            return "a group without weights"
        if weights != other["params"]:
            return f"{len(weights)} weights, not {len(other['params'])}"
    for group in optimizer.param_groups:
        for weight in group["params"]:
            weight.grad = torch.zeros_like(weight)
    optimizer.step()
    expected = optimizer.state_dict()["state"]
    for weight, state in found["state"].items():
        if weight not in expected or not isinstance(state, dict):
            return f"state of a weight {weight!r:.40} that is none"
        for name in dict.fromkeys([*expected[weight], *state]):
            if name not in state or name not in expected[weight]:
                return f"weight {weight} {'has' if name in state else 'lacks'} {name!r:.40}"
            if problem := difference(state[name], expected[weight][name]):
                return f"{name} of weight {weight} {problem}"
    return ""


def check_tensors_finite(tensors: Mapping[str, Any], path: Path) -> None:
    """Reject weights, buffers or samples with NaN or Inf.

    Args:
        tensors: By name; tensors without content, on the meta device, pass.
        path: The file that they are from.

    Raises:
        UserError: A tensor has values that are not finite.
    """
    for name, value in tensors.items():
        if not isinstance(value, torch.Tensor) or value.is_meta or not value.is_floating_point():
            continue
        if bad := value.numel() - int(value.isfinite().sum()):
            raise UserError(
                f"{path}: {name}: {bad:,} of {value.numel():,} values are NaN or infinite: the training had diverged, "
                "or the file is damaged; take an earlier checkpoint"
            )


def init_from(model: GenerativeModel, path: Path) -> None:
    """Initialise the networks of a model from those of another run.

    Logs a warning if the classes of the other run have other names or numbers.

    Args:
        model: The model.
        path: A checkpoint, or a run directory, see :func:`choose`.

    Raises:
        UserError: The networks differ in architecture or size, or are not finite.
    """
    path, content = choose(path)
    content = content or read(path)
    for name, network in model.networks().items():
        state = {key: value for key, value in content["state_dict"].items() if key.startswith(f"{name}.")}
        check_tensors_finite(state, path)
        weights = {key.removeprefix(f"{name}."): value for key, value in state.items()}
        load_state(network, weights, f"init_from={path}: its {name} does not fit this one")
    stored = validate_class_names(content["hyper_parameters"].get("class_names"), model.num_classes, path)
    if problem := class_order_error(stored, model.class_names)[0]:
        log.warning(f"init_from={path}: {problem}")
    if model.generator_ema is not None:
        model.generator_ema.network.load_state_dict(model.generator.state_dict())
