"""Checkpoints: atomic writes, reading as plain data, validation of weights and optimizer state, building models."""

import copy
import logging
import math
import re
import time
import warnings
import zipfile
from collections.abc import Container, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from hydra.errors import InstantiationException
from hydra.utils import get_class, instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pytorch_lightning.plugins.io import TorchCheckpointIO

from gan_lightning.callbacks.checkpoint import saved_step, without_weights
from gan_lightning.config.nodes import walk
from gan_lightning.errors import UserError, escape_control, first_and_count, short_message
from gan_lightning.io.class_names import class_order_error, validate_class_names
from gan_lightning.io.files import atomic_write, samples_by_step, set_aside
from gan_lightning.io.paths import DESCRIPTION, WEIGHTS, absolute, expand_home, relative_path
from gan_lightning.model.base import GenerativeModel
from gan_lightning.run.checkpoint_format import format_error
from gan_lightning.run.run_dir import find_runs

log = logging.getLogger(__name__)

MAX_LISTED = 10  # runs in a message

CLASS = r"\.[A-Z][A-Za-z0-9]*"
OURS = re.compile(
    rf"gan_lightning\.(model|network|loss|data|feature|metric|callbacks)\.[a-z0-9_]+{CLASS}|torch\.optim{CLASS}"
    rf"|gan_lightning\.trainer\.Trainer|pytorch_lightning\.Trainer|pytorch_lightning\.loggers{CLASS}"
)

# Stored in place of the run directory, and of caches, the default data.root and values of the environment.
RUN_DIR, NOT_STORED = "<run_dir>", "<not stored>"
DATA_DIR = "${oc.env:GAN_DATA_DIR,data}"
CACHE_DIR = "${oc.env:GAN_CACHE_DIR,'~/.cache/gan-lightning'}"
CACHES = "eval.cache", "data.cache", "callbacks.evaluate.cache"
REPLACED = dict.fromkeys(CACHES, "${eval.cache}") | {"eval.cache": CACHE_DIR, "data.root": DATA_DIR}
RUN_SECTIONS = "model", "network", "loss", "penalty", "augment", "data"  # environment values are stored in these
TRUST = "gan_lightning.load(path, trust_checkpoint=True), gan-sample --trust-checkpoint "
TRUST += "or gan-evaluate trust_checkpoint=true"
CALLS = "_args_", "_partial_", "_recursive_", "_convert_"  # keys of Hydra's instantiate(), beside _target_
WRITERS, PLACES = ("logger.", "trainer.", "callbacks."), ("_dir", "dirpath", "_uri", "_location")

# Values of torch's optimizers that are counts, or means or maxima of squares or absolute values.
NON_NEGATIVE = "step", "exp_avg_sq", "max_exp_avg_sq", "square_avg", "sum", "acc_delta", "exp_inf"
MAX_LISTINGS = 10  # of a directory whose checkpoints a running process removes while they are read


class WholeCheckpointIO(TorchCheckpointIO):
    """Lightning's checkpoint input and output, with atomic writes."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a temporary file, flush it and rename it to the path."""
        target = expand_home(Path(path))
        set_aside(target)
        with atomic_write(target) as file:
            try:
                torch.save(checkpoint, file)
            except RuntimeError as error:
                # On a full disk torch's writer fails again when it is closed, and that error hides the first one.
                if isinstance(error.__context__, OSError):
                    raise error.__context__ from None
                raise


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


def newest(folder: Path) -> tuple[Path | None, list[str]]:
    """Return the latest readable checkpoint of a run directory, and a message for each later one that is not."""
    folder, messages = expand_home(folder), dict[str, None]()
    for _ in range(MAX_LISTINGS):
        vanished = False
        for path in newest_first(folder / "checkpoints"):
            try:
                read(path)
                return path, [*messages]
            except UserError as error:
                gone = not (path.exists() or path.is_symlink())
                vanished |= gone
                messages |= {} if gone else dict.fromkeys(error.errors)
        if not vanished:
            break
    return None, [*messages]


def newest_first(folder: Path) -> list[Path]:
    """Return the checkpoints of a directory, ``last.ckpt`` first, then from the highest step to the lowest.

    The order comes from names and contents, never from file dates, which archives, copies and wrong clocks change.
    """
    steps = {path: step for step, path in samples_by_step(folder, ".ckpt")}
    for path in sorted(folder.glob("*.ckpt")):
        if path not in steps:  # best.ckpt, or a copy under another name
            steps[path] = saved_step(path)
    last = folder / "last.ckpt"
    return sorted(steps, key=lambda path: (path == last, steps[path]), reverse=True)


def history(path: Path) -> tuple[list[str], float]:
    """Return the overrides of all commands of a run up to a checkpoint, and the run's duration in seconds.

    Both are empty or 0 where the checkpoint does not contain them. A duration longer than the time since 1970 is
    damaged or made up.
    """
    checkpoint, overrides, seconds = without_weights(path), [], 0.0
    with suppress(KeyError, TypeError):  # another version's checkpoint, or one without that callback
        overrides = [str(word) for word in checkpoint["hyper_parameters"]["overrides"]]
        seconds = checkpoint["callbacks"]["Checkpoint"]["seconds"]
    possible = isinstance(seconds, int | float) and 0 <= seconds <= time.time()
    return overrides, float(seconds) if possible else 0.0


def checkpoint_of(place: Path) -> Path:
    """Return the checkpoint to load for a path, see :func:`choose`."""
    return choose(place)[0]


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
    chosen, content = None, None
    notes: list[str] = []
    for path in (run / "checkpoints" / name for name in ("best.ckpt", "last.ckpt")):
        if chosen is None and path.exists():
            try:
                content = read(path)
                chosen = path
            except UserError as error:
                notes += error.errors
    if chosen is None:
        chosen, messages = newest(run)
        notes += messages
    notes = [*dict.fromkeys(notes)]
    if chosen is None:
        raise UserError(*notes or [f"{place}: {no_run(place)}"])
    for note in notes:
        log.warning(note)
    return chosen, content


def no_run(place: Path) -> str:
    """Return why a directory has no checkpoint to load."""
    found = find_runs(place)
    runs = [run for run in found if any(run.glob("checkpoints/*.ckpt"))]
    if runs:
        return f"holds {len(runs)} runs, and one is needed: {first_and_count(runs, MAX_LISTED)}"
    if found == [place]:
        return "this run has saved no checkpoint; its result.json or train.log may say why"
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
    state = checkpoint["state_dict"]
    try:
        node = OmegaConf.to_container(config_of(checkpoint).model, resolve=True)
        if not trust_checkpoint:
            refuse_foreign(node, path, key="model")
        with torch.device("meta"):  # compare sizes with the weights before anything is allocated
            described = instantiate(node, _convert_="all")
        if not isinstance(described, GenerativeModel):
            raise UserError(f"{path}: its configuration does not describe a model")
    except (InstantiationException, OmegaConfBaseException) as error:
        raise UserError(f"{path}: the model that it describes cannot be built ({short_message(error)})") from error
    check_weights(described, state, f"{path}: its weights do not fit the model that it describes")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*a meta parameter")  # torch adds missing entries of old files
        take_state(described, {name: value.to("meta") for name, value in state.items()}, path)
    model = instantiate(node, _convert_="all")
    model.to(next(value.dtype for value in state.values() if value.is_floating_point()))  # 64-true, bf16-true
    if any(is_channels_last(value) for value in state.values()):  # other kernels would round differently
        model.to(memory_format=torch.channels_last)
    take_state(model, state, path)
    model.class_names = validate_class_names(checkpoint["hyper_parameters"].get("class_names"), model.num_classes, path)
    return model.eval()


def is_channels_last(value: Any) -> bool:
    """Return whether a tensor has the memory format channels last, and not the contiguous one as well."""
    tensor = isinstance(value, torch.Tensor) and value.dim() == 4
    return tensor and value.is_contiguous(memory_format=torch.channels_last) and not value.is_contiguous()


def take_state(model: torch.nn.Module, state: dict[str, Any], path: Path) -> None:
    """Load the weights of a checkpoint into a model.

    Raises:
        UserError: They do not fit the model or are not finite, or ``model`` is no module.
    """
    if not isinstance(model, torch.nn.Module):
        raise UserError(f"{path}: its configuration does not describe a network")
    unfit = f"{path}: its weights do not fit the model that it describes"
    check_weights(model, state, unfit)
    refuse_non_finite(state, path)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        reason = str(error).splitlines()[1].strip()
        raise UserError(f"{unfit}: {reason}") from error


def check_weights(model: torch.nn.Module, state: Any, unfit: str) -> None:
    """Compare the weights of a checkpoint with those of a model before any of them is loaded.

    torch converts integers to weights silently, and raises many types of exceptions for other values.

    Args:
        model: The model, which may lie on the meta device.
        state: The checkpoint's ``state_dict``.
        unfit: Start of the message.

    Raises:
        UserError: A value is no dense tensor, or differs from the model's in shape or type.
    """
    expected = model.state_dict()
    if not (isinstance(state, dict) and state and all(isinstance(name, str) for name in state)):
        raise UserError(f"{unfit}: they are no named tensors")
    for name, value in state.items():
        if not isinstance(value, torch.Tensor):
            raise UserError(f"{unfit}: {name} is {type(value).__name__}, not a tensor")
        if name in expected and (problem := difference(value, expected[name])):
            raise UserError(f"{unfit}: {name} {problem}")


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
            refuse_non_finite({f"optimizer {number}: {name}": value for name, value in values.items()}, path)
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


def refuse_non_finite(tensors: Mapping[str, Any], path: Path) -> None:
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


def refuse_foreign(node: Any, path: Path, how: str = TRUST, typed: Container[str] = (), key: str = "") -> None:
    """Reject a configuration that could run code of an untrusted file.

    Args:
        node: The configuration, resolved, or a part of it.
        path: The file that it is from.
        how: The option that trusts it.
        typed: Keys of the command line, whose values are trusted.
        key: The key of the part.

    Raises:
        UserError: It names a class that is not allowed, changes how a class is called, or has an interpolation.
    """
    for name, part in named_parts(node):
        inner = f"{key}.{name}".removeprefix(".")
        if name in CALLS and not (name == "_partial_" and str(node.get("_target_")).startswith("torch.optim.")):
            raise UserError(f"{path}: {inner} changes how a class is called. If you trust the file: {how}")
        refuse_foreign(part, path, how, typed, inner)
    if not isinstance(node, str) or key in typed:
        return
    if key.rpartition(".")[2] == "_target_" and not is_ours(node):
        problem = f"names {node!r}, which is no class of this version; loading would run its code"
    elif "${" in node:
        problem = f"{key}={node!r} would be computed while loading"
    else:
        return
    raise UserError(f"{path}: {problem}. If you trust the file: {how}")


def refuse_places(node: Any, path: Path, how: str, typed: Container[str], key: str = "") -> None:
    """Reject a configuration that writes to a path outside of the run directory.

    Args:
        node: The configuration; its references are those of this version's files.
        path: The file that it is from.
        how: The option that trusts it.
        typed: Keys of the command line, whose values are trusted.
        key: The key of the part.

    Raises:
        UserError: A logger, a callback or the trainer has such a path.
    """
    for name, part in named_parts(node):
        refuse_places(part, path, how, typed, f"{key}.{name}".removeprefix("."))
    if not isinstance(node, str) or key in typed or not key.startswith(WRITERS):
        return
    known = node == NOT_STORED or node.startswith("${")
    if ".." in node or (not known and (key.endswith(PLACES) or "/" in node or node.startswith("~"))):
        raise UserError(f"{path}: {key}={node!r} is a place of its own to write to. If you trust the file: {how}")


def named_parts(node: Any) -> Iterable[tuple[Any, Any]]:
    """Return the parts of a dictionary or a list with their keys or positions."""
    return node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()


def refuse_absent_data(config: DictConfig, path: Path, typed: Container[str] = ()) -> None:
    """Reject a data directory of a checkpoint that does not exist, since the data would be downloaded to it.

    Raises:
        UserError: There is no such directory, and the command line does not set ``data.root``.
    """
    data = OmegaConf.to_container(config).get("data")
    root = data.get("root") if isinstance(data, dict) else None
    if not isinstance(root, str) or root == DATA_DIR or "data.root" in typed:
        return
    if not (root and absolute(root).is_dir()):
        raise UserError(f"{path}: its data were in {root!r}, which is not there; say where they are: data.root=FOLDER")


def is_ours(target: str) -> bool:
    """Return whether a name is that of a class of this package, or an allowed one of torch or Lightning."""
    try:
        return bool(OURS.fullmatch(target)) and get_class(target).__module__.startswith(target.rpartition(".")[0])
    except Exception:  # there is no such class
        return False


def take_networks(model: GenerativeModel, path: Path) -> None:
    """Initialise the networks of a model from those of another run.

    Logs a warning if the classes of the other run have other names or numbers.

    Args:
        model: The model.
        path: A checkpoint, or a run directory, see :func:`checkpoint_of`.

    Raises:
        UserError: The networks differ in architecture or size, or are not finite.
    """
    path = checkpoint_of(path)
    content = read(path)
    state = content["state_dict"]
    for name, network in model.networks().items():
        weights = {key.removeprefix(f"{name}."): value for key, value in state.items() if key.startswith(f"{name}.")}
        unfit = f"init_from={path}: its {name} does not fit this one"
        check_weights(network, weights, unfit)
        refuse_non_finite({f"{name}.{key}": value for key, value in weights.items()}, path)
        try:
            network.load_state_dict(weights)
        except RuntimeError as error:
            reason = str(error).splitlines()[1].strip()
            raise UserError(f"{unfit}: {reason}") from error
    stored = validate_class_names(content["hyper_parameters"].get("class_names"), model.num_classes, path)
    if problem := class_order_error(stored, model.class_names)[0]:
        log.warning(f"init_from={path}: {problem}")
    if model.generator_ema is not None:
        model.generator_ema.network.load_state_dict(model.generator.state_dict())
