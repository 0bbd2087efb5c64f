"""Train a GAN: compose the configuration, build what it names, fit.

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
from collections.abc import Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, chdir, contextmanager
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gan_lightning import run as runs
from gan_lightning.class_names import checked, refuse_other_order, storable
from gan_lightning.command_line import changes, check_command_line
from gan_lightning.config import (
    check,
    how_to_import,
    make_paths_absolute,
    nearest,
    ranks_of,
    unknown_arguments,
    unshared,
    walk,
)
from gan_lightning.errors import UserError, cannot_write, first_line, show_unencodable, told_plainly
from gan_lightning.memory import LESS_MEMORY, is_lack_of_memory, refuse_too_large
from gan_lightning.paths import CONF, absolute_environment, shorter
from gan_lightning.signals import InterruptedBySignal, ended_by_signals
from gan_lightning.summary import again, conclude, introduce, log_rate_changes, stopped_by

log = logging.getLogger(__name__)

TYPED: list[str] = []  # the command line, before a checkpoint's configuration takes the place of a part of it
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


def train(
    config: DictConfig,
    run: Path,
    ckpt_path: Path | None = None,
    choices: dict[str, str] | None = None,
    guests: Sequence[Any] = (),
    overrides: Sequence[str] = (),
    started: float | None = None,
) -> Any:
    """Run one experiment in a folder and return the finished trainer.

    Args:
        config: The composed configuration; what the data turn out to be is filled in.
        run: The run's folder.
        ckpt_path: A checkpoint to go on from.
        choices: Options that the configuration was composed of, by group.
        guests: Callbacks besides those that the configuration names.
        overrides: Overrides of this command and of earlier ones; stored in checkpoints.
        started: When the run began, in seconds, moved back by the duration of earlier commands; None for now.

    Raises:
        UserError: Something that the user can mend.
    """
    import torch
    from pytorch_lightning import callbacks
    from pytorch_lightning.plugins.environments import SLURMEnvironment
    from pytorch_lightning.utilities.exceptions import MisconfigurationException

    from gan_lightning import seed as seeds
    from gan_lightning.callbacks.checkpoint import Checkpoint
    from gan_lightning.checkpoint import (
        WholeCheckpointIO,
        check_training_state,
        config_of,
        read,
        take_networks,
        take_state,
    )
    from gan_lightning.data.validate import check_module

    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)  # its news are told by our own callbacks
    logging.getLogger("pytorch_lightning.profilers").setLevel(logging.INFO)  # but a profile was asked for
    config.run_dir = str(run)
    if faults := unknown_arguments(config):
        raise UserError(*faults)
    refuse_missing_devices(config.trainer)
    data = build(config.data, "data")
    check_module(data)
    data.setup()
    config.found = {"shape": list(data.shape), "num_classes": data.num_classes}
    check(config)
    typed = OmegaConf.to_container(config)  # before building, which puts values in the place of references

    refuse_large_networks(config)
    torch.manual_seed(seeds.mix(config.seed, seeds.WEIGHTS))
    model = build(config.model, "model")
    if str(config.trainer.precision).startswith("64"):
        model.double()  # Lightning does so as well, but after it has put a checkpoint's weights in, and rounded them
    try:
        model.configure_optimizers()  # only to hear now what they have against their settings
    except (TypeError, ValueError, LookupError) as error:
        settings = " or ".join(f"model.{name}" for name in model.optimizer_fns)
        raise UserError(f"{settings}: {error}") from error
    names = storable(data.class_names)
    model.class_names = names if model.num_classes else []
    if config.init_from and not ckpt_path:
        take_networks(model, Path(config.init_from))
    before = read(ckpt_path) if ckpt_path else {"global_step": 0, "hyper_parameters": {}}
    if ckpt_path:
        take_state(model, before["state_dict"], ckpt_path)  # Lightning's own complaint would be a traceback
        check_training_state(model, before, ckpt_path)
    step, choices = before["global_step"], before["hyper_parameters"].get("choices", {}) | (choices or {})
    if stored := before["hyper_parameters"].get("class_names"):
        refuse_other_order(ckpt_path, checked(stored, model.num_classes, ckpt_path), model.class_names)
    kept = {"config": typed, "choices": choices, "versions": runs.versions(), "class_names": names}
    kept |= {"overrides": list(overrides)}
    model.save_hyperparameters(kept, logger=False)
    text = runs.begin(run, config) if runs.first_rank() else ""

    loggers = []
    for name, node in (config.get("logger") or {}).items():
        # A run that was killed before its first checkpoint has left figures as well.
        again = {"purge_step": step + bool(step)} if node["_target_"].endswith("TensorBoardLogger") else {}
        loggers.append(build(node, f"logger.{name}", **again))
    guests = [*guests] + [build(node, f"callbacks.{name}") for name, node in (config.get("callbacks") or {}).items()]
    for guest in guests:
        if isinstance(guest, Checkpoint) and started is not None:
            guest.started = started
    plugins: list[Any] = [WholeCheckpointIO()]
    if SLURMEnvironment.detect():
        plugins.append(SLURMEnvironment(auto_requeue=False))  # it would save in the middle of a step
    trainer = build(
        config.trainer,
        "trainer",
        callbacks=guests,
        logger=loggers,
        plugins=plugins,
        default_root_dir=str(run),
        max_epochs=-1,
        num_sanity_val_steps=0,
        # Lightning's EarlyStopping and ModelCheckpoint look at each evaluation, instead of at the end of all training.
        val_check_interval=1,
        check_val_every_n_epoch=None,
        use_distributed_sampler=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=any(isinstance(guest, callbacks.Checkpoint) for guest in guests),
    )
    if fault := unshared(config.data.batch_size, trainer.world_size):
        raise UserError(fault)
    refuse_unmeasured(config.objective, guests)
    if trainer.is_global_zero:
        introduce(config, model, data, loggers, text, step)
        if ckpt_path:
            log_rate_changes(config_of(before), config, step)
    # Lightning sets it for programs that fork, which we do not. With it torch opens a library to look for GPUs in every
    # step of an optimizer, a tenth of the time of small networks.
    os.environ.pop("PYTORCH_NVML_BASED_CUDA_CHECK", None)
    try:
        trainer.fit(model, data, ckpt_path=ckpt_path, weights_only=True)
    except MisconfigurationException as error:
        raise UserError(f"trainer: {error}") from error
    except ValueError as error:  # Lightning's TensorBoard logger wraps every error of add_scalar
        if isinstance(error.__cause__, OSError):
            raise error.__cause__ from None
        raise
    return trainer


def refuse_missing_devices(trainer: DictConfig) -> None:
    """Raise UserError where devices are chosen that this machine does not have."""
    import torch
    from pytorch_lightning.accelerators import CUDAAccelerator, MPSAccelerator, XLAAccelerator

    kinds = {"cuda": (CUDAAccelerator,), "mps": (MPSAccelerator,), "tpu": (XLAAccelerator,)}
    kinds["gpu"] = kinds["auto"] = kinds["cuda"] + kinds["mps"]
    name = str(trainer.accelerator)
    found = next((kind for kind in kinds.get(name, ()) if kind.is_available()), None)
    if found is None and name in kinds and name != "auto":
        built = torch.version.cuda or torch.version.hip
        advice = {
            "mps": "Apple's GPUs need macOS on Apple silicon",
            "tpu": "a TPU needs the package torch_xla",
        }.get(
            name,
            "nvidia-smi shows the GPUs that the driver finds, CUDA_VISIBLE_DEVICES hides some"
            if built
            else "this build of torch is for CPUs alone; https://pytorch.org/get-started/locally lists those for GPUs",
        )
        raise UserError(f"trainer.accelerator={name}: there is no such device; trainer=cpu, or: {advice}")
    if found is None:
        return
    there, wanted = found.auto_device_count(), trainer.devices
    listed = (
        [part for part in str(wanted).strip("[]").split(",") if part.strip()] if not isinstance(wanted, int) else []
    )
    numbers = [int(part) for part in listed if part.strip().isdecimal()]
    several = len(listed) > 1 or not isinstance(wanted, int | str)
    count = max(numbers, default=-1) + 1 if several else ranks_of(OmegaConf.create({"devices": wanted}))
    if count is not None and count > there:
        raise UserError(
            f"trainer.devices={wanted}: there {'is' if there == 1 else 'are'} {there}"
            f"{', numbered from 0' if several else ''}; trainer.devices={there}, or fewer"
        )


def refuse_unmeasured(objective: str | None, guests: Sequence[Any]) -> None:
    """Raise UserError where a score is the objective that the run is not going to have."""
    from gan_lightning.callbacks.evaluate import Evaluate

    if objective is None or not objective.startswith("eval/"):
        return
    known = [name for guest in guests if isinstance(guest, Evaluate) for name in guest.scores()]
    if not known:
        raise UserError(f"objective={objective}: nothing is measured in this run; eval.every_n_steps=NUMBER")
    if (name := objective.removeprefix("eval/")) not in known:
        raise UserError(f"objective={objective}: is not measured{nearest(name, known)}; there are {', '.join(known)}")


def refuse_large_networks(config: DictConfig) -> None:
    """Raise UserError where the weights or a minibatch are larger than memory, before any of it is allocated."""
    import torch

    each = 4 * (2 * math.prod(config.found.shape) + config.model.get("latent_dim", 0))  # a real one, a fake one
    refuse_too_large("data.batch_size: such minibatches", config.data.batch_size * each, "a smaller one")
    with torch.device("meta"):
        networks = build(config.model, "model")
    kinds = ("weight", "gradient", "two moments of the optimizer")
    weights = sum(parameter.nbytes for parameter in networks.parameters())
    refuse_too_large(
        f"network: {weights / 4e6:,.0f} M parameters ({', '.join(kinds)} each)", 4 * weights, "smaller ones"
    )


@contextmanager
def settings_put_back() -> Iterator[None]:
    """Put back what Lightning sets for the whole process, so that the next job of a sweep starts as the first did."""
    import torch

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


def build(node: DictConfig, key: str, **more: Any) -> Any:
    """What a section of the configuration describes.

    Raises:
        UserError: The class refuses its arguments, or a package that it needs is not installed.
    """
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate
    from pytorch_lightning.utilities.exceptions import MisconfigurationException

    try:
        return instantiate(node, _convert_="all", **more)
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, UserError):
            raise cause from None
        if isinstance(cause, ImportError | TypeError | ValueError | MisconfigurationException):
            if isinstance(cause, ImportError):
                targets = [str(part._value()) for path, part in walk(node) if path.endswith("_target_")]
                advice = how_to_import(cause, [target.partition(".")[0] for target in targets])
                raise UserError(f"{key}: a package is missing ({first_line(cause)}); {advice}") from error
            raise UserError(f"{key}: {' '.join(str(cause).split())}") from error
        if is_lack_of_memory(cause):
            raise UserError(f"{key}: too large for this machine ({first_line(cause)})") from error
        raise


def job(config: DictConfig) -> float | None:
    """One run, single or of a sweep; in a sweep a failure is written down and the others go on."""
    # In a worker process of a sweep as well: errors of the log file are reported once, by the run itself.
    logging.raiseExceptions = False
    threading.excepthook = quiet
    with ended_by_signals(), runs.ending_with_parent():
        return run_job(config)


def run_job(config: DictConfig) -> float | None:
    """Train, and write down how that ended."""
    sys.argv[1:] = TYPED or sys.argv[1:]  # from which Lightning starts the other processes of this run
    settings = HydraConfig.get()
    run, sweeping = Path(settings.runtime.output_dir), settings.mode == RunMode.MULTIRUN
    original = Path(settings.runtime.cwd)
    if Path.cwd() == original:
        run = shorter(run)
    else:  # hydra.job.chdir=true: what was typed is relative to the directory of the command
        os.environ.setdefault("GAN_DATA_DIR", str(original / "data"))
    started, typed = time.time(), list(settings.overrides.task)
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
                typed, started = runs.all_overrides(earlier, typed), started - seconds
            if (done := finished(run, ckpt_path, config.trainer.max_steps)) is not None:
                log.info(f"nothing to do: finished before, at step {done['step']:,}: {run}")
                record(0)
                return done["metrics"].get(config.objective, math.nan) if config.objective else None
            held.enter_context(settings_put_back())
            choices = {group: c for group, c in settings.runtime.choices.items() if not group.startswith("hydra")}
            trainer = train(config, run, ckpt_path, choices, overrides=typed, started=started)
            ended = conclude(config, trainer, run, started)
        status, reason = stopped_by(trainer)
        state = "interrupted" if status > 128 else "failed" if status else "stopped" if reason else "finished"
        if reason:
            error = f"stopped at step {trainer.global_step:,}: {reason}"
            log.info(f"{error}; to go on: {again(run, settings, TYPED, reason)}")
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
            runs.write_result(run, state, started, typed, **outcome, **more)
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
            TYPED[:] = sys.argv[1:]
            absolute_environment()
            name, sys.argv[1:] = check_command_line(TYPED)
            if "--multirun" in sys.argv:
                sys.argv.append(f"hydra.callbacks.sweep_table.sweep={uuid.uuid4().hex}")
            os.environ["HYDRA_FULL_ERROR"] = "1"  # so that Hydra raises what goes wrong, and we tell it
            hydra.main(version_base="1.3", config_path=str(CONF), config_name=name)(job)()
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
