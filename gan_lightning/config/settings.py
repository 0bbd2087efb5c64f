"""Constraints of settings that are no argument of a class of this package; the others stand in its constructor."""

from typing import Annotated, TypedDict

from annotated_types import Interval, Len

from gan_lightning.config.constraints import Fraction, PositiveFloat, Seed


class Settings(TypedDict):
    """Top level of conf/train.yaml, conf/evaluate.yaml and conf/explore.yaml."""

    seed: Seed
    ckpt_path: str | None
    init_from: str | None
    force: bool
    trust: bool
    objective: str | None
    fps: Annotated[int, Interval(ge=1, le=100)]


class Optimizer(TypedDict):
    """Settings of the classes of ``torch.optim``, where their own annotations restrict nothing."""

    lr: PositiveFloat
    betas: Annotated[list[Fraction], Len(2, 2)]
    momentum: Fraction


# The classes that restrict a section's values besides its ``_target_``, by a pattern of its key.
SECTIONS = {
    "": ("gan_lightning.config.settings.Settings",),
    "eval": ("gan_lightning.callbacks.evaluate.Evaluate", "gan_lightning.evaluation.Evaluation"),
    "model.*optimizer": ("gan_lightning.config.settings.Optimizer",),
}
