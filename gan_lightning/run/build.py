"""Build the objects of an experiment (model, data, trainer) from its configuration, without writing a file."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.accelerators import CUDAAccelerator, MPSAccelerator, XLAAccelerator
from pytorch_lightning.plugins.environments import SLURMEnvironment

from gan_lightning import seed as seeds
from gan_lightning.callbacks.evaluate import Evaluate
from gan_lightning.callbacks.metric_logger import MetricLogger
from gan_lightning.config.combinations import divisibility_error, world_size
from gan_lightning.config.image_size import to_height_width
from gan_lightning.config.instantiate import instantiate
from gan_lightning.config.nodes import node_at, target_of
from gan_lightning.config.validation import check, suggest, unknown_arguments
from gan_lightning.data.validate import check_module
from gan_lightning.errors import UserError
from gan_lightning.io.class_names import sanitize_class_names
from gan_lightning.io.memory import check_fits_in_memory
from gan_lightning.io.paths import expand_home
from gan_lightning.model.base import GenerativeModel
from gan_lightning.run.checkpoint import init_from, storable_config
from gan_lightning.trainer import Trainer


@dataclass
class Experiment:
    """The objects of an experiment, ready for ``trainer.fit(model, data)``.

    Attributes:
        config: The configuration, with the shape and the number of classes of the data filled in (``found``).
        settings: The same as checkpoints store it, see :func:`checkpoint.storable_config`.
        model: The model.
        data: The data, set up.
        trainer: The trainer, with its callbacks and loggers.
    """

    config: DictConfig
    settings: Any
    model: GenerativeModel
    data: Any
    trainer: Trainer


def build(config: DictConfig, run_dir: Path, more_callbacks: Sequence[Any] = (), step: int | None = None) -> Experiment:
    """Build the model, the data and the trainer of an experiment.

    Args:
        config: The composed configuration; the shape and number of classes of the data are filled in (``found``).
        run_dir: Directory of the run, in which callbacks and loggers write during training.
        more_callbacks: Callbacks besides those of the configuration.
        step: The step at which the run is resumed; None for a new run.

    Raises:
        UserError: With every error of the settings, the data and the machine.
    """
    run_dir = expand_home(run_dir)
    config.run_dir = str(run_dir)
    if errors := unknown_arguments(config):
        raise UserError(*errors)
    check_devices(config.trainer)
    data = instantiate(config.data, "data")
    check_module(data)
    if expected := expected_data(config.data):
        check_networks(OmegaConf.merge(config, {"data_info": expected}))  # before images are decoded
    data.setup()
    config.data_info = {"shape": list(data.shape), "num_classes": data.num_classes}
    check(config)
    settings = storable_config(config)
    check_networks(config)
    model = build_model(config, sanitize_class_names(data.class_names), resumed=step is not None)
    trainer = build_trainer(config, run_dir, more_callbacks, step)
    if error := divisibility_error(config.data.batch_size, trainer.world_size):
        raise UserError(error)
    check_objective(config.objective, trainer.callbacks)
    return Experiment(config, settings, model, data, trainer)


def build_model(config: DictConfig, class_names: list[str], resumed: bool = False) -> GenerativeModel:
    """Build the model with its initial weights, which depend on the seed alone, or with those of ``init_from``.

    Raises:
        UserError: The model or an optimizer rejects its settings.
    """
    torch.manual_seed(seeds.mix(config.seed, seeds.WEIGHTS))
    model = instantiate(config.model, "model")
    if str(config.trainer.precision).startswith("64"):
        model.double()  # Lightning does so only after it has loaded, and rounded, a checkpoint's weights
    try:
        model.configure_optimizers()  # for errors in their settings
    except (TypeError, ValueError, LookupError) as error:
        settings = " or ".join(f"model.{name}" for name in model.optimizer_fns)
        raise UserError(f"{settings}: {error}") from error
    model.class_names = class_names if model.num_classes else []
    if config.init_from and not resumed:
        init_from(model, Path(config.init_from))
    return model


def build_trainer(config: DictConfig, run_dir: Path, more_callbacks: Sequence[Any], step: int | None) -> Trainer:
    """Build the trainer with the callbacks and loggers of the configuration; arguments as of :func:`build`."""
    loggers = []
    for name, node in (config.get("logger") or {}).items():
        # Also purges steps that a run logged before it was killed without a checkpoint.
        purge = {"purge_step": (step or 0) + bool(step)} if node["_target_"].endswith("TensorBoardLogger") else {}
        loggers.append(instantiate(node, f"logger.{name}", **purge))
    configured = (config.get("callbacks") or {}).items()
    found = [*more_callbacks, *(instantiate(node, f"callbacks.{name}") for name, node in configured)]
    # MetricLogger is the first, to log a step before other callbacks may fail.
    found.sort(key=lambda callback: not isinstance(callback, MetricLogger))
    # With auto_requeue Lightning would save in the middle of a step.
    plugins = [SLURMEnvironment(auto_requeue=False)] if SLURMEnvironment.detect() else []
    return instantiate(
        config.trainer,
        "trainer",
        callbacks=found,
        logger=loggers,
        plugins=plugins,
        default_root_dir=str(run_dir),
    )


def check_devices(trainer: DictConfig) -> None:
    """Raise UserError if the chosen devices do not exist on this machine."""
    kinds: dict[str, tuple[Any, ...]] = {"cuda": (CUDAAccelerator,), "mps": (MPSAccelerator,), "tpu": (XLAAccelerator,)}
    kinds["gpu"] = kinds["auto"] = kinds["cuda"] + kinds["mps"]
    name = str(trainer.accelerator)
    found = next((kind for kind in kinds.get(name, ()) if kind.is_available()), None)
    if found is None and name in kinds and name != "auto":
        advice = "this build of torch is for CPUs alone; https://pytorch.org/get-started/locally lists those for GPUs"
        if torch.version.cuda or torch.version.hip:
            advice = "nvidia-smi shows the GPUs that the driver finds, CUDA_VISIBLE_DEVICES hides some"
        others = {"mps": "Apple's GPUs need macOS on Apple silicon", "tpu": "a TPU needs the package torch_xla"}
        advice = others.get(name, advice)
        raise UserError(f"trainer.accelerator={name}: there is no such device; trainer=cpu, or: {advice}")
    if found is None:
        return
    there, wanted = found.auto_device_count(), trainer.devices
    listed = [] if isinstance(wanted, int) else [part for part in str(wanted).strip("[]").split(",") if part.strip()]
    numbers = [int(part) for part in listed if part.strip().isdecimal()]
    several = len(listed) > 1 or not isinstance(wanted, int | str)
    count = max(numbers, default=-1) + 1 if several else world_size(OmegaConf.create({"devices": wanted}))
    if count is not None and count > there:
        raise UserError(
            f"trainer.devices={wanted}: there {'is' if there == 1 else 'are'} {there}"
            f"{', numbered from 0' if several else ''}; trainer.devices={there}, or fewer"
        )


def check_objective(objective: str | None, found: Sequence[Any]) -> None:
    """Raise UserError if the objective is a score that the run does not measure."""
    if objective is None or not objective.startswith("eval/"):
        return
    callbacks = [callback for callback in found if isinstance(callback, Evaluate)]
    known = [name for callback in callbacks for name in callback.scores()]
    if not known:
        raise UserError(f"objective={objective}: nothing is measured in this run; eval.every_n_steps=NUMBER")
    if (name := objective.removeprefix("eval/")) not in known:
        nearest, hint = suggest(name, known), callbacks[0].evaluator.name_hint(name)
        raise UserError(f"objective={objective}: is not measured{nearest}; there are {', '.join(known)}{hint}")


def check_networks(config: DictConfig) -> None:
    """Build the networks on the meta device, which allocates nothing, to collect the errors of their constructors.

    Raises:
        UserError: With the error of every constructor; or the weights or a minibatch are larger than memory.
    """
    each = 4 * (2 * math.prod(config.data_info.shape) + config.model.get("latent_dim", 0))  # a real one, a fake one
    check_fits_in_memory("data.batch_size: such minibatches", config.data.batch_size * each, "a smaller one")
    errors: list[str] = []
    with torch.device("meta"):
        for name in (name for name in config.network if target_of(node_at(config.network, name))):
            try:
                instantiate(config.network[name], f"network.{name}")
            except UserError as error:
                errors += error.errors
        if errors:
            raise UserError(*errors)
        networks = instantiate(config.model, "model")
    kinds = ("weight", "gradient", "two moments of the optimizer")
    weights = sum(parameter.nbytes for parameter in networks.parameters())
    check_fits_in_memory(
        f"network: {weights / 4e6:,.0f} M parameters ({', '.join(kinds)} each)", 4 * weights, "smaller ones"
    )


def expected_data(data: DictConfig) -> dict[str, Any] | None:
    """Return the shape of the images, with a number of classes to try; None if the settings do not determine it."""
    if not {"image_size", "channels"} <= data.keys():
        return None
    return {"shape": [data.channels, *to_height_width(data.image_size)], "num_classes": 10}
