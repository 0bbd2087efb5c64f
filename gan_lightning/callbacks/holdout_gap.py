"""The overfitting gauge: how differently the discriminator treats training images and held-out images."""

from typing import Annotated, Any

import torch
from annotated_types import Interval
from pytorch_lightning import Callback
from torch import Tensor

from gan_lightning.config.constraints import Validated
from gan_lightning.data.datamodule import InMemoryDataModule
from gan_lightning.errors import UserError
from gan_lightning.model.base import GenerativeModel
from gan_lightning.model.modes import eval_mode
from gan_lightning.trainer import Trainer

BATCH = 250  # samples per forward pass


class HoldoutGap(Validated, Callback):
    """Measure D's mean output on training samples minus that on held-out samples, in evaluation mode.

    It is near 0 as long as D does not memorize the training set. MetricLogger logs it as ``d/holdout_gap``. Without
    held-out samples, or without a discriminator, nothing is measured.

    Args:
        num: Maximum number of samples of each kind.

    Attributes:
        measured_at: Step of the latest measurement; None before the first.
        effect: The gap relative to the standard deviation of D's outputs within both kinds.
    """

    def __init__(self, num: Annotated[int, Interval(ge=2, le=100_000)] = 128) -> None:
        self.num = num
        self.parts: list[tuple[Tensor, Tensor]] = []  # samples as stored and labels, of training and held out
        self.measured_at: int | None = None
        self.effect = 0.0

    def on_train_start(self, trainer: Trainer, module: GenerativeModel) -> None:
        """Choose the samples, which are the same in every run on these data."""
        data: Any = trainer.datamodule
        self.parts = []
        known = isinstance(data, InMemoryDataModule) and "discriminator" in module.networks()
        if not (known and trainer.is_global_zero):
            return
        try:
            samples, labels = data.held_out(self.num)
        except UserError:
            return
        training = self.subset(len(data.samples))
        held_out = self.subset(len(samples))
        self.parts = [(data.stored(training), data.labels[training]), (samples[held_out], labels[held_out])]

    def subset(self, num: int) -> Tensor:
        """Return the indices of at most ``self.num`` of ``num`` samples."""
        return torch.randperm(num, generator=torch.Generator().manual_seed(0))[: self.num].sort().values

    def measure(self, trainer: Trainer, module: GenerativeModel) -> dict[str, float]:
        """Return the gap of the present step by its name; empty if it is not measured."""
        if not self.parts:
            return {}
        data: Any = trainer.datamodule
        training, held_out = (outputs(module, data.scale(x), y) for x, y in self.parts)
        gap = float(training.mean() - held_out.mean())
        std = float(((training.var() + held_out.var()) / 2).sqrt())
        self.measured_at, self.effect = trainer.global_step, gap / std if std else 0.0
        return {"d/holdout_gap": gap}


@torch.no_grad()
def outputs(module: GenerativeModel, x: Tensor, y: Tensor) -> Tensor:
    """Return the discriminator's outputs (N,) in evaluation mode for scaled samples (N, ...) and labels (N,)."""
    network: Any = module.discriminator
    weight = next(network.parameters())
    with eval_mode(network) as discriminator:
        batches = zip(x.split(BATCH), y.split(BATCH), strict=True)
        return torch.cat(
            [discriminator(part.to(weight.device, weight.dtype), labels.to(weight.device)) for part, labels in batches]
        ).double()
