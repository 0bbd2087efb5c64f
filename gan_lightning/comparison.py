"""Runs side by side: repetitions over seeds together, the best first, and whether a difference is more than noise."""

import csv
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scipy.stats import ttest_ind

from gan_lightning.card import differences
from gan_lightning.errors import UserError, abridged, printable
from gan_lightning.files import whole
from gan_lightning.resume import flatten

NOISE = 0.013  # gaps below 1.3 % are noise of retraining (https://arxiv.org/abs/2606.20536)
SIGNIFICANCE = 0.05  # of Welch's test between two sets of seeds
# Limits on scores and settings that were read from untrusted files.
LARGEST = 1e30  # of a number: sums and a plot's limits overflow not far beyond
NESTING = 32  # of lists and dictionaries
MOST_COMPARISONS = 5_000_000  # of one value with another: a thousand runs with all scores need a fifth of that


# What two runs may differ in and still be repetitions of one experiment: sections, keys, and keys of any section.
OF_REPETITION = ("seed", "run_dir", "ckpt_path", "found", "objective", "logger", "eval", "feature", "metric", "hydra")
OF_REPETITION += ("data.root", "trainer.accelerator", "trainer.devices", "force", "trust")
OF_ANY_SECTION = ("seed", "cache")


def settings(config: dict[str, Any]) -> dict[str, Any]:
    """Every value of a run's configuration, but for those that may differ among repetitions."""
    return {
        key: value
        for key, value in flatten(config)
        if not any(key == part or key.startswith(f"{part}.") for part in OF_REPETITION)
        and (not key.startswith("callbacks.") or key.startswith("callbacks.learning_rate."))
        and key.rpartition(".")[2] not in OF_ANY_SECTION
        and "${" not in str(value)
    }


@dataclass
class Row:
    """Scores of one checkpoint, or of one folder of pictures.

    Args:
        path: Where the samples come from.
        experiment: Settings that make it what it is, the seed aside; rows that agree in all of them are repetitions.
        seed: Of the training.
        step: Generator step.
        scores: Lines of scores, see :meth:`gan_lightning.card.Score.line`.
    """

    path: str
    experiment: dict[str, Any]
    seed: int | None
    step: int | None
    scores: list[dict[str, Any]] = field(default_factory=list)

    def value(self, name: str) -> float:
        """A score; not a number where it was not measured, or is larger than means and deviations can be taken of."""
        value = next((line["value"] for line in self.scores if line["metric"] == name), math.nan)
        return value if abs(value) < LARGEST else math.nan


def is_shallow(value: Any, levels: int = NESTING) -> bool:
    """Whether lists and dictionaries are nested less than so many levels: what walks through them is recursive."""
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels > 0 and all(is_shallow(part, levels - 1) for part in parts)


def refuse_unlike(rows: Sequence[Row], allowed: Sequence[str] = ()) -> None:
    """Raise UserError where scores of one name were measured by different protocols, with the fields that differ."""
    lines = [line for row in rows for line in row.scores]
    names = dict.fromkeys(line["metric"] for line in lines)
    fields = {key for line in lines for key in line["card"]}
    keys = {key for row in rows for key in row.experiment}
    if len(lines) * (len(names) + len(fields)) + len(rows) * len(keys) > MOST_COMPARISONS:
        raise UserError(
            f"the scores cannot be compared: {len(rows):,} rows with {len(names):,} scores, {len(fields):,} fields of "
            f"cards and {len(keys):,} settings are too many; compare fewer at a time"
        )
    found: dict[str, dict[str, list[str | Path]]] = {}  # paths by field and value, of all scores together
    for name in names:
        cards = [(row.path, line["card"]) for row in rows for line in row.scores if line["metric"] == name]
        for key in differences([card for _, card in cards], allowed):
            for path, card in cards:
                if card.get(key) is not None:
                    found.setdefault(key, {}).setdefault(str(card[key]), []).append(path)
    faults = []
    for key, by in found.items():
        values = (f"{value} ({abridged(dict.fromkeys(paths), 1)})" for value, paths in by.items())
        faults.append(f"{key}: {' / '.join(values)}")
    if faults:
        raise UserError(
            "the scores cannot be compared, since they were measured differently:",
            *(f"  {fault}" for fault in faults),
            "Evaluate them apart, or compare in spite of it: gan-evaluate PATHS allow=[FIELD,...]",
        )


def labels(rows: Sequence[Row]) -> list[str]:
    """A name for each row's experiment: its model, and whatever else sets it apart from the others."""
    keys = dict.fromkeys(key for row in rows for key in row.experiment)
    of = {key: [str(row.experiment.get(key)) for row in rows] for key in keys}
    choices = [key for key, values in of.items() if "." not in key and len({*values}) > 1]
    # Of a network, a loss or an optimizer that another choice brought along the other says enough; of a value that
    # stands in several places the shortest key.
    for key in ("network", "loss"):
        others = [of[other] for other in choices if other != key]
        if key in choices and len({*zip(*others, of[key], strict=True)}) == len({*zip(*others, strict=True)}):
            choices.remove(key)
    alike = [*zip(*(of[key] for key in choices), strict=True)] or [()] * len(rows)
    more: dict[str, str] = {}
    for key, values in of.items():
        if "." in key and len({*zip(alike, values, strict=True)}) > len({*alike}):
            more[str(values)] = min(key, more.get(str(values), key), key=len)
    told = [key for key in [*choices, *more.values()] if key != "model"]
    return [
        " ".join(
            [
                str(row.experiment.get("model", "")),
                *(f"{key}={row.experiment[key]}" for key in told if key in row.experiment),
            ]
        ).strip()
        for row in rows
    ]


def summarise(rows: Sequence[Row], sort_by: str, direction: int) -> list[dict[str, Any]]:
    """One line for each experiment, the best first: mean, deviation (ddof 1) and number of seeds of every score.

    A difference from the best is "inconclusive" where it is less than 1.3 %, where either has one seed alone, or where
    Welch's test does not find it at 5 %.
    """
    groups: dict[str, list[Row]] = {}
    for label, row in zip(labels(rows), rows, strict=True):
        groups.setdefault(label, []).append(row)
    names = dict.fromkeys(line["metric"] for row in rows for line in row.scores)
    table = []
    for label, members in groups.items():
        steps = sorted({row.step for row in members if row.step is not None})
        ends = " to ".join(f"{step:,}" for step in steps[:1] + steps[1:][-1:])
        line: dict[str, Any] = {"experiment": label, "step": ends}
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
    """A score of each seed; of a seed for which it was measured several times, the mean."""
    values: dict[int | None, list[float]] = {}
    for row in rows:
        found = values.setdefault(row.seed, [])
        found += [] if math.isnan(value := row.value(name)) else [value]
    return [statistics.fmean(of_seed) if of_seed else math.nan for of_seed in values.values()]


def verdict(best: Sequence[float], values: Sequence[float]) -> str:
    """Whether values are worse than the best ones by more than noise."""
    if math.isnan(sum(best) + sum(values)):
        return "not measured"
    one, other = statistics.fmean(best), statistics.fmean(values)
    if min(len(best), len(values)) < 2:
        return "inconclusive (one seed)"
    if abs(one - other) < NOISE * max(abs(one), abs(other)):
        return "inconclusive (below 1.3 %)"
    if statistics.stdev(best) == statistics.stdev(values) == 0:
        return "worse"
    chance = float(ttest_ind(best, values, equal_var=False).pvalue)
    return "worse" if chance < SIGNIFICANCE else f"inconclusive (p = {chance:.2g})"


def cells(table: Sequence[dict[str, Any]], shown: Sequence[str]) -> list[list[str]]:
    """Headings, then experiments and their scores, with the deviation over seeds where there are several."""
    names = [name for name in shown if any(not math.isnan(line.get(name, math.nan)) for line in table)]
    found = [["experiment", "seeds", "step", *names, "against the best"]]
    for line in table:
        scores = [with_deviation(line[name], line[f"{name} sd"]) for name in names]
        found.append([line["experiment"], str(line["seeds"]), line["step"], *scores, line["against the best"]])
    return found


def print_table(table: Sequence[dict[str, Any]], shown: Sequence[str]) -> None:
    """Print experiments and their scores in columns."""
    lines = cells(table, shown)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for row in lines:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        print(printable(line))


def with_deviation(mean: float, deviation: float) -> str:
    """``12.3 +- 0.4``, the mean alone, or a dash where there is none."""
    if math.isnan(mean):
        return "-"
    return f"{mean:.4g}" if math.isnan(deviation) else f"{mean:.4g} +- {deviation:.2g}"


def write_csv(path: Path, rows: Sequence[Row]) -> None:
    """One line for each row, one column for each score and its card's hash."""
    names = dict.fromkeys(line["metric"] for row in rows for line in row.scores)
    columns = ["path", "experiment", "seed", "step", *(part for name in names for part in (name, f"{name} card"))]
    with whole(path, "w") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        for label, row in zip(labels(rows), rows, strict=True):
            line = {"path": row.path, "experiment": label, "seed": row.seed, "step": row.step}
            for score in row.scores:
                line |= {score["metric"]: f"{score['value']:.9g}", f"{score['metric']} card": score["card_hash"]}
            writer.writerow(line)
