"""Train an experiment in a run directory, from the start or from a checkpoint."""

import copy
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from gan_lightning.callbacks.checkpoint import Checkpoint
from gan_lightning.errors import UserError
from gan_lightning.io.class_names import check_class_order, sanitize_class_names, validate_class_names
from gan_lightning.io.paths import expand_home
from gan_lightning.run import run_dir as runs
from gan_lightning.run.build import Experiment, build
from gan_lightning.run.checkpoint import check_training_state, config_of, read, take_state
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
    started: float | None = None,
) -> Trainer:
    """Build an experiment and train it; the arguments are those of :func:`build.build` and :func:`fit`."""
    checkpoint = read(ckpt_path) if ckpt_path else None
    experiment = build(config, run_dir, more_callbacks, checkpoint["global_step"] if checkpoint else None)
    return fit(experiment, run_dir, ckpt_path, checkpoint, choices, overrides, started)


def fit(
    experiment: Experiment,
    run_dir: Path,
    ckpt_path: Path | None = None,
    checkpoint: dict[str, Any] | None = None,
    choices: dict[str, str] | None = None,
    overrides: Sequence[str] = (),
    started: float | None = None,
) -> Trainer:
    """Train an experiment and write its files into the run directory.

    Args:
        experiment: The experiment.
        run_dir: Directory of the run.
        ckpt_path: A checkpoint to resume from.
        checkpoint: The content of that checkpoint.
        choices: The chosen option of each configuration group; stored in checkpoints.
        overrides: Overrides of this command line and of earlier ones; stored in checkpoints.
        started: Start time of the run in seconds, minus the duration of earlier commands; None for the present time.

    Returns:
        The finished trainer.

    Raises:
        UserError: The checkpoint does not fit, or training fails for a reason that the user can fix.
    """
    run_dir, ckpt_path = expand_home(run_dir), expand_home(ckpt_path) if ckpt_path else None
    config, model, data, trainer = experiment.config, experiment.model, experiment.data, experiment.trainer
    before = checkpoint or {"global_step": 0, "hyper_parameters": {}}
    if ckpt_path:
        initial = copy.deepcopy(model)
        take_state(model, before["state_dict"], ckpt_path)  # raises a UserError; Lightning would end in a traceback
        check_training_state(initial, before, ckpt_path, config.force_resume)
    step, stored = before["global_step"], before["hyper_parameters"]
    if ckpt_path and stored.get("class_names"):
        names = validate_class_names(stored["class_names"], model.num_classes, ckpt_path)
        check_class_order(ckpt_path, names, model.class_names)
    hyper_parameters = {
        "config": experiment.settings,
        "choices": stored.get("choices", {}) | (choices or {}),
        "versions": runs.versions(),
        "class_names": sanitize_class_names(data.class_names),
        "overrides": list(overrides),
        "format_version": FORMAT_VERSION,
    }
    if error := form_error(
        hyper_parameters, HYPER_PARAMETERS, ""
    ):  # a checkpoint with this error could not be read again
        raise UserError(f"{error}, which a checkpoint cannot store")
    model.save_hyperparameters(hyper_parameters, logger=False)
    text = runs.begin(run_dir, config) if trainer.is_global_zero else ""
    for callback in trainer.callbacks:
        if isinstance(callback, Checkpoint) and started is not None:
            callback.started = started
    if trainer.is_global_zero:
        log_start(config, model, data, trainer.loggers, text, step)
        if ckpt_path:
            log_rate_changes(config_of(before), config, step)
    # Lightning sets this variable for programs that fork, which a run does not do. It makes torch load NVML to look for
    # GPUs in every optimizer step, which takes a tenth of the training time of small networks.
    os.environ.pop("PYTORCH_NVML_BASED_CUDA_CHECK", None)
    try:
        trainer.fit(model, data, ckpt_path=ckpt_path, weights_only=True)
    except MisconfigurationException as error:
        raise UserError(f"trainer: {error}") from error
    except ValueError as error:  # Lightning's TensorBoard logger wraps every error of add_scalar in one
        if isinstance(error.__cause__, OSError):
            raise error.__cause__ from None
        raise
    return trainer


@contextmanager
def restore_global_state() -> Iterator[None]:
    """Restore global settings that Lightning changes, so that each job of a sweep starts with the same settings."""
    environment, cudnn = dict(os.environ), torch.backends.cudnn
    deterministic, warn = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    before, dtype = (cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32), torch.get_default_dtype()
    matmul = torch.get_float32_matmul_precision()
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(environment)
        torch.use_deterministic_algorithms(deterministic, warn_only=warn)
        cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32 = before
        torch.set_float32_matmul_precision(matmul)
        torch.set_default_dtype(dtype)
