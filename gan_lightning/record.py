"""What a run has left in its folder, read as data."""

import csv
import functools
import importlib
import inspect
import io
import json
import math
import pkgutil
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from gan_lightning import metric as metrics
from gan_lightning.class_names import storable
from gan_lightning.comparison import Row, settings
from gan_lightning.errors import printable
from gan_lightning.files import by_step
from gan_lightning.image import data_url, png
from gan_lightning.plot import curves

PANELS = {  # of the curves: what stands together, and its axis
    "losses": ("d/adversarial", "g/adversarial", "d/gradient_penalty", "d/class_real", "d/class_fake", "g/class_fake"),
    "bound": ("g/reconstruction", "g/kl"),
    "D's output": ("d/output_real", "d/output_fake"),
    "D's accuracy": ("d/accuracy_real", "d/accuracy_fake"),
    "norm of the gradient": ("d/gradient_norm", "g/gradient_norm"),
}
LARGEST = 1e30  # of a number that is shown
CLASSES = {"model": "model", "data": "data", "network": "network.generator", "loss": "loss"}  # that a run is made of


@dataclass
class Record:
    """A run, as its folder tells it.

    Args:
        title: Its model and data.
        name: Its folder, as seen from the one that was asked for.
        told: How far it came, in a sentence.
        error: Why it ended before its time.
        step: Its last step.
        config: Its configuration, as YAML.
        row: Its last scores, to be compared.
        scores: Cells of the table of scores.
        notes: What is to be known of them.
        cards: Their cards, as JSON.
        health: Warnings.
        timeline: Pictures, as data URLs; empty where there is none.
        grid: The last samples, likewise.
        grid_step: Their step.
        figures: Lines of metrics.csv.
        lines: Of evaluation.jsonl.
        class_names: Names of the data's classes.
    """

    title: str
    name: str
    told: str
    error: str
    step: str
    config: str
    row: Row
    scores: list[list[str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    cards: str = ""
    health: list[str] = field(default_factory=list)
    timeline: str = ""
    grid: str = ""
    grid_step: str = ""
    figures: list[dict[str, str]] = field(default_factory=list)
    lines: list[dict[str, Any]] = field(default_factory=list)
    class_names: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, run: Path, above: Path) -> "Record":
        """The record of a run's folder; what is missing there is missing here."""
        config, result = text(run / "config.yaml"), as_json(text(run / "result.json"))
        described, figures = parsed(config), table(run / "metrics.csv")
        seed = described.get("seed")
        lines = [line for line in map(as_json, text(run / "evaluation.jsonl").splitlines()) if is_score(line)]
        steps = [int(row["step"]) for row in figures] + [line["step"] for line in lines]
        step = max([*steps, number(result.get("step"))], default=0)
        name = str(run.relative_to(above)) if run != above else run.resolve().name
        last_at = max((line["step"] for line in lines), default=0)
        last = [line for line in lines if line["step"] == last_at]
        notes = [printable(str(note)) for note in as_list(result.get("notes"))]
        pictures = by_step(run / "samples")
        return cls(
            title=f"{named(described, 'model')[1]} on {named(described, 'data')[1]}",
            name=printable(name),
            told=f"{result.get('status', 'going on, or ended without a word')} at step {step:,}"
            + (f", after {number(result['duration_s']) / 60:,.0f} min" if "duration_s" in result else ""),
            error=printable(str(result.get("error") or "")),
            step=f"{step:,}",
            config=config,
            row=Row(name, experiment(described), seed if isinstance(seed, int) else None, last_at, last),
            scores=[cells(line, lines) for line in last],
            notes=notes,
            cards=json.dumps({line["card_hash"]: line["card"] for line in last}, indent=2),
            health=[line for line in warned(text(run / "train.log")) if line not in notes],
            timeline=picture(run / "samples" / "timeline.png"),
            grid=picture(pictures[-1][1]) if pictures else "",
            grid_step=f"{pictures[-1][0]:,}" if pictures else "",
            figures=figures,
            lines=lines,
            class_names=storable(as_list(result.get("class_names"))),
        )

    @property
    def curves(self) -> str:
        """Over generator steps, as a data URL: a panel for what stands together, and one for each ranked score."""
        figures, lines = self.figures, self.lines
        steps = [int(row["step"]) for row in figures]
        panels = {
            title: {name: [as_float(row[name]) for row in figures] for name in names if figures and name in figures[0]}
            for title, names in PANELS.items()
        }
        panels = {title: (steps, of) for title, of in panels.items() if of}
        known = directions()
        for name in dict.fromkeys(line["metric"] for line in lines if known.get(line["metric"])):
            of = [line for line in lines if line["metric"] == name]
            panels[f"{name} (less is better)" if known[name] < 0 else f"{name} (more is better)"] = (
                [line["step"] for line in of],
                {name: [as_float(line["value"]) for line in of]},
            )
        return data_url(png(curves(panels, columns=3))) if panels else ""


def text(path: Path) -> str:
    """A file's text; empty where there is none."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def as_json(content: str) -> dict[str, Any]:
    """An object; an empty one of what is none, as the half line that a kill leaves."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def number(value: Any) -> int | float:
    """A number; 0 of what is none."""
    return value if isinstance(value, int | float) and abs(value) < LARGEST else 0


def as_list(value: Any) -> list[Any]:
    """A list; an empty one of what is none."""
    return value if isinstance(value, list) else []


def is_score(line: dict[str, Any]) -> bool:
    """Whether a line of evaluation.jsonl is one of ours."""
    kinds = {"step": int, "metric": str, "value": int | float, "card": dict, "card_hash": str}
    right = all(isinstance(line.get(key), kind) for key, kind in kinds.items()) and 0 <= line["step"] < 2**53
    return right and (line["value"] != line["value"] or abs(line["value"]) < LARGEST)


def table(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV file, those that a kill has cut off left out."""
    rows = []
    with suppress(csv.Error):  # of a field of megabytes; what stands before it is told
        rows += csv.DictReader(io.StringIO(text(path)))
    return [row for row in rows if is_step(row.get("step") or "") and None not in row.values()]


def is_step(word: str) -> bool:
    """Whether a word is a number of steps."""
    return word.isascii() and word.isdecimal() and len(word) < 20


class Plain(yaml.SafeLoader):
    """Reads data that refer to nothing, as ours do not: what repeats itself could grow without end."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """The next node."""
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("refers to another part of itself")
        return super().compose_node(parent, index)


def parsed(config: str) -> dict[str, Any]:
    """A configuration as data, which is not built or resolved for that; empty where it is none."""
    try:
        found = yaml.load(config, Plain)
    except (yaml.YAMLError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def named(config: dict[str, Any], section: str) -> tuple[str, str]:
    """The module and the class of a section of a configuration."""
    node: Any = config
    for part in [*section.split("."), "_target_"]:
        node = node.get(part) if isinstance(node, dict) else None
    module, _, name = str(node or "unknown").rpartition(".")
    return module.rpartition(".")[2] or "unknown", name


def experiment(config: dict[str, Any]) -> dict[str, Any]:
    """What sets a run apart from others but for its seed: the classes it is made of, then every value."""
    return {group: named(config, section)[0] for group, section in CLASSES.items()} | settings(config)


def warned(log: str) -> list[str]:
    """Lines of a run's log that are warnings, each once."""
    found = dict.fromkeys(line.partition(" WARNING ")[2] for line in log.splitlines() if " WARNING " in line)
    return [printable(line) for line in found]


@functools.cache
def directions() -> dict[str, int]:
    """Of every score there is: 1 where more is better, -1 where less is."""
    found = {}
    for module in pkgutil.iter_modules(metrics.__path__, f"{metrics.__name__}."):
        for _, kind in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            if issubclass(kind, metrics.Metric):
                found |= dict.fromkeys(kind.lower, -1) | dict.fromkeys(kind.higher, 1)
    return found


def cells(line: dict[str, Any], lines: list[dict[str, Any]]) -> list[str]:
    """A score's line: last, best and worst with their steps, and how it was measured."""
    sign = directions().get(line["metric"], 0)
    of = [other for other in lines if (other["metric"], other["card_hash"]) == (line["metric"], line["card_hash"])]
    of = [other for other in of if math.isfinite(other["value"])] if sign else []
    best = max(of, key=lambda other: sign * other["value"], default=None)
    worst = min(of, key=lambda other: sign * other["value"], default=None)
    told = [f"{at['value']:.4g} at {at['step']:,}" if at else "" for at in (line, best, worst)]
    card = line["card"]
    against = f"{number(card.get('num_real')):,} of {card.get('data')}, {card.get('split')}"
    samples = f"{number(card.get('num_generated')):,}"
    return [line["metric"], *told, samples, against, str(card.get("feature")), line["card_hash"]]


def picture(path: Path) -> str:
    """A PNG as a data URL; empty where there is none."""
    try:
        content = path.read_bytes()
    except OSError:
        return ""
    return data_url(content) if content.startswith(b"\x89PNG") else ""


def as_float(value: Any) -> float:
    """A number; none of what says none."""
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan
