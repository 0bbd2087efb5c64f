"""The command gan-train: validate the command line, compose the configuration, train.

Modules that take seconds to import (torch, Lightning) are imported when training is about to start, so that --help and
validation errors appear at once.
"""

import logging
import math
import os
import signal
import sys
import threading
import time
import uuid
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, chdir, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gan_lightning.cli.exit import escape_unencodable, exit_on_error
from gan_lightning.config.compose import list_choices
from gan_lightning.config.validation import check, make_paths_absolute, suggest
from gan_lightning.errors import UserError, short_message, write_error_message
from gan_lightning.io.library_warnings import ignore_library_warnings
from gan_lightning.io.memory import is_out_of_memory, out_of_memory_message
from gan_lightning.io.paths import CONF, absolute_environment, relative_path
from gan_lightning.io.signals import InterruptedBySignal, ended_by_signals
from gan_lightning.run import run_dir as runs
from gan_lightning.run.command_line import check_command_line
from gan_lightning.run.recipe import EXPERIMENT, compose_with_choices, config_dir_of, print_choices
from gan_lightning.run.resume import compare_settings
from gan_lightning.run.summary import exit_status_and_reason, log_summary, resume_command
from gan_lightning.run.sweep import JobFailedError, Sweep, ending_with_parent

log = logging.getLogger(__name__)


@dataclass
class Outcome:
    """How a run ended.

    Attributes:
        exit_status: The exit status of the command.
        error: Why it ended before its budget.
        results: The final metrics with their protocol cards, see :func:`summary.log_summary`.
    """

    exit_status: int = 1
    error: str = ""
    results: dict[str, Any] = field(default_factory=dict)

    @property
    def status(self) -> str:
        """Return the run's status in ``result.json``."""
        if self.exit_status:
            return "interrupted" if self.exit_status > 128 else "failed"
        return "stopped" if self.error else "finished"


def run_job(
    config: DictConfig, argv: list[str], sweep: Sweep | None = None, recipe: Sequence[str] = ()
) -> float | None:
    """Train one run, alone or as a job of a sweep, in which a failed job is recorded and the others continue.

    Args:
        config: The composed configuration.
        argv: The command line as typed, without the configuration of a checkpoint.
        sweep: The sweep that the job belongs to.
        recipe: The overrides among those of a single run that the recipe of ``experiment=photos`` chose.

    Returns:
        The value of ``objective``; NaN where the run failed, None where there is no objective.
    """
    # Set here since worker processes of a sweep start here. The run itself reports errors of the log file, once.
    logging.raiseExceptions = False
    threading.excepthook = ignore_disk_errors
    escape_unencodable()
    with ended_by_signals(), ending_with_parent():
        return Job(config, argv, sweep, recipe).run()


class Job:
    """One run: it holds the run directory, trains and writes ``result.json``; arguments as of :func:`run_job`."""

    def __init__(self, config: DictConfig, argv: list[str], sweep: Sweep | None, recipe: Sequence[str]) -> None:
        self.config, self.argv, self.sweep = config, argv, sweep
        self.settings = HydraConfig.get()
        self.run_dir, self.original_dir = Path(self.settings.runtime.output_dir), Path(self.settings.runtime.cwd)
        self.started, self.recipe = time.time(), list(recipe)
        self.overrides = [text for text in self.settings.overrides.task if text not in self.recipe]
        self.choices: dict[str, Any] = self.settings.runtime.choices
        self.trainer: Any = None
        self.owns_directory = False  # whether the run directory is locked by this run

    def run(self) -> float | None:
        """Train, write and record the outcome; see :func:`run_job`."""
        sys.argv[1:] = self.argv  # Lightning starts the other processes of this run from it
        if Path.cwd() == self.original_dir:
            self.run_dir = relative_path(self.run_dir)
        else:  # hydra.job.chdir=true, and paths on the command line are relative to its own directory
            os.environ.setdefault("GAN_DATA_DIR", str(self.original_dir / "data"))
        try:
            outcome = self.train()
        except BaseException as error:
            outcome = self.log_failure(error)
        if self.owns_directory and runs.is_rank_zero():
            self.write_result(outcome)
        recorded = self.record(outcome.exit_status, outcome.error)
        if outcome.exit_status > 128 and self.trainer is not None:
            requeue(self.trainer)
        if outcome.exit_status and (self.sweep is None or outcome.exit_status > 128):
            sys.exit(outcome.exit_status)
        if outcome.exit_status and self.sweep is not None and not recorded:
            self.sweep.fail_without_record(outcome.error)
        objective = self.config.objective
        return outcome.results.get("metrics", {}).get(objective, math.nan) if objective else None

    def train(self) -> Outcome:
        """Train, from a checkpoint where there is one, and return how that ended."""
        config, settings = self.config, self.settings
        with ignore_library_warnings(), ExitStack() as held:
            self.record(None)
            ckpt_path = relative_path(Path(config.ckpt_path)) if config.ckpt_path else None
            held.enter_context(runs.lock_run_dir(self.run_dir, self.sweep is not None or ckpt_path is not None))
            self.owns_directory = True
            runs.write_deferred_lines()
            if self.sweep is not None and self.choices.get("experiment") == EXPERIMENT:
                config = self.config = self.apply_recipe()
            with chdir(self.original_dir):
                make_paths_absolute(config)
            check(config)
            if self.sweep is not None:
                ckpt_path = find_resume_checkpoint(self.run_dir, config)
            if ckpt_path is not None:
                from gan_lightning.run.checkpoint import history

                earlier = history(ckpt_path)
                self.overrides = runs.all_overrides(earlier.overrides, self.overrides)
                self.recipe, self.started = earlier.recipe, self.started - earlier.seconds
            if (done := finished(self.run_dir, ckpt_path, config.trainer.max_steps)) is not None:
                log.info(f"nothing to do: finished before, at step {done['step']:,}: {self.run_dir}")
                self.owns_directory = False  # its result stays as it is
                return Outcome(0, results={"metrics": done["metrics"]})
            from gan_lightning.run.fit import restore_global_state, train  # torch and Lightning take seconds

            held.enter_context(restore_global_state())
            choices = {group: c for group, c in self.choices.items() if not group.startswith("hydra")}
            choices |= list_choices(settings.overrides.task)
            stored = {"overrides": self.overrides, "recipe": self.recipe}
            self.trainer = train(config, self.run_dir, ckpt_path, choices, started=self.started, **stored)
            results = log_summary(config, self.trainer, self.run_dir, self.started)
        exit_status, reason = exit_status_and_reason(self.trainer)
        outcome = Outcome(exit_status, results=results)
        if reason:
            outcome.error = f"stopped at step {self.trainer.global_step:,}: {reason}"
            log.info(f"{outcome.error}; to resume: {resume_command(self.run_dir, settings, self.argv, reason)}")
        if not exit_status and config.objective and config.objective not in results["metrics"]:
            near = suggest(config.objective, results["metrics"])
            message = f"objective={config.objective}: the run has no such metric{near}"
            log.error(message)
            outcome = Outcome(error=message, results=results)
        return outcome

    def apply_recipe(self) -> DictConfig:
        """Return the configuration of a sweep's job with the recipe's choices, or with those of its checkpoint."""
        stored = None
        if any(self.run_dir.glob("checkpoints/*.ckpt")):
            from gan_lightning.run.checkpoint import history, newest

            path, _, _ = newest(self.run_dir)
            stored = history(path).recipe if path else None
        with chdir(self.original_dir):
            config, self.choices, self.recipe = compose_with_choices(
                self.overrides, str(self.settings.job.config_name), config_dir_of(self.settings), stored
            )
        return config

    def log_failure(self, error: BaseException) -> Outcome:
        """Log an exception, and return how it ended the run. Called while it is handled."""
        exit_status = 1
        if isinstance(error, UserError):
            message = str(error)
        elif isinstance(error, SystemExit | KeyboardInterrupt):  # a signal before the first step, a second signal
            exit_status, message = exit_reason(error)
        elif isinstance(error, OSError):  # a full disk, a removed directory
            message = (
                f"{write_error_message(error, str(self.run_dir))}. The run ends; its earlier checkpoints are intact"
            )
        elif is_out_of_memory(error):
            message = out_of_memory_message(error)
        else:
            log.exception("unexpected error in gan-lightning or in a user-supplied class:")
            return Outcome(error=f"{type(error).__name__}: {error}")
        log.error(message)
        return Outcome(exit_status, message)

    def write_result(self, outcome: Outcome) -> None:
        """Write ``result.json``; a disk error is logged and becomes the outcome's."""
        reached = (
            {"step": self.trainer.global_step, **outcome.results}
            if outcome.results
            else runs.last_metrics(self.run_dir)
        )
        reached |= {"job": self.settings.job.num} if self.sweep is not None else {}
        more: dict[str, Any] = {"error": outcome.error} if outcome.error else {}
        more |= {"recipe": self.recipe} if self.recipe else {}
        try:
            runs.write_result(self.run_dir, outcome.status, self.started, self.overrides, **more, **reached)
        except OSError as error:
            log.error(write_error_message(error))
            outcome.exit_status, outcome.error = outcome.exit_status or 1, outcome.error or write_error_message(error)

    def record(self, exit_status: int | None, error: str = "") -> bool:
        """Record the exit status of a sweep's job, None while it runs; return False where that is impossible."""
        if self.sweep is not None and runs.is_rank_zero():
            try:
                self.sweep.record(self.settings, Path(self.settings.runtime.output_dir), exit_status, error)
            except OSError as disk_error:
                log.error(write_error_message(disk_error))
                return False
        return True


def exit_reason(error: SystemExit | KeyboardInterrupt) -> tuple[int, str]:
    """Return the exit status and the reason of a run that an exception ended, of Lightning's signal handlers too."""
    if isinstance(error, KeyboardInterrupt) or isinstance(error.__context__, KeyboardInterrupt):
        signum = signal.SIGINT
    elif error.code is None:
        signum = signal.SIGTERM
    elif isinstance(error, InterruptedBySignal):
        signum = signal.Signals(error.code - 128)
    else:
        return 1, f"stopped by what the configuration names ({error!r})"
    return 128 + signum, f"stopped by {signum.name}"


def find_resume_checkpoint(run_dir: Path, config: DictConfig) -> Path | None:
    """Return the checkpoint from which a job of a sweep is resumed; None where its run directory has none.

    Raises:
        UserError: The directory holds another run, or checkpoints of which none can be read.
    """
    if not any(run_dir.glob("checkpoints/*.ckpt")):
        return None
    from gan_lightning.run.checkpoint import config_of, newest

    path, notes, checkpoint = newest(run_dir)
    for note in notes:
        log.warning(note)
    if path is None or checkpoint is None:
        raise UserError(f"{run_dir} holds checkpoints, but none that can be read")
    stored = config_of(checkpoint)
    make_paths_absolute(stored)
    now = OmegaConf.merge(config, {"data_info": stored.data_info, "run_dir": stored.run_dir})
    before, after = (OmegaConf.to_container(which, resolve=True) for which in (stored, now))
    notes, errors = compare_settings(before, after, force_resume=config.force_resume)
    if errors:
        raise UserError(*errors)
    if finished(run_dir, path, config.trainer.max_steps) is None:
        log.info("\n".join([f"resuming from {path}, step {checkpoint['global_step']:,}", *notes]))
    return path


def finished(run_dir: Path, ckpt_path: Path | None, max_steps: int) -> dict[str, Any] | None:
    """Return the result of a finished run that would be resumed from its last step with no steps left; else None."""
    result = runs.read_result(run_dir)
    step: Any = result.get("step")
    metrics = result.get("metrics")
    complete = result.get("status") == "finished" and isinstance(step, int) and isinstance(metrics, dict)
    if ckpt_path is None or not complete or step < max_steps:
        return None
    from gan_lightning.callbacks.checkpoint import saved_step

    return result if saved_step(ckpt_path) == result["step"] else None


def requeue(trainer: Any) -> None:
    """Request the scheduler that preempted the job to start it again."""
    from gan_lightning.callbacks.graceful_stop import GracefulStop

    for callback in trainer.callbacks:
        if isinstance(callback, GracefulStop) and trainer.is_global_zero:
            callback.requeue()


def ignore_disk_errors(thread: threading.ExceptHookArgs) -> None:
    """Suppress OSErrors of TensorBoard's writer thread; the next write of the main thread reports them."""
    if not isinstance(thread.exc_value, OSError):
        threading.__excepthook__(thread)


def main() -> None:
    """Validate the whole command line, then train, or run a sweep, through Hydra."""
    argv, sweep = sys.argv[1:], None
    with exit_on_error("hydra.run.dir or, for a sweep, hydra.sweep.dir"):
        try:
            absolute_environment()
            name, sys.argv[1:], sweep_dir = check_command_line(argv)
            if recipe := print_choices(name, sys.argv[1:]):
                argv = [*recipe, *argv]  # also for the other processes of this run
                name, sys.argv[1:], _ = check_command_line(argv)
            sweep = Sweep(sweep_dir, uuid.uuid4().hex) if sweep_dir else None
            os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises errors instead of printing them

            def task(config: DictConfig) -> float | None:
                return run_job(config, argv, sweep, recipe)

            with sweep.run() if sweep else nullcontext():
                hydra.main(version_base="1.3", config_path=str(CONF), config_name=name)(task)()
        except JobFailedError:
            sys.exit(1)
        except BrokenProcessPool as error:
            raise UserError(
                f"a worker process of the sweep was killed ({short_message(error)}). If the system was out of memory, "
                "use fewer workers: hydra.launcher.n_jobs=NUMBER. The same command with hydra.sweep.dir=FOLDER "
                "resumes it"
            ) from error
        except (HydraException, OmegaConfBaseException) as error:
            raise UserError(short_message(error)) from error
        except ValueError as error:  # logging wraps the error of opening the run's log
            if isinstance(error.__cause__, OSError):
                raise error.__cause__ from None
            raise
    sys.exit(1 if sweep and sweep.failed else 0)


if __name__ == "__main__":
    main()
