"""What a run has left in its folder, read as data."""

import functools
import importlib
import inspect
import json
import math
import pkgutil
import re
from collections.abc import Container
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from gan_lightning import csv_rows
from gan_lightning import metric as metrics
from gan_lightning.class_names import storable
from gan_lightning.comparison import LARGEST, NESTING, Row, is_shallow, settings
from gan_lightning.errors import first_line, printable
from gan_lightning.files import by_step, read_regular
from gan_lightning.image import data_url, png
from gan_lightning.plot import curves
from gan_lightning.run import RESULT_BYTES

PANELS = {  # of the curves: what stands together, and its axis
    "losses": ("d/adversarial", "g/adversarial", "d/gradient_penalty", "d/class_real", "d/class_fake", "g/class_fake"),
    "bound": ("g/reconstruction", "g/kl"),
    "D's output": ("d/output_real", "d/output_fake"),
    "D's accuracy": ("d/accuracy_real", "d/accuracy_fake"),
    "norm of the gradient": ("d/gradient_norm", "g/gradient_norm"),
}
SCORE = ("step", "metric", "value", "card", "card_hash")  # of a line of evaluation.jsonl, what is compared
POINTS = 5000  # of a curve that are drawn, which is more than it is wide in pixels
# Limits on what is read from a run directory, which is untrusted. Each is about ten times what a large
# run writes; together they bound the time and the memory that a hostile directory can cost.
CONFIG_BYTES, LOG_BYTES, SCORES_BYTES = 1 << 18, 1 << 24, 1 << 24
METRICS_BYTES, IMAGE_BYTES, IMAGE_PIXELS = 1 << 25, 1 << 25, 1 << 26
METRICS_LINES, SCORES_LINES, SCORE_CHARACTERS, CARD_CHARACTERS = 250_000, 50_000, 1 << 17, 1 << 14
CONFIG_EVENTS, DIGITS = 20_000, 200
LAST_SCORES, WARNINGS = 200, 100
NUMBER = re.compile(r"[-+.\d][\da-fA-FxX_:.+-]*")
YAML_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # of libyaml, where PyYAML was built with it
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
        panels: Curves by title: the steps, and the values at them by name.
        class_names: Names of the data's classes.
        omitted: Files, and parts of files, that were not read, each with the reason.
        num_bytes: Size of what was read.
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
    panels: dict[str, tuple[list[int], dict[str, list[float]]]] = field(default_factory=dict)
    class_names: list[str] = field(default_factory=list)
    omitted: list[str] = field(default_factory=list)
    num_bytes: int = 0

    @classmethod
    def read(cls, run: Path, above: Path) -> "Record":
        """Read a run directory; fields of missing files stay empty, and ``omitted`` lists what is too large.

        Args:
            run: The run's folder.
            above: The directory that the user passed; links that lead outside are not followed.
        """
        read = Reader(above)
        config, result = read.text(run / "config.yaml", CONFIG_BYTES), read.text(run / "result.json", RESULT_BYTES)
        result = as_json(result)
        described, (steps, columns) = read.config(run / "config.yaml", config), read.columns(run / "metrics.csv")
        seed = described.get("seed")
        lines = read.scores(run / "evaluation.jsonl")
        step = max([0, *steps, *(line["step"] for line in lines), number(result.get("step"))])
        name = str(run.relative_to(above)) if run != above else run.resolve().name
        last_at = max((line["step"] for line in lines), default=0)
        last = [line for line in lines if line["step"] == last_at][:LAST_SCORES]
        known, by_card = directions(), grouped(lines)
        notes = [printable(str(note)) for note in as_list(result.get("notes"))]
        health = warned(read.text(run / "train.log", LOG_BYTES), frozenset(notes))
        if len(health) > WARNINGS:
            read.omit(run / "train.log", f"{len(health) - WARNINGS:,} of {len(health):,} warnings")
        known_step = steps or lines or "step" in result
        pictures = by_step(run / "samples", regular_only=False)
        pictures = [(at, path) for at, path in pictures if at <= step or not known_step]
        return cls(
            title=f"{named(described, 'model')[1]} on {named(described, 'data')[1]}",
            name=printable(name),
            told=printable(f"{result.get('status', 'going on, or ended without a word')} at step {step:,}")
            + (f", after {number(result['duration_s']) / 60:,.0f} min" if "duration_s" in result else ""),
            error=printable(str(result.get("error") or "")),
            step=f"{step:,}",
            config=config,
            row=Row(
                name,
                experiment(described),
                seed if isinstance(seed, int) else None,
                last_at,
                [{key: line[key] for key in SCORE} for line in last if known.get(line["metric"])],
            ),
            scores=[cells(line, by_card[line["metric"], line["card_hash"]]) for line in last],
            notes=notes,
            cards=json.dumps({line["card_hash"]: line["card"] for line in last}, indent=2),
            health=health[:WARNINGS],
            timeline=read.picture(run / "samples" / "timeline.png"),
            grid=read.picture(pictures[-1][1]) if pictures else "",
            grid_step=f"{pictures[-1][0]:,}" if pictures else "",
            panels=panels_of(steps, columns, lines),
            class_names=storable(as_list(result.get("class_names"))),
            omitted=read.omitted,
            num_bytes=read.num_bytes,
        )

    @property
    def curves(self) -> str:
        """Over generator steps, as a data URL: a panel for what stands together, and one for each ranked score."""
        return data_url(png(curves(self.panels, columns=3))) if self.panels else ""


class Reader:
    """Reads files of an untrusted directory: regular files inside it, up to a size.

    Args:
        within: The directory; a link that leads out of it is not followed.

    Attributes:
        omitted: What was not read, each with the reason.
        num_bytes: Size of what was read.
    """

    def __init__(self, within: Path) -> None:
        self.within, self.omitted, self.num_bytes = within, [], 0

    def omit(self, path: Path, reason: str) -> None:
        """Note what is left out of the report."""
        self.omitted.append(printable(f"{path.relative_to(self.within)}: {reason}"))

    def content(self, path: Path, limit: int) -> bytes:
        """A file's bytes; none where it is missing, or is not to be read."""
        try:
            content = read_regular(path, self.within, limit)
        except (FileNotFoundError, NotADirectoryError):
            return b""
        except OSError as error:
            self.omit(path, error.strerror or str(error).removeprefix(f"{path}: "))
            return b""
        self.num_bytes += len(content)
        return content

    def text(self, path: Path, limit: int) -> str:
        """A file's text; empty where there is none."""
        return self.content(path, limit).decode(errors="replace")

    def config(self, path: Path, text: str) -> dict[str, Any]:
        """A configuration as data, which is not built or resolved for that; empty where it is none."""
        try:
            return parsed(text)
        except (yaml.YAMLError, ValueError, ArithmeticError) as error:
            self.omit(path, f"not understood ({first_line(error)})")
            return {}

    def columns(self, path: Path) -> tuple[list[int], dict[str, list[float]]]:
        """Return the steps of metrics.csv and the columns that are drawn; a damaged line costs no other."""
        text = self.text(path, METRICS_BYTES).rpartition("\n")[0]  # a last line without a line break was cut off
        header, *lines = text.split("\n", METRICS_LINES + 1)
        if len(lines) > METRICS_LINES:
            self.omit(path, f"lines after the first {METRICS_LINES:,}")
        names = csv_rows.names(header)
        step = names.index("step")
        at = {name: names.index(name) for of in PANELS.values() for name in of if name in names}
        steps, columns, beyond, damaged = [], {name: [] for name in at}, 0, 0
        for row in csv_rows.rows(lines[:METRICS_LINES], names):
            if row is None or not is_step(row[step]):
                damaged += 1
                continue
            steps.append(int(row[step]))
            for name, place in at.items():
                columns[name].append(as_float(row[place]))
                beyond += LARGEST <= abs(columns[name][-1]) < math.inf
        if damaged:
            self.omit(path, f"{damaged:,} damaged lines")
        if beyond:
            self.omit(path, f"{beyond:,} values of more than {LARGEST:g}")
        return steps, columns

    def scores(self, path: Path) -> list[dict[str, Any]]:
        """Lines of evaluation.jsonl that are scores of ours."""
        lines = self.text(path, SCORES_BYTES).splitlines()
        if len(lines) > SCORES_LINES:
            self.omit(path, f"lines after the first {SCORES_LINES:,}")
        found = [as_json(line) if len(line) <= SCORE_CHARACTERS else {"": ""} for line in lines[:SCORES_LINES]]
        scores = [line for line in found if is_score(line) and len(json.dumps(line["card"])) <= CARD_CHARACTERS]
        if foreign := sum(map(bool, found)) - len(scores):
            self.omit(path, f"{foreign:,} lines that are no scores")
        return scores

    def picture(self, path: Path) -> str:
        """A PNG as a data URL; empty where there is none, or one that is too large to be decoded by a browser."""
        content = self.content(path, IMAGE_BYTES)
        width, height = (int.from_bytes(content[at : at + 4]) for at in (16, 20))
        if not content.startswith(b"\x89PNG") or content[12:16] != b"IHDR":
            reason = "not a PNG file"
        elif width * height > IMAGE_PIXELS:
            reason = f"{width:,} by {height:,} pixels"
        else:
            return data_url(content)
        if content:
            self.omit(path, reason)
        return ""


def as_json(content: str) -> dict[str, Any]:
    """Parse a JSON object; return an empty one for anything else, such as a line that a kill has cut off."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) and is_shallow(found) else {}


def number(value: Any) -> int | float:
    """Return a value if it is a number, else 0."""
    return value if isinstance(value, int | float) and abs(value) < LARGEST else 0


def as_list(value: Any) -> list[Any]:
    """Return a value if it is a list, else an empty one."""
    return value if isinstance(value, list) else []


def is_score(line: dict[str, Any]) -> bool:
    """Whether a line of evaluation.jsonl is one of ours."""
    kinds = {"step": int, "metric": str, "value": int | float, "card": dict, "card_hash": str}
    right = all(isinstance(line.get(key), kind) for key, kind in kinds.items()) and 0 <= line["step"] < 2**53
    return right and (line["value"] != line["value"] or abs(line["value"]) < LARGEST)


def is_step(word: str) -> bool:
    """Whether a word is a number of steps, which floats hold exactly."""
    return word.isascii() and word.isdecimal() and len(word) < 16


def thinned(values: list[Any]) -> list[Any]:
    """At most POINTS of the values, evenly spaced, the last among them; equal lengths are thinned out alike."""
    stride = max(1, -(-len(values) // POINTS))
    return values[(len(values) - 1) % stride :: stride] if values else []


def panels_of(
    steps: list[int], columns: dict[str, list[float]], lines: list[dict[str, Any]]
) -> dict[str, tuple[list[int], dict[str, list[float]]]]:
    """Curves over generator steps: a panel for what stands together, and one for each ranked score.

    Args:
        steps: Of metrics.csv.
        columns: Of metrics.csv.
        lines: Of evaluation.jsonl.
    """
    panels = {
        title: (thinned(steps), {name: drawable(thinned(columns[name])) for name in names if name in columns})
        for title, names in PANELS.items()
    }
    panels = {title: (steps, of) for title, (steps, of) in panels.items() if steps and of}
    known = directions()
    for name in dict.fromkeys(line["metric"] for line in lines if known.get(line["metric"])):
        of = thinned([line for line in lines if line["metric"] == name])
        panels[f"{name} (less is better)" if known[name] < 0 else f"{name} (more is better)"] = (
            [line["step"] for line in of],
            {name: drawable([as_float(line["value"]) for line in of])},
        )
    return panels


def drawable(values: list[float]) -> list[float]:
    """Values with gaps where they are more than a plot can take."""
    return [value if abs(value) < LARGEST else math.nan for value in values]


def grouped(lines: list[dict[str, Any]]) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """Lines of scores by metric and card."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for line in lines:
        found.setdefault((line["metric"], line["card_hash"]), []).append(line)
    return found


def parsed(config: str) -> dict[str, Any]:
    """Parse a configuration; return an empty one if it is not a mapping.

    Raises:
        ValueError: It has aliases, which could expand without bound, tags, a number of more than ``DIGITS`` digits,
            more than ``NESTING`` levels or more than ``CONFIG_EVENTS`` values.
        yaml.YAMLError: It is not valid YAML.
    """
    depth = 0
    for count, event in enumerate(yaml.parse(config, YAML_LOADER)):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if isinstance(event, yaml.AliasEvent):
            raise ValueError("refers to another part of itself")
        if getattr(event, "tag", None) is not None:
            raise ValueError("has tags")
        if depth > NESTING or count > CONFIG_EVENTS:
            raise ValueError(f"more than {NESTING} levels or {CONFIG_EVENTS:,} values")
        if isinstance(event, yaml.ScalarEvent) and len(event.value) > DIGITS and NUMBER.fullmatch(event.value):
            raise ValueError(f"a number of {len(event.value):,} digits")
    found = yaml.load(config, YAML_LOADER)
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


def warned(log: str, known: Container[str]) -> list[str]:
    """Lines of a run's log that are warnings, each once, but for those that are known already."""
    found = dict.fromkeys(line.partition(" WARNING ")[2] for line in log.splitlines() if " WARNING " in line)
    return [line for line in map(printable, found) if line not in known]


@functools.cache
def directions() -> dict[str, int]:
    """Of every score there is: 1 where more is better, -1 where less is."""
    found = {}
    for module in pkgutil.iter_modules(metrics.__path__, f"{metrics.__name__}."):
        for _, kind in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            if issubclass(kind, metrics.Metric):
                found |= dict.fromkeys(kind.lower, -1) | dict.fromkeys(kind.higher, 1)
    return found


def cells(line: dict[str, Any], of: list[dict[str, Any]]) -> list[str]:
    """A score's line: last, best and worst with their steps, and how it was measured.

    Args:
        line: The last one.
        of: All that were measured in the same way.
    """
    sign = directions().get(line["metric"], 0)
    of = [other for other in of if math.isfinite(other["value"])] if sign else []
    best = max(of, key=lambda other: sign * other["value"], default=None)
    worst = min(of, key=lambda other: sign * other["value"], default=None)
    told = [f"{at['value']:.4g} at {at['step']:,}" if at else "" for at in (line, best, worst)]
    card = line["card"]
    against = f"{number(card.get('num_real')):,} of {card.get('data')}, {card.get('split')}"
    samples = f"{number(card.get('num_generated')):,}"
    return [line["metric"], *told, samples, against, str(card.get("feature")), line["card_hash"]]


def as_float(value: Any) -> float:
    """Convert a value to a float; NaN if it is not a number."""
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan
