"""Log messages at the start and at the end of a run, TensorBoard's configuration and HParams, the resume command."""

import logging
import math
import shlex
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from gan_lightning.config.nodes import flatten
from gan_lightning.config.recipe import FEW_IMAGES
from gan_lightning.io.class_names import sanitize_class_names
from gan_lightning.io.files import add_path_to_errors
from gan_lightning.io.paths import relative_path
from gan_lightning.schedule import SCHEDULES

log = logging.getLogger(__name__)


def log_start(config: DictConfig, model: Any, data: Any, trainer: Any, text: str, step: int) -> None:
    """Log the model, the data and the network sizes; write the configuration to TensorBoard, again for a resumed run.

    Args:
        config: The resolved configuration.
        model: The model.
        data: The data module.
        trainer: The trainer.
        text: The configuration as YAML.
        step: The step at which the run starts or resumes.
    """
    from pytorch_lightning.loggers import TensorBoardLogger

    sizes = {name: sum(p.numel() for p in network.parameters()) for name, network in model.networks().items()}
    shape, classes = " x ".join(map(str, data.shape)), f", {data.num_classes} classes" if data.num_classes else ""
    log.info(f"{type(model).__name__} on {len(data.samples):,} samples of {shape}{classes}")
    log.info(", ".join(f"{name} {size / 1e6:.2f} M parameters" for name, size in sizes.items()))
    few = len(data.shape) == 3 and len(data.samples) < FEW_IMAGES
    if few and getattr(model, "augment", ...) is None:  # a model without a discriminator has no augmentation
        log.info(
            f"{len(data.samples):,} images: with fewer than {FEW_IMAGES:,}, a discriminator tends to memorize them, "
            "which augment=diffaugment or augment=ada prevents"
        )
    if line := batchnorm_change(model, trainer.micro_batch, config.data.batch_size // trainer.world_size):
        log.info(line)
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            name_event_files(logger)
            logger.experiment.add_text("config", f"```yaml\n{text}\n```", step + 1 if step else 0)


def batchnorm_change(model: Any, micro_batch: int | None, minibatch: int) -> str:
    """Return a line on the change that micro batches make to BatchNorm; "" if they make none.

    Args:
        model: The model.
        micro_batch: Number of samples whose gradients are computed at once; None for all of them.
        minibatch: Number of samples of a minibatch on each device.
    """
    from gan_lightning.model.ema import has_batchnorm

    names = ", ".join(name for name, network in model.networks().items() if has_batchnorm(network))
    if not names or micro_batch is None or micro_batch >= minibatch * getattr(model, "generator_batch_multiplier", 1):
        return ""
    return (
        f"trainer.micro_batch={micro_batch}: BatchNorm ({names}) uses the statistics of each micro batch instead of "
        "those of the whole minibatch, and updates its running statistics once for each"
    )


def name_event_files(logger: Any) -> None:
    """Add the directory of a TensorBoard logger to its disk errors.

    TensorBoard's thread writes to an open file, and another call raises the error later: a flush, a scalar, or the
    close at the end of the run, which Lightning calls.
    """
    writer = logger.experiment.file_writer.event_writer
    for name in ("add_event", "flush", "close"):
        setattr(writer, name, add_path_to_errors(Path(logger.log_dir))(getattr(writer, name)))


def log_rate_changes(before: DictConfig, config: DictConfig, step: int) -> None:
    """Log each change of a learning rate when a run is resumed with another budget, schedule or rate.

    A schedule is a function of step / budget, so a larger budget changes the rate at the same step.

    Args:
        before: The configuration of the checkpoint.
        config: The configuration of the resumed run.
        step: The step at which it is resumed.
    """
    last, expected, now = rates_at(before, step - 1), rates_at(before, step), rates_at(config, step)
    for name, rate in now.items():
        if name in expected and not math.isclose(rate, expected[name], rel_tol=1e-9, abs_tol=0):
            log.info(
                f"{name}: {last[name]:.4g} at step {step:,}, {rate:.4g} at step {step + 1:,}, since the budget, the "
                "schedule or the rate was changed"
            )


def rates_at(config: DictConfig, step: int) -> dict[str, float]:
    """Return the learning rates of the update after a step, by the keys that set them."""
    name = OmegaConf.select(config, "callbacks.learning_rate.schedule", default=None)
    if name is None:  # without this callback the rates of the checkpoint are used
        return {}
    factor = SCHEDULES[name](min(step / config.trainer.max_steps, 1.0)) if name in SCHEDULES else 1.0
    keys = [key for key in config.model if str(key).endswith("optimizer")]
    rates = {f"model.{key}.lr": OmegaConf.select(config, f"model.{key}.lr", default=None) for key in keys}
    return {key: rate * factor for key, rate in rates.items() if isinstance(rate, int | float)}


def log_summary(config: DictConfig, trainer: Any, run: Path, started: float) -> dict[str, dict[str, Any]]:
    """Log the summary of a run, and its final metrics to TensorBoard's HParams; return what ``result.json`` records.

    Args:
        config: The resolved configuration.
        trainer: The trainer, after the fit.
        run: The run directory.
        started: Time at which the command started, in seconds since the epoch.

    Returns:
        The last ``metrics``, the ``cards`` (hashes of the protocol cards of the scores), ``notes`` on the evaluation
        and ``class_names``.
    """
    from pytorch_lightning.loggers import TensorBoardLogger

    from gan_lightning.callbacks.evaluate import Evaluate
    from gan_lightning.callbacks.metric_logger import MetricLogger
    from gan_lightning.callbacks.monitor import TrainingMonitor

    metrics = next((dict(callback.last) for callback in trainer.callbacks if isinstance(callback, MetricLogger)), {})
    evaluate = next((callback for callback in trainer.callbacks if isinstance(callback, Evaluate)), None)
    scores = evaluate.last(trainer.global_step) if evaluate else {}
    metrics |= {f"eval/{name}": value for name, (value, _) in scores.items()}
    outcome: dict[str, Any] = {"metrics": metrics}
    outcome |= {"cards": {f"eval/{name}": card for name, (_, card) in scores.items()}}
    outcome |= {"notes": evaluate.notes()} if evaluate and scores and evaluate.notes() else {}
    outcome |= {"class_names": names} if (names := sanitize_class_names(trainer.datamodule.class_names)) else {}
    if not trainer.is_global_zero:
        return outcome
    for logger in trainer.loggers:
        if metrics and isinstance(logger, TensorBoardLogger):
            # The HParams tab compares runs by these. Their names differ from those of the curves, which get no point.
            card_of = {name: f"_{card[:6]}" for name, card in outcome["cards"].items()}
            final = {f"final/{name}{card_of.get(name, '')}": value for name, value in metrics.items()}
            # Logged after the last step, so that a resumed run removes them.
            logger.log_hyperparams(flat_settings(config), final, trainer.global_step + 1)
            logger.save()
    step, seconds = trainer.global_step, time.time() - started
    images = step * trainer.datamodule.batch_size * trainer.lightning_module.d_steps
    log.info(f"\n{step:,} generator steps, {images:,} images seen, {int(seconds // 60)} min {seconds % 60:.0f} s")
    if metrics:
        names = [name for name in metrics if name != "images_seen" and not name.startswith("eval/")]
        log.info("  ".join(f"{name} {metrics[name]:.4g}" for name in names))
    if scores:
        log.info("  ".join(f"{name} {value:.4g}" for name, (value, _) in scores.items()))
    for line in evaluate.summary(seconds) if evaluate else []:
        log.info(line)
    for monitor in (callback for callback in trainer.callbacks if isinstance(callback, TrainingMonitor)):
        for line in monitor.warnings:
            log.info(f"health  {line}")
    last = run / "samples" / f"step_{step:08d}.png"
    checkpoint = run / "checkpoints" / "last.ckpt"
    files = {"samples": last, "timeline": last.with_name("timeline.png"), "animation": last.with_name("training.gif")}
    for name, path in (files | {"checkpoint": checkpoint}).items():
        if path.exists():
            log.info(f"{name:<12}{path}")
    if checkpoint.exists():
        log.info(f"{'more':<12}{program('gan-sample')} {shlex.quote(str(checkpoint))} --num 64 --out samples.png")
    if any(isinstance(logger, TensorBoardLogger) for logger in trainer.loggers):
        log.info(f"{'TensorBoard':<12}{program('tensorboard')} --logdir {shlex.quote(str(run.parent))}")
    return outcome


def flat_settings(config: DictConfig) -> dict[str, Any]:
    """Return the settings that runs are compared by, as a flat dictionary with dotted keys."""
    plain = OmegaConf.to_container(config, resolve=True)
    sections = ("model", "loss", "network", "data", "trainer", "seed")
    networks = ("model.generator.", "model.discriminator.", "model.encoder.")
    return {
        key: value if isinstance(value, bool | int | float | str) else str(value)
        for key, value in flatten({name: plain[name] for name in sections if name in plain})
        if not key.startswith(networks)
    }


def exit_status_and_reason(trainer: Any) -> tuple[int, str]:
    """Return the exit status of a run and the reason why it ended early; 0 and "" if it reached its budget.

    The status is 128 + the number of the signal that stopped the run, 1 if a warning of the TrainingMonitor stopped it,
    and 0 for a time limit, early stopping or another callback.
    """
    from pytorch_lightning.callbacks import EarlyStopping as LightningEarlyStopping
    from pytorch_lightning.callbacks import Timer

    from gan_lightning.callbacks.early_stopping import EarlyStopping
    from gan_lightning.callbacks.graceful_stop import GracefulStop
    from gan_lightning.callbacks.monitor import TrainingMonitor

    signum = next((callback.signum for callback in trainer.callbacks if isinstance(callback, GracefulStop)), 0)
    warning = next((callback.stopped for callback in trainer.callbacks if isinstance(callback, TrainingMonitor)), "")
    if warning:
        return 1, warning
    if trainer.global_step >= trainer.max_steps:
        return 0, ""
    if signum:
        return 128 + signum, signal.Signals(signum).name
    for callback in trainer.callbacks:
        if isinstance(callback, Timer) and (left := callback.time_remaining()) is not None and left <= 0:
            return 0, "trainer.max_time has passed"
        if isinstance(callback, EarlyStopping) and callback.reason:
            return 0, callback.reason
        if isinstance(callback, LightningEarlyStopping) and callback.stopping_reason_message:
            return 0, " ".join(callback.stopping_reason_message.split())
    return 0, "a callback set trainer.should_stop"


def resume_command(run: Path, settings: DictConfig, overrides: list[str], reason: str = "") -> str:
    """Return the command that resumes a run, or the sweep that it belongs to.

    Args:
        run: The run directory.
        settings: Hydra's own configuration.
        overrides: The overrides of the command line that started it.
        reason: Why it ended, see :func:`exit_status_and_reason`; a time limit applies to all commands together, so
            the command removes it.
    """
    remove_limit = reason.startswith("trainer.max_time")
    script = Path(sys.argv[0])
    start = f"{program('python')} {shlex.quote(str(script))}" if script.suffix == ".py" else program("gan-train")
    if settings.mode != RunMode.MULTIRUN:
        limit = " trainer.max_time=null" * remove_limit
        return f"{start} ckpt_path=last {quote_override(f'hydra.run.dir={run}')}{limit}"
    removed = "hydra.sweep.dir=", *["trainer.max_time="] * remove_limit
    kept = [override for override in overrides if not override.lstrip("+").startswith(removed)] or ["-m", "..."]
    return f"{start} {shlex.join(kept)} {quote_override(f'hydra.sweep.dir={relative_path(Path(settings.sweep.dir))}')}"


def program(name: str) -> str:
    """Return how to call a command of this Python environment; with its path if the environment is not activated."""
    folder = Path(sys.executable).parent
    found = shutil.which(name)
    if found and Path(found).absolute().parent == folder:
        return name
    own = shutil.which(name, path=folder) or (sys.executable if name == "python" else None)
    return shlex.quote(str(relative_path(Path(own)))) if own else name


def quote_override(override: str) -> str:
    """Quote an override for the shell and Hydra if its value has special characters, as a sweep's directory has."""
    key, _, value = override.partition("=")
    if not set(value) & set("=,{}[]():'\"$ \\"):
        return override
    escaped = value.replace("'", "\\'")
    return shlex.quote(f"{key}='{escaped}'")
