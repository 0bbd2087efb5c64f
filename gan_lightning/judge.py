"""Judges checkpoints and folders of pictures, as gan-evaluate was asked to."""

import itertools
import json
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from gan_lightning.asked import HELD_OUT, Asked, merged
from gan_lightning.checkpoint import config_of, load_model, read, refuse_absent_data, refuse_foreign
from gan_lightning.class_names import refuse_other_order
from gan_lightning.comparison import Row, settings
from gan_lightning.config.validation import nearest
from gan_lightning.data.image_folder import ImageFolder
from gan_lightning.errors import UserError, printable
from gan_lightning.evaluation import Evaluation
from gan_lightning.image import write_png
from gan_lightning.instantiate import instantiate
from gan_lightning.learner import Learner
from gan_lightning.metric import Seen
from gan_lightning.run import read_result


def evaluate_one(path: Path, kind: str, asked: Asked, out: Path, judges: dict[str, Evaluation]) -> Row:
    """Scores of one checkpoint or folder of pictures."""
    if kind == "nothing":
        raise UserError(f"{path}: this run has left no {asked.own.which} checkpoint; its result.json may say why")
    ended = ended_early(path.parent.parent) if kind == "checkpoint" else ""
    print(f"evaluating {printable(str(path))}{ended}", flush=True)
    drawn_from = of_checkpoint if kind == "checkpoint" else of_pictures
    judge, fake, made, row = drawn_from(path, asked, judges)
    scores = judge.judge(fake, made)
    row.scores = [score.line() | {"direction": judge.directions.get(score.name, 0)} for score in scores]
    for line in judge.histogram(scores):
        print(f"  {printable(line)}")
    if (drawn := judge.neighbours(fake)) is not None:
        parts = path.with_suffix("").parts[-4:]
        where = "_".join(part for part in parts if part not in ("checkpoints", "..", path.anchor))
        names = (f"{out.name}_neighbours_{where}{f'_{count}' * (count > 1)}.png" for count in itertools.count(1))
        file = next(file for file in map(out.with_name, names) if not file.exists())
        write_png(file, drawn)
        print(f"in each row a sample, then its nearest training pictures  {file}")
    return row


def ended_early(run: Path) -> str:
    """Return how a run ended early, for a message; empty where it finished, or where its result is unknown."""
    result = read_result(run)
    known = {"status", "error"} <= result.keys() and result["status"] != "finished"
    return f", of a run that {printable(str(result['error']))}" if known else ""


def of_checkpoint(path: Path, asked: Asked, judges: dict[str, Evaluation]) -> tuple[Evaluation, Seen, dict, Row]:
    """Who judges a checkpoint, samples that it makes, what their card says, and the row to fill."""
    checkpoint = read(path)
    # Resolved before it is looked at: what is built must be what was looked at.
    stored = OmegaConf.create(OmegaConf.to_container(config_of(checkpoint), resolve=True))
    if not asked.own.trust:
        parts = {key: stored.get(key) for key in ("data", "feature", "metric", "eval") if key not in asked.sections}
        refuse_foreign(OmegaConf.to_container(OmegaConf.create(parts)), path)
        if "data" not in asked.sections:
            refuse_absent_data(config_of(checkpoint), path, asked.values)
    model = load_model(path, asked.own.trust, checkpoint).to(device())
    judge = judge_of(path, merged(stored, asked), model, asked.own.sort_by, judges)
    row = Row(str(path), experiment_of(checkpoint, path), int(stored.seed), checkpoint["global_step"])
    return judge, judge.draw(model), judge.made_by(model), row


def of_pictures(path: Path, asked: Asked, judges: dict[str, Evaluation]) -> tuple[Evaluation, Seen, dict, Row]:
    """The same of a folder of pictures, or of real samples that are held out."""
    if "data" not in asked.sections:
        if path.is_dir() and not any(path.iterdir()):
            raise UserError(f"{path}: is an empty folder")
        raise UserError(f"{path}: is no run, and needs data to be compared with: data=cifar10, say")
    config = merged(OmegaConf.create({}), asked)
    held_out = str(path) == HELD_OUT
    if held_out and config.eval.split == "test":
        raise UserError("held_out: eval.split=test compares these with themselves; protocol=10k_train does not")
    judge = judge_of(path, config, None, asked.own.sort_by, judges)
    if held_out:
        samples, labels = judge.data.held_out()
        fake = judge.see(*judge.chosen(judge.num, samples, labels))
        card, of = {"origin": "held-out real samples"}, len(samples)
    else:
        *found, of = pictures(path, judge)
        fake, fitted = judge.see(*found), "cropped and resized to {} x {}, bicubic, antialiased"
        card = {"origin": "pictures of a folder", "fitted": fitted.format(*found[0].shape[-2:])}
    card |= {"num_generated": len(fake)} | ({"sampling_seed": judge.seed} if of > judge.num else {})
    return judge, fake, card, Row(str(path), {"model": str(path)}, None, None)


def device() -> torch.device:
    """Where samples are drawn and looked at."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def refuse_other_data(path: Path, model: Learner, data: Any) -> None:
    """Raise UserError where a model makes samples of another shape, or other classes, than the data have."""
    made = tuple(model.sample(1).shape[1:])
    if made != tuple(data.shape):
        ours, theirs = (" x ".join(map(str, shape)) for shape in (made, data.shape))
        right = f"data.image_size=[{made[1]},{made[2]}] data.channels={made[0]}" if len(made) == 3 else "other data"
        raise UserError(f"{path}: makes samples of {ours}, the data are of {theirs}; {right}")
    if model.num_classes and model.num_classes != len(data.class_names):
        raise UserError(f"{path}: has {model.num_classes} classes, and the data have {len(data.class_names)}")
    refuse_other_order(path, model.class_names, data.class_names)


def judge_of(
    path: Path, config: DictConfig, model: Learner | None, sort_by: str | None, judges: dict[str, Evaluation]
) -> Evaluation:
    """An evaluation made ready for a configuration; equal ones are made once.

    Raises:
        UserError: The model makes something else than the data are; or what was typed is not to be had.
    """
    conditional = model is not None and model.num_classes > 0
    plain = OmegaConf.to_container(config, resolve=True)
    for key in ("seed", "batch_size", "flip"):
        if "deviation" not in plain["data"] or key == "batch_size":
            plain["data"].pop(key, None)
    asked = {name: config.eval[name] for name in ("num", "num_real", "split", "labels", "seed", "cache")}
    for name in [name for name, node in plain["metric"].items() if not node]:
        raise UserError(f"metric.{name}: is empty; metric=[...] chooses which are measured")
    key = json.dumps([*(plain[name] for name in ("data", "feature", "metric")), asked, conditional], sort_keys=True)
    if key not in judges:
        data = instantiate(config.data, "data")
        data.setup()
        # Before a classifier is trained for minutes:
        if model is not None:
            refuse_other_data(path, model, data)
        if str(path) == HELD_OUT:
            data.held_out()
        metrics = {name: instantiate(node, f"metric.{name}") for name, node in config.metric.items()}
        judge = Evaluation(instantiate(config.feature, "feature"), metrics, **asked)
        left_out = judge.get_ready(data, conditional, device())
        known = judge.directions
        if sort_by and sort_by not in known:
            raise UserError(f"sort_by={sort_by}: is not measured{nearest(sort_by, known)}; one of {', '.join(known)}")
        for name, why in left_out.items():
            print(f"not measured: {name}, since {why}")
        judges[key] = judge
    elif model is not None:
        refuse_other_data(path, model, judges[key].data)
    return judges[key]


def experiment_of(checkpoint: dict[str, Any], path: Path) -> dict[str, Any]:
    """What a run was, without what may differ among repetitions: choices first, then every value that was set."""
    kept = checkpoint["hyper_parameters"]
    known = ("model", "data", "network", "loss", "experiment")
    chosen = {"model": kept["config"]["model"]["_target_"].split(".")[-2]}
    chosen |= {group: choice for group, choice in kept.get("choices", {}).items() if group in known and choice}
    which = "best" if path.name == "best.ckpt" else f"step {checkpoint['global_step']}"
    return chosen | {"checkpoint": which} | settings(kept["config"])


def pictures(folder: Path, judge: Evaluation) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Pictures (n, C, H, W) of a folder, at most as many as the protocol has, their classes, and how many it holds."""
    if judge.real.samples.ndim != 4:
        raise UserError(f"{folder}: holds pictures, and the data are points")
    channels, *size = judge.real.samples.shape[1:]
    # One torn file among thousands is told and left out; the card counts what was seen.
    found = ImageFolder(folder, size, channels, skip_broken=True)
    paths, labels, class_names = found.find()
    rows = judge.chosen(judge.num, torch.arange(len(paths)))[0].tolist()
    samples, labels, _ = found.decoded([paths[i] for i in rows], [labels[i] for i in rows], class_names, len(paths))
    return samples, labels, len(paths)
