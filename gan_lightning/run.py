"""Run directories: lock, ``config.yaml`` and ``result.json``, search for runs; and the table of a sweep."""

import csv
import hashlib
import json
import logging
import multiprocessing
import os
import platform
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from gan_lightning import csv_rows
from gan_lightning.card import installed
from gan_lightning.data.natural import natural
from gan_lightning.errors import UserError, cannot_write, first_line, printable
from gan_lightning.files import directories, locked, read_json, remove_parts, set_aside, whole
from gan_lightning.paths import shorter
from gan_lightning.signals import available

RESULT_BYTES = 1 << 20  # maximum size of a result.json


def folder_name(overrides: str) -> str:
    """Return the name of a sweep job's directory: its overrides, without slashes, and shortened for the file system."""
    name = overrides.replace("/", "_") or "defaults"
    return name if len(name) <= 150 else f"{name[:140]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


log = logging.getLogger(__name__)

printed: list[str] = []  # lines that were printed before the run's log file is opened


OmegaConf.register_new_resolver("folder_name", folder_name, replace=True)


@contextmanager
def claimed(folder: Path, resuming: bool) -> Iterator[None]:
    """Create a run directory if it does not exist, and hold its lock for the duration of the run.

    Args:
        folder: The run directory.
        resuming: Whether a run in it is resumed.

    Raises:
        UserError: The directory contains another run, is in use by a running one, or cannot be written.
    """
    if not resuming and any(folder.glob("checkpoints/*.ckpt")):
        raise UserError(
            f"hydra.run.dir={folder}: contains another run; add ckpt_path=last to resume it, or choose another folder"
        )

    def refuse() -> None:
        raise UserError(f"hydra.run.dir={folder}: in use by a running process; stop it first, or choose another folder")

    with ExitStack() as held:
        if first_rank():
            try:
                folder.mkdir(parents=True, exist_ok=True)
                with whole(folder / ".writable"):
                    pass
                (folder / ".writable").unlink()
            except OSError as error:
                raise UserError(f"{folder}: cannot be written ({error.strerror})") from error
            with suppress(OSError):  # the file system may have no locks
                held.enter_context(locked(folder, refuse))
            for path in (folder, folder / "checkpoints", folder / "samples"):
                remove_parts(path)
        yield


def first_rank() -> bool:
    """Return whether this process has rank zero, by the environment variables that launchers set for the others."""
    return not any(int(os.environ.get(name, 0)) for name in ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID"))


def folders(root: Path, omit: Callable[[str], None] = log.warning) -> list[Path]:
    """Return the run directories in a directory, which may be one itself, in natural order.

    A directory below a run is only a run if it has a run's files, since a logger may write another ``config.yaml``.

    Args:
        root: Directory to search. Links are not followed, and the depth and the number of entries are bounded.
        omit: Called with a message for each part that was not searched.
    """
    found = {folder for folder, names in directories(root, omit) if "config.yaml" in names}
    nested = {run for run in found if any(parent in found for parent in run.parents)}
    marks = "checkpoints", "metrics.csv", "result.json"
    runs = [run for run in found if run not in nested or any((run / mark).exists() for mark in marks)]
    return sorted(runs, key=natural_path)


def files_named(root: Path, name: str, omit: Callable[[str], None] = log.warning) -> list[Path]:
    """Return the files with a name in a directory and below it, in natural order; searched as in :func:`folders`."""
    found = [folder / name for folder, names in directories(root, omit) if name in names]
    return sorted(found, key=natural_path)


def natural_path(path: Path) -> list[Any]:
    """Return the sort key of a path in natural order: ``seed=10`` comes after ``seed=9``."""
    return [natural(part) for part in path.parts]


def begin(folder: Path, config: DictConfig) -> str:
    """Write the resolved ``config.yaml`` and return its text; remove ``result.json`` of an earlier part of the run."""
    text = OmegaConf.to_yaml(config, resolve=True)
    for name in ("config.yaml", "result.json"):
        set_aside(folder / name)
    with whole(folder / "config.yaml", "w") as file:
        file.write(text)
    (folder / "result.json").unlink(missing_ok=True)
    return text


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that results depend on."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    packages = "gan-lightning", "torch", "torchvision", "pytorch-lightning", "hydra-core", "numpy"
    return found | {package: installed(package) for package in packages}


def write_result(folder: Path, status: str, started: float, overrides: list[str], **more: Any) -> None:
    """Write ``result.json``: status, final metrics, duration, overrides and versions."""
    result = {"status": status, **more, "duration_s": round(time.time() - started, 1)}
    result |= {"overrides": overrides, "versions": versions()}
    with whole(folder / "result.json", "w") as file:
        json.dump(result, file, indent=2)


def read_result(run: Path) -> dict[str, Any]:
    """Return the content of ``result.json``; an empty dictionary if it is missing or damaged."""
    with suppress(OSError, ValueError, TypeError, OverflowError):
        return load_result(run)
    return {}


def load_result(run: Path) -> dict[str, Any]:
    """Read and validate a run's ``result.json``, which other programs may have changed.

    Raises:
        OSError: It is missing or cannot be read.
        ValueError, TypeError, OverflowError: It is not the result of a run.
    """
    kinds = {"overrides": list, "status": str, "metrics": dict, "cards": dict, "duration_s": int | float, "error": str}
    found = read_json(run / "result.json", run, RESULT_BYTES)
    if not (isinstance(found, dict) and "status" in found):
        raise ValueError("not the result of a run")
    if wrong := [key for key, kind in kinds.items() if key in found and not isinstance(found[key], kind)]:
        raise ValueError(f"{wrong[0]} has another type")
    texts = {*found.get("overrides", []), *found.get("cards", {}).values()}
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("overrides or cards are not strings")
    metrics = {name: float(value) for name, value in found.get("metrics", {}).items()}
    if not metrics.keys() >= found.get("cards", {}).keys():
        raise ValueError("a score lacks its value")
    return found | {"metrics": metrics} if "metrics" in found else found


def last_figures(folder: Path) -> dict[str, Any]:
    """Return the step and the metrics of the last intact line of ``metrics.csv``, for the result of a failed run."""
    try:
        _, rows, _ = csv_rows.parse((folder / "metrics.csv").read_bytes().decode("utf-8", errors="replace"))
    except OSError:
        return {}
    if not rows:
        return {}
    step = rows[-1].pop("step")
    return {"step": int(step), "metrics": {name: float(value) for name, value in rows[-1].items() if value}}


def all_overrides(earlier: Iterable[str], typed: Iterable[str]) -> list[str]:
    """Return the overrides of all commands of a run; of equal ones the last is kept, as later ones take precedence."""
    return [*reversed(dict.fromkeys(reversed([*earlier, *typed])))]


def write_printed() -> None:
    """Write lines that were printed before the log files were opened to these; the terminal has them already."""
    for line in printed:
        record = log.makeRecord(log.name, logging.INFO, __file__, 0, line, (), None)
        for handler in logging.getLogger().handlers:
            if isinstance(handler, logging.FileHandler):
                handler.handle(record)
    printed.clear()


class JobFailedError(Exception):
    """A sweep job in another process could not record its outcome, for example on a full disk."""


orphaned, running = threading.Event(), threading.Event()  # the parent process has died; a job is running


@contextmanager
def ending_with_parent() -> Iterator[None]:
    """End the worker process of a sweep if its parent process dies, as after ``kill -9``.

    The running job gets a signal, so that it saves a checkpoint. Without this, workers would continue with the
    remaining jobs and hold the locks of their directories. It has no effect outside of joblib's workers, or on Windows,
    where a process keeps the number of a dead parent.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        yield
        return

    def watch() -> None:
        while os.getppid() == parent.pid:
            time.sleep(1)
        orphaned.set()
        if running.is_set():
            # This process may have received the parent's signal too, and a second SIGTERM would end it within a step.
            os.kill(os.getpid(), available("SIGXCPU", "SIGTERM")[0])
        else:
            os._exit(1)

    running.set()
    if not any(thread.name == "ending_with_parent" for thread in threading.enumerate()):
        threading.Thread(target=watch, name="ending_with_parent", daemon=True).start()
    try:
        yield
    finally:
        running.clear()
        if orphaned.is_set():  # the result is not used, and the next job must not start
            logging.shutdown()
            os._exit(128 + signal.SIGTERM)


class SweepTable(Callback):
    """Hydra callback that prints the outcomes of a sweep's runs and writes them to ``sweep.csv``.

    Each job records its outcome in a file in the sweep's directory, since jobs may run in other processes or on other
    machines, and their run directories may be anywhere.

    Args:
        sweep: Identifier of this sweep, under which its jobs record their outcomes.

    Attributes:
        records: The directory of the records; None while no sweep is running.
        process: The process that started the sweep.
        failed: Number of jobs that failed, for the exit status.
        held: The lock of the records, which shows other sweeps that this one is running.
    """

    folder, process, failed = Path(), 0, 0
    records: Path | None = None
    held = ExitStack()

    def __init__(self, sweep: str = "") -> None:
        self.sweep = sweep

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Store absolute directories, since ``hydra.job.chdir=true`` changes the current one, and lock the records.

        Records of killed sweeps, whose locks are free, are removed.
        """
        SweepTable.folder = Path(config.hydra.sweep.dir).absolute()
        SweepTable.records, SweepTable.process = records_of(config.hydra), os.getpid()
        with suppress(OSError):  # not writable, which the jobs will report; or no locks
            SweepTable.records.mkdir(parents=True, exist_ok=True)
            SweepTable.held.enter_context(locked(SweepTable.records, refuse_to_wait))
            for stale in SweepTable.folder.glob(".jobs-*"):
                with suppress(OSError), locked(stale, refuse_to_wait):
                    shutil.rmtree(stale, ignore_errors=True)

    @classmethod
    def tell(cls) -> None:
        """Print and write the table of this sweep's jobs and of earlier ones in its directory, also after an error."""
        if cls.records is None:
            return
        folder, records, results = cls.folder, {}, {}
        for path in sorted(cls.records.glob("*.json")):
            with suppress(OSError, ValueError):  # a record was cut off, as on a full disk
                record = read_json(path, cls.records, RESULT_BYTES)
                records[Path(record["run"])] = record
                cls.failed += record["exit_status"] != 0
        cls.held.close()
        shutil.rmtree(cls.records, ignore_errors=True)
        cls.records = None
        for run in {path.parent for path in files_named(folder, "result.json")} | records.keys():
            results[run] = result_of(run, records.get(run, {}))
        cards: dict[str, set[str]] = {}
        for result in results.values():
            for name, card in result.get("cards", {}).items():
                cards.setdefault(name, set()).add(card)
        rows = []
        for run, result in sorted(results.items(), key=lambda item: (item[1].get("job", 0), natural_path(item[0]))):
            row = {"overrides": " ".join(result["overrides"]), "status": result["status"]}
            for name, value in result.get("metrics", {}).items():
                # Scores with different protocol cards are in different columns.
                suffix = f" ({result['cards'][name][:6]})" if len(cards.get(name, ())) > 1 else ""
                row[f"{name}{suffix}"] = f"{value:.4g}"
            tail = {"duration_s": result.get("duration_s", ""), "run": str(shorter(run))}
            rows.append(row | tail | {"error": result.get("error", "")})
        if not rows:
            return
        fixed_after = ["duration_s", "run", "error"]
        metrics = [name for row in rows for name in row if name not in ("overrides", "status", *fixed_after)]
        columns = ["overrides", "status", *dict.fromkeys(metrics), *fixed_after]
        try:
            with whole(folder / "sweep.csv", "w") as file:
                writer = csv.DictWriter(file, columns)
                writer.writeheader()
                writer.writerows(rows)
            message = f"table  {shorter(folder / 'sweep.csv')}"
        except OSError as error:
            cls.failed += 1
            message = cannot_write(error)
        print_table(rows, columns)
        print(message)


def refuse_to_wait() -> None:
    """Raise BlockingIOError, for a lock that another process holds."""
    raise BlockingIOError


def records_of(settings: DictConfig) -> Path:
    """Return the directory in which the jobs of one sweep record their outcomes.

    Args:
        settings: Hydra's own configuration.
    """
    return Path(settings.sweep.dir).absolute() / f".jobs-{settings.callbacks.sweep_table.sweep}"


def record_job(settings: DictConfig, run: Path, exit_status: int | None, error: str = "") -> None:
    """Record the outcome of a sweep's job, for the sweep's table and exit status.

    Args:
        settings: Hydra's own configuration.
        run: The job's run directory.
        exit_status: None while the job is running; it remains None if its process is killed.
        error: Error message of a failed job.

    Raises:
        OSError: The record cannot be written.
    """
    record = {"run": str(run.absolute()), "job": settings.job.num, "overrides": list(settings.overrides.task)}
    with whole(records_of(settings) / f"{settings.job.num}.json", "w", sync=False) as file:
        json.dump(record | {"exit_status": exit_status, "error": error}, file)


def result_of(run: Path, record: dict[str, Any]) -> dict[str, Any]:
    """Return a run's entry in the table: its ``result.json``, if that can be read, and its record.

    Args:
        run: The run directory, whose files other programs may have changed.
        record: The job's record; empty for a job of an earlier sweep.
    """
    result: dict[str, Any] = {"overrides": record.get("overrides", []), "status": "unknown", "error": ""}
    try:
        result |= load_result(run)
        result["job"] = result["job"] if isinstance(result.get("job"), int) else 0
    except FileNotFoundError:
        pass
    except (OSError, ValueError, TypeError, OverflowError) as error:
        result["error"] = f"{shorter(run / 'result.json')}: cannot be read ({first_line(error)})"
    if not record:
        return result
    result["job"] = record["job"]
    if record["exit_status"] is None:
        return result | {"status": "failed", "error": "its process ended without a result; see train.log"}
    if record["exit_status"]:
        status = result["status"] if result["status"] not in ("unknown", "finished") else "failed"
        return result | {"status": status, "error": record["error"] or result["error"]}
    return result | ({"status": "finished"} if result["status"] == "unknown" else {})


def print_table(rows: list[dict[str, Any]], columns: list[str]) -> None:
    """Print a sweep's table: overrides that all runs share, then a line for each run, without ``HIDDEN`` columns."""
    common = set.intersection(*({*row["overrides"].split(" ")} for row in rows)) if len(rows) > 1 else set()
    if common:
        print("\nall runs:", *sorted(common))
    for row in rows:
        row["overrides"] = " ".join(word for word in row["overrides"].split(" ") if word not in common)
    visible = [c for c in columns if c.partition(" (")[0] not in HIDDEN and any(row.get(c) for row in rows)]
    values = ([printable(str(row.get(column, "")).replace("\n", "; ")) for column in visible] for row in rows)
    cells = [visible, *values]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]
    print("\n".join(["", *lines, ""]))


# Columns that are only in sweep.csv.
HIDDEN = ("images_seen", "g/lr", "d/lr", "g/gradient_norm", "d/gradient_norm", "d/output_real", "d/output_fake")
HIDDEN += ("eval/kid_std", "eval/density", "eval/coverage", "eval/classes_found", "eval/class_kl")
