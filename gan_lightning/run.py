"""The run folder: its files and their names, and a sweep's table of its runs."""

import csv
import hashlib
import json
import logging
import os
import platform
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from gan_lightning import csv_rows
from gan_lightning.card import installed
from gan_lightning.errors import UserError, cannot_write, printable
from gan_lightning.files import locked, set_aside, whole


def folder_name(overrides: str) -> str:
    """A sweep's job as the name of its folder: its overrides, without slashes and of a length disks take."""
    name = overrides.replace("/", "_") or "defaults"
    return name if len(name) <= 150 else f"{name[:140]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


log = logging.getLogger(__name__)

printed: list[str] = []  # lines about resuming, from before the run's log is opened
ENDED_AS_ASKED = "finished", "stopped"  # statuses of a run that is no failure


OmegaConf.register_new_resolver("folder_name", folder_name, replace=True)


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
                for part in place.glob(".*.part"):  # what a kill has left half written
                    part.unlink()
        yield


def first_rank() -> bool:
    """Whether this process is the first of those that share a run; the others have been started with their rank."""
    return not any(int(os.environ.get(name, 0)) for name in ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID"))


def folders(place: Path) -> list[Path]:
    """Folders of runs in a place, itself included; a logger may keep a configuration in a run's, which is none."""
    found = {path.parent for path in place.rglob("config.yaml")}
    within = {run for run in found if any(above in found for above in run.parents)}
    marks = "checkpoints", "metrics.csv", "result.json"
    return sorted(run for run in found if run not in within or any((run / mark).exists() for mark in marks))


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


def read_result(folder: Path) -> dict[str, Any]:
    """What ``result.json`` holds; nothing where there is none."""
    with suppress(OSError, ValueError, RecursionError):
        found = json.loads((folder / "result.json").read_bytes())
        return found if isinstance(found, dict) else {}
    return {}


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


class JobFailedError(Exception):
    """A job of a sweep has failed, has said why, and could leave no result that the sweep's table would tell it by."""


class SweepTable(Callback):
    """Hydra's guest that tells, when a sweep is over, how each of its runs ended: printed, and ``sweep.csv``.

    Attributes:
        folder: The sweep's.
        since: When it began, in seconds.
        failed: How many jobs have failed since, for the exit status.
    """

    folder, since, failed = Path(), 0.0, 0

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Note place and time."""
        SweepTable.folder, SweepTable.since = Path(config.hydra.sweep.dir), time.time()

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        """Tell."""
        self.tell()

    @classmethod
    def tell(cls) -> None:
        """Gather the result of every job's folder, also of jobs of an earlier line."""
        folder = cls.folder
        results = {path.parent: json.loads(path.read_text()) for path in sorted(folder.rglob("result.json"))}
        # Clocks of file systems lag behind by some milliseconds.
        recent = [run for run in results if (run / "result.json").stat().st_mtime > cls.since - 1]
        cls.failed = sum(results[run]["status"] not in ENDED_AS_ASKED for run in recent)
        cards: dict[str, set[str]] = {}
        for result in results.values():
            for name, card in result.get("cards", {}).items():
                cards.setdefault(name, set()).add(card)
        rows = []
        for run, result in sorted(results.items(), key=lambda item: item[1].get("job", 0)):
            row = {"overrides": " ".join(result["overrides"]), "status": result["status"]}
            for name, value in result.get("metrics", {}).items():
                # Scores that were measured differently do not share a column.
                apart = f" ({result['cards'][name][:6]})" if len(cards.get(name, ())) > 1 else ""
                row[f"{name}{apart}"] = f"{value:.4g}"
            rows.append(row | {"duration_s": result["duration_s"], "run": str(run), "error": result.get("error", "")})
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
            where = f"table  {folder / 'sweep.csv'}"
        except OSError as error:
            cls.failed += 1
            where = cannot_write(error)
        print_table(rows, columns)
        print(where)


def print_table(rows: list[dict[str, Any]], columns: list[str]) -> None:
    """Print a sweep's table: what all runs share once, then a line for each, without the figures that few look at."""
    common = set.intersection(*({*row["overrides"].split(" ")} for row in rows)) if len(rows) > 1 else set()
    if common:
        print("\nall runs:", *sorted(common))
    for row in rows:
        row["overrides"] = " ".join(word for word in row["overrides"].split(" ") if word not in common)
    shown = [c for c in columns if c.partition(" (")[0] not in HIDDEN and any(row.get(c) for row in rows)]
    cells = [shown, *([printable(str(row.get(column, "")).replace("\n", "; ")) for column in shown] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]
    print("\n".join(["", *lines, ""]))


# sweep.csv has them too.
HIDDEN = ("images_seen", "g/lr", "d/lr", "g/gradient_norm", "d/gradient_norm", "d/output_real", "d/output_fake")
HIDDEN += ("eval/kid_std", "eval/density", "eval/coverage", "eval/classes_found", "eval/class_kl")
