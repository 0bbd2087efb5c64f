"""Apply the recipe of ``experiment=photos``: collect the facts, choose, and print or record the choices.

The choices become overrides beside those that the user typed, which take precedence. A single run adds them to its
command line before Hydra composes it (``--cfg job`` shows them); a job of a sweep adds them to its own overrides, as
they may depend on its swept values. Checkpoints and ``result.json`` keep them apart from the typed ones.
"""

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from hydra import compose
from hydra._internal.utils import get_args_parser
from omegaconf import DictConfig, OmegaConf

from gan_lightning.config.combinations import world_size
from gan_lightning.config.compose import implied_choices, initialize_hydra, parse_overrides
from gan_lightning.config.nodes import node_at
from gan_lightning.config.recipe import KEYS, Choice, Facts, recipe
from gan_lightning.config.validation import make_paths_absolute
from gan_lightning.errors import UserError
from gan_lightning.io.memory import physical_memory
from gan_lightning.run.resume import print_rank_zero

log = logging.getLogger(__name__)

EXPERIMENT = "photos"  # conf/experiment/photos.yaml
GROUPS = "model", "network", "augment"  # whose options are choices, or on which choices depend
RELEVANT = *(key for key in KEYS if "." in key), "model.d_steps"  # values of which the same is true


def choose(overrides: Sequence[str], name: str = "train", config_dir: str | None = None) -> list[Choice]:
    """Return the choices of the recipe for valid overrides; none if they do not choose ``experiment=photos``.

    >>> overrides = ["experiment=photos", "data.root=photos"]
    >>> config = hydra.compose("train", [choice.override for choice in choose(overrides)] + overrides)

    Args:
        overrides: Typed overrides, each with a single value.
        name: Name of the configuration.
        config_dir: A directory of the user's own configuration files.

    Raises:
        UserError: The data set is not the user's own images, has no or too few images, or cannot be read.
    """
    with initialize_hydra(config_dir):
        config = compose(name, [*overrides], return_hydra_config=True)
        choices = config.hydra.runtime.choices
        if choices.get("experiment") != EXPERIMENT:
            return []
        plain = compose("train", [f"{group}={choices[group]}" for group in ("model", "network", "data")])
    defaults = implied_choices("experiment", EXPERIMENT)
    typed = [override.key_or_group for override in parse_overrides(overrides)[0]]
    fixed = fixed_settings(config, plain, typed)
    fixed |= {group: choices[group] for group in GROUPS if group in typed or choices[group] != defaults.get(group)}
    make_paths_absolute(config)
    found = recipe(facts_of(config), fixed)
    return [choice for choice in found if "." not in choice.key or node_at(config, choice.key) is not None]


def fixed_settings(config: DictConfig, plain: DictConfig, typed: Sequence[str]) -> dict[str, Any]:
    """Return the settings that were typed or come from the user's files or ``debug``, which the recipe leaves as is.

    Args:
        config: The composed configuration.
        plain: The configuration of the same options, without values and experiments.
        typed: The keys of the overrides.
    """
    values = ((key, OmegaConf.select(config, key)) for key in RELEVANT if node_at(config, key) is not None)
    return {key: value for key, value in values if key in typed or value != OmegaConf.select(plain, key)}


def facts_of(config: DictConfig) -> Facts:
    """Return the facts about the images and the machine of a composed configuration.

    Raises:
        UserError: The data set is not the user's own images, has no images, or cannot be read.
    """
    import torch  # takes seconds, and other experiments do without it

    from gan_lightning.config.instantiate import instantiate
    from gan_lightning.data.image_folder import ImageFolder
    from gan_lightning.data.survey import survey

    data = instantiate(config.data, "data")
    if not isinstance(data, ImageFolder):
        raise UserError(f"experiment={EXPERIMENT}: needs images of your own; use data=image_folder or data=hub")
    accelerator = str(config.trainer.accelerator)
    on_cuda = accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    on_mps = accelerator in ("auto", "gpu", "mps") and torch.backends.mps.is_available()
    count = world_size(config.trainer)
    return Facts(
        **vars(survey(data)),
        device="gpu" if on_cuda or on_mps else "cpu",
        memory=torch.cuda.get_device_properties(0).total_memory if on_cuda else physical_memory(),
        threads=torch.get_num_threads(),
        devices=count if count is not None else torch.cuda.device_count() if on_cuda else 1,
    )


def print_choices(name: str, words: Sequence[str]) -> list[str]:
    """Print the choices for the command line of a single run, and return their overrides.

    Args:
        name: Name of the configuration that Hydra composes; a resumed run keeps the choices of its checkpoint.
        words: The arguments for Hydra, validated.

    Raises:
        UserError: As :func:`choose` does.
    """
    args = get_args_parser().parse_intermixed_args([*words])
    chooses = name != "train" or any(word.lstrip("+").startswith("experiment=") for word in args.overrides)
    if name == "resume" or args.multirun or not chooses:
        return []
    chosen = choose(args.overrides, name, args.config_dir)
    start = "# " if args.cfg else ""  # what --cfg prints stays valid YAML
    print_rank_zero(*(f"{start}{line}" for line in lines(chosen)))
    return [choice.override for choice in chosen]


def lines(chosen: Iterable[Choice]) -> list[str]:
    """Return a line for each choice: the override and the reason."""
    return [f"chosen  {choice.override:<40}  {choice.reason}" for choice in chosen]


def without_typed(chosen: Iterable[str], typed: Iterable[str]) -> list[str]:
    """Return stored choices without those whose settings are typed now.

    A checkpoint is untrusted: what the recipe does not choose, such as a class to build, is left out.
    """
    keys = set(KEYS).difference(override.key_or_group for override in parse_overrides(typed)[0])
    return [text for text in chosen if text.partition("=")[0] in keys and "$" not in text]


def compose_with_choices(
    overrides: Sequence[str], name: str, config_dir: str | None, stored: Sequence[str] | None
) -> tuple[DictConfig, dict[str, str], list[str]]:
    """Compose the configuration of a sweep's job with the recipe's choices.

    Args:
        overrides: The job's overrides.
        name: Name of the configuration.
        config_dir: A directory of the user's own configuration files.
        stored: The choices of the job's checkpoint; None without one, to choose and log them.

    Returns:
        The configuration, the chosen options of each group, and the choices as overrides.
    """
    if stored is None:
        found = choose(overrides, name, config_dir)
        for line in lines(found):
            log.info(line)
        stored = [choice.override for choice in found]
    chosen = without_typed(stored, overrides)
    with initialize_hydra(config_dir):
        config = compose(name, [*chosen, *overrides], return_hydra_config=True)
    choices: Any = OmegaConf.to_container(config.hydra.runtime.choices)
    return OmegaConf.masked_copy(config, [key for key in config if key != "hydra"]), choices, chosen


def config_dir_of(settings: DictConfig) -> str | None:
    """Return the directory of ``--config-dir`` from Hydra's own configuration; None if there is none."""
    places = (source.path for source in settings.runtime.config_sources if source.provider == "command-line")
    return next((str(Path(place)) for place in places), None)
