"""Training and evaluation from Python, with the settings of the command line: ``gan_lightning.train`` and others."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning import Callback

from gan_lightning.callbacks.metric_logger import MetricLogger
from gan_lightning.config.compose import initialize_hydra, list_choices, quote_value
from gan_lightning.config.instantiate import instantiate
from gan_lightning.config.validation import check, make_paths_absolute
from gan_lightning.errors import UserError
from gan_lightning.evaluation.evaluator import Evaluator
from gan_lightning.evaluation.score import Score
from gan_lightning.io.paths import absolute
from gan_lightning.model.base import GenerativeModel
from gan_lightning.run import fit
from gan_lightning.run import run_dir as runs
from gan_lightning.run.checkpoint import history
from gan_lightning.run.command_line import check_command_line
from gan_lightning.run.recipe import print_choices
from gan_lightning.run.summary import exit_status_and_reason, log_summary
from gan_lightning.trainer import Trainer


def train(*overrides: str, run_dir: str | Path, callbacks: Sequence[Callback] = ()) -> Trainer:
    """Train as ``python train.py OVERRIDES hydra.run.dir=RUN_DIR`` does, and return the trainer.

    >>> trainer = gan_lightning.train("model=dcgan", "data=digits", "trainer.max_steps=500", run_dir="runs/digits")
    >>> trainer.callback_metrics["eval/precision"]  # a tensor; the scores of the last evaluation
    >>> gan_lightning.train("ckpt_path=last", "trainer.max_steps=1000", run_dir="runs/digits")  # resumes

    Args:
        *overrides: Settings ``KEY=VALUE`` and options ``GROUP=OPTION``, as on the command line, without quotes of the
            shell. ``ckpt_path=last`` resumes the run in ``run_dir``.
        run_dir: The run directory.
        callbacks: Callbacks besides those of the configuration.

    Returns:
        The trainer: ``trainer.lightning_module`` is the model, ``trainer.datamodule`` the data.

    Raises:
        UserError: With every invalid setting, before training starts; or training has failed for a reason that the
            user can fix.
    """
    folder, started = absolute(run_dir), time.time()
    config, choices, recipe = compose([*overrides, quote_value("hydra.run.dir", str(folder))])
    check(config)
    ckpt_path = Path(config.ckpt_path) if config.ckpt_path else None
    typed = [text for text in overrides if text.partition("=")[0] != "ckpt_path"]
    begun = started
    if ckpt_path is not None:
        earlier = history(ckpt_path)
        typed, recipe = runs.all_overrides(earlier.overrides, typed), earlier.recipe
        begun -= earlier.seconds
    with runs.lock_run_dir(folder, resuming=ckpt_path is not None), fit.restore_global_state():
        trainer = fit.train(config, folder, ckpt_path, choices, callbacks, typed, recipe, begun)
        outcome = log_summary(config, trainer, folder, started)
        status, reason = exit_status_and_reason(trainer)
        if trainer.is_global_zero:
            more: dict[str, Any] = {"error": reason} if reason else {}
            ended = "interrupted" if status > 128 else "failed" if status else "stopped" if reason else "finished"
            runs.write_result(folder, ended, begun, typed, **more, step=trainer.global_step, **outcome)
    return trainer


def evaluate(model: GenerativeModel, data: Any, *overrides: str) -> dict[str, Score]:
    """Return the scores of a model by name, measured as ``gan-evaluate`` measures them.

    >>> scores = gan_lightning.evaluate(model, data, "protocol=10k_test", "metric=[precision_recall]")
    >>> scores["precision"].value, scores["precision"].card

    Args:
        model: The model, on the device that generates and extracts features.
        data: The data module.
        *overrides: Settings of ``eval``, and options of ``protocol``, ``feature`` and ``metric``. Points need
            ``"feature=coordinates"``, ``"metric=modes"`` and ``"protocol=points"``.

    Returns:
        Scores of the available metrics, each with its value and protocol card.

    Raises:
        UserError: A setting is invalid, or the feature network or all metrics are unavailable.
    """
    config, _, _ = compose(overrides)
    data.setup()
    node = OmegaConf.create(OmegaConf.to_container(config.eval, resolve=True))
    for name in ("every_n_steps", "best_by"):
        node.pop(name, None)
    evaluator = Evaluator(instantiate(config.feature, "feature"), metrics_of(config), **node)
    evaluator.setup(data, model.num_classes > 0, model.device)
    scores = evaluator.score(evaluator.draw(model), evaluator.generation_card(model))
    return {score.name: score for score in scores}


def metrics_of(config: DictConfig) -> dict[str, Any]:
    """Return the metrics of a configuration by name."""
    return {str(name): instantiate(node, f"metric.{name}") for name, node in config.metric.items()}


def default_callbacks(*overrides: str) -> list[Callback]:
    """Return the callbacks of a run of the command line, for a :class:`~gan_lightning.trainer.Trainer` of your own.

    They log to ``metrics.csv``, draw samples, evaluate, save checkpoints and warn of failing training.

    >>> callbacks = gan_lightning.default_callbacks("eval.every_n_steps=200", "callbacks.checkpoint.keep=1")

    Args:
        *overrides: Settings of ``callbacks`` and ``eval``, and options of ``protocol``, ``feature`` and ``metric``, as
            on the command line; ``"~callbacks.progress"`` leaves one out.

    Raises:
        UserError: With every invalid setting.
    """
    config, _, _ = compose(overrides)
    check(config)
    found = [instantiate(node, f"callbacks.{name}") for name, node in (config.get("callbacks") or {}).items()]
    # MetricLogger is the first, to log a step before other callbacks may fail.
    return sorted(found, key=lambda callback: not isinstance(callback, MetricLogger))


def compose(overrides: Sequence[str]) -> tuple[DictConfig, dict[str, Any], list[str]]:
    """Validate overrides as the command line does, and compose the configuration.

    Returns:
        The configuration, the chosen option of each group, and the overrides that ``experiment=photos`` chose.

    Raises:
        UserError: With every error.
    """
    if flags := [text for text in overrides if text.startswith("-")]:
        raise UserError(*(f"{text}: is a flag of the command line; pass settings KEY=VALUE" for text in flags))
    name, words, _ = check_command_line([*overrides])
    if recipe := print_choices(name, words):
        name, words, _ = check_command_line([*recipe, *overrides])
    with initialize_hydra():
        composed = hydra.compose(name, words, return_hydra_config=True)
    choices = {group: choice for group, choice in composed.hydra.runtime.choices.items() if "hydra" not in group}
    choices |= list_choices(words)
    config = OmegaConf.masked_copy(composed, [key for key in composed if key != "hydra"])
    make_paths_absolute(config)
    return config, choices, recipe
