"""Content of a run directory for the report: configuration, scores, curves, images, warnings.

The directory is untrusted: files are parsed as data, only regular files inside it are read, and sizes are limited.
"""

import functools
import importlib
import inspect
import json
import math
import pkgutil
import re
from collections import defaultdict
from collections.abc import Container
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from gan_lightning import metric as metrics
from gan_lightning.errors import escape_control, short_message
from gan_lightning.evaluation.compare import LARGEST, NESTING, Row, comparable_settings, is_shallow
from gan_lightning.io import csv_rows
from gan_lightning.io.class_names import sanitize_class_names
from gan_lightning.io.files import read_regular, samples_by_step
from gan_lightning.io.image import data_url, png
from gan_lightning.io.plot import curves
from gan_lightning.run.run_dir import RESULT_BYTES

PANELS = {  # curves by the title of their panel
    "losses": ("d/adversarial", "g/adversarial", "d/gradient_penalty", "d/class_real", "d/class_fake", "g/class_fake"),
    "bound": ("g/reconstruction", "g/kl"),
    "D's output": ("d/output_real", "d/output_fake"),
    "D's accuracy": ("d/accuracy_real", "d/accuracy_fake"),
    "gradient norm": ("d/gradient_norm", "g/gradient_norm"),
}
SCORE = ("step", "metric", "value", "card", "card_hash")  # fields of a line of evaluation.jsonl that comparisons use
MAX_POINTS = 5000  # plotted points of a curve, more than its width in pixels
# Limits on the content of a run directory, which is untrusted. Each is about ten times what a large run needs;
# together they bound the time and the memory that a malicious directory can cost.
CONFIG_BYTES, LOG_BYTES, SCORES_BYTES = 1 << 18, 1 << 24, 1 << 24
METRICS_BYTES, IMAGE_BYTES, IMAGE_PIXELS = 1 << 25, 1 << 25, 1 << 26
METRICS_LINES, SCORES_LINES, SCORE_CHARACTERS, CARD_CHARACTERS = 250_000, 50_000, 1 << 17, 1 << 14
CONFIG_EVENTS, DIGITS = 20_000, 200
LAST_SCORES, WARNINGS = 200, 100
NUMBER = re.compile(r"[-+.\d][\da-fA-FxX_:.+-]*")
YAML_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # faster, but requires libyaml
# Sections that define a run.
CLASSES = {"model": "model", "data": "data", "network": "network.generator", "loss": "loss"}


@dataclass
class RunRecord:
    """A run in the report.

    Args:
        title: Model and data.
        name: Run directory, relative to the one that the user passed.
        status_line: Status, step and duration.
        error: Error message of a failed run; empty otherwise.
        config: Configuration, as YAML.
        row: Scores of the last evaluation, for comparisons.
        scores: Cells of the table of scores.
        notes: Notes on the evaluation.
        cards: Protocol cards of the scores, as JSON.
        health: Warnings in the log.
        timeline: Image of samples over the steps, as a data URL; empty if there is none.
        grid: Last sample grid, as a data URL; empty if there is none.
        grid_step: Step of the last sample grid.
        panels: Steps and named curves of each panel, by its title.
        class_names: Names of the classes of the data.
        omitted: Messages on files, and parts of files, that were not read.
        num_bytes: Number of bytes that were read.
    """

    title: str
    name: str
    status_line: str
    error: str
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
    def read(cls, run: Path, above: Path) -> "RunRecord":
        """Read a run directory; fields of missing files are empty, and ``omitted`` lists what was not read.

        Args:
            run: The run directory.
            above: The directory that the user passed; links to files outside are not followed.
        """
        read = Reader(above)
        config, result = read.text(run / "config.yaml", CONFIG_BYTES), read.text(run / "result.json", RESULT_BYTES)
        result = as_json(result)
        configuration, (steps, columns) = read.config(run / "config.yaml", config), read.columns(run / "metrics.csv")
        seed = configuration.get("seed")
        lines = read.scores(run / "evaluation.jsonl")
        step = max([0, *steps, *(line["step"] for line in lines), number(result.get("step"))])
        name = str(run.relative_to(above)) if run != above else run.resolve().name
        last_at = max((line["step"] for line in lines), default=0)
        last = [line for line in lines if line["step"] == last_at][:LAST_SCORES]
        known, by_card = directions(), defaultdict(list)
        for line in lines:
            by_card[line["metric"], line["card_hash"]].append(line)
        notes = [escape_control(str(note)) for note in as_list(result.get("notes"))]
        health = warnings_of(read.text(run / "train.log", LOG_BYTES), frozenset(notes))
        if len(health) > WARNINGS:
            read.omit(run / "train.log", f"{len(health) - WARNINGS:,} of {len(health):,} warnings")
        known_step = steps or lines or "step" in result
        grids = samples_by_step(run / "samples", regular_only=False)
        grids = [(at, path) for at, path in grids if at <= step or not known_step]
        return cls(
            title=f"{module_and_class(configuration, 'model')[1]} on {module_and_class(configuration, 'data')[1]}",
            name=escape_control(name),
            status_line=escape_control(f"{result.get('status', 'running, or killed')} at step {step:,}")
            + (f", after {number(result['duration_s']) / 60:,.0f} min" if "duration_s" in result else ""),
            error=escape_control(str(result.get("error") or "")),
            config=config,
            row=Row(
                name,
                experiment(configuration),
                seed if isinstance(seed, int) else None,
                last_at,
                [{key: line[key] for key in SCORE} for line in last if known.get(line["metric"])],
            ),
            scores=[score_cells(line, by_card[line["metric"], line["card_hash"]]) for line in last],
            notes=notes,
            cards=json.dumps({line["card_hash"]: line["card"] for line in last}, indent=2),
            health=health[:WARNINGS],
            timeline=read.image(run / "samples" / "timeline.png"),
            grid=read.image(grids[-1][1]) if grids else "",
            grid_step=f"{grids[-1][0]:,}" if grids else "",
            panels=panels_of(steps, columns, lines),
            class_names=sanitize_class_names(as_list(result.get("class_names"))),
            omitted=read.omitted,
            num_bytes=read.num_bytes,
        )

    @property
    def curves(self) -> str:
        """Plot of all panels over generator steps, as a data URL; empty if there are no curves."""
        return data_url(png(curves(self.panels, columns=3))) if self.panels else ""


class Reader:
    """Reader of files in an untrusted directory: regular files inside it, up to a size.

    Args:
        within: The directory; links to files outside are not followed.

    Attributes:
        omitted: Messages on what was not read.
        num_bytes: Number of bytes that were read.
    """

    def __init__(self, within: Path) -> None:
        self.within, self.num_bytes = within, 0
        self.omitted: list[str] = []

    def omit(self, path: Path, reason: str) -> None:
        """Add a message on a file, or a part of a file, that is not read."""
        self.omitted.append(escape_control(f"{path.relative_to(self.within)}: {reason}"))

    def content(self, path: Path, limit: int) -> bytes:
        """Return a file's bytes; empty if it is missing or must not be read."""
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
        """Return a file's text; empty if it is missing or must not be read."""
        return self.content(path, limit).decode(errors="replace")

    def config(self, path: Path, text: str) -> dict[str, Any]:
        """Parse a configuration, without resolving or instantiating it; return an empty dictionary if it is invalid."""
        try:
            return parsed(text)
        except (yaml.YAMLError, ValueError, ArithmeticError) as error:
            self.omit(path, f"not a valid configuration ({short_message(error)})")
            return {}

    def columns(self, path: Path) -> tuple[list[int], dict[str, list[float]]]:
        """Return the steps of metrics.csv and the columns in ``PANELS``; damaged lines are skipped."""
        text = self.text(path, METRICS_BYTES).rpartition("\n")[0]  # a last line without a line break was cut off
        header, *lines = text.split("\n", METRICS_LINES + 1)
        if len(lines) > METRICS_LINES:
            self.omit(path, f"lines after the first {METRICS_LINES:,}")
        names = csv_rows.names(header)
        step = names.index("step")
        positions = {name: names.index(name) for panel in PANELS.values() for name in panel if name in names}
        steps, too_large, damaged = [], 0, 0
        columns: dict[str, list[float]] = {name: [] for name in positions}
        for row in csv_rows.rows(lines[:METRICS_LINES], names):
            if row is None or len(row[step]) > 15:  # a float represents shorter steps exactly
                damaged += 1
                continue
            steps.append(int(row[step]))
            for name, position in positions.items():
                columns[name].append(float(row[position] or "nan"))
                too_large += LARGEST <= abs(columns[name][-1]) < math.inf
        if damaged:
            self.omit(path, f"{damaged:,} damaged lines")
        if too_large:
            self.omit(path, f"{too_large:,} values of more than {LARGEST:g}")
        return steps, columns

    def scores(self, path: Path) -> list[dict[str, Any]]:
        """Return the lines of evaluation.jsonl that are valid scores."""
        lines = self.text(path, SCORES_BYTES).splitlines()
        if len(lines) > SCORES_LINES:
            self.omit(path, f"lines after the first {SCORES_LINES:,}")
        found = [as_json(line) if len(line) <= SCORE_CHARACTERS else {"": ""} for line in lines[:SCORES_LINES]]
        scores = [line for line in found if is_score(line) and len(json.dumps(line["card"])) <= CARD_CHARACTERS]
        if invalid := sum(map(bool, found)) - len(scores):
            self.omit(path, f"{invalid:,} lines that are not scores")
        return scores

    def image(self, path: Path) -> str:
        """Read a PNG as a data URL; empty if it is missing, invalid or too large for a browser."""
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
    """Parse a JSON object; return an empty one for anything else, such as a line that was cut off by a kill."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) and is_shallow(found) else {}


def number(value: Any) -> int | float:
    """Return a value if it is a number of moderate size, else 0."""
    return value if isinstance(value, int | float) and abs(value) < LARGEST else 0


def as_list(value: Any) -> list[Any]:
    """Return a value if it is a list, else an empty one."""
    return value if isinstance(value, list) else []


def is_score(line: dict[str, Any]) -> bool:
    """Return whether a parsed line of evaluation.jsonl is a valid score."""
    kinds = {"step": int, "metric": str, "value": int | float, "card": dict, "card_hash": str}
    valid = all(isinstance(line.get(key), kind) for key, kind in kinds.items()) and 0 <= line["step"] < 2**53
    return valid and (line["value"] != line["value"] or abs(line["value"]) < LARGEST)


def thinned(values: list[Any]) -> list[Any]:
    """Return at most ``MAX_POINTS`` evenly spaced values, including the last; the choice depends on the length only."""
    stride = max(1, -(-len(values) // MAX_POINTS))
    return values[(len(values) - 1) % stride :: stride] if values else []


def panels_of(
    steps: list[int], columns: dict[str, list[float]], lines: list[dict[str, Any]]
) -> dict[str, tuple[list[int], dict[str, list[float]]]]:
    """Return the curves over generator steps: the panels of ``PANELS``, and one for each score with a direction.

    Args:
        steps: Steps of metrics.csv.
        columns: Columns of metrics.csv.
        lines: Lines of evaluation.jsonl.
    """
    panels = {
        title: (thinned(steps), {name: drawable(thinned(columns[name])) for name in names if name in columns})
        for title, names in PANELS.items()
    }
    panels = {title: (steps, named) for title, (steps, named) in panels.items() if steps and named}
    known = directions()
    for name in dict.fromkeys(line["metric"] for line in lines if known.get(line["metric"])):
        history = thinned([line for line in lines if line["metric"] == name])
        panels[f"{name} (lower is better)" if known[name] < 0 else f"{name} (higher is better)"] = (
            [line["step"] for line in history],
            {name: drawable([float(line["value"]) for line in history])},
        )
    return panels


def drawable(values: list[float]) -> list[float]:
    """Replace values that are too large for a plot by NaN, which leaves a gap."""
    return [value if abs(value) < LARGEST else math.nan for value in values]


def parsed(config: str) -> dict[str, Any]:
    """Parse a configuration; return an empty dictionary if it is not a mapping.

    Raises:
        ValueError: It has aliases (which could expand without bound), tags, a number with more than ``DIGITS`` digits,
            more than ``NESTING`` levels or more than ``CONFIG_EVENTS`` values.
        yaml.YAMLError: It is not valid YAML.
    """
    depth = 0
    for count, event in enumerate(yaml.parse(config, YAML_LOADER)):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if isinstance(event, yaml.AliasEvent):
            raise ValueError("has aliases")
        if getattr(event, "tag", None) is not None:
            raise ValueError("has tags")
        if depth > NESTING or count > CONFIG_EVENTS:
            raise ValueError(f"more than {NESTING} levels or {CONFIG_EVENTS:,} values")
        if isinstance(event, yaml.ScalarEvent) and len(event.value) > DIGITS and NUMBER.fullmatch(event.value):
            raise ValueError(f"a number of {len(event.value):,} digits")
    found = yaml.load(config, YAML_LOADER)
    return found if isinstance(found, dict) else {}


def module_and_class(config: dict[str, Any], section: str) -> tuple[str, str]:
    """Return the names of the module and the class of a section of a configuration."""
    node: Any = config
    for part in [*section.split("."), "_target_"]:
        node = node.get(part) if isinstance(node, dict) else None
    module, _, name = str(node or "unknown").rpartition(".")
    return module.rpartition(".")[2] or "unknown", name


def experiment(config: dict[str, Any]) -> dict[str, Any]:
    """Return what identifies an experiment, without the seed: the classes of a run, then every value."""
    return {group: module_and_class(config, section)[0] for group, section in CLASSES.items()} | comparable_settings(
        config
    )


def warnings_of(log: str, known: Container[str]) -> list[str]:
    """Return the warnings in a run's log, without duplicates and those that are known already."""
    found = dict.fromkeys(line.partition(" WARNING ")[2] for line in log.splitlines() if " WARNING " in line)
    return [line for line in map(escape_control, found) if line not in known]


@functools.cache
def directions() -> dict[str, int]:
    """Return the direction of every score: 1 if higher is better, -1 if lower is better."""
    found: dict[str, int] = {}
    for module in pkgutil.iter_modules(metrics.__path__, f"{metrics.__name__}."):
        for _, kind in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            if issubclass(kind, metrics.Metric):
                for name, sign in [*((name, -1) for name in kind.lower), *((name, 1) for name in kind.higher)]:
                    found |= dict.fromkeys((name, kind.names_without_inception.get(name, name)), sign)
    return found


def score_cells(line: dict[str, Any], history: list[dict[str, Any]]) -> list[str]:
    """Return a score's row in the table: last, best and worst value with their steps, and the protocol.

    Args:
        line: The last evaluation.
        history: All evaluations with the same protocol card.
    """
    sign = directions().get(line["metric"], 0)
    history = [other for other in history if math.isfinite(other["value"])] if sign else []
    best = max(history, key=lambda other: sign * other["value"], default=None)
    worst = min(history, key=lambda other: sign * other["value"], default=None)
    values = [f"{at['value']:.4g} at {at['step']:,}" if at else "" for at in (line, best, worst)]
    card = line["card"]
    reference = f"{number(card.get('num_real')):,} of {card.get('data')}, {card.get('split')}"
    samples = f"{number(card.get('num_generated')):,}"
    return [line["metric"], *values, samples, reference, str(card.get("feature")), line["card_hash"]]
