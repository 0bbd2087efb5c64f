"""Train all variants and plain PyTorch loops of the same networks on equal budgets, and write docs/results.md.

    GAN_DATA_DIR=data python benchmarks/results.py              # all runs without a result, then the page
    python benchmarks/results.py --only mnist/acgan --threads 1
    python benchmarks/results.py --page                         # the page only

Each run writes one file to benchmarks/results, with every score and its card, and is skipped if the file exists.
An interrupted run of gan-lightning resumes from its last checkpoint; a plain loop starts again.
"""

import argparse
import copy
import json
import logging
import math
import statistics
import sys
import time
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from plain_loop import networks_of, plain_loop

from gan_lightning import seed as seeds
from gan_lightning.callbacks.evaluate import Evaluate
from gan_lightning.config.instantiate import instantiate
from gan_lightning.evaluation.compare import verdict
from gan_lightning.evaluation.score import differences
from gan_lightning.io.files import atomic_write
from gan_lightning.io.image import grid, read_png, write_png
from gan_lightning.io.library_warnings import IGNORED_WARNINGS
from gan_lightning.io.paths import CONF
from gan_lightning.run.fit import train
from gan_lightning.run.summary import exit_status_and_reason

ROOT = Path(__file__).parent.parent
RESULTS, RUNS, IMAGES = ROOT / "benchmarks" / "results", ROOT / "runs" / "results", ROOT / "docs" / "images" / "results"
VARIANTS = ("vanilla", "dcgan", "cgan", "acgan", "wgan", "wgan_gp")
MODES = "modes", "quality", "reverse_kl"
IMAGE_OVERRIDES = ("protocol=5k_train", "trainer.max_steps=2000", "eval.every_n_steps=500")


@dataclass
class Setting:
    """A section of the page with one table.

    Args:
        title: Its heading.
        runs: Overrides by name, one row each.
        seeds: Number of seeds, unless the command line sets another one.
        plain: Whether the plain loop is run, too.
        shown: Scores in the table; the best checkpoint is chosen by the first.
        first: The first seed.
        note: Text above the table.
    """

    title: str
    runs: dict[str, tuple[str, ...]]
    seeds: int
    plain: bool
    shown: tuple[str, ...]
    first: int = 0
    note: str = ""


def image_runs(data: str, variants: Iterable[str] = VARIANTS) -> dict[str, tuple[str, ...]]:
    return {variant: (f"model={variant}", f"data={data}", *IMAGE_OVERRIDES) for variant in variants}


def point_runs(kind: str) -> dict[str, tuple[str, ...]]:
    return {variant: (f"experiment={variant}_gaussian_{kind}",) for variant in ("vanilla", "wgan_gp")}


IMAGE_SCORES = "fd", "kd", "precision", "recall", "class_accuracy"
AGAIN = (
    "Among twelve comparisons at the 5 % level at least one is significant by chance with a probability of 46 %, and "
    "that of acgan above is, with three seeds. It was therefore repeated with six other seeds and a newly trained "
    "classifier; these scores have their own protocol cards and are not comparable with those above."
)
SETTINGS = {
    "mnist": Setting("MNIST", image_runs("mnist"), 3, True, IMAGE_SCORES),
    "cifar10": Setting("CIFAR-10", image_runs("cifar10"), 3, True, IMAGE_SCORES),
    "cifar10_again": Setting(
        "CIFAR-10, other seeds", image_runs("cifar10", ("acgan", "cgan")), 6, True, IMAGE_SCORES, first=3, note=AGAIN
    ),
    "ring": Setting("Ring of 8 Gaussians", point_runs("ring"), 10, False, MODES),
    "grid": Setting("Grid of 25 Gaussians", point_runs("grid"), 10, False, MODES),
}


def path_of(setting: str, name: str, kind: str, seed: int) -> Path:
    return RESULTS / setting / f"{name}-{kind}-{seed}.json"


def compose_config(overrides: tuple[str, ...], seed: int) -> Any:
    with initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
        return compose("train", [*overrides, f"seed={seed}", "trainer=cpu"])


def run_ours(overrides: tuple[str, ...], seed: int, folder: Path) -> tuple[Evaluate, Path]:
    """Train or resume a run; return its callback Evaluate and the path of its last sample grid."""
    folder.mkdir(parents=True, exist_ok=True)
    last = folder / "checkpoints" / "last.ckpt"
    trainer = train(compose_config(overrides, seed), folder, last if last.exists() else None)
    if status := exit_status_and_reason(trainer)[0]:
        sys.exit(status)
    callback = next(callback for callback in trainer.callbacks if isinstance(callback, Evaluate))
    return callback, folder / "samples" / f"step_{trainer.global_step:08d}.png"


def run_plain(overrides: tuple[str, ...], seed: int, folder: Path) -> tuple[Evaluate, Path]:
    """Run the plain loop from the same weights, and evaluate it at the same steps with the same evaluator."""
    config = compose_config(overrides, seed)
    data = instantiate(config.data, "data")
    data.setup()
    config.data_info = {"shape": list(data.shape), "num_classes": data.num_classes}
    torch.manual_seed(seeds.mix(seed, seeds.WEIGHTS))
    model = instantiate(config.model, "model")
    callback = instantiate(config.callbacks.evaluate, "callbacks.evaluate")
    callback.set_best_by(callback.evaluator.setup(data, model.num_classes > 0))
    networks = copy.deepcopy(networks_of(model))
    loop = plain_loop(model, networks, data.scale(data.samples), data.labels, data.batch_size)
    steps, every = config.trainer.max_steps, callback.every_n_steps
    for step in range(1, steps + 1):
        generator = next(loop)
        if step % every == 0 or step == steps:
            with torch.random.fork_rng():
                model.generator.load_state_dict(generator.state_dict())
                fake = callback.evaluator.draw(model)
                callback.add_scores(step, callback.evaluator.score(fake, callback.evaluator.generation_card(model)))
    labels = torch.arange(10).repeat_interleave(8) if model.num_classes else None
    image = folder / "samples.png"
    write_png(image, grid(model.sample(80 if model.num_classes else 64, labels, seed=0), 8))
    return callback, image


def run_and_save(setting: str, name: str, kind: str, seed: int) -> None:
    """Train and evaluate one run, and write its result."""
    overrides, since = SETTINGS[setting].runs[name], time.time()
    callback, image = (run_ours if kind == "ours" else run_plain)(
        overrides, seed, RUNS / setting / f"{name}-{kind}-{seed}"
    )
    by = callback.best_by or SETTINGS[setting].shown[0]  # not set if the run had finished before
    result = {"overrides": [*overrides, f"seed={seed}"], "kind": kind, "best_by": by, "curve": callback.curve}
    result |= {"cards": callback.cards, "seconds": round(time.time() - since), "threads": torch.get_num_threads()}
    if seed == 0:
        write_png(IMAGES / setting / f"{name}-{kind}.png", read_png(image))
    with atomic_write(path_of(setting, name, kind, seed), "w") as file:
        json.dump(result, file, indent=1)


def load(setting: str, name: str, kind: str) -> list[dict[str, Any]]:
    """Return the existing results of all seeds."""
    paths = path_of(setting, name, kind, 0).parent.glob(f"{name}-{kind}-*.json")
    return [json.loads(path.read_text()) for path in sorted(paths, key=lambda path: int(path.stem.rpartition("-")[2]))]


def last(result: dict[str, Any], score: str) -> float:
    return result["curve"][-1]["scores"].get(score, [math.nan])[0]


def best(result: dict[str, Any], score: str) -> float:
    """Return a score of the checkpoint that is best by ``best_by``."""
    by = result["best_by"]
    curve = [entry["scores"] for entry in result["curve"]]
    return min(curve, key=lambda scores: scores[by][0]).get(score, [math.nan])[0]


def format_mean_std(values: list[float]) -> str:
    """Format the mean and the standard deviation over seeds."""
    if not values or math.isnan(sum(values)):
        return ""
    mean = f"{statistics.fmean(values):.3g}"
    return mean if len(values) == 1 else f"{mean} &plusmn; {statistics.stdev(values):.2g}"


def against(ours: list[float], plain: list[float]) -> str:
    """Compare runs with the plain loop by a score to minimize; return the verdict as text."""
    found = verdict(plain, ours)
    if found == "worse":
        return "ours better" if statistics.fmean(ours) < statistics.fmean(plain) else "**ours worse**"
    return found


def cards(setting: str, results: list[dict[str, Any]]) -> list[str]:
    """Return the hash of each score's card; exit if scores of a table have different cards."""
    lines = []
    for score in SETTINGS[setting].shown:
        hashes = {entry["scores"][score][1] for r in results for entry in r["curve"] if score in entry["scores"]}
        by_hash = {of: card for r in results for of, card in r["cards"].items() if of in hashes}
        if unlike := ", ".join(differences(by_hash.values())):
            raise SystemExit(f"{setting}: {score} was measured in several ways ({unlike}); remove the older files")
        lines += [f"`{score}` {', '.join(f'`{of}`' for of in sorted(by_hash))}"] if by_hash else []
    return lines


def page() -> str:
    """Return the text of docs/results.md."""
    text = [(ROOT / "benchmarks" / "results.md").read_text().rstrip()]
    for key, setting in SETTINGS.items():
        rows = {name: (load(key, name, "ours"), load(key, name, "plain")) for name in setting.runs}
        every = [result for pair in rows.values() for kind in pair for result in kind]
        if not every:
            continue
        text += [f"\n## {setting.title}\n", *([f"{setting.note}\n"] if setting.note else [])]
        text += image_table(key, rows) if setting.plain else point_table(key, rows)
        card = next(iter(every[0]["cards"].values()))
        text.append(
            f"\n{card['num_generated']:,} samples against {card['num_real']:,} real ones ({card['split']} split), "
            f"{card['feature']}. Cards: {'; '.join(cards(key, every))}."
        )
    return "\n".join(text + full_length()) + "\n"


def full_length() -> list[str]:
    """Return the table of cifar10.py's results: scores at 50,000 samples, FID during training, and minutes."""
    reports = {path.stem: json.loads(path.read_text()) for path in sorted((RESULTS / "full").glob("*.json"))}
    if not reports:
        return []
    marks = {"wgan_gp": 16.95, "dcgan": 24.7, "wgan": 40.0, "acgan": 19.9, "cgan": 25.4}
    shown = "fid", "kid", "precision", "recall"
    lines = [
        "\n## CIFAR-10 at full length\n",
        'Made by `python benchmarks/cifar10.py`; "mark" is the best FID of another',
    ]
    lines += ["repository with 50,000 samples against the training set. The curve is FID at fewer samples.\n"]
    lines += ["| | steps | minutes | device |" + "".join(f" {name} |" for name in shown) + " mark | card | curve |"]
    lines += ["|---" * (7 + len(shown)) + "|"]
    for name, report in reports.items():
        scores = {score["metric"]: score for score in report["final"][-1]["scores"]}
        steps = f"{report['step']:,}" + ("" if report["finished"] else ", unfinished")
        curve = ", ".join(f"{step:,}: {value:.1f}" for step, value in report["curve"])
        cells = [name, steps, f"{report['seconds'] / 60:.0f}", report["device"]]
        cells += [f"{scores[score]['value']:.4g}" if score in scores else "" for score in shown]
        lines.append(f"| {' | '.join(map(str, [*cells, marks[name], scores['fid']['card_hash'], curve]))} |")
    return lines


def image_table(key: str, rows: dict[str, tuple[list, list]]) -> list[str]:
    """Return the table of scores of the last and the best checkpoint and of the plain loop, and the sample grids."""
    first, *others = SETTINGS[key].shown
    head = f"| | seeds | {first}, last | {first}, best | plain, last | plain, best | last against plain |"
    lines = [head + "".join(f" {name} |" for name in others), "|---" * (7 + len(others)) + "|"]
    for name, (ours, plain) in rows.items():
        if not ours:
            continue
        scores = [format_mean_std([pick(r, first) for r in kind]) for kind in (ours, plain) for pick in (last, best)]
        compared = against([last(r, first) for r in ours], [last(r, first) for r in plain]) if plain else ""
        more = [format_mean_std([last(r, score) for r in ours]) for score in others]
        seeds_of = f"{len(ours)}" if len(ours) == len(plain) else f"{len(ours)}, {len(plain)} plain"
        lines.append(f"| {name} | {seeds_of} | {' | '.join([*scores, compared, *more])} |")
    return lines + gallery(key, rows)


def gallery(key: str, rows: Iterable[str]) -> list[str]:
    """Return a table of the sample grids of the runs with seed 0."""
    kinds = ("ours", "plain") if SETTINGS[key].plain else ("ours",)
    names = [name for name in rows if (IMAGES / key / f"{name}-ours.png").exists()]
    if not names:
        return []
    lines = ["", "| |" + "".join(f" {name} |" for name in names), "|---" * (1 + len(names)) + "|"]
    for kind in kinds:
        paths = [IMAGES / key / f"{name}-{kind}.png" for name in names]
        cells = [
            f"![{path.stem} on {key}](images/results/{key}/{path.name})" if path.exists() else "" for path in paths
        ]
        lines.append(f"| {kind} | {' | '.join(cells)} |")
    return lines


PUBLISHED = {
    "ring": [("GAN, PacGAN's table 1", "6.3", "98.2 %"), ("GAN, GDPP's table 1", "1", "99.3 %"),
             ("WGAN-GP, GDPP's table 1", "6.8", "59.6 %"), ("PacGAN2", "7.9", "95.6 %"), ("GDPP", "8.0", "71.7 %")],
    "grid": [("GAN, PacGAN's table 1", "17.3", "94.8 %"), ("GAN, GDPP's table 1", "3.3", "0.5 %"),
             ("WGAN-GP, GDPP's table 1", "24.2", "28.7 %"), ("PacGAN2", "23.8", "91.3 %"), ("GDPP", "24.8", "68.5 %")],
}  # fmt: skip


def point_table(key: str, rows: dict[str, tuple[list, list]]) -> list[str]:
    """Return the table of modes, share of good samples and reverse KL, with published numbers."""
    head = "| | seeds | weights | modes | runs with all modes | good samples | least | reverse KL |"
    lines = [head, "|---" * 8 + "|"]
    for name, (ours, _) in rows.items():
        if not ours:
            continue
        found = {score: [last(r, score) for r in ours] for score in MODES}
        of = 8 if key == "ring" else 25
        weights = next(iter(ours[0]["cards"].values()))["weights"]
        full, good = sum(modes == of for modes in found["modes"]), [100 * share for share in found["quality"]]
        cells = [f"`experiment={name}_gaussian_{key}`", len(ours), weights, format_mean_std(found["modes"]), full]
        cells += [f"{format_mean_std(good)} %", f"{min(good):.1f} %", format_mean_std(found["reverse_kl"])]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    lines += [f"| {source} | 10 | | {modes} | | {quality} | | |" for source, modes, quality in PUBLISHED[key]]
    return lines + gallery(key, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", default="", help="runs whose name contains this: mnist/acgan-plain, cifar10, ...")
    parser.add_argument("--seeds", type=int, help="number of seeds (default: that of each setting)")
    parser.add_argument("--page", action="store_true", help="only write the page")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="torch's (%(default)s)")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    for pattern in IGNORED_WARNINGS:
        warnings.filterwarnings("ignore", pattern)
    selected = [
        (key, name, kind, seed)
        for key, setting in SETTINGS.items()
        for seed in range(setting.first, setting.first + (args.seeds or setting.seeds))
        for name in setting.runs
        for kind in (("ours", "plain") if setting.plain else ("ours",))
        if args.only in f"{key}/{name}-{kind}-{seed}"
    ]
    for run in [] if args.page else selected:
        if not path_of(*run).exists():
            print("{}/{}-{}-{}".format(*run), flush=True)
            run_and_save(*run)
    with atomic_write(ROOT / "docs" / "results.md", "w") as file:
        file.write(page())


if __name__ == "__main__":
    main()
