"""gan-explore: ways through the latent space of a checkpoint, as pictures and films."""

import argparse
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gan_lightning.errors import UserError, first_line
from gan_lightning.exit import told_plainly
from gan_lightning.files import read_json
from gan_lightning.paths import absolute
from gan_lightning.summary import shorter

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from gan_lightning.data.base import StepData
    from gan_lightning.sampler import Sampler


CLASSES = "latent.classes", "latent.targets", "latent.start", "latent.end"  # by name or by number
MOST_BYTES = 1 << 24  # of NAME.json; ours take some kilobytes
ENDINGS = ".png", ".gif", ".mp4", ".json"
EPILOG = """\
latent=interpolate  from seed to seed     latent.seeds=[3,1,4] latent.steps=8 latent.spherical=false
latent=walk         round and round       latent.steps=60 latent.seed=2
latent=truncate     shorter latents       latent.factors=[0,0.5,1]
latent=blend        from class to class   latent.start=cats latent.end=dogs (or 3 and 8)
latent=directions   of most change        latent.method=pca latent.num=4
latent=attribute    towards a class       latent.targets=[cats,dogs] latent.method=classifier
latent=nearest      training pictures     latent.num=8 latent.k=6
latent=invert       a picture's latent    latent.picture=FILE latent.steps=300

latent.classes=[cats,dogs] chooses classes, by name or by number; quote what is more than letters: "['sea lion']"
out=NAME writes NAME.png, NAME.gif, NAME.mp4 of what moves, and NAME.json; fps=12; trust=true
data.root=FOLDER, where the training data are, for latent=attribute and nearest
"""


def main() -> None:
    """The command."""
    form = argparse.RawDescriptionHelpFormatter
    take = argparse.ArgumentParser("gan-explore", description=__doc__, epilog=EPILOG, formatter_class=form)
    take.add_argument("checkpoint", type=absolute, help="a checkpoint, a run directory, or a folder of gan-export")
    take.add_argument("words", nargs="*", default=[], metavar="KEY=VALUE")
    with told_plainly("out=NAME"):
        args = take.parse_args()
        print(explore(args.checkpoint, args.words))


def explore(checkpoint: Path, typed: Sequence[str]) -> str:
    """Explore and write; return what was written.

    Args:
        checkpoint: A checkpoint, a run directory, or a folder of gan-export.
        typed: Overrides of ``conf/explore.yaml``.

    Raises:
        UserError: With what is wrong with the words, the checkpoint, or the two together.
    """
    config, faults = composed(typed)
    if not checkpoint.exists():
        faults.append(f"{shorter(checkpoint)}: there is no such checkpoint")
    if faults:
        raise UserError(*faults)

    import torch

    from gan_lightning.checkpoint import chosen_checkpoint, read, refuse_non_finite
    from gan_lightning.exported import load_chosen
    from gan_lightning.film import write
    from gan_lightning.instantiate import instantiate
    from gan_lightning.latent import OfData
    from gan_lightning.store import Store

    way = instantiate(config.latent, "latent")
    checkpoint, content = chosen_checkpoint(checkpoint)
    if not checkpoint.is_dir():
        content = content or read(checkpoint)
    model = load_chosen(checkpoint, config.trust, content)
    moves = way.moves and model.sample(1).ndim == 4
    idle = {} if moves else {"fps": "nothing moves"}
    if not isinstance(way, OfData):
        why = "only latent=attribute and latent=nearest look at the data"
        idle |= dict.fromkeys(("data", "data.root", "cache"), why)
    keys = {text: text.partition("=")[0] for text in typed}
    if faults := [f"{text}: has no effect, since {idle[key]}" for text, key in keys.items() if key in idle]:
        raise UserError(*faults)
    if isinstance(way, OfData):
        way.see(data_of(checkpoint, content, model, config), Store(config.cache))
    of = {"checkpoint": str(checkpoint), "typed": [*typed]}
    found = way(model)
    refuse_non_finite({"samples": torch.cat(found.rows)}, checkpoint)
    return write(found, moves, shorter(absolute(config.out)), config.fps, of)


def data_of(checkpoint: Path, content: dict[str, Any] | None, model: "Sampler", config: "DictConfig") -> "StepData":
    """The data that a checkpoint's model was trained on, set up.

    Args:
        checkpoint: The path.
        content: What it holds; None for an export.
        model: Its model.
        config: The command's configuration.

    Raises:
        UserError: It does not describe them, they are not there, or their configuration is untrusted.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    from gan_lightning.checkpoint import config_of, refuse_absent_data, refuse_foreign
    from gan_lightning.instantiate import instantiate
    from gan_lightning.judge import refuse_other_data

    if content is None:
        raise UserError(f"{checkpoint}: an export does not tell its data; take the run's checkpoint")
    stored = config_of(content)
    try:
        node = OmegaConf.create(OmegaConf.to_container(stored, resolve=True)).data
    except OmegaConfBaseException as error:
        raise UserError(f"{checkpoint}: what it says of its data makes no sense ({first_line(error)})") from error
    if not config.trust:
        refuse_foreign(OmegaConf.to_container(node), checkpoint)
        refuse_absent_data(stored, checkpoint, ("data.root",) if config.data.root else ())
    if config.data.root:
        node.root = str(absolute(config.data.root))
    if "cache" in node:  # the place's, not the run's
        node.cache = config.cache
    data = instantiate(node, "data")
    data.setup()
    refuse_other_data(checkpoint, model, data)
    return data


def composed(typed: Sequence[str]) -> tuple["DictConfig", list[str]]:
    """The command's configuration, and what is wrong with what was typed."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException
    from hydra.types import RunMode
    from omegaconf import OmegaConf

    from gan_lightning.command_line import Composer, options, parse_one
    from gan_lightning.config.nodes import walk
    from gan_lightning.config.validation import faults_of_values, nearest

    faults, good = [], []
    with Composer(None) as hydra:
        loader, parser = hydra.config_loader, OverridesParser.create()
        names = options(loader, "latent")
        for text in typed:
            try:
                override = parse_one(parser, text)
            except (HydraException, ValueError):
                faults.append(f"{text}: not of the form KEY=VALUE")
                continue
            if override.is_sweep_override():
                key = override.key_or_group
                right = "one way at a time" if key == "latent" else f"a list is {key}=[...]"
                faults.append(f"{text}: several values; {right}")
            elif override.is_add() or override.is_delete():
                faults.append(f"{text}: nothing can be added or left out here")
            elif override.key_or_group == "latent" and override.value() not in names:
                near = nearest(str(override.value()), names)
                faults.append(f"{text}: no such option{near}; there are {', '.join(names)}")
            else:
                good.append(override)
        groups = [override.input_line for override in good if override.key_or_group == "latent"]
        config = loader.load_configuration("explore", groups, RunMode.RUN, from_shell=False)
        known = {key: node for key, node in walk(config) if not (key.startswith("hydra") or key.endswith("_target_"))}
        for override in (override for override in good if override.key_or_group not in known):
            near = nearest(override.key_or_group, known)
            faults.append(f"{override.input_line}: there is no such key{near}; {', '.join(known)} may be set")
        words = [override.input_line for override in good if override.key_or_group in known]
        try:
            config = loader.load_configuration("explore", words, RunMode.RUN, from_shell=False)
        except HydraException as error:
            return config, [*faults, first_line(error)]
    del config.hydra
    wrong = faults_of_values(config, defaults(known))
    faults += wrong
    for key in {override.key_or_group for override in good} & {*CLASSES} & {*known} if not wrong else ():
        # Where classes have numbers for names, a typed 10 is the class named 10, wherever it stands in the order.
        value = OmegaConf.to_container(config.latent)[key.partition(".")[2]]
        OmegaConf.update(config, key, [*map(as_text, value)] if isinstance(value, list) else as_text(value))
    if isinstance(config.out, str | None) and not Path(config.out or "").name:
        faults.append(f"out={config.out}: must be a name")
    elif isinstance(config.out, str) and (out := shorter(absolute(config.out))).suffix in ENDINGS:
        faults.append(f"out={out}: a name without an ending, since several files get it; out={out.with_suffix('')}")
    elif isinstance(config.out, str) and (strange := strangers(out)):
        faults.append(f"out={out}: {strange[0]} is there, and not of gan-explore; choose another name")
    return config, faults


def as_text(value: Any) -> Any:
    """Return a class number as text; a name, or null, as it is."""
    return str(value) if isinstance(value, int) else value


def strangers(out: Path) -> list[Path]:
    """Files that an exploration of this name would take the place of, and that none has written."""
    told = out.with_name(f"{out.name}.json")
    with suppress(OSError, ValueError, AttributeError):
        if read_json(told, told.parent, MOST_BYTES).keys() >= {"checkpoint", "typed"}:
            return []
    return [path for ending in ENDINGS if (path := out.with_name(f"{out.name}{ending}")).exists()]


def defaults(known: dict[str, Any]) -> dict[str, Any]:
    """Keys of which a value must be of the type of its default: those that have one."""
    return {key: node for key, node in known.items() if not node._is_missing() and not node._is_none()}


if __name__ == "__main__":
    main()
