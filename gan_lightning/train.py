"""The command gan-train: validate the command line, compose the configuration, train.

What takes seconds to import (torch, Lightning) is imported when training is about to start, so that --help and
mistakes are answered at once.
"""

import logging
import math
import os
import signal
import sys
import threading
import time
import uuid
import warnings
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, chdir
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gan_lightning import run as runs
from gan_lightning.command_line import changes, check_command_line
from gan_lightning.config.validation import check, make_paths_absolute, nearest
from gan_lightning.errors import UserError, cannot_write, first_line
from gan_lightning.exit import show_unencodable, told_plainly
from gan_lightning.memory import LESS_MEMORY, is_lack_of_memory
from gan_lightning.paths import CONF, absolute_environment, shorter
from gan_lightning.signals import InterruptedBySignal, ended_by_signals
from gan_lightning.summary import again, conclude, stopped_by

log = logging.getLogger(__name__)

# Warnings of libraries that a user can do nothing about, each with what it is about.
NOT_FOR_USERS = (
    r".*does not have many workers",  # batches come from memory, without workers
    r".*LeafSpec.*is deprecated",  # Lightning's use of torch, https://github.com/pytorch/pytorch/issues/160818
    r".*Checkpoint directory .* exists and is not empty",  # a run that goes on
    r".*is smaller than the logging interval",  # our own callback logs
    r".*module\(s\) in eval mode",  # the averaged generator
    r".*callbacks used to create the checkpoint need to be provided",  # one that was left out on purpose
    r".*nn\.functional\.all_gather is deprecated",  # Lightning's use of torch
    r".*grad attribute of a Tensor that is not a leaf",  # torch.compile looks at its inputs so
)


def job(config: DictConfig, typed: list[str]) -> float | None:
    """One run, single or of a sweep; in a sweep a failure is recorded and the other jobs are run.

    Args:
        config: The composed configuration.
        typed: The command line, in which a checkpoint's configuration has not yet replaced any part.
    """
    # In a worker process of a sweep as well: errors of the log file are reported once, by the run itself.
    logging.raiseExceptions = False
    threading.excepthook = quiet
    with ended_by_signals(), runs.ending_with_parent():
        return run_job(config, typed)


def run_job(config: DictConfig, typed: list[str]) -> float | None:
    """Train, and write how that ended."""
    sys.argv[1:] = typed  # from which Lightning starts the other processes of this run
    settings = HydraConfig.get()
    run, sweeping = Path(settings.runtime.output_dir), settings.mode == RunMode.MULTIRUN
    original = Path(settings.runtime.cwd)
    if Path.cwd() == original:
        run = shorter(run)
    else:  # hydra.job.chdir=true: what was typed is relative to the directory of the command
        os.environ.setdefault("GAN_DATA_DIR", str(original / "data"))
    started, overrides = time.time(), list(settings.overrides.task)
    more = {"job": settings.job.num} if sweeping else {}
    status, error, ours, trainer, ended = 1, "", False, None, {}
    state = "failed"
    show_unencodable()  # in a worker process of a sweep as well

    def record(exit_status: int | None) -> bool:
        """Record the exit status of a sweep's job, None while it runs; return False where that is impossible."""
        if sweeping and runs.first_rank():
            try:
                runs.record_job(settings, Path(settings.runtime.output_dir), exit_status, error)
            except OSError as fault:
                log.error(cannot_write(fault))
                return False
        return True

    try:
        with warnings.catch_warnings(), ExitStack() as held:
            for pattern in NOT_FOR_USERS:
                warnings.filterwarnings("ignore", pattern)
            record(None)
            ckpt_path = shorter(Path(config.ckpt_path)) if config.ckpt_path else None
            held.enter_context(runs.claimed(run, sweeping or ckpt_path is not None))
            ours = True
            runs.write_printed()
            with chdir(original):
                make_paths_absolute(config)
            check(config)
            if sweeping:
                ckpt_path = begun(run, config)
            if ckpt_path is not None:
                from gan_lightning.checkpoint import history

                earlier, seconds = history(ckpt_path)
                overrides, started = runs.all_overrides(earlier, overrides), started - seconds
            if (done := finished(run, ckpt_path, config.trainer.max_steps)) is not None:
                log.info(f"nothing to do: finished before, at step {done['step']:,}: {run}")
                record(0)
                return done["metrics"].get(config.objective, math.nan) if config.objective else None
            from gan_lightning.fit import settings_put_back, train  # torch and Lightning take seconds

            held.enter_context(settings_put_back())
            choices = {group: c for group, c in settings.runtime.choices.items() if not group.startswith("hydra")}
            trainer = train(config, run, ckpt_path, choices, overrides=overrides, started=started)
            ended = conclude(config, trainer, run, started)
        status, reason = stopped_by(trainer)
        state = "interrupted" if status > 128 else "failed" if status else "stopped" if reason else "finished"
        if reason:
            error = f"stopped at step {trainer.global_step:,}: {reason}"
            log.info(f"{error}; to go on: {again(run, settings, typed, reason)}")
        if not status and config.objective and config.objective not in ended["metrics"]:
            near = nearest(config.objective, ended["metrics"])
            raise UserError(f"objective={config.objective}: the run has no such figure{near}")
    except UserError as fault:
        status, state, error = 1, "failed", str(fault)
        log.error(error)
    except (SystemExit, KeyboardInterrupt) as leaving:  # a signal before the first step, a second one, or one unheard
        status, error = left_by(leaving)
        state = "interrupted" if status > 128 else "failed"
        log.error(error)
    except OSError as fault:  # a full disk, a folder that somebody has removed
        error = f"{cannot_write(fault, str(run))}. The run ends here; its checkpoints of before are as they were"
        log.error(error)
    except Exception as fault:
        if is_lack_of_memory(fault):
            error = f"{LESS_MEMORY} ({first_line(fault)})"
            log.error(error)
        else:
            error = f"{type(fault).__name__}: {fault}"
            log.exception("this is a fault of gan-lightning's, or of a class that the configuration names:")
    if ours and runs.first_rank():
        reached = {"step": trainer.global_step, **ended} if ended else runs.last_figures(run)
        outcome = ({"error": error} if error else {}) | reached
        try:
            runs.write_result(run, state, started, overrides, **outcome, **more)
        except OSError as fault:
            status, error = status or 1, error or cannot_write(fault)
            log.error(cannot_write(fault))
    recorded = record(status)
    if status > 128 and trainer is not None:
        ask_again(trainer)
    if status and (not sweeping or status > 128):
        sys.exit(status)
    if status and not recorded:
        if runs.SweepTable.process != os.getpid():
            raise runs.JobFailedError(error)
        runs.SweepTable.failed += 1
    return ended.get("metrics", {}).get(config.objective, math.nan) if config.objective else None


def left_by(leaving: SystemExit | KeyboardInterrupt) -> tuple[int, str]:
    """Exit status of a run that was left, and the reason; Lightning, where it hears a signal itself, gives its own."""
    if isinstance(leaving, KeyboardInterrupt) or isinstance(leaving.__context__, KeyboardInterrupt):
        signum = signal.SIGINT
    elif leaving.code is None:
        signum = signal.SIGTERM
    elif isinstance(leaving, InterruptedBySignal):
        signum = signal.Signals(leaving.code - 128)
    else:
        return 1, f"stopped by what the configuration names ({leaving!r})"
    return 128 + signum, f"stopped by {signum.name}"


def begun(run: Path, config: DictConfig) -> Path | None:
    """The checkpoint that a job of a sweep finds of itself in its folder, to go on from.

    Raises:
        UserError: The folder holds another run, or nothing of it can be read.
    """
    if not any(run.glob("checkpoints/*.ckpt")):
        return None
    from gan_lightning.checkpoint import config_of, newest, read

    path, notes = newest(run)
    for note in notes:
        log.warning(note)
    if path is None:
        raise UserError(f"{run} holds checkpoints, but none that can be read")
    checkpoint = read(path)
    stored = config_of(checkpoint)
    make_paths_absolute(stored)
    now = OmegaConf.merge(config, {"found": stored.found, "run_dir": stored.run_dir})
    resolved = (OmegaConf.to_container(which, resolve=True) for which in (stored, now))
    told, faults = changes(*resolved, force=config.force)
    if faults:
        raise UserError(*faults)
    if finished(run, path, config.trainer.max_steps) is None:
        log.info("\n".join([f"going on from {path}, step {checkpoint['global_step']:,}", *told]))
    return path


def finished(run: Path, ckpt_path: Path | None, max_steps: int) -> dict[str, Any] | None:
    """The result of a run that would go on from the checkpoint of its end, and has no steps left to do."""
    result = runs.read_result(run)
    step, metrics = result.get("step"), result.get("metrics")
    whole = result.get("status") == "finished" and isinstance(step, int) and isinstance(metrics, dict)
    if ckpt_path is None or not whole or step < max_steps:
        return None
    from gan_lightning.callbacks.checkpoint import saved_step

    return result if saved_step(ckpt_path) == result["step"] else None


def ask_again(trainer: Any) -> None:
    """Let whoever started a job that makes room for another start it again."""
    from gan_lightning.callbacks.stop import Stop

    for guest in trainer.callbacks:
        if isinstance(guest, Stop) and trainer.is_global_zero:
            guest.ask_again()


def quiet(thread: threading.ExceptHookArgs) -> None:
    """Keep from the terminal that TensorBoard's thread could not write, which who writes next is told."""
    if not isinstance(thread.exc_value, OSError):
        threading.__excepthook__(thread)


def main() -> None:
    """The command: check everything that was typed, then hand over to Hydra."""
    with told_plainly("hydra.run.dir or, for a sweep, hydra.sweep.dir"):
        try:
            typed = sys.argv[1:]
            absolute_environment()
            name, sys.argv[1:] = check_command_line(typed)
            if "--multirun" in sys.argv:
                sys.argv.append(f"hydra.callbacks.sweep_table.sweep={uuid.uuid4().hex}")
            os.environ["HYDRA_FULL_ERROR"] = "1"  # so that Hydra raises what goes wrong, and we tell it

            def task(config: DictConfig) -> float | None:
                return job(config, typed)

            hydra.main(version_base="1.3", config_path=str(CONF), config_name=name)(task)()
        except runs.JobFailedError:
            sys.exit(1)
        except BrokenProcessPool as fault:
            raise UserError(
                f"a worker process of the sweep was killed ({first_line(fault)}). If the system was out of memory, use "
                "fewer workers: hydra.launcher.n_jobs=NUMBER. The same command with hydra.sweep.dir=FOLDER resumes it"
            ) from fault
        except (HydraException, OmegaConfBaseException) as fault:
            raise UserError(first_line(fault)) from fault
        except ValueError as fault:  # logging wraps what keeps it from opening the run's log
            if isinstance(fault.__cause__, OSError):
                raise fault.__cause__ from None
            raise
        finally:
            runs.SweepTable.tell()
    sys.exit(1 if runs.SweepTable.failed else 0)


if __name__ == "__main__":
    main()
