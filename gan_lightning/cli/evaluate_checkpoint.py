"""Evaluation of a checkpoint or of a folder of images for gan-evaluate."""

import itertools
import json
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from gan_lightning.cli.evaluate_request import HELD_OUT, EvaluateRequest, resolve_config
from gan_lightning.config.description import undescribed
from gan_lightning.config.instantiate import instantiate
from gan_lightning.config.validation import suggest
from gan_lightning.data.image_folder import ImageFolder
from gan_lightning.errors import UserError, escape_control, first_and_count
from gan_lightning.evaluation.compare import Row, comparable_settings
from gan_lightning.evaluation.evaluator import Evaluator
from gan_lightning.io.class_names import check_class_order
from gan_lightning.io.image import write_png
from gan_lightning.metric import FeatureSet
from gan_lightning.model.base import GenerativeModel
from gan_lightning.model.sampling import SamplingMixin
from gan_lightning.run.checkpoint import config_of, load_model, read
from gan_lightning.run.run_dir import read_result
from gan_lightning.run.trust import check_data_exists, check_trusted

MAX_LISTED = 3  # classes in a message


def evaluate_one(path: Path, kind: str, request: EvaluateRequest, out: Path, evaluators: dict[str, Evaluator]) -> Row:
    """Evaluate one checkpoint or folder of images; print a histogram, and write a figure if a metric has one."""
    if kind == "nothing":
        raise UserError(f"{path}: this run has no {request.own.which} checkpoint; see its result.json")
    ended = ended_early(path.parent.parent) if kind == "checkpoint" else ""
    print(f"evaluating {escape_control(str(path))}{ended}", flush=True)
    prepare = prepare_checkpoint if kind == "checkpoint" else prepare_image_folder
    evaluator, fake, card, row = prepare(path, request, evaluators)
    scores = evaluator.score(fake, card)
    row.scores = [score.line() | {"direction": evaluator.directions.get(score.name, 0)} for score in scores]
    for line in evaluator.histogram(scores):
        print(f"  {escape_control(line)}")
    if (figure := evaluator.neighbours(fake)) is not None:
        parts = path.with_suffix("").parts[-4:]
        source = "_".join(part for part in parts if part not in ("checkpoints", "..", path.anchor))
        names = (f"{out.name}_neighbours_{source}{f'_{count}' * (count > 1)}.png" for count in itertools.count(1))
        file = next(file for file in map(out.with_name, names) if not file.exists())
        write_png(file, figure)
        print(f"samples beside their nearest training images  {file}")
    return row


def ended_early(run: Path) -> str:
    """Return how a run ended early, for a message; empty if it finished or its result is unknown."""
    result = read_result(run)
    known = {"status", "error"} <= result.keys() and result["status"] != "finished"
    return f", of a run that {escape_control(str(result['error']))}" if known else ""


def prepare_checkpoint(
    path: Path, request: EvaluateRequest, evaluators: dict[str, Evaluator]
) -> tuple[Evaluator, FeatureSet, dict, Row]:
    """Return the evaluator for a checkpoint, samples of it, their part of the card, and a row without scores."""
    checkpoint = read(path)
    # Resolved before the check, so that the configuration that is checked is the one that is instantiated.
    stored = OmegaConf.create(OmegaConf.to_container(config_of(checkpoint), resolve=True))
    if "data" not in request.sections and (found := undescribed(OmegaConf.to_container(stored.data))):
        raise UserError(
            f"{path}: was trained in Python on {first_and_count(found, MAX_LISTED)}, which a checkpoint does not hold; "
            "evaluate it there with gan_lightning.evaluate(model, data), or on other data: data=OPTION"
        )
    if not request.own.trust_checkpoint:
        parts = {key: stored.get(key) for key in ("data", "feature", "metric", "eval") if key not in request.sections}
        check_trusted(OmegaConf.to_container(OmegaConf.create(parts)), path)
        if "data" not in request.sections:
            check_data_exists(config_of(checkpoint), path, request.values)
    model = load_model(path, request.own.trust_checkpoint, checkpoint).to(device())
    evaluator = evaluator_for(path, resolve_config(stored, request), model, request.own.sort_by, evaluators)
    row = Row(str(path), experiment_of(checkpoint, path), int(stored.seed), checkpoint["global_step"])
    return evaluator, evaluator.draw(model), evaluator.generation_card(model), row


def prepare_image_folder(
    path: Path, request: EvaluateRequest, evaluators: dict[str, Evaluator]
) -> tuple[Evaluator, FeatureSet, dict, Row]:
    """Return the same as ``prepare_checkpoint`` for a folder of images, or for held-out real samples."""
    if "data" not in request.sections:
        if path.is_dir() and not any(path.iterdir()):
            raise UserError(f"{path}: is an empty folder")
        raise UserError(f"{path}: is not a run; a folder of images needs data to compare with, such as data=cifar10")
    config = resolve_config(OmegaConf.create({}), request)
    held_out = str(path) == HELD_OUT
    card: dict[str, Any]
    if held_out and config.eval.reference == "test":
        raise UserError(
            "held_out: eval.reference=test would compare these samples with themselves; use protocol=10k_train"
        )
    evaluator = evaluator_for(path, config, None, request.own.sort_by, evaluators)
    if held_out:
        samples, labels = evaluator.data.held_out()
        fake = evaluator.extract_features(*evaluator.subset(evaluator.num_generated, samples, labels))
        card, total = {"origin": "held-out real samples"}, len(samples)
    else:
        images, labels, total = load_images(path, evaluator)
        fake, (height, width) = evaluator.extract_features(images, labels), images.shape[-2:]
        fitted = f"cropped and resized to {height} x {width}, bicubic, antialiased"
        card = {"origin": "images of a folder", "fitted": fitted}
    card |= {"num_generated": len(fake)} | (
        {"sampling_seed": evaluator.seed} if total > evaluator.num_generated else {}
    )
    return evaluator, fake, card, Row(str(path), {"model": str(path)}, None, None)


def device() -> torch.device:
    """Return the device for generating samples and extracting features."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def check_same_data(path: Path, model: SamplingMixin, data: Any) -> None:
    """Raise UserError if the shape or the classes of a model's samples differ from those of the data."""
    shape = tuple(model.sample(1).shape[1:])
    if shape != tuple(data.shape):
        generated, real = (" x ".join(map(str, sizes)) for sizes in (shape, data.shape))
        fix = f"data.image_size=[{shape[1]},{shape[2]}] data.channels={shape[0]}" if len(shape) == 3 else "other data"
        raise UserError(f"{path}: generates samples of {generated}, the data are of {real}; use {fix}")
    if model.num_classes and model.num_classes != len(data.class_names):
        raise UserError(f"{path}: has {model.num_classes} classes, and the data have {len(data.class_names)}")
    check_class_order(path, model.class_names, data.class_names)


def evaluator_for(
    path: Path, config: DictConfig, model: GenerativeModel | None, sort_by: str | None, evaluators: dict[str, Evaluator]
) -> Evaluator:
    """Return an evaluator that is set up for a configuration, shared by checkpoints with equal configurations.

    Raises:
        UserError: The model does not fit the data, or a setting is unavailable.
    """
    conditional = model is not None and model.num_classes > 0
    plain = OmegaConf.to_container(config, resolve=True)
    for key in ("seed", "batch_size", "flip"):
        if "std" not in plain["data"] or key == "batch_size":
            plain["data"].pop(key, None)
    names = ("num_generated", "num_real", "reference", "label_distribution", "seed", "cache")
    arguments = {name: config.eval[name] for name in names}
    for name in [name for name, node in plain["metric"].items() if not node]:
        raise UserError(f"metric.{name}: is empty; choose metrics with metric=[...]")
    key = json.dumps([*(plain[name] for name in ("data", "feature", "metric")), arguments, conditional], sort_keys=True)
    if key not in evaluators:
        data = instantiate(config.data, "data")
        data.setup()
        # Checked before a classifier is trained for minutes:
        if model is not None:
            check_same_data(path, model, data)
        if str(path) == HELD_OUT:
            data.held_out()
        metrics = {name: instantiate(node, f"metric.{name}") for name, node in config.metric.items()}
        evaluator = Evaluator(instantiate(config.feature, "feature"), metrics, **arguments)
        left_out = evaluator.setup(data, conditional, device())
        scores = evaluator.directions
        if sort_by and sort_by not in scores:
            nearest, hint = suggest(sort_by, scores), evaluator.name_hint(sort_by)
            raise UserError(f"sort_by={sort_by}: is not measured{nearest}; one of {', '.join(scores)}{hint}")
        for name, reason in left_out.items():
            print(f"not measured: {name}, since {reason}")
        evaluators[key] = evaluator
    elif model is not None:
        check_same_data(path, model, evaluators[key].data)
    return evaluators[key]


def experiment_of(checkpoint: dict[str, Any], path: Path) -> dict[str, Any]:
    """Return the settings that identify an experiment: choices of groups first, then the flat configuration."""
    stored = checkpoint["hyper_parameters"]
    groups = ("model", "data", "network", "loss", "experiment")
    choices = {"model": stored["config"]["model"]["_target_"].split(".")[-2]}
    choices |= {group: choice for group, choice in stored.get("choices", {}).items() if group in groups and choice}
    which = "best" if path.name == "best.ckpt" else f"step {checkpoint['global_step']}"
    return choices | {"checkpoint": which} | comparable_settings(stored["config"])


def load_images(folder: Path, evaluator: Evaluator) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Return images (n, C, H, W) of a folder, their labels, and the number of images in it.

    At most ``eval.num_generated`` images are used.
    """
    if evaluator.real.samples.ndim != 4:
        raise UserError(f"{folder}: contains images, but the data are points")
    channels: Any  # Literal[1, 3]
    channels, *size = evaluator.real.samples.shape[1:]
    # A damaged file is left out with a warning; the card has the number of images that were used.
    data = ImageFolder(folder, size, channels, skip_broken=True)
    paths, labels, class_names = data.find()
    rows = evaluator.subset(evaluator.num_generated, torch.arange(len(paths)))[0].tolist()
    samples, labels, _ = data.decode_files([paths[i] for i in rows], [labels[i] for i in rows], class_names, len(paths))
    return samples, labels, len(paths)
