"""The run directory: its files and their names."""

import json
import logging
import os
import platform
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from gan_lightning import csv_rows
from gan_lightning.card import installed
from gan_lightning.data.natural import natural
from gan_lightning.errors import UserError
from gan_lightning.files import directories, locked, read_json, remove_parts, set_aside, whole

RESULT_BYTES = 1 << 20  # of a result.json


log = logging.getLogger(__name__)

printed: list[str] = []  # lines about resuming, from before the run's log is opened
ENDED_AS_ASKED = "finished", "stopped"  # statuses of a run that is no failure


@contextmanager
def claimed(folder: Path, resuming: bool) -> Iterator[None]:
    """Hold a run's folder for as long as the run lasts; made where it is not there.

    Raises:
        UserError: The folder holds another run, one is going on in it, or it cannot be written.
    """
    if not resuming and any(folder.glob("checkpoints/*.ckpt")):
        raise UserError(
            f"hydra.run.dir={folder}: another run is in there. Add ckpt_path=last to go on with it, "
            "or choose another folder"
        )

    def refuse() -> None:
        raise UserError(f"hydra.run.dir={folder}: a run is going on in there; stop it first, or choose another folder")

    with ExitStack() as held:
        if first_rank():
            try:
                folder.mkdir(parents=True, exist_ok=True)
                with whole(folder / ".writable"):
                    pass
                (folder / ".writable").unlink()
            except OSError as error:
                raise UserError(f"{folder}: cannot be written ({error.strerror})") from error
            with suppress(OSError):  # there are file systems without locks
                held.enter_context(locked(folder, refuse))
            for place in (folder, folder / "checkpoints", folder / "samples"):
                remove_parts(place)
        yield


def first_rank() -> bool:
    """Whether this process is the first of those that share a run; the others have been started with their rank."""
    return not any(int(os.environ.get(name, 0)) for name in ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID"))


def folders(place: Path, omit: Callable[[str], None] = log.warning) -> list[Path]:
    """Folders of runs in a place, itself included; a logger may keep a configuration in a run's, which is none.

    Args:
        place: Where to look. Links are not followed, and depth and number of what is searched are bounded.
        omit: Called with a sentence on what was not searched.
    """
    found = {folder for folder, names in directories(place, omit) if "config.yaml" in names}
    within = {run for run in found if any(above in found for above in run.parents)}
    marks = "checkpoints", "metrics.csv", "result.json"
    runs = [run for run in found if run not in within or any((run / mark).exists() for mark in marks)]
    return sorted(runs, key=natural_path)


def files_named(place: Path, name: str, omit: Callable[[str], None] = log.warning) -> list[Path]:
    """Return the files of a name in a directory and those below it, in natural order, as :func:`folders` searches."""
    found = [folder / name for folder, names in directories(place, omit) if name in names]
    return sorted(found, key=natural_path)


def natural_path(path: Path) -> list[Any]:
    """Return the sort key of a path, in which ``seed=10`` comes after ``seed=9``."""
    return [natural(part) for part in path.parts]


def begin(folder: Path, config: DictConfig) -> str:
    """Write ``config.yaml``, resolved, and return its text; take away what tells how the run ended before."""
    text = OmegaConf.to_yaml(config, resolve=True)
    for name in ("config.yaml", "result.json"):
        set_aside(folder / name)
    with whole(folder / "config.yaml", "w") as file:
        file.write(text)
    (folder / "result.json").unlink(missing_ok=True)
    return text


def versions() -> dict[str, str]:
    """Versions of what the result depends on."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    packages = "gan-lightning", "torch", "torchvision", "pytorch-lightning", "hydra-core", "numpy"
    return found | {package: installed(package) for package in packages}


def write_result(folder: Path, status: str, started: float, overrides: list[str], **more: Any) -> None:
    """Write ``result.json``: how the run ended, its final figures, duration and versions."""
    result = {"status": status, **more, "duration_s": round(time.time() - started, 1)}
    result |= {"overrides": overrides, "versions": versions()}
    with whole(folder / "result.json", "w") as file:
        json.dump(result, file, indent=2)


def read_result(run: Path) -> dict[str, Any]:
    """Return ``result.json``; empty where it is missing or damaged."""
    with suppress(OSError, ValueError, TypeError, OverflowError):
        return load_result(run)
    return {}


def load_result(run: Path) -> dict[str, Any]:
    """Return a run's ``result.json``, in which other programs may have written.

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
    """The step and the figures of the last whole line of ``metrics.csv``, for the result of a run that failed."""
    try:
        _, rows, _ = csv_rows.parse((folder / "metrics.csv").read_bytes().decode("utf-8", errors="replace"))
    except OSError:
        return {}
    if not rows:
        return {}
    step = rows[-1].pop("step")
    return {"step": int(step), "metrics": {name: float(value) for name, value in rows[-1].items() if value}}


def all_overrides(earlier: Iterable[str], typed: Iterable[str]) -> list[str]:
    """Overrides of the commands so far: of equal ones the last stays, since a later one takes precedence."""
    return [*reversed(dict.fromkeys(reversed([*earlier, *typed])))]


def write_printed() -> None:
    """Write to the log files what was printed before they were opened; the terminal has it already."""
    for line in printed:
        record = log.makeRecord(log.name, logging.INFO, __file__, 0, line, (), None)
        for handler in logging.getLogger().handlers:
            if isinstance(handler, logging.FileHandler):
                handler.handle(record)
    printed.clear()
