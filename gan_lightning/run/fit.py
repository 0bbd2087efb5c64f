"""Train an experiment in a run directory, from the start or from a checkpoint."""

import copy
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from gan_lightning.callbacks.checkpoint import Checkpoint
from gan_lightning.errors import UserError
from gan_lightning.io.class_names import check_class_order, sanitize_class_names, validate_class_names
from gan_lightning.io.paths import expand_home
from gan_lightning.io.versions import versions
from gan_lightning.model.base import GenerativeModel
from gan_lightning.model.gan import GAN
from gan_lightning.run import run_dir as runs
from gan_lightning.run.build import Experiment, build
from gan_lightning.run.checkpoint import check_tensors_finite, check_training_state, config_of, load_state, read
from gan_lightning.run.checkpoint_format import FORMAT_VERSION, HYPER_PARAMETERS, form_error
from gan_lightning.run.summary import log_rate_changes, log_start
from gan_lightning.trainer import Trainer


def train(
    config: DictConfig,
    run_dir: Path,
    ckpt_path: Path | None = None,
    choices: dict[str, str] | None = None,
    more_callbacks: Sequence[Any] = (),
    overrides: Sequence[str] = (),
    recipe: Sequence[str] = (),
    started: float | None = None,
) -> Trainer:
    """Build an experiment, train it and write its files into the run directory.

    Args:
        config: The composed configuration, see :func:`build.build`.
        run_dir: Directory of the run.
        ckpt_path: A checkpoint to resume from.
        choices: The chosen option of each configuration group; stored in checkpoints.
        more_callbacks: Callbacks besides those of the configuration.
        overrides: Overrides of this command line and of earlier ones; stored in checkpoints.
        recipe: Overrides that the recipe of ``experiment=photos`` chose; stored in checkpoints.
        started: Start time of the run in seconds, minus the duration of earlier commands; None for the present time.

    Returns:
        The finished trainer.

    Raises:
        UserError: A setting is invalid, the checkpoint does not fit, or training fails for a reason that the user can
            fix.
    """
    run_dir, ckpt_path = expand_home(run_dir), expand_home(ckpt_path) if ckpt_path else None
    checkpoint: dict[str, Any] = read(ckpt_path) if ckpt_path else {"global_step": 0, "hyper_parameters": {}}
    step, stored = checkpoint["global_step"], checkpoint["hyper_parameters"]
    experiment = build(config, run_dir, more_callbacks, step if ckpt_path else None)
    model, data, trainer = experiment.model, experiment.data, experiment.trainer
    if ckpt_path:
        check_checkpoint_fits(model, checkpoint, ckpt_path, config.force_resume)
    hyper_parameters = {
        "config": experiment.settings,
        "choices": stored.get("choices", {}) | (choices or {}),
        "versions": versions(),
        "class_names": sanitize_class_names(data.class_names),
        "overrides": list(overrides),
        **({"recipe": list(recipe)} if recipe else {}),
        "format_version": FORMAT_VERSION,
    }
    # A checkpoint with an error could not be read again.
    if error := form_error(hyper_parameters, HYPER_PARAMETERS, ""):
        raise UserError(f"{error}, which a checkpoint cannot store")
    model.save_hyperparameters(hyper_parameters, logger=False)
    text = runs.write_config(run_dir, config) if trainer.is_global_zero else ""
    for callback in trainer.callbacks:
        if isinstance(callback, Checkpoint) and started is not None:
            callback.started = started
    if trainer.is_global_zero:
        log_start(config, model, data, trainer, text, step)
        if ckpt_path:
            log_rate_changes(config_of(checkpoint), config, step)
    fit(experiment, ckpt_path)
    return trainer


def check_checkpoint_fits(model: GenerativeModel, checkpoint: dict[str, Any], path: Path, force_resume: bool) -> None:
    """Compare a checkpoint with the model that resumes from it, for which Lightning would raise other exceptions.

    Raises:
        UserError: Weights, optimizer state or class names do not fit, or a value is not finite.
    """
    initial = copy.deepcopy(model)
    if force_resume and isinstance(model, GAN):
        model.match_augment_state(checkpoint["state_dict"])
    check_tensors_finite(checkpoint["state_dict"], path)
    load_state(model, checkpoint["state_dict"], f"{path}: its weights do not fit the model")
    check_training_state(initial, checkpoint, path, force_resume)
    if stored := checkpoint["hyper_parameters"].get("class_names"):
        check_class_order(path, validate_class_names(stored, model.num_classes, path), model.class_names)


def fit(experiment: Experiment, ckpt_path: Path | None) -> None:
    """Run Lightning's training loop; errors that the user can fix are raised as UserErrors and OSErrors."""
    # Lightning sets this variable for programs that fork, which a run does not do. It makes torch load NVML to look for
    # GPUs in every optimizer step, which takes a tenth of the training time of small networks.
    os.environ.pop("PYTORCH_NVML_BASED_CUDA_CHECK", None)
    try:
        experiment.trainer.fit(experiment.model, experiment.data, ckpt_path=ckpt_path, weights_only=True)
    except MisconfigurationException as error:
        raise UserError(f"trainer: {error}") from error
    except ValueError as error:  # Lightning's TensorBoard logger wraps every error of add_scalar in one
        if isinstance(error.__cause__, OSError):
            raise error.__cause__ from None
        raise


@contextmanager
def restore_global_state() -> Iterator[None]:
    """Restore global settings that Lightning changes, so that each job of a sweep starts with the same settings."""
    with ExitStack() as restore:  # in reverse order
        restore.callback(os.environ.update, dict(os.environ))
        restore.callback(os.environ.clear)
        warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
        deterministic = torch.are_deterministic_algorithms_enabled()
        restore.callback(torch.use_deterministic_algorithms, deterministic, warn_only=warn_only)
        restore.callback(torch.set_float32_matmul_precision, torch.get_float32_matmul_precision())
        restore.callback(torch.set_default_dtype, torch.get_default_dtype())
        for name in ("benchmark", "deterministic", "allow_tf32"):
            restore.callback(setattr, torch.backends.cudnn, name, getattr(torch.backends.cudnn, name))
        yield
