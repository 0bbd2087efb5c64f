"""An exponential moving average of a generator's weights."""

import copy

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import get_ema_multi_avg_fn

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
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        super().__init__()
        self.network = copy.deepcopy(network).requires_grad_(False)
        self.blend = get_ema_multi_avg_fn(decay)

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Move the average towards a network's weights."""
        self.blend([*self.network.parameters()], [*network.parameters()], 0)

    @torch.no_grad()
    def calibrated(self, latent_dim: int, num_classes: int) -> nn.Module:
        """A copy in evaluation mode whose BatchNorm statistics are those of the averaged weights."""
        network = copy.deepcopy(self.network).train()
        norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
        for norm in norms:
            if isinstance(norm, nn.SyncBatchNorm):
                norm.__class__ = LocalBatchNorm  # the others may be elsewhere, and would be waited for
            norm.reset_running_stats()
            norm.momentum = None  # torch's way to say: the plain mean over all batches
        parameter = next(network.parameters())
        generator = torch.Generator().manual_seed(0)
        for _ in range(CALIBRATION_BATCHES if norms else 0):
            z = torch.randn(CALIBRATION_BATCH_SIZE, latent_dim, generator=generator)
            y = torch.randint(max(num_classes, 1), (CALIBRATION_BATCH_SIZE,), generator=generator)
            network(z.to(parameter), y.to(parameter.device))
        return network.eval()

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        """Images of the average, with the statistics it holds."""
        return self.network(z, y)
