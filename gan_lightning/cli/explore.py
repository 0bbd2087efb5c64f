"""gan-explore: explorations of the latent space of a checkpoint, as images and videos."""

import argparse
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gan_lightning.cli.exit import exit_on_error
from gan_lightning.errors import UserError, short_message
from gan_lightning.io.files import read_json
from gan_lightning.io.paths import absolute
from gan_lightning.run.summary import relative_path

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from gan_lightning.data.datamodule import InMemoryDataModule
    from gan_lightning.model.sampling import SamplingMixin


CLASSES = "latent.classes", "latent.targets", "latent.start", "latent.end"  # by name or by number
MAX_BYTES = 1 << 24  # of NAME.json, which takes a few kilobytes
SUFFIXES = ".png", ".gif", ".mp4", ".json"
EPILOG = """\
latent=interpolate  between seeds         latent.seeds=[3,1,4] latent.steps=8 latent.spherical=false
latent=walk         circular walk         latent.steps=60 latent.seed=2
latent=truncate     truncation            latent.factors=[0,0.5,1]
latent=blend        between classes       latent.start=cats latent.end=dogs (or 3 and 8)
latent=directions   of largest change     latent.method=pca latent.num=4
latent=attribute    towards a class       latent.targets=[cats,dogs] latent.method=classifier
latent=nearest      training images       latent.num=8 latent.k=6
latent=invert       GAN inversion         latent.image=FILE latent.steps=300

latent.classes=[cats,dogs] chooses classes by name or number; quote names with spaces or symbols: "['sea lion']"
out=NAME writes NAME.png, NAME.json, and NAME.gif and NAME.mp4 of animations; fps=12; trust_checkpoint=true
scale=4 pixels of NAME.png per pixel of an image (default: a longer side of about 900 pixels)
data.root=FOLDER with the training data, for latent=attribute and nearest
"""


def main() -> None:
    """Run the command."""
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("gan-explore", description=__doc__, epilog=EPILOG, formatter_class=formatter)
    parser.add_argument("checkpoint", type=absolute, help="a checkpoint, a run directory, or a folder of gan-export")
    parser.add_argument("overrides", nargs="*", default=[], metavar="KEY=VALUE")
    with exit_on_error("out=NAME"):
        args = parser.parse_args()
        print(explore(args.checkpoint, args.overrides))


def explore(checkpoint: Path, overrides: Sequence[str]) -> str:
    """Explore the latent space, write the files, and return their paths, one per line.

    Args:
        checkpoint: A checkpoint, a run directory, or a folder of gan-export.
        overrides: Overrides of ``conf/explore.yaml``.

    Raises:
        UserError: The overrides or the checkpoint are invalid, or do not fit each other.
    """
    config, errors = compose_config(overrides)
    if not checkpoint.exists():
        errors.append(f"{relative_path(checkpoint)}: there is no such checkpoint")
    if errors:
        raise UserError(*errors)

    import torch

    from gan_lightning.config.instantiate import instantiate
    from gan_lightning.export.generator import load_model_or_export
    from gan_lightning.io.cache import TensorCache
    from gan_lightning.latent import NeedsData
    from gan_lightning.latent.video import write
    from gan_lightning.run.checkpoint import check_tensors_finite, chosen_checkpoint, read

    explorer = instantiate(config.latent, "latent")
    checkpoint, content = chosen_checkpoint(checkpoint)
    if not checkpoint.is_dir():
        content = content or read(checkpoint)
    model = load_model_or_export(checkpoint, config.trust_checkpoint, content)
    is_image = model.sample(1).ndim == 4
    animated = explorer.animated and is_image
    unused = {} if animated else {"fps": "there is no animation"}
    unused |= {} if is_image else {"scale": "the model generates points"}
    if not isinstance(explorer, NeedsData):
        reason = "only latent=attribute and latent=nearest use the data"
        unused |= dict.fromkeys(("data", "data.root", "cache"), reason)
    keys = {text: text.partition("=")[0] for text in overrides}
    if errors := [f"{text}: has no effect, since {unused[key]}" for text, key in keys.items() if key in unused]:
        raise UserError(*errors)
    if isinstance(explorer, NeedsData):
        explorer.load_data(data_of(checkpoint, content, model, config), TensorCache(config.cache))
    source = {"checkpoint": str(checkpoint), "typed": [*overrides]}
    exploration = explorer(model)
    check_tensors_finite({"samples": torch.cat(exploration.rows)}, checkpoint)
    return write(exploration, animated, relative_path(absolute(config.out)), config.fps, source, config.scale)


def data_of(
    checkpoint: Path, content: dict[str, Any] | None, model: "SamplingMixin", config: "DictConfig"
) -> "InMemoryDataModule":
    """Return the data module that a checkpoint's model was trained on, after ``setup``.

    Args:
        checkpoint: The path of the checkpoint.
        content: The content of the checkpoint; None for an exported generator.
        model: The model of the checkpoint.
        config: The command's configuration.

    Raises:
        UserError: The checkpoint has no valid data configuration or an untrusted one, or the data are missing.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    from gan_lightning.cli.evaluate_checkpoint import check_same_data
    from gan_lightning.config.instantiate import instantiate
    from gan_lightning.run.checkpoint import config_of
    from gan_lightning.run.trust import check_data_exists, check_trusted

    if content is None:
        raise UserError(f"{checkpoint}: an exported generator has no data configuration; use the run's checkpoint")
    stored = config_of(content)
    try:
        node = OmegaConf.create(OmegaConf.to_container(stored, resolve=True)).data
    except OmegaConfBaseException as error:
        raise UserError(f"{checkpoint}: its data configuration is invalid ({short_message(error)})") from error
    if not config.trust_checkpoint:
        check_trusted(OmegaConf.to_container(node), checkpoint)
        check_data_exists(stored, checkpoint, ("data.root",) if config.data.root else ())
    if config.data.root:
        node.root = str(absolute(config.data.root))
    if "cache" in node:  # the cache directory belongs to this machine, not to the run
        node.cache = config.cache
    data = instantiate(node, "data")
    data.setup()
    check_same_data(checkpoint, model, data)
    return data


def compose_config(overrides: Sequence[str]) -> tuple["DictConfig", list[str]]:
    """Compose the command's configuration; return it with the error messages of invalid overrides."""
    from hydra import compose
    from hydra.errors import HydraException
    from omegaconf import OmegaConf

    from gan_lightning.config.compose import initialize_hydra, parse_settings
    from gan_lightning.config.nodes import walk
    from gan_lightning.config.validation import errors_of_values, suggest

    with initialize_hydra() as loader:
        settings, errors = parse_settings(overrides, loader, ("latent",))
        config = compose("explore", [one.input_line for one in settings if one.key_or_group == "latent"])
        known = {key: node for key, node in walk(config) if not key.endswith("_target_")}
        for key, text in ((one.key_or_group, one.input_line) for one in settings if one.key_or_group not in known):
            errors.append(f"{text}: there is no such key{suggest(key, known)}; {', '.join(known)} can be set")
        settings = [one for one in settings if one.key_or_group in known]
        try:
            config = compose("explore", [one.input_line for one in settings])
        except HydraException as error:
            return config, [*errors, short_message(error)]
    # A default value has the type that an override must have.
    defaults = {key: node for key, node in known.items() if not node._is_missing() and not node._is_none()}
    value_errors = errors_of_values(config, defaults)
    for key in {one.key_or_group for one in settings} & {*CLASSES} if not value_errors else ():
        # If classes have numbers as names, an override of 10 is the class named 10, regardless of its index.
        if (value := OmegaConf.select(config, key)) is not None:
            OmegaConf.update(config, key, [*map(str, value)] if OmegaConf.is_list(value) else str(value))
    errors += value_errors
    if isinstance(config.out, str | None) and not Path(config.out or "").name:
        errors.append(f"out={config.out}: must be a name")
    elif isinstance(config.out, str) and (out := relative_path(absolute(config.out))).suffix in SUFFIXES:
        errors.append(f"out={out}: several files are written; use a name without a suffix: out={out.with_suffix('')}")
    elif isinstance(config.out, str) and (existing := files_of_others(out)):
        errors.append(f"out={out}: {existing[0]} exists and was not written by gan-explore; choose another name")
    return config, errors


def files_of_others(out: Path) -> list[Path]:
    """Return files that would be overwritten and were not written by gan-explore."""
    description = out.with_name(f"{out.name}.json")
    with suppress(OSError, ValueError, AttributeError):
        if read_json(description, description.parent, MAX_BYTES).keys() >= {"checkpoint", "typed"}:
            return []
    return [path for suffix in SUFFIXES if (path := out.with_name(f"{out.name}{suffix}")).exists()]


if __name__ == "__main__":
    main()
