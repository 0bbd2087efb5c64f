"""Run directories: lock, ``config.yaml`` and ``result.json``, and the search for runs."""

import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from gan_lightning.config.launch import is_rank_zero
from gan_lightning.errors import UserError
from gan_lightning.io import csv_rows
from gan_lightning.io.files import atomic_write, directories, file_lock, read_json, remove_parts, set_aside
from gan_lightning.io.natural import natural
from gan_lightning.io.versions import versions

RESULT_BYTES = 1 << 20  # maximum size of a result.json


log = logging.getLogger(__name__)

deferred_lines: list[str] = []  # lines that were printed before the run's log file is opened


@contextmanager
def lock_run_dir(folder: Path, resuming: bool) -> Iterator[None]:
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

    def raise_in_use() -> None:
        raise UserError(f"hydra.run.dir={folder}: in use by a running process; stop it first, or choose another folder")

    with ExitStack() as held:
        if is_rank_zero():
            try:
                folder.mkdir(parents=True, exist_ok=True)
                with atomic_write(folder / ".writable"):
                    pass
                (folder / ".writable").unlink()
            except OSError as error:
                raise UserError(f"{folder}: cannot be written ({error.strerror})") from error
            with suppress(OSError):  # the file system may have no locks
                held.enter_context(file_lock(folder, raise_in_use))
            for path in (folder, folder / "checkpoints", folder / "samples"):
                remove_parts(path)
        yield


def find_runs(root: Path, omit: Callable[[str], None] = log.warning) -> list[Path]:
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
    """Return the files with a name in a directory and below it, in natural order; searched as in :func:`find_runs`."""
    found = [folder / name for folder, names in directories(root, omit) if name in names]
    return sorted(found, key=natural_path)


def natural_path(path: Path) -> list[Any]:
    """Return the sort key of a path in natural order: ``seed=10`` comes after ``seed=9``."""
    return [natural(part) for part in path.parts]


def write_config(folder: Path, config: DictConfig) -> str:
    """Write the resolved ``config.yaml`` and return its text; remove ``result.json`` of an earlier part of the run."""
    text = OmegaConf.to_yaml(config, resolve=True)
    for name in ("config.yaml", "result.json"):
        set_aside(folder / name)
    with atomic_write(folder / "config.yaml", "w") as file:
        file.write(text)
    (folder / "result.json").unlink(missing_ok=True)
    return text


def write_result(folder: Path, status: str, started: float, overrides: list[str], **more: Any) -> None:
    """Write ``result.json``: status, final metrics, duration, overrides and versions."""
    result = {"status": status, **more, "duration_s": round(time.time() - started, 1)}
    result |= {"overrides": overrides, "versions": versions()}
    with atomic_write(folder / "result.json", "w") as file:
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
    kinds["recipe"] = list
    found = read_json(run / "result.json", run, RESULT_BYTES)
    if not (isinstance(found, dict) and "status" in found):
        raise ValueError("not the result of a run")
    if wrong := [key for key, kind in kinds.items() if key in found and not isinstance(found[key], kind)]:
        raise ValueError(f"{wrong[0]} has another type")
    texts = {*found.get("overrides", []), *found.get("recipe", []), *found.get("cards", {}).values()}
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("overrides, recipe or cards are not strings")
    metrics = {name: float(value) for name, value in found.get("metrics", {}).items()}
    if not metrics.keys() >= found.get("cards", {}).keys():
        raise ValueError("a score lacks its value")
    return found | {"metrics": metrics} if "metrics" in found else found


def last_metrics(folder: Path) -> dict[str, Any]:
    """Return the step and the metrics of the last intact line of ``metrics.csv``, for the result of a failed run."""
    try:
        _, rows, _ = csv_rows.parse((folder / "metrics.csv").read_bytes().decode("utf-8", errors="replace"))
    except OSError:
        return {}
    if not rows:
        return {}
    step = rows[-1].pop("step")
    return {"step": int(step), "metrics": {name: float(value) for name, value in rows[-1].items() if value}}


def all_overrides(earlier: Iterable[str], latest: Iterable[str]) -> list[str]:
    """Return the overrides of all commands of a run; of equal ones the last is kept, as later ones take precedence."""
    return [*reversed(dict.fromkeys(reversed([*earlier, *latest])))]


def write_deferred_lines() -> None:
    """Write lines that were printed before the log files were opened to these; the terminal has them already."""
    for line in deferred_lines:
        record = log.makeRecord(log.name, logging.INFO, __file__, 0, line, (), None)
        for handler in logging.getLogger().handlers:
            if isinstance(handler, logging.FileHandler):
                handler.handle(record)
    deferred_lines.clear()
