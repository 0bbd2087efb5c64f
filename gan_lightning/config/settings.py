"""Constraints of settings that are not constructor arguments of a class of this package."""

from typing import Annotated, Literal, TypedDict

from annotated_types import Interval, Len, doc

from gan_lightning.config.constraints import Fraction, PositiveFloat, Scale, Seed


class Settings(TypedDict):
    """Top level of conf/train.yaml, conf/evaluate.yaml and conf/explore.yaml."""

    seed: Seed
    ckpt_path: str | None
    init_from: str | None
    force_resume: bool
    trust_checkpoint: bool
    objective: str | None
    fps: Annotated[int, Interval(ge=1, le=100)]
    scale: Scale | None
    out: Annotated[str | None, doc("a name")]
    sort_by: Annotated[str | None, doc("a name")]
    which: Literal["last", "best", "both"]


class Optimizer(TypedDict):
    """Constraints of arguments of the classes of ``torch.optim``, whose own annotations have no ranges."""

    lr: PositiveFloat
    betas: Annotated[list[Fraction], Len(2, 2)]
    momentum: Fraction


# Further classes whose signatures constrain a section, in addition to its ``_target_``, by a pattern of its key.
SECTIONS = {
    "": ("gan_lightning.config.settings.Settings",),
    "eval": ("gan_lightning.callbacks.evaluate.Evaluate", "gan_lightning.evaluation.evaluator.Evaluator"),
    "model.*optimizer": ("gan_lightning.config.settings.Optimizer",),
}
