"""gan-evaluate: scores of checkpoints, of all runs of a sweep, or of a folder of pictures, in one table."""

import argparse
import itertools
import json
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from gan_lightning.command_line import Composer, each, leaves, options
from gan_lightning.config import faults_of_feature, faults_of_values, first_line, nearest, walk
from gan_lightning.errors import UserError
from gan_lightning.files import whole

if TYPE_CHECKING:
    import torch

    from gan_lightning.comparison import Row
    from gan_lightning.evaluation import Evaluation
    from gan_lightning.metric import Seen

HELD_OUT = "held_out"
GROUPS = ("protocol", "feature", "metric", "data")

EPILOG = """\
PATH is a checkpoint, the folder of a run or of a sweep, or a .json that this command has written; together with
data=... it may be a folder of pictures, or held_out: the real samples that training never sees. KEY=VALUE is one of

  protocol=10k_test     how many samples, against which real ones; or eval.num, eval.num_real, eval.split, eval.labels
  feature=inception     what the metrics look through; feature.weights=FILE
  metric=all            which metrics
  data=cifar10          other data than those of the run; data.root=FOLDER
  sort_by=fid           the score that the table is sorted by
  which=last            or best, or both: which checkpoints of a run's folder
  out=NAME              writes NAME.json and NAME.csv; evaluation, evaluation-2, ... where nothing is said
  allow=[weights]       compare in spite of this field of the cards
  trust=true            build classes that are not ours, which runs their code

What is not said is as the run itself had it.
"""
# What two runs may differ in and still be repetitions of one experiment.
OF_REPETITION = ("seed", "run_dir", "ckpt_path", "found", "objective", "logger", "eval", "feature", "metric", "hydra")
OF_REPETITION += ("data.root", "trainer.accelerator", "trainer.devices")


@dataclass
class Asked:
    """What was typed.

    Args:
        own: The command's own settings.
        sections: The options of groups that were chosen.
        values: Values by key.
    """

    own: DictConfig
    sections: dict[str, Any] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)


def main() -> None:
    """The command."""
    form = argparse.RawDescriptionHelpFormatter
    take = argparse.ArgumentParser("gan-evaluate", description=__doc__, epilog=EPILOG, formatter_class=form)
    take.add_argument("words", nargs="+", metavar="PATH or KEY=VALUE")
    words = take.parse_args().words
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("gan_lightning").setLevel(logging.INFO)
    try:
        evaluate([Path(word) for word in words if is_path(word)], [word for word in words if not is_path(word)])
    except UserError as fault:
        print(fault, file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:  # whoever was reading has gone, as head does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        print(f"{error.filename}: {error.strerror}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)


def is_path(word: str) -> bool:
    """Whether a word is a path rather than a setting."""
    return "=" not in word or Path(word).exists()


def evaluate(paths: Sequence[Path], typed: Sequence[str]) -> None:
    """Evaluate, print the table, and write it with all scores and their cards.

    Raises:
        UserError: With every fault of what was typed; or the scores cannot be compared.
    """
    asked, faults = parse(typed)
    own = asked.own
    found, missing = sources(paths, own.which)
    out = place(own.out)
    if own.out and any(file.exists() for file in files_of(out)):
        faults.append(f"out={own.out}: {files_of(out)[0]} is there already; choose another name")
    if faults or missing:
        raise UserError(*missing, *faults)
    probe = out.with_name(f".{out.name}.writable")
    with whole(probe):  # told before hours of work
        pass
    probe.unlink()

    from gan_lightning import comparison

    judges: dict[str, Evaluation] = {}
    rows, failed = [], []
    for path, kind in found:
        try:
            if kind == "json":
                rows += read_rows(path)
            else:
                rows.append(evaluate_one(path, kind, asked, out, judges))
        except UserError as fault:  # the others are worth having
            failed += fault.faults
            continue
        except OSError:
            raise
        except Exception as error:  # a file of another version, or one that was tampered with
            failed.append(f"{path}: cannot be evaluated ({type(error).__name__}: {first_line(error)})")
            continue
        with whole(files_of(out)[0], "w") as file:
            json.dump({"rows": [asdict(row) for row in rows]}, file, indent=1)
    if rows:
        if strange := set(each(own.allow)) - {key for row in rows for line in row.scores for key in line["card"]}:
            raise UserError(*(f"allow={name}: no card has such a field" for name in sorted(map(str, strange))))
        comparison.refuse_unlike(rows, each(own.allow))
        tell(rows, own.sort_by, out)
    if failed:
        raise UserError(*dict.fromkeys(failed))


def place(out: str | None) -> Path:
    """Where to write, without the suffix: as was said, or the first name that is free."""
    if out:
        return Path(f"{out}")
    names = (Path(f"evaluation-{number}" if number > 1 else "evaluation") for number in itertools.count(1))
    return next(name for name in names if not any(file.exists() for file in files_of(name)))


def files_of(out: Path) -> tuple[Path, Path]:
    """The JSON file and the table."""
    return out.with_name(f"{out.name}.json"), out.with_name(f"{out.name}.csv")


def tell(rows: Sequence["Row"], sort_by: str | None, out: Path) -> None:
    """Print the table and its cards, and write it as CSV."""
    from gan_lightning import comparison

    names = [*dict.fromkeys(line["metric"] for row in rows for line in row.scores)]
    directions = {line["metric"]: line["direction"] for row in rows for line in row.scores}
    sort_by = sort_by or next(name for name in names if directions[name])
    if sort_by not in names:
        raise UserError(f"sort_by={sort_by}: was not measured{nearest(sort_by, names)}; there are {', '.join(names)}")
    table = comparison.summarise(rows, sort_by, directions[sort_by] or -1)
    print()
    comparison.print_table(table, [name for name in names if directions[name]])
    card = next(line["card"] for row in rows for line in row.scores if line["metric"] == sort_by)
    weights = f"{card['weights']} weights" if "weights" in card else card["origin"]
    print(
        f"\n{card['num_generated']:,} generated against {card['num_real']:,} of {card['data']} ({card['split']}), "
        f"{card['feature']}, {weights}"
    )
    lines = [line for row in rows for line in row.scores]
    cards = {name: dict.fromkeys(line["card_hash"] for line in lines if line["metric"] == name) for name in names}
    print("cards  " + ", ".join(f"{name} {' / '.join(cards[name])}" for name in names))
    for note in dict.fromkeys(note for row in rows for line in row.scores for note in line.get("notes", [])):
        print(f"note: {note}")
    comparison.write_csv(files_of(out)[1], rows)
    print(f"all scores with their cards  {out}.json, {out}.csv")


def parse(typed: Sequence[str]) -> tuple[Asked, list[str]]:
    """What was typed, and what is wrong with it."""
    with Composer(None) as hydra:
        loader, parser, faults = hydra.config_loader, OverridesParser.create(), []
        plain = loader.load_configuration("evaluate", [], RunMode.RUN, from_shell=False)
        chosen, values = [], {}
        for text in typed:
            try:
                (override,) = parser.parse_overrides([text])
            except HydraException:
                faults.append(f"{text}: neither a path that exists nor of the form KEY=VALUE")
                continue
            key, names = override.key_or_group, options(loader, override.key_or_group)
            if override.is_sweep_override():
                faults.append(f"{text}: several values; evaluate them one by one")
            elif names and key not in GROUPS:
                faults.append(f"{key}: a checkpoint says itself what it is; {', '.join(GROUPS)} may be chosen")
            elif not names:
                values[key] = override.value()
            elif wrong := [choice for choice in each(override.value()) if choice not in names]:
                near = nearest(str(wrong[0]), names)
                faults.append(f"{key}={wrong[0]}: no such option{near}; there are {', '.join(names)}")
            else:
                chosen.append(text)
        try:
            composed = loader.load_configuration("evaluate", chosen, RunMode.RUN, from_shell=False)
        except HydraException as error:
            return Asked(plain), [*faults, first_line(error)]
        every = loader.load_configuration("train", [], RunMode.RUN, from_shell=False)
    OmegaConf.set_struct(composed, False)
    groups = {text.partition("=")[0] for text in chosen}
    sections = {name: composed[name] for name in ("data", "feature", "metric") if name in groups}
    if "protocol" in groups:
        sections["eval"] = composed.eval
    own = [key for key in plain if key not in ("eval", "hydra", "seed")]
    for key in [key for key in values if key in own]:
        composed[key] = values.pop(key)
    known = {path for path, _ in walk(every)} | {path for path, _ in walk(composed)}
    for key in values:
        if key in ("data", "feature", "metric", "eval"):
            faults.append(f"{key}={values[key]}: a section; choose an option of it, or set {key}.KEY=VALUE")
        elif key.partition(".")[0] not in ("data", "feature", "metric", "eval"):
            faults.append(f"{key}: there is no such key{nearest(key, [*own, *known])}")
    if composed.which not in ("last", "best", "both"):
        faults.append(f"which={composed.which}: must be one of last, best, both")
        composed.which = "last"
    for key in ("out", "sort_by"):
        if composed[key] is not None and not isinstance(composed[key], str):
            faults.append(f"{key}={composed[key]}: must be a name")
            composed[key] = None
    if composed.out is not None and not Path(composed.out).name:
        faults.append(f"out={composed.out}: must be a name")
        composed.out = None
    if not isinstance(composed.trust, bool):
        faults.append(f"trust={composed.trust}: must be true or false")
    return Asked(composed, sections, values), faults


def sources(paths: Sequence[Path], which: str) -> tuple[list[tuple[Path, str]], list[str]]:
    """What is to be evaluated, each with its kind: checkpoint, pictures, held_out or json; and what is wrong."""
    names = {"last": ["last.ckpt"], "best": ["best.ckpt"], "both": ["last.ckpt", "best.ckpt"]}[which]
    found, faults = [], []
    for path in paths:
        if path.is_file():
            found.append((path, "json" if path.suffix == ".json" else "checkpoint"))
        elif str(path) == HELD_OUT:
            found.append((path, HELD_OUT))
        elif path.is_dir():
            checkpoints = [file for name in names for file in sorted(path.rglob(f"checkpoints/{name}"))]
            checkpoints = checkpoints or [file for name in names for file in [path / name] if file.exists()]
            runs = {file.parent for file in path.rglob("config.yaml")}
            found += [
                (run, "nothing") for run in sorted(runs) if not any(file.is_relative_to(run) for file in checkpoints)
            ]
            if not checkpoints and which != "last" and any(path.rglob("checkpoints/last.ckpt")):
                faults.append(f"{path}: no run in there has a best.ckpt, which evaluation in training keeps")
            found += [(file, "checkpoint") for file in checkpoints]
            found += [] if checkpoints or runs else [(path, "pictures")]
        else:
            faults.append(f"{path}: there is no such file or folder")
    found = [*{(file.resolve(), kind): (file, kind) for file, kind in found}.values()]
    found.sort(key=lambda entry: entry[1] != "json")  # read before anything is written
    if not paths:
        faults.append("nothing to evaluate: name a checkpoint, a run's folder or a folder of pictures")
    return found, faults


def read_rows(path: Path) -> list["Row"]:
    """Rows of an earlier evaluation."""
    from gan_lightning.comparison import Row

    try:
        rows = [Row(**row) for row in json.loads(path.read_text())["rows"]]
        needed = {"metric", "value", "card", "card_hash", "direction"}
        if not rows or any(needed - line.keys() for row in rows for line in row.scores or [{}]):
            raise ValueError("scores lack something")
        return rows
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: was not written by gan-evaluate") from error


def evaluate_one(path: Path, kind: str, asked: Asked, out: Path, judges: dict[str, "Evaluation"]) -> "Row":
    """Scores of one checkpoint or folder of pictures."""
    if kind == "nothing":
        raise UserError(f"{path}: this run has left no {asked.own.which} checkpoint; its result.json may say why")
    print(f"evaluating {path}", flush=True)
    drawn_from = of_checkpoint if kind == "checkpoint" else of_pictures
    judge, fake, made, row = drawn_from(path, asked, judges)
    scores = judge.judge(fake, made)
    row.scores = [score.line() | {"direction": judge.directions.get(score.name, 0)} for score in scores]
    for line in judge.histogram(scores):
        print(f"  {line}")
    if (drawn := judge.neighbours(fake)) is not None:
        from gan_lightning.image import write_png

        parts = path.with_suffix("").parts[-4:]
        where = "_".join(part for part in parts if part not in ("checkpoints", "..", path.anchor))
        file = out.with_name(f"{out.name}_neighbours_{where}.png")
        write_png(file, drawn)
        print(f"samples and their nearest training pictures  {file}")
    return row


def of_checkpoint(
    path: Path, asked: Asked, judges: dict[str, "Evaluation"]
) -> tuple["Evaluation", "Seen", dict, "Row"]:
    """Who judges a checkpoint, samples that it makes, what their card says, and the row to fill."""
    from gan_lightning.checkpoint import config_of, load_model, read, refuse_foreign
    from gan_lightning.comparison import Row

    checkpoint = read(path)
    # Resolved before it is looked at: what is built must be what was looked at.
    stored = OmegaConf.create(OmegaConf.to_container(config_of(checkpoint), resolve=True))
    if not asked.own.trust:
        parts = {key: stored.get(key) for key in ("data", "feature", "metric", "eval") if key not in asked.sections}
        refuse_foreign(OmegaConf.to_container(OmegaConf.create(parts)), path)
    model = load_model(path, asked.own.trust).to(device())
    judge = judge_of(merged(stored, asked), model.num_classes > 0, asked.own.sort_by, judges)
    refuse_other_data(path, model, judge.data)
    row = Row(str(path), experiment_of(checkpoint, path), int(stored.seed), checkpoint["global_step"])
    return judge, judge.draw(model), judge.made_by(model), row


def of_pictures(path: Path, asked: Asked, judges: dict[str, "Evaluation"]) -> tuple["Evaluation", "Seen", dict, "Row"]:
    """The same of a folder of pictures, or of real samples that are held out."""
    from gan_lightning.comparison import Row

    if "data" not in asked.sections:
        raise UserError(f"{path}: is no run, and needs data to be compared with: data=cifar10, say")
    config = merged(OmegaConf.create({}), asked)
    held_out = str(path) == HELD_OUT
    if held_out and config.eval.split == "test":
        raise UserError("held_out: eval.split=test compares these with themselves; protocol=10k_train does not")
    judge = judge_of(config, False, asked.own.sort_by, judges)
    if held_out:
        fake, made = judge.see(*(part[: judge.num] for part in judge.data.held_out())), "held-out real samples"
    else:
        fake, made = judge.see(*pictures(path, judge)), "pictures of a folder"
    card = {"num_generated": len(fake), "origin": made}
    if not held_out:
        card["fitted"] = "cropped and resized to {} x {}, bicubic, antialiased".format(*fake.samples.shape[-2:])
    return judge, fake, card, Row(str(path), {"model": str(path)}, None, None)


def device() -> "torch.device":
    """Where samples are drawn and looked at."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def refuse_other_data(path: Path, model: Any, data: Any) -> None:
    """Raise UserError where a model makes samples of another shape, or other classes, than the data have."""
    made = tuple(model.sample(1).shape[1:])
    if made != tuple(data.shape):
        ours, theirs = (" x ".join(map(str, shape)) for shape in (made, data.shape))
        raise UserError(f"{path}: makes samples of {ours}, the data are of {theirs}; data.image_size, data.channels")
    if model.num_classes and model.num_classes != len(data.class_names):
        raise UserError(f"{path}: has {model.num_classes} classes, and the data have {len(data.class_names)}")


def merged(stored: DictConfig, asked: Asked) -> DictConfig:
    """What a run was evaluated by, with what was typed in its place.

    Raises:
        UserError: A key that the chosen data, feature or metric do not have, or a value that they do not take.
    """
    config = OmegaConf.create({"seed": 0, **{key: asked.own[key] for key in ("feature", "metric", "eval")}})
    for part in (stored, OmegaConf.create(asked.sections)):
        for key in part:
            if key == "eval":
                config.eval = OmegaConf.merge(config.eval, part._get_node("eval"))
            else:
                config[key] = part._get_node(key)
    known, faults = dict(walk(config)), []
    for key, value in asked.values.items():
        if key in known or (key.startswith("feature.network") and "network" in config.feature):
            OmegaConf.update(config, key, value, merge=True, force_add=True)
        else:
            faults.append(f"{key}: there is no such key{nearest(key, known)}")
    chosen = OmegaConf.create({key: config[key] for key in ("seed", "data", "feature", "metric", "eval")})
    faults += faults_of_values(chosen, {}) or faults_of_feature(chosen)
    if faults:
        raise UserError(*faults)
    return chosen


def judge_of(
    config: DictConfig, conditional: bool, sort_by: str | None, judges: dict[str, "Evaluation"]
) -> "Evaluation":
    """An evaluation made ready for a configuration; equal ones are made once."""
    from gan_lightning.evaluation import Evaluation
    from gan_lightning.train import build

    plain = OmegaConf.to_container(config, resolve=True)
    for key in ("seed", "batch_size", "flip"):
        if "deviation" not in plain["data"] or key == "batch_size":
            plain["data"].pop(key, None)
    asked = {name: config.eval[name] for name in ("num", "num_real", "split", "labels", "seed", "cache")}
    for name in [name for name, node in plain["metric"].items() if not node]:
        raise UserError(f"metric.{name}: is empty; metric=[...] chooses which are measured")
    key = json.dumps([*(plain[name] for name in ("data", "feature", "metric")), asked, conditional], sort_keys=True)
    if key not in judges:
        data = build(config.data, "data")
        data.setup()
        metrics = {name: build(node, f"metric.{name}") for name, node in config.metric.items()}
        judges[key] = Evaluation(build(config.feature, "feature"), metrics, **asked)
        left_out = judges[key].get_ready(data, conditional, device())
        known = [name for metric in metrics.values() for name in (*metric.lower, *metric.higher)]
        if sort_by and sort_by not in known:
            raise UserError(f"sort_by={sort_by}: is not measured{nearest(sort_by, known)}; one of {', '.join(known)}")
        for name, why in left_out.items():
            print(f"not measured: {name}, since {why}")
    return judges[key]


def experiment_of(checkpoint: dict[str, Any], path: Path) -> dict[str, Any]:
    """What a run was, without what may differ among repetitions: choices first, then every value that was set."""
    kept = checkpoint["hyper_parameters"]
    known = ("model", "data", "network", "loss", "experiment")
    chosen = {"model": kept["config"]["model"]["_target_"].split(".")[-2]}
    chosen |= {group: choice for group, choice in kept.get("choices", {}).items() if group in known}
    values = {
        key: value
        for key, value in leaves(kept["config"])
        if not any(key == part or key.startswith(f"{part}.") for part in OF_REPETITION)
        and (not key.startswith("callbacks.") or key.startswith("callbacks.learning_rate."))
        and "${" not in str(value)
    }
    which = "best" if path.name == "best.ckpt" else f"step {checkpoint['global_step']}"
    return chosen | {"checkpoint": which} | values


def pictures(folder: Path, judge: "Evaluation") -> tuple[Any, Any]:
    """Pictures (n, C, H, W) of a folder and their classes, at most as many as the protocol has, of the data's size."""
    from gan_lightning.data.image_folder import ImageFolder

    if judge.real.samples.ndim != 4:
        raise UserError(f"{folder}: holds pictures, and the data are points")
    channels, *size = judge.real.samples.shape[1:]
    found = ImageFolder(folder, size, channels, limit=judge.num)
    found.setup()
    return found.samples, found.labels


if __name__ == "__main__":
    main()
