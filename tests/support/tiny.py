"""Overrides for tiny models, with which a training step takes milliseconds, and the names of all models."""

import functools

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from gan_lightning.io.paths import CONF

TINY = {
    "data.image_size": 16,
    "data.limit": 26,  # not a multiple of any batch size, so that minibatches span epochs
    "data.num": 500,
    "data.batch_size": 4,
    "network.width": 4,
    "trainer.accelerator": "cpu",
    "trainer.max_steps": 2,
    "eval.every_n_steps": None,  # tests of evaluation turn it on
    "feature.width": 4,
    "feature.dim": 8,
}

MODELS = sorted(path.stem for path in (CONF / "model").glob("*.yaml"))
VARIANTS = [name for name in MODELS if "discriminator" in OmegaConf.load(CONF / "model" / f"{name}.yaml").model]


@functools.cache
def composed(groups: tuple[str, ...]) -> DictConfig:
    """The training configuration with these options and no other overrides; copy it before changing it."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("train", [*groups])
