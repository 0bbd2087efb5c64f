"""Model card of an exported generator: how it was trained, its scores with their protocol cards, its limitations."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gan_lightning.errors import UserError, escape_control, short_message
from gan_lightning.io.class_names import describe_classes, normalize_name
from gan_lightning.io.versions import installed
from gan_lightning.run.checkpoint import config_of
from gan_lightning.run.trust import check_trusted

PAGE = """---
license: "{license}"
library_name: gan-lightning
tags: [{tags}]
---

# {title}

A generator of {what}, after {steps:,} generator steps.

![samples](samples.png)

## Use

```python
import gan_lightning

model = gan_lightning.load("FOLDER"{trust})
samples = model.sample(64{labels}, seed=0)
```

{loading}
{classes}{onnx}
## Training

| | |
|---|---|
{training}

## Scores

{scores}

## Limits

The samples reflect the biases and gaps of the training data, and may be copies of training samples; the score `copies`,
if it is listed above, measures this. Samples are synthetic: do not use them as depictions of real
persons or as evidence.

## License

{license_text}The license of the training data may restrict the use further.
"""

ONNX = """
To use it without torch, load `generator.onnx`: its input `latent` is float32 (N, {latent_dim}) from N(0, I){label};
its output {output}.
"""

FIDELITY = """
To measure the FID with [torch-fidelity](https://github.com/toshas/torch-fidelity):

```bash
fidelity --cpu --fid --input1 generator.onnx --input1-model-z-type normal --input1-model-z-size {latent_dim} \\
  --input1-model-num-classes {num_classes} --input1-model-num-samples 50000 --input2 {against}
```
"""

CLASSES = """
Classes: {names}; `class_names` in `config.json` has all of them in the order of their numbers.
"""

HEAD = """| score | value | samples | reference | feature network | card |
|---|---|---|---|---|---|
"""
FOOT = """

Scores with different cards are not comparable; the cards are in `config.json`, under `scores`."""


USER_CLASS = "The generator is a user-supplied class, which must be importable; `trust_checkpoint=True` runs its code."

# An underscore within a word is no markup; "www." starts a link on the Hub.
MARKUP = re.compile(r"[\\`*{}\[\]<>()#+!|~$&:]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])|(?<=www)\.")


def provenance(checkpoint: dict[str, Any], path: Path) -> dict[str, Any]:
    """Return the training settings (``run``) and the ``scores`` of a checkpoint.

    Raises:
        UserError: An untrusted checkpoint does not have them in the form of this package.
    """
    try:
        return {"run": training_settings(checkpoint), "scores": scores_of(checkpoint)}
    except (OmegaConfBaseException, KeyError, TypeError, AttributeError, ValueError) as error:
        raise UserError(f"{path}: has no valid training settings and scores ({short_message(error)})") from error


def training_settings(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """Return the settings that a checkpoint was trained with, without paths of the machine."""
    config = OmegaConf.create(OmegaConf.to_container(config_of(checkpoint), resolve=True))
    model, data = config.model, config.data
    settings = {
        "model": model._target_.rpartition(".")[2],
        "loss": model.loss._target_.rpartition(".")[2] if "loss" in model else None,
        "data": data._target_.rpartition(".")[2],
        "image_size": data.get("image_size"),
        "batch_size": data.get("batch_size"),
        "steps": int(checkpoint["global_step"]),
        "d_steps": model.get("d_steps"),
        **{name: optimizer(node) for name, node in model.items() if name.endswith("optimizer")},
        "weights": "raw" if model.get("ema_decay") is None else f"EMA, decay {model.ema_decay}",
        "precision": str(config.trainer.precision),
        "seed": config.seed,
        "gan_lightning": installed("gan-lightning"),
    }
    return {name: OmegaConf.to_container(v) if OmegaConf.is_config(v) else v for name, v in settings.items()}


def optimizer(node: Any) -> str:
    """Return an optimizer's name and settings."""
    settings = ", ".join(f"{key} {value}" for key, value in node.items() if not key.startswith("_"))
    return f"{node._target_.rpartition('.')[2]}, {settings}"


def scores_of(checkpoint: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the scores at a checkpoint's step, with their cards; empty if it was not evaluated there."""
    found = (one for name, one in checkpoint["callbacks"].items() if name.startswith("Evaluate"))
    state: dict[str, Any] = next(found, {})
    at = [entry for entry in state.get("curve", []) if entry["step"] == checkpoint["global_step"]]
    scores = []
    for name, (value, digest) in [score for entry in at[-1:] for score in entry["scores"].items()]:
        if not re.fullmatch(r"[0-9a-f]{12}", digest):
            raise ValueError(f"{digest!r} is not the hash of a card")
        protocol = dict(state["cards"][digest])
        protocol |= {key: int(protocol[key]) for key in ("num_generated", "num_real")}
        protocol |= {key: str(protocol[key]) for key in ("data", "split", "feature")}
        scores.append({"metric": name, "value": float(value), "card_hash": digest, "card": protocol})
    return scores


def card(description: dict[str, Any], license_name: str, onnx: bool) -> str:
    """Return the model card, in the Hub's Markdown.

    Args:
        description: Content of ``config.json``.
        license_name: License of the weights, as the Hub names it.
        onnx: Whether there is a ``generator.onnx``.
    """
    run, shape, classes = description["run"], description["shape"], description["num_classes"]
    names = description.get("class_names", [])
    is_image = len(shape) == 3
    by = "number" if all(normalize_name(name).isdecimal() for name in names) else "name or number"
    what = f"{shape[1]} x {shape[2]} images, {'gray' if shape[0] == 1 else 'in colour'}" if is_image else "points"
    task = ["unconditional-image-generation"] if is_image and not classes else []
    onnx_section, third_party = "", is_third_party(description["generator"])
    if onnx:
        output = "`pixels` is uint8 (N, 3, H, W), `images` float32 in [-1, 1]" if is_image else "is `points`"
        onnx_section = ONNX.format(label=", `label` int64 (N,)" if classes else "", output=output, **description)
        against = "cifar10-train" if run["data"] == "CIFAR10" and shape == [3, 32, 32] else "FOLDER_OF_REAL_IMAGES"
        onnx_section += FIDELITY.format(against=against, **description) if is_image else ""
    scores = [
        f"| {escaped(score['metric'])} | {score['value']:.4g} | {of['num_generated']:,} | {of['num_real']:,} of "
        f"{escaped(of['data'])}, {escaped(of['split'])} | {escaped(of['feature'])} | `{score['card_hash']}` |"
        for score in description["scores"]
        for of in [score["card"]]
    ]
    return PAGE.format(
        license=license_name,
        tags=", ".join([*(["gan"] if run.get("loss") else []), run["model"].lower(), *task]),
        title=f"{escaped(run['model'])} on {escaped(run['data'])}",
        what=what + (f" of {classes} classes, selected by {by}" if classes else ""),
        steps=run["steps"],
        labels=labels_argument(classes, names),
        classes=CLASSES.format(names=escaped(describe_classes(names, classes))) if names else "",
        trust=", trust_checkpoint=True" if third_party else "",
        loading=USER_CLASS if third_party else "Loading runs no code from this folder.",
        onnx=onnx_section,
        training="\n".join(f"| {name} | {escaped(value)} |" for name, value in run.items() if value is not None),
        scores=HEAD + "\n".join(scores) + FOOT if scores else "It was not evaluated at this step.",
        license_text="Not stated at export. " if license_name == "other" else f"{license_name}. ",
    )


def labels_argument(classes: int, names: Sequence[str]) -> str:
    """Return the argument that selects one class, for the example in the card."""
    if word := next((name for name in names if name.isalnum() and not name.isdecimal()), ""):
        return f', labels=["{word}"] * 64'
    return ", labels=[3] * 64" if classes > 3 else ""


def is_third_party(node: Any) -> bool:
    """Return whether a generator's configuration names a class from outside this package."""
    try:
        check_trusted(node, Path())
    except UserError:
        return True
    return False


def escaped(value: Any) -> str:
    """Escape a value for Markdown, so that nothing in it is markup or becomes a link."""
    return MARKUP.sub(r"\\\g<0>", escape_control(str(value)))
