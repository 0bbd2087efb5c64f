"""An exponential moving average of a generator's weights."""

import copy
import logging
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import get_ema_multi_avg_fn

log = logging.getLogger(__name__)

CALIBRATION_BATCHES, CALIBRATION_BATCH_SIZE = 50, 64


class LocalBatchNorm(_BatchNorm):
    """BatchNorm of any shape that asks no other process."""

    def _check_input_dim(self, *_: Tensor) -> None:
        """Every shape is right."""


class Average(nn.Module):
    """The averaged generator: better samples than the live one at no cost to training (Yazici et al., 2019).

    https://arxiv.org/abs/1806.04498, equation 5. Only weights are averaged: no average of BatchNorm's statistics
    fits averaged weights, so they are measured anew before sampling, see :meth:`calibrated`.

    Args:
        network: The generator to follow.
        decay: Weight of the past in each update, in (0, 1); 0.999 remembers about a thousand steps.

    Attributes:
        class_counts: How often each class occurs in the training data (num_classes,), int64; zeros where that is not
            known. BatchNorm recalibration draws labels with these frequencies, and uniformly where they are not known.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        super().__init__()
        self.network = copy.deepcopy(network).requires_grad_(False)
        self.decay = decay
        self.register_buffer("class_counts", torch.zeros(max(getattr(network, "num_classes", 0), 1), dtype=torch.long))
        self.register_load_state_dict_pre_hook(accept_without_counts)

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Move the average towards a network's weights."""
        get_ema_multi_avg_fn(self.decay)([*self.network.parameters()], [*network.parameters()], 0)

    def count_labels(self, labels: Tensor) -> None:
        """Store how often each class occurs in the training data, for BatchNorm recalibration.

        Call it before training with a plain ``DataLoader`` of unbalanced classes; a data module's are counted anyway.

        Args:
            labels: Class numbers (N,) of the whole data set; a generator without classes counts them as one.
        """
        classes = len(self.class_counts)
        counts = labels.bincount(minlength=classes) if classes > 1 else torch.tensor([len(labels)])
        self.class_counts.copy_(counts[:classes])

    def count_labels_of(self, data: Any) -> None:
        """Store the counts of a data module's ``labels``; without one, warn where uniform labels may be wrong."""
        labels = getattr(data, "labels", None)
        if isinstance(labels, Tensor):
            self.count_labels(labels)
        elif len(self.class_counts) > 1 and has_batchnorm(self.network) and not self.class_counts.any():
            log.warning(
                "model.ema_decay: without a data module that has `labels`, BatchNorm of the averaged generator is "
                "recalibrated with uniform labels; where classes are not balanced, call "
                "model.generator_ema.count_labels(labels) before training"
            )

    @torch.no_grad()
    def calibrated(self, latent_dim: int, num_classes: int) -> nn.Module:
        """A copy in evaluation mode whose BatchNorm statistics are those of the averaged weights.

        They are means over batches of latents and of labels distributed as in training. The draws depend on nothing
        but the class counts, so that every process computes the same.
        """
        network = copy.deepcopy(self.network).train()
        norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
        for norm in norms:
            if isinstance(norm, nn.SyncBatchNorm):
                norm.__class__ = LocalBatchNorm  # the others may be elsewhere, and would be waited for
            norm.reset_running_stats()
            norm.momentum = None  # torch's way to say: the plain mean over all batches
        parameter = next(network.parameters())
        generator = torch.Generator().manual_seed(0)
        counts = self.class_counts.tolist()
        counts = counts if any(counts) else [1] * max(num_classes, 1)
        # In lowest terms: the label is then a plain uniform draw where all classes are equally frequent.
        ends = torch.tensor(counts).div(math.gcd(*counts), rounding_mode="floor").cumsum(0)
        for _ in range(CALIBRATION_BATCHES if norms else 0):
            z = torch.randn(CALIBRATION_BATCH_SIZE, latent_dim, generator=generator)
            row = torch.randint(int(ends[-1]), (CALIBRATION_BATCH_SIZE,), generator=generator)
            y = torch.searchsorted(ends, row, right=True)
            network(z.to(parameter), y.to(parameter.device))
        return network.eval()

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        """Images of the average, with the statistics it holds."""
        return self.network(z, y)


def accept_without_counts(average: Average, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    """Let the state of a version before class counts load as one whose counts are not known."""
    state_dict.setdefault(f"{prefix}class_counts", torch.zeros_like(average.class_counts))


def has_batchnorm(network: nn.Module) -> bool:
    """Return whether a network normalises by statistics of its batch."""
    return any(isinstance(module, _BatchNorm) for module in network.modules())
