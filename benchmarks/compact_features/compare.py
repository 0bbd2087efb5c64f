"""Compare students with Inception by how their Fréchet distances order the image sets.

    python benchmarks/compact_features/compare.py --student data/compact_features/students/distilled-64.safetensors

The distance of each set to the reference of its data set is computed through Inception's cached features (teacher.py
sets) and through each student. Written are ``OUT/comparison/STUDENT.json``, a scatter plot of the same name, and the
distances, ``OUT/comparison/distances-NETWORK.json``, of which those that exist are not computed again.

- All generated sets: Spearman correlation of the distances, with a 95 % bootstrap interval over sets.
- Pooled within data sets: distances are replaced by ranks within their data set, divided by the number of its sets,
  and the ranks of all data sets are correlated (Pearson). A difference in level between data sets has no effect.
- Degraded sets: the same, and whether the distance increases from severity 1 to 3 for each kind.
"""

import argparse
import hashlib
import json
import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from degradations import SEVERITIES
from image_sets import DATA, OUT, REAL, REFERENCE, hash_of, sets_of
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from scipy.stats import rankdata
from student import load_student
from teacher import features_path

from gan_lightning.io.files import atomic_write
from gan_lightning.io.image import write_png
from gan_lightning.io.plot import rendered
from gan_lightning.metric.fid import distance, statistics

RESAMPLES = 2000
Statistic = Callable[[np.ndarray], float]
Distances = dict[str, float]


def spearman(x: Sequence[float], y: Sequence[float]) -> float:
    """Return Spearman's correlation; NaN for fewer than three values or equal ones."""
    return correlation(rankdata(x), rankdata(y))


def pooled_spearman(groups: Sequence[str], x: Sequence[float], y: Sequence[float]) -> float:
    """Return the correlation of ranks within groups, pooled over groups.

    A rank r among n is replaced by (r - 0.5) / n, which has the same mean, 0.5, in groups of all sizes.
    """
    ranks = np.empty((2, len(groups)))
    names = np.asarray(groups)
    for name in np.unique(names):
        rows = np.flatnonzero(names == name)
        for number, values in enumerate((x, y)):
            ranks[number, rows] = (rankdata(np.asarray(values)[rows]) - 0.5) / len(rows)
    return correlation(*ranks)


def correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Return Pearson's correlation; NaN for fewer than three values or equal ones."""
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return math.nan
    return float(np.corrcoef(x, y)[0, 1])  # a tenth of the time of scipy's, which matters for a bootstrap


def bootstrap(groups: Sequence[str], statistic: Statistic, resamples: int = RESAMPLES) -> list[float]:
    """Return the 95 % percentile interval of a statistic over resampled sets.

    Args:
        groups: Group of each set; as many sets of each group are drawn, with replacement, as it has.
        statistic: Maps indices of sets to a number; NaN is left out.
        resamples: Number of draws, from a fixed seed.
    """
    rng, names = np.random.default_rng(0), np.asarray(groups)
    members = [np.flatnonzero(names == name) for name in np.unique(names)]
    values = [statistic(np.concatenate([rng.choice(rows, len(rows)) for rows in members])) for _ in range(resamples)]
    return np.nanpercentile(values, (2.5, 97.5)).round(3).tolist() if np.isfinite(values).any() else [math.nan] * 2


def correlations(names: Sequence[str], x: Distances, y: Distances) -> dict[str, Any]:
    """Return Spearman's correlation of the distances of sets, over all and pooled within data sets, with intervals."""
    if len(names) < 3:
        return {"sets": len(names)}
    groups = np.array([data_of(name) for name in names])
    a, b = np.array([x[name] for name in names]), np.array([y[name] for name in names])
    return {
        "sets": len(names),
        "spearman": round(spearman(a, b), 3),
        "interval": bootstrap(groups, lambda rows: spearman(a[rows], b[rows])),
        "pooled": round(pooled_spearman(groups, a, b), 3),
        "pooled_interval": bootstrap(groups, lambda rows: pooled_spearman(groups[rows], a[rows], b[rows])),
    }


def data_of(name: str) -> str:
    """Return the data set of an image set."""
    return name.partition("/")[0]


def kind_of(name: str) -> tuple[str, int]:
    """Return the degradation and its severity of an image set; ``("", 0)`` for others."""
    kind, _, severity = name.partition("/")[2].rpartition("-")
    return (kind, int(severity)) if kind in SEVERITIES else ("", 0)


def increasing(values: Sequence[float]) -> bool:
    """Return whether each value is larger than the one before."""
    return all(before < after for before, after in pairwise(values))


def compare(teacher: Distances, student: Distances) -> dict[str, Any]:
    """Compare the distances of all sets (``cifar10/dcgan-300``) through two networks."""
    names = sorted(teacher.keys() & student.keys())
    generated = [name for name in names if not kind_of(name)[0] and not name.endswith(f"/{REAL}")]
    degraded = [name for name in names if kind_of(name)[0]]

    def among(chosen: list[str], wanted: Callable[[str], bool]) -> dict[str, Any]:
        return correlations([name for name in chosen if wanted(data_of(name))], teacher, student)

    kinds: dict[str, Any] = {}
    for name in degraded:
        kinds.setdefault(f"{data_of(name)}/{kind_of(name)[0]}", {})
    for key, entry in kinds.items():
        members = [f"{key}-{severity}" for severity in (1, 2, 3)]
        for network, values in (("inception", teacher), ("student", student)):
            found = [values[name] for name in members if name in values]
            entry[network] = {"distances": [round(value, 4) for value in found], "monotone": increasing(found)}
            if (real := values.get(f"{data_of(key)}/{REAL}")) is not None:
                entry[network] |= {"real": round(real, 4), "above_real": all(value > real for value in found)}
    return {
        "generated": {
            "all": correlations(generated, teacher, student),
            "colour": among(generated, lambda name: DATA[name].colour),
            "unseen": among(generated, lambda name: not DATA[name].seen),
            "gray": among(generated, lambda name: not DATA[name].colour),
            "by_data": {data: among(generated, lambda name, data=data: name == data) for data in DATA},
        },
        "degraded": {
            "all": correlations(degraded, teacher, student),
            "by_data": {data: among(degraded, lambda name, data=data: name == data) for data in DATA},
            "kinds": kinds,
            "not_monotone": [key for key, entry in kinds.items() if not entry["student"]["monotone"]],
            "not_monotone_inception": [key for key, entry in kinds.items() if not entry["inception"]["monotone"]],
        },
        "distances": {name: [round(teacher[name], 4), round(student[name], 5)] for name in names},
    }


def distances(
    out: Path, network: str, network_hash: str, features: Callable[[str, Path], np.ndarray | None]
) -> Distances:
    """Return the Fréchet distance of each set to its reference, computed where it is not stored.

    Args:
        out: Folder of the results.
        network: Name of the network, for the file.
        network_hash: Hash of its weights; others' distances are not used.
        features: Maps name and path of a set to features (N, D); None where there are none yet.
    """
    path = out / "comparison" / f"distances-{network}.json"
    stored = json.loads(path.read_text()) if path.exists() else {}
    stored = stored if stored.get("network") == network_hash else {"network": network_hash, "sets": {}}
    references: dict[str, tuple[str, dict[str, torch.Tensor]] | None] = {}
    found = {}
    for name, file in sets_of(out).items():
        data = data_of(name)
        if name.endswith(f"/{REFERENCE}"):
            reference = features(name, file)
            of = hash_of(np.load(file))
            references[data] = None if reference is None else (of, statistics(torch.from_numpy(reference)))
            continue
        if (prepared := references.get(data)) is None:
            print(f"{network}: {name} is left out: {data}/{REFERENCE} has no features", flush=True)
            continue
        identity = [hash_of(np.load(file)), prepared[0]]
        entry = stored["sets"].get(name)
        if entry is None or entry["sha256"] != identity:
            values = features(name, file)
            if values is None:
                print(f"{network}: {name} is left out: it has no features", flush=True)
                continue
            entry = {"sha256": identity, "distance": distance(prepared[1], statistics(torch.from_numpy(values)))}
            stored["sets"][name] = entry
            with atomic_write(path, "w") as handle:
                json.dump(stored, handle, indent=1)
            print(f"{network}: {name} {entry['distance']:.4g}", flush=True)
        found[name] = entry["distance"]
    return found


def inception_distances(out: Path) -> Distances:
    """Return the distances through Inception's cached features."""
    descriptions = sorted((out / "features" / "inception").glob("*/*.json"))
    hashes = {json.loads(path.read_text())["network"] for path in descriptions}
    if len(hashes) != 1:
        raise SystemExit(f"{out / 'features'}: {len(hashes)} networks, and one is needed; run teacher.py sets")

    def cached(name: str, file: Path) -> np.ndarray | None:
        path = features_path(out, name)
        if not path.exists():
            return None
        current = json.loads(path.with_suffix(".json").read_text())["sha256"] == hash_of(np.load(file))
        return np.load(path) if current else None

    return distances(out, "inception", hashes.pop(), cached)


def student_distances(out: Path, path: Path) -> Distances:
    """Return the distances through a student."""
    network = load_student(path)

    def computed(_: str, file: Path) -> np.ndarray:
        return network.features(torch.from_numpy(np.load(file))).numpy()

    return distances(out, path.stem, hashlib.sha256(path.read_bytes()).hexdigest(), computed)


def plot(report: dict[str, Any], title: str) -> torch.Tensor:
    """Plot the distances of generated and of degraded sets, logarithmic, as a uint8 image (3, H, W)."""
    figure = Figure(figsize=(11, 5), dpi=100, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    panels = {"generated": "generated sets", "degraded": "degraded real images"}
    for position, (part, name) in enumerate(panels.items(), 1):
        axes, scores = figure.add_subplot(1, 2, position), report[part]["all"]
        for data in DATA:
            chosen = [
                pair
                for key, pair in report["distances"].items()
                if data_of(key) == data and (bool(kind_of(key)[0]) or key.endswith(f"/{REAL}")) == (part == "degraded")
            ]
            if chosen:
                marker = "o" if DATA[data].seen else "^"
                axes.scatter(*zip(*chosen, strict=True), s=22, marker=marker, alpha=0.8, label=data)
        scored = f"Spearman {scores['spearman']:.2f}, pooled {scores['pooled']:.2f}" if "spearman" in scores else ""
        axes.set(xscale="log", yscale="log", xlabel="Inception's FID", ylabel=f"distance through {title}")
        axes.set_title(f"{name} {scored}", fontsize=10)
        axes.grid(alpha=0.3)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize=8)
    return rendered(canvas)


def summary(report: dict[str, Any]) -> str:
    """Return the main scores as text."""
    lines = []
    for part, key in (("generated", "all"), ("generated", "colour"), ("generated", "unseen"), ("generated", "gray"),
                      ("degraded", "all")):  # fmt: skip
        entry = report[part][key]
        if "spearman" in entry:
            low, high = entry["interval"]
            lower, upper = entry["pooled_interval"]
            lines.append(f"{part:9} {key:7} {entry['sets']:3} sets: {entry['spearman']:.3f} [{low:.2f}, {high:.2f}], "
                         f"pooled {entry['pooled']:.3f} [{lower:.2f}, {upper:.2f}]")  # fmt: skip
    for key in ("not_monotone", "not_monotone_inception"):
        lines.append(f"{key.replace('_', ' ')}: {', '.join(report['degraded'][key]) or 'none'}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--student", type=Path, nargs="+", default=[], help="safetensors files; default: all")
    parser.add_argument("--out", type=Path, default=OUT, help="folder of the results (%(default)s)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="torch's (%(default)s)")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    teacher = inception_distances(args.out)
    for path in args.student or sorted((args.out / "students").glob("*.safetensors")):
        report = compare(teacher, student_distances(args.out, path))
        target = args.out / "comparison" / f"{path.stem}.json"
        with atomic_write(target, "w") as file:
            json.dump(report, file, indent=1)
        write_png(target.with_suffix(".png"), plot(report, path.stem))
        print(f"{path.stem}\n{summary(report)}\n{target}", flush=True)


if __name__ == "__main__":
    main()
