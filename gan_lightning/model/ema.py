"""Exponential moving average (EMA) of the generator's weights, and recalibration of its BatchNorm statistics."""

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
    """BatchNorm for inputs of any shape that uses the statistics of this process only."""

    def _check_input_dim(self, *_: Tensor) -> None:
        """Accept every shape."""


class EMA(nn.Module):
    """EMA of the generator's weights (Yazici et al., 2019), which samples better and does not affect training.

    https://arxiv.org/abs/1806.04498, equation 5: the iterates of a GAN orbit the equilibrium, and their average is
    close to it. Only weights are averaged. Averages of BatchNorm's running statistics would not match the averaged
    weights, so the statistics are recomputed before sampling, see :meth:`recalibrate_batchnorm`.

    Args:
        network: The generator.
        decay: Decay of each update, in (0, 1); with 0.999 the average spans about a thousand steps.

    Attributes:
        class_counts: How often each class occurs in the training data (num_classes,), int64; zeros if unknown.
            BatchNorm recalibration draws labels with these frequencies, and uniformly if they are unknown.
    """

    class_counts: Tensor

    def __init__(self, network: nn.Module, decay: float) -> None:
        super().__init__()
        self.network = copy.deepcopy(network).requires_grad_(False)
        self.decay = decay
        self.register_buffer("class_counts", torch.zeros(max(getattr(network, "num_classes", 0), 1), dtype=torch.long))

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Update the average with a network's weights."""
        get_ema_multi_avg_fn(self.decay)([*self.network.parameters()], [*network.parameters()], 0)

    def count_labels(self, labels: Tensor) -> None:
        """Store how often each class occurs in the training data, for BatchNorm recalibration.

        Call it before training with a plain ``DataLoader`` of unbalanced classes; with a data module that has
        ``labels`` this happens automatically.

        Args:
            labels: Class numbers (N,) of the whole data set; an unconditional generator counts them as one class.
        """
        classes = len(self.class_counts)
        counts = labels.bincount(minlength=classes) if classes > 1 else torch.tensor([len(labels)])
        self.class_counts.copy_(counts[:classes])

    def count_labels_of(self, data: Any) -> None:
        """Count a data module's ``labels``; without them, warn if recalibration with uniform labels may be wrong."""
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
    def recalibrate_batchnorm(self, latent_dim: int, num_classes: int) -> nn.Module:
        """Return a copy in evaluation mode with BatchNorm statistics recomputed for the averaged weights.

        They are means over batches of latents, with labels distributed as in the training data. The random numbers
        depend only on the class counts, so that every process computes the same statistics.
        """
        network = copy.deepcopy(self.network).train()
        norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
        for norm in norms:
            if isinstance(norm, nn.SyncBatchNorm):
                # SyncBatchNorm would wait for processes that do not take part.
                norm.__class__ = LocalBatchNorm  # type: ignore[assignment]
            norm.reset_running_stats()
            norm.momentum = None  # BatchNorm then computes the cumulative mean over all batches
        parameter = next(network.parameters())
        generator = torch.Generator().manual_seed(0)
        counts = self.class_counts.tolist()
        counts = counts if any(counts) else [1] * max(num_classes, 1)
        # Dividing by the gcd makes the draw of labels a plain uniform one if all classes are equally frequent.
        ends = torch.tensor(counts).div(math.gcd(*counts), rounding_mode="floor").cumsum(0)
        for _ in range(CALIBRATION_BATCHES if norms else 0):
            z = torch.randn(CALIBRATION_BATCH_SIZE, latent_dim, generator=generator)
            row = torch.randint(int(ends[-1]), (CALIBRATION_BATCH_SIZE,), generator=generator)
            y = torch.searchsorted(ends, row, right=True)
            network(z.to(parameter), y.to(parameter.device))
        return network.eval()

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        """Generate samples with the averaged weights and the stored, not recalibrated BatchNorm statistics."""
        return self.network(z, y)


def has_batchnorm(network: nn.Module) -> bool:
    """Return whether a network contains BatchNorm layers."""
    return any(isinstance(module, _BatchNorm) for module in network.modules())
