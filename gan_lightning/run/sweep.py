"""Sweeps: records of jobs, the table of results, and the end of worker processes.

Each job records its outcome in a file of the sweep's directory, since it may run in another process or on another
machine, and its run directory may be anywhere.
"""

import csv
import hashlib
import json
import logging
import multiprocessing
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from gan_lightning.errors import escape_control, short_message, write_error_message
from gan_lightning.io.files import atomic_write, file_lock, read_json
from gan_lightning.io.paths import relative_path
from gan_lightning.io.signals import available
from gan_lightning.run.run_dir import RESULT_BYTES, files_named, load_result, natural_path

# Columns of sweep.csv that are not printed.
HIDDEN = ("images_seen", "g/lr", "d/lr", "g/gradient_norm", "d/gradient_norm", "d/output_real", "d/output_fake")
HIDDEN += ("eval/kid_std", "eval/density", "eval/coverage", "eval/classes_found", "eval/class_kl")


def folder_name(overrides: str) -> str:
    """Return the name of a job's directory: its overrides without slashes, shortened to what file systems allow."""
    name = overrides.replace("/", "_") or "defaults"
    return name if len(name) <= 150 else f"{name[:140]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


OmegaConf.register_new_resolver("folder_name", folder_name, replace=True)


class JobFailedError(Exception):
    """A job in a worker process failed and could not record its outcome, for example on a full disk."""


class Sweep:
    """The jobs of one ``-m`` command. Worker processes get a copy of it.

    Args:
        directory: The directory of the sweep (``hydra.sweep.dir``).
        identifier: A name that no other sweep has.

    Attributes:
        records: The directory of the jobs' records.
        process: The process that started the sweep.
        failed: Number of failed jobs, which decides the exit status.
    """

    def __init__(self, directory: Path, identifier: str) -> None:
        self.directory = directory.absolute()
        self.records = self.directory / f".jobs-{identifier}"
        self.process, self.failed = os.getpid(), 0

    @contextmanager
    def run(self) -> Iterator[None]:
        """Lock the records while the jobs run, then print the table of results, however the sweep ends.

        The lock shows other sweeps that this one is running. Records that nobody holds are of killed sweeps, and are
        removed.
        """
        with ExitStack() as held:
            with suppress(OSError):  # not writable, which the jobs report, or a file system without locks
                self.records.mkdir(parents=True, exist_ok=True)
                held.enter_context(file_lock(self.records, raise_locked))
                for stale in self.directory.glob(".jobs-*"):
                    with suppress(OSError), file_lock(stale, raise_locked):
                        shutil.rmtree(stale, ignore_errors=True)
            try:
                yield
            finally:
                records = self.read_records()
                held.close()
                shutil.rmtree(self.records, ignore_errors=True)
                self.failed += sum(record["exit_status"] != 0 for record in records.values())
                self.write_table(records)

    def record(self, settings: DictConfig, run_dir: Path, exit_status: int | None, error: str = "") -> None:
        """Record how a job ended.

        Args:
            settings: Hydra's own configuration.
            run_dir: The job's run directory.
            exit_status: None while the job is running, and so for a job whose process was killed.
            error: Why it failed.

        Raises:
            OSError: The record cannot be written.
        """
        record = {"run": str(run_dir.absolute()), "job": settings.job.num, "overrides": list(settings.overrides.task)}
        with atomic_write(self.records / f"{settings.job.num}.json", "w", sync=False) as file:
            json.dump(record | {"exit_status": exit_status, "error": error}, file)

    def fail_without_record(self, error: str) -> None:
        """Count a failed job that could not be recorded.

        Raises:
            JobFailedError: This is a worker process, whose counter nobody reads.
        """
        if self.process != os.getpid():
            raise JobFailedError(error)
        self.failed += 1

    def read_records(self) -> dict[Path, dict[str, Any]]:
        """Return the records of the jobs by run directory."""
        records = {}
        for path in sorted(self.records.glob("*.json")):
            with suppress(OSError, ValueError):  # damaged, for example by a full disk
                record = read_json(path, self.records, RESULT_BYTES)
                records[Path(record["run"])] = record
        return records

    def write_table(self, records: dict[Path, dict[str, Any]]) -> None:
        """Print and write to ``sweep.csv`` the results of these jobs and of earlier ones in the sweep's directory."""
        found = {path.parent for path in files_named(self.directory, "result.json")}
        results = {run: result_of(run, records.get(run, {})) for run in found | records.keys()}
        cards: dict[str, set[str]] = {}
        for result in results.values():
            for name, card in result.get("cards", {}).items():
                cards.setdefault(name, set()).add(card)
        rows = []
        for run, result in sorted(results.items(), key=lambda item: (item[1].get("job", 0), natural_path(item[0]))):
            row = {"overrides": " ".join(result["overrides"]), "status": result["status"]}
            for name, value in result.get("metrics", {}).items():
                # Scores with different protocol cards are not comparable and get columns of their own.
                apart = f" ({result['cards'][name][:6]})" if len(cards.get(name, ())) > 1 else ""
                row[f"{name}{apart}"] = f"{value:.4g}"
            more = {"duration_s": result.get("duration_s", ""), "run": str(relative_path(run))}
            rows.append(row | more | {"error": result.get("error", "")})
        if not rows:
            return
        fixed_after = ["duration_s", "run", "error"]
        metrics = [name for row in rows for name in row if name not in ("overrides", "status", *fixed_after)]
        columns = ["overrides", "status", *dict.fromkeys(metrics), *fixed_after]
        table = self.directory / "sweep.csv"
        try:
            with atomic_write(table, "w") as file:
                writer = csv.DictWriter(file, columns)
                writer.writeheader()
                writer.writerows(rows)
            where = f"table  {relative_path(table)}"
        except OSError as error:
            self.failed += 1
            where = write_error_message(error)
        print_table(rows, columns)
        print(where)


def raise_locked() -> None:
    """Raise BlockingIOError: another process holds a lock."""
    raise BlockingIOError


orphaned, running = threading.Event(), threading.Event()  # the parent process has ended; a job is running


@contextmanager
def ending_with_parent() -> Iterator[None]:
    """End the worker process of a sweep when the process that started it has died, as by ``kill -9``.

    The job that is running gets a signal, so that it saves a checkpoint. Without this, workers would train on for as
    long as there are jobs, and hold their directories. In any process but a worker of joblib, this does nothing; on
    Windows, where a process keeps the number of a parent that has died, neither.
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
            # The parent may have died of a signal that this process got too; a second SIGTERM would end it mid-step.
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
        if orphaned.is_set():  # nobody waits for the result, and the next job must not begin
            logging.shutdown()
            os._exit(128 + signal.SIGTERM)


def result_of(run: Path, record: dict[str, Any]) -> dict[str, Any]:
    """Return what the table shows of a run: its ``result.json``, as far as that can be read, and its record.

    Args:
        run: The run directory, in which other programs may have written.
        record: What the job recorded; empty for a job of an earlier sweep.
    """
    result: dict[str, Any] = {"overrides": record.get("overrides", []), "status": "unknown", "error": ""}
    try:
        result |= load_result(run)
        result["job"] = result["job"] if isinstance(result.get("job"), int) else 0
    except FileNotFoundError:
        pass
    except (OSError, ValueError, TypeError, OverflowError) as error:
        result["error"] = f"{relative_path(run / 'result.json')}: cannot be read ({short_message(error)})"
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
    """Print the table of a sweep: overrides that all jobs share once, then a line for each job."""
    common = set.intersection(*({*row["overrides"].split(" ")} for row in rows)) if len(rows) > 1 else set()
    if common:
        print("\nall runs:", *sorted(common))
    for row in rows:
        row["overrides"] = " ".join(word for word in row["overrides"].split(" ") if word not in common)
    shown = [c for c in columns if c.partition(" (")[0] not in HIDDEN and any(row.get(c) for row in rows)]
    cells = [
        shown,
        *([escape_control(str(row.get(column, "")).replace("\n", "; ")) for column in shown] for row in rows),
    ]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]
    print("\n".join(["", *lines, ""]))
