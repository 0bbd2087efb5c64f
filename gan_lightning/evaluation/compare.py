"""Comparison of runs: tables with mean and standard deviation over seeds, and significance of differences."""

import csv
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scipy.stats import ttest_ind

from gan_lightning.config.nodes import flatten
from gan_lightning.errors import UserError, escape_control, first_and_count
from gan_lightning.evaluation.score import differences
from gan_lightning.io.files import atomic_write

NOISE = 0.013  # relative differences below 1.3 % are within the noise of retraining (https://arxiv.org/abs/2606.20536)
SIGNIFICANCE = 0.05  # level of Welch's test between two sets of seeds
# Limits on scores and settings that are read from untrusted files.
LARGEST = 1e30  # absolute value of a score, beyond which sums and a plot's limits would overflow
NESTING = 32  # depth of lists and dictionaries
MAX_COMPARISONS = 5_000_000  # pairs of values: a thousand runs with all scores need a fifth of that


# Settings in which repetitions of an experiment may differ: sections, keys, and keys of any section.
REPETITION_KEYS = ("seed", "run_dir", "ckpt_path", "objective", "logger", "eval", "feature", "metric", "hydra")
REPETITION_KEYS += ("data_info", "data.root", "trainer.accelerator", "trainer.devices", "force_resume")
REPETITION_KEYS += ("trust_checkpoint",)
REPETITION_NAMES = ("seed", "cache")


def comparable_settings(config: dict[str, Any]) -> dict[str, Any]:
    """Return the flat configuration of a run without the settings in which repetitions may differ."""
    return {
        key: value
        for key, value in flatten(config)
        if not any(key == part or key.startswith(f"{part}.") for part in REPETITION_KEYS)
        and (not key.startswith("callbacks.") or key.startswith("callbacks.learning_rate."))
        and key.rpartition(".")[2] not in REPETITION_NAMES
        and "${" not in str(value)
    }


@dataclass
class Row:
    """Scores of one checkpoint, or of one folder of images.

    Args:
        path: Path of the checkpoint or folder.
        experiment: Settings without the seed; rows with equal settings are repetitions of one experiment.
        seed: Seed of the training.
        step: Generator step.
        scores: Scores as dictionaries, see :meth:`gan_lightning.evaluation.score.Score.line`.
    """

    path: str
    experiment: dict[str, Any]
    seed: int | None
    step: int | None
    scores: list[dict[str, Any]] = field(default_factory=list)

    def value(self, name: str) -> float:
        """Return a score; NaN if it was not measured, or is too large for a mean and standard deviation."""
        value = next((line["value"] for line in self.scores if line["metric"] == name), math.nan)
        return value if abs(value) < LARGEST else math.nan


def is_shallow(value: Any, levels: int = NESTING) -> bool:
    """Return whether the nesting depth is below a limit, which prevents stack overflows in recursive functions."""
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels > 0 and all(is_shallow(part, levels - 1) for part in parts)


def check_comparable(rows: Sequence[Row], allowed: Sequence[str] = ()) -> None:
    """Raise UserError if scores of one name have different protocol cards, listing the fields that differ."""
    lines = [line for row in rows for line in row.scores]
    names = dict.fromkeys(line["metric"] for line in lines)
    fields = {key for line in lines for key in line["card"]}
    keys = {key for row in rows for key in row.experiment}
    if len(lines) * (len(names) + len(fields)) + len(rows) * len(keys) > MAX_COMPARISONS:
        raise UserError(
            f"the scores cannot be compared: {len(rows):,} rows with {len(names):,} scores, {len(fields):,} fields of "
            f"cards and {len(keys):,} settings are too many; compare fewer at a time"
        )
    paths_by_field: dict[str, dict[str, list[str | Path]]] = {}  # then by value, over all scores
    for name in names:
        cards = [(row.path, line["card"]) for row in rows for line in row.scores if line["metric"] == name]
        for key in differences([card for _, card in cards], allowed):
            for path, card in cards:
                if card.get(key) is not None:
                    paths_by_field.setdefault(key, {}).setdefault(str(card[key]), []).append(path)
    differing = []
    for key, paths_by_value in paths_by_field.items():
        values = (f"{value} ({first_and_count(dict.fromkeys(paths), 1)})" for value, paths in paths_by_value.items())
        differing.append(f"{key}: {' / '.join(values)}")
    if differing:
        raise UserError(
            "the scores cannot be compared, since they were measured differently:",
            *(f"  {field}" for field in differing),
            "Evaluate them separately, or ignore the fields: gan-evaluate PATHS allow=[FIELD,...]",
        )


def experiment_names(rows: Sequence[Row]) -> list[str]:
    """Return a name for each row's experiment: its model, and the settings that distinguish it from the others."""
    keys = dict.fromkeys(key for row in rows for key in row.experiment)
    columns = {key: [str(row.experiment.get(key)) for row in rows] for key in keys}
    choices = [key for key, values in columns.items() if "." not in key and len({*values}) > 1]
    # A network or loss that follows from another choice is redundant. If several keys have the same values, the
    # shortest one is shown.
    for key in ("network", "loss"):
        others = [columns[other] for other in choices if other != key]
        if key in choices and len({*zip(*others, columns[key], strict=True)}) == len({*zip(*others, strict=True)}):
            choices.remove(key)
    chosen = [*zip(*(columns[key] for key in choices), strict=True)] or [()] * len(rows)
    distinguishing: dict[str, str] = {}  # key by values
    for key, values in columns.items():
        if "." in key and len({*zip(chosen, values, strict=True)}) > len({*chosen}):
            distinguishing[str(values)] = min(key, distinguishing.get(str(values), key), key=len)
    shown = [key for key in [*choices, *distinguishing.values()] if key != "model"]
    settings = [[f"{key}={row.experiment[key]}" for key in shown if key in row.experiment] for row in rows]
    models = [str(row.experiment.get("model", "")) for row in rows]
    return [" ".join([model, *parts]).strip() for model, parts in zip(models, settings, strict=True)]


def summarise(rows: Sequence[Row], sort_by: str, direction: int) -> list[dict[str, Any]]:
    """Return one entry per experiment, the best first: mean, standard deviation (ddof 1) and number of seeds by score.

    A difference from the best is "inconclusive" if it is less than 1.3 %, if either experiment has only one seed, or if
    Welch's test is not significant at 5 %.
    """
    groups: dict[str, list[Row]] = {}
    for label, row in zip(experiment_names(rows), rows, strict=True):
        groups.setdefault(label, []).append(row)
    names = dict.fromkeys(line["metric"] for row in rows for line in row.scores)
    table = []
    for label, members in groups.items():
        steps = sorted({row.step for row in members if row.step is not None})
        step_range = " to ".join(f"{step:,}" for step in steps[:1] + steps[1:][-1:])
        line: dict[str, Any] = {"experiment": label, "step": step_range}
        for name in names:
            values = by_seed(members, name)
            line[name], line["seeds"] = statistics.fmean(values), len(values)
            several = len(values) > 1 and not math.isnan(sum(values))
            line[f"{name} sd"] = statistics.stdev(values) if several else math.nan
        table.append(line)
    table.sort(key=lambda line: (math.isnan(line[sort_by]), -direction * line[sort_by]))
    best = by_seed(groups[table[0]["experiment"]], sort_by)
    for line in table:
        values = by_seed(groups[line["experiment"]], sort_by)
        line["against the best"] = "best" if line is table[0] else verdict(best, values)
    return table


def by_seed(rows: Sequence[Row], name: str) -> list[float]:
    """Return a score for each seed, averaged over several measurements of the same seed."""
    values: dict[int | None, list[float]] = {}
    for row in rows:
        measured = values.setdefault(row.seed, [])
        measured += [] if math.isnan(value := row.value(name)) else [value]
    return [statistics.fmean(of_seed) if of_seed else math.nan for of_seed in values.values()]


def verdict(best: Sequence[float], values: Sequence[float]) -> str:
    """Return whether values are significantly worse than the best ones, or why that is inconclusive."""
    if math.isnan(sum(best) + sum(values)):
        return "not measured"
    one, other = statistics.fmean(best), statistics.fmean(values)
    if min(len(best), len(values)) < 2:
        return "inconclusive (one seed)"
    if abs(one - other) < NOISE * max(abs(one), abs(other)):
        return "inconclusive (below 1.3 %)"
    if statistics.stdev(best) == statistics.stdev(values) == 0:
        return "worse"
    p_value = float(ttest_ind(best, values, equal_var=False).pvalue)
    return "worse" if p_value < SIGNIFICANCE else f"inconclusive (p = {p_value:.2g})"


def table_rows(table: Sequence[dict[str, Any]], shown: Sequence[str]) -> list[list[str]]:
    """Return the headings and a row of cells per experiment, with the standard deviation if there are several seeds."""
    names = [name for name in shown if any(not math.isnan(line.get(name, math.nan)) for line in table)]
    rows = [["experiment", "seeds", "step", *names, "against the best"]]
    for line in table:
        scores = [format_mean_std(line[name], line[f"{name} sd"]) for name in names]
        rows.append([line["experiment"], str(line["seeds"]), line["step"], *scores, line["against the best"]])
    return rows


def print_table(table: Sequence[dict[str, Any]], shown: Sequence[str]) -> None:
    """Print a table of experiments and their scores."""
    lines = table_rows(table, shown)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for row in lines:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        print(escape_control(line))


def format_mean_std(mean: float, std: float) -> str:
    """Format a mean like ``12.3 +- 0.4``, without the standard deviation if it is NaN, or as a dash if both are."""
    if math.isnan(mean):
        return "-"
    return f"{mean:.4g}" if math.isnan(std) else f"{mean:.4g} +- {std:.2g}"


def write_csv(path: Path, rows: Sequence[Row]) -> None:
    """Write a CSV file with a line per row, and a column per score and per hash of its card."""
    names = dict.fromkeys(line["metric"] for row in rows for line in row.scores)
    columns = ["path", "experiment", "seed", "step", *(part for name in names for part in (name, f"{name} card"))]
    with atomic_write(path, "w") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        for label, row in zip(experiment_names(rows), rows, strict=True):
            line = {"path": row.path, "experiment": label, "seed": row.seed, "step": row.step}
            for score in row.scores:
                line |= {score["metric"]: f"{score['value']:.9g}", f"{score['metric']} card": score["card_hash"]}
            writer.writerow(line)
