"""Train on 500 images with and without augmentation on equal budgets, and write docs/few_images_results.md.

    GAN_DATA_DIR=data python benchmarks/few_images.py               # all runs without a result, then the page: 4 hours
    python benchmarks/few_images.py --only fashion_mnist --threads 1
    python benchmarks/few_images.py --page                          # the page only

Each run writes one file to benchmarks/results/few_images, with every score, its card, and the gap between training and
held-out images, and is skipped if the file exists. An interrupted run resumes from its last checkpoint.
"""

import argparse
import csv
import json
import logging
import math
import statistics
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from results import ROOT, format_mean_std, run_ours
from scipy.stats import ttest_ind

from gan_lightning.io.files import atomic_write
from gan_lightning.io.image import write_png
from gan_lightning.io.library_warnings import IGNORED_WARNINGS
from gan_lightning.io.plot import rendered

RESULTS, RUNS = ROOT / "benchmarks" / "results" / "few_images", ROOT / "runs" / "few_images"
PAGE, PLOT = ROOT / "docs" / "few_images_results.md", ROOT / "docs" / "images" / "few_images.png"
HEAD = ROOT / "benchmarks" / "few_images.md"
AUGMENTATIONS = {"none": (), "diffaugment": ("augment=diffaugment",)}
COMMON = ("data.limit=500", "eval.reference=test", "eval.num_generated=5000", "eval.num_real=null")
GAP = "d/holdout_gap"


@dataclass(frozen=True)
class Comparison:
    """Runs that differ in the augmentation and the seed.

    Attributes:
        title: Heading of its plot and row.
        overrides: Overrides of all its runs.
        seeds: Number of seeds.
    """

    title: str
    overrides: tuple[str, ...]
    seeds: int


COMPARISONS = {
    "cifar10-dcgan": Comparison(
        "CIFAR-10, dcgan", ("model=dcgan", "data=cifar10", "trainer.max_steps=6000", "eval.every_n_steps=500"), 5
    ),
    "fashion_mnist-dcgan": Comparison(
        "Fashion-MNIST, dcgan",
        ("model=dcgan", "data=fashion_mnist", "trainer.max_steps=6000", "eval.every_n_steps=500"),
        3,
    ),
    "cifar10-wgan_gp": Comparison(
        "CIFAR-10, wgan_gp", ("model=wgan_gp", "data=cifar10", "trainer.max_steps=2000", "eval.every_n_steps=200"), 3
    ),
}


def path_of(name: str, augmentation: str, seed: int) -> Path:
    """Return the path of a result."""
    return RESULTS / f"{name}-{augmentation}-{seed}.json"


def run_and_save(name: str, augmentation: str, seed: int) -> None:
    """Train or resume one run, and write its result."""
    overrides = (*COMPARISONS[name].overrides, *COMMON, *AUGMENTATIONS[augmentation])
    folder, since = RUNS / f"{name}-{augmentation}-{seed}", time.time()
    callback, _ = run_ours(overrides, seed, folder)
    with (folder / "metrics.csv").open() as file:
        gap = [[int(row["step"]), float(row[GAP])] for row in csv.DictReader(file) if row.get(GAP)]
    steps = {entry["step"] for entry in callback.curve}
    result = {"overrides": [*overrides, f"seed={seed}"], "best_by": callback.best_by, "curve": callback.curve}
    result |= {"gap": [entry for entry in gap if entry[0] in steps], "cards": callback.cards}
    result |= {"seconds": round(time.time() - since), "threads": torch.get_num_threads()}
    with atomic_write(path_of(name, augmentation, seed), "w") as file:
        json.dump(result, file, indent=1)


def load(name: str, augmentation: str) -> list[dict[str, Any]]:
    """Return the results of all seeds that exist."""
    paths = (path_of(name, augmentation, seed) for seed in range(COMPARISONS[name].seeds))
    return [json.loads(path.read_text()) for path in paths if path.exists()]


def curve(result: dict[str, Any], score: str) -> list[float]:
    """Return a score at every evaluation."""
    return [entry["scores"][score][0] for entry in result["curve"]]


def effect_size(before: list[float], after: list[float]) -> float:
    """Return Hedges' g: the decrease of the mean over the pooled standard deviation, corrected for few values."""
    freedom = len(before) + len(after) - 2
    freedoms = (len(values) - 1 for values in (before, after))
    variance = sum(n * statistics.variance(values) for n, values in zip(freedoms, (before, after), strict=True))
    difference = statistics.fmean(before) - statistics.fmean(after)
    return difference / math.sqrt(variance / freedom) * (1 - 3 / (4 * freedom - 1))


def table_rows(name: str) -> list[str]:
    """Return the rows of a comparison: the last and the best score, each without and with augmentation."""
    results = {augmentation: load(name, augmentation) for augmentation in AUGMENTATIONS}
    if min(len(found) for found in results.values()) < 2:
        return []
    score = next(iter(results["none"]))["best_by"]
    rows = []
    for label, pick in (("last", lambda values: values[-1]), ("best", min)):
        none, augmented = ([pick(curve(result, score)) for result in found] for found in results.values())
        p_value = float(ttest_ind(none, augmented, equal_var=False).pvalue)
        ratio = statistics.fmean(none) / statistics.fmean(augmented)
        cells = [COMPARISONS[name].title, f"{score}, {label}", f"{len(none)} and {len(augmented)}"]
        cells += [format_mean_std(none), format_mean_std(augmented), f"{ratio:.2f}"]
        cells += [f"{effect_size(none, augmented):.1f}", f"{p_value:.2g}"]
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def gap_row(name: str) -> str:
    """Return the row of a comparison with the mean gap at the last step."""
    gaps = [[result["gap"][-1][1] for result in load(name, augmentation)] for augmentation in AUGMENTATIONS]
    return f"| {COMPARISONS[name].title} | {' | '.join(map(format_mean_std, gaps))} |"


def write_plot(names: list[str]) -> None:
    """Write the curves of the deciding score and of the gap, one line for each seed."""
    figure = Figure(figsize=(4 * len(names), 5.2), dpi=90, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    for column, name in enumerate(names, 1):
        for row, what in enumerate(("score", GAP)):
            axes = figure.add_subplot(2, len(names), row * len(names) + column)
            for colour, augmentation in zip(("tab:gray", "tab:blue"), AUGMENTATIONS, strict=True):
                for result in load(name, augmentation):
                    steps = [entry["step"] for entry in result["curve"]]
                    score = result["best_by"]
                    x, y = (steps, curve(result, score)) if what == "score" else zip(*result["gap"], strict=True)
                    label = augmentation if "seed=0" in result["overrides"] else None
                    axes.plot(x, y, color=colour, linewidth=1, label=label)
            axes.set(title=f"{COMPARISONS[name].title}: {score if what == 'score' else what}", xlabel="step")
            axes.grid(alpha=0.3)
            axes.legend(fontsize=8)
    write_png(PLOT, rendered(canvas))


def page() -> str:
    """Return the text of the page: tables of the scores and gaps, and the plot."""
    names = [name for name in COMPARISONS if table_rows(name)]
    text = [HEAD.read_text().rstrip(), ""]
    text += ["| | score | seeds | without | with | ratio | Hedges' g | p |", "|---" * 8 + "|"]
    text += [row for name in names for row in table_rows(name)]
    text += ["", "`d/holdout_gap` at the last step:", "", "| | without | with |", "|---|---|---|"]
    text += [gap_row(name) for name in names]
    text += ["", "![curves of the score and of the gap over steps, one line a seed](images/few_images.png)"]
    return "\n".join(text) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", default="", help="runs whose name contains this: cifar10-dcgan, wgan_gp, ...")
    parser.add_argument("--page", action="store_true", help="only write the page")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="torch's (%(default)s)")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    for pattern in IGNORED_WARNINGS:
        warnings.filterwarnings("ignore", pattern)
    runs = [
        (name, augmentation, seed)
        for name, comparison in COMPARISONS.items()
        for seed in range(comparison.seeds)
        for augmentation in AUGMENTATIONS
        if args.only in f"{name}-{augmentation}-{seed}"
    ]
    for run in [] if args.page else runs:
        if not path_of(*run).exists():
            print("{}-{}-{}".format(*run), flush=True)
            run_and_save(*run)
    write_plot([name for name in COMPARISONS if table_rows(name)])
    with atomic_write(PAGE, "w") as file:
        file.write(page())


if __name__ == "__main__":
    main()
