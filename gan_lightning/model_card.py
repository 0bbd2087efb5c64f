"""What is to be known of a generator that goes out: how it was trained, its scores with their cards, its limits."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gan_lightning.card import installed
from gan_lightning.checkpoint import config_of, refuse_foreign
from gan_lightning.class_names import listed, plain
from gan_lightning.errors import UserError, first_line, printable

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
samples = model.sample(64{ask}, seed=0)
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

It imitates its training data, with whatever these show and leave out, and may repeat some of them; where a score
`copies` stands above, that was looked for. It is no likeness of anybody and no evidence of anything.

## Licence

{licence}What the training data allow is for their own licence to say.
"""

ONNX = """
Without torch, `generator.onnx`: its input `latent` is float32 (N, {latent_dim}) from N(0, I){label}; its output
{output}.
"""

AGAIN = """
To measure it again with [torch-fidelity](https://github.com/toshas/torch-fidelity):

```bash
fidelity --cpu --fid --input1 generator.onnx --input1-model-z-type normal --input1-model-z-size {latent_dim} \\
  --input1-model-num-classes {num_classes} --input1-model-num-samples 50000 --input2 {against}
```
"""

CLASSES = """
Classes: {names}; `class_names` in `config.json` has all of them in the order of their numbers.
"""

HEAD = """| score | value | samples | against | through | card |
|---|---|---|---|---|---|
"""
FOOT = """

Scores with unlike cards are not to be compared; the cards are in `config.json`, under `scores`."""


OWN = "Its generator is a class of the exporter's own, which must be there to be imported; `trust=True` runs its code."

# An underscore within a word is none; "www." begins a link on the Hub.
MARKUP = re.compile(r"[\\`*{}\[\]<>()#+!|~$&:]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])|(?<=www)\.")


def told_by(checkpoint: dict[str, Any], path: Path) -> dict[str, Any]:
    """The run and the scores that a checkpoint tells of.

    Raises:
        UserError: An untrusted checkpoint that does not describe them in the form of this package.
    """
    try:
        return {"run": story(checkpoint), "scores": scores_of(checkpoint)}
    except (OmegaConfBaseException, KeyError, TypeError, AttributeError, ValueError) as error:
        raise UserError(f"{path}: does not tell how it was trained and judged ({first_line(error)})") from error


def story(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """What trained a checkpoint: what anybody may know of it, without the places on the disk of whoever did."""
    config = OmegaConf.create(OmegaConf.to_container(config_of(checkpoint), resolve=True))
    model, data = config.model, config.data
    facts = {
        "model": model._target_.rpartition(".")[2],
        "loss": model.loss._target_.rpartition(".")[2] if "loss" in model else None,
        "data": data._target_.rpartition(".")[2],
        "image_size": data.get("image_size"),
        "batch_size": data.batch_size,
        "steps": int(checkpoint["global_step"]),
        "d_steps": model.get("d_steps"),
        **{name: optimizer(node) for name, node in model.items() if name.endswith("optimizer")},
        "weights": "raw" if model.ema_decay is None else f"averaged, decay {model.ema_decay}",
        "precision": str(config.trainer.precision),
        "seed": config.seed,
        "gan_lightning": installed("gan-lightning"),
    }
    return {name: OmegaConf.to_container(v) if OmegaConf.is_config(v) else v for name, v in facts.items()}


def optimizer(node: Any) -> str:
    """An optimizer in a few words."""
    settings = ", ".join(f"{key} {value}" for key, value in node.items() if not key.startswith("_"))
    return f"{node._target_.rpartition('.')[2]}, {settings}"


def scores_of(checkpoint: dict[str, Any]) -> list[dict[str, Any]]:
    """The scores of a checkpoint's own step, each with its card; none where it was not evaluated there."""
    kept = next((state for name, state in checkpoint["callbacks"].items() if name.startswith("Evaluate")), {})
    at = [entry for entry in kept.get("curve", []) if entry["step"] == checkpoint["global_step"]]
    scores = []
    for name, (value, digest) in [score for entry in at[-1:] for score in entry["scores"].items()]:
        if not re.fullmatch(r"[0-9a-f]{12}", digest):
            raise ValueError(f"{digest!r} is the hash of no card")
        kept_card = dict(kept["cards"][digest])
        kept_card |= {key: int(kept_card[key]) for key in ("num_generated", "num_real")}
        kept_card |= {key: str(kept_card[key]) for key in ("data", "split", "feature")}
        scores.append({"metric": name, "value": float(value), "card_hash": digest, "card": kept_card})
    return scores


def card(described: dict[str, Any], licence: str, onnx: bool) -> str:
    """The model card, in Markdown as the Hub shows it.

    Args:
        described: What ``config.json`` says.
        licence: Of the weights, as the Hub names it.
        onnx: Whether there is a ``generator.onnx``.
    """
    run, shape, classes = described["run"], described["shape"], described["num_classes"]
    names = described.get("class_names", [])
    is_picture = len(shape) == 3
    by = "number" if all(plain(name).isdecimal() for name in names) else "name or number"
    what = f"{shape[1]} x {shape[2]} pictures, {'gray' if shape[0] == 1 else 'in colour'}" if is_picture else "points"
    task = ["unconditional-image-generation"] if is_picture and not classes else []
    of_onnx, own = "", foreign(described["generator"])
    if onnx:
        output = "`pixels` is uint8 (N, 3, H, W), `images` float32 in [-1, 1]" if is_picture else "is `points`"
        of_onnx = ONNX.format(label=", `label` int64 (N,)" if classes else "", output=output, **described)
        against = "cifar10-train" if run["data"] == "CIFAR10" and shape == [3, 32, 32] else "FOLDER_OF_REAL_PICTURES"
        of_onnx += AGAIN.format(against=against, **described) if is_picture else ""
    scores = [
        f"| {escaped(score['metric'])} | {score['value']:.4g} | {of['num_generated']:,} | {of['num_real']:,} of "
        f"{escaped(of['data'])}, {escaped(of['split'])} | {escaped(of['feature'])} | `{score['card_hash']}` |"
        for score in described["scores"]
        for of in [score["card"]]
    ]
    return PAGE.format(
        license=licence,
        tags=", ".join([*(["gan"] if run.get("loss") else []), run["model"].lower(), *task]),
        title=f"{escaped(run['model'])} on {escaped(run['data'])}",
        what=what + (f" of {classes} classes, asked for by {by}" if classes else ""),
        steps=run["steps"],
        ask=asking(classes, names),
        classes=CLASSES.format(names=escaped(listed(names, classes))) if names else "",
        trust=", trust=True" if own else "",
        loading=OWN if own else "Loading runs no code from this folder.",
        onnx=of_onnx,
        training="\n".join(f"| {name} | {escaped(value)} |" for name, value in run.items() if value is not None),
        scores=HEAD + "\n".join(scores) + FOOT if scores else "It was not evaluated at this step.",
        licence="Not stated by whoever exported it. " if licence == "other" else f"{licence}. ",
    )


def asking(classes: int, names: Sequence[str]) -> str:
    """Return the argument that asks for one class, for the example."""
    if word := next((name for name in names if name.isalnum() and not name.isdecimal()), ""):
        return f', labels=["{word}"] * 64'
    return ", labels=[3] * 64" if classes > 3 else ""


def foreign(node: Any) -> bool:
    """Whether a generator is of a class that is not ours."""
    try:
        refuse_foreign(node, Path())
    except UserError:
        return True
    return False


def escaped(value: Any) -> str:
    """A value in Markdown: nothing in it is markup, or becomes a link."""
    return MARKUP.sub(r"\\\g<0>", printable(str(value)))
