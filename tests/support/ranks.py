"""Trains variants in a process of its own, or in several that torchrun has started; see test_ranks.py.

torch's SyncBatchNorm works on CUDA alone; on the CPU a stand-in takes the statistics of all ranks.
"""

import sys
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from gan_lightning.io.paths import CONF
from gan_lightning.model.base import GenerativeModel
from gan_lightning.model.gan import GAN
from gan_lightning.model.vae import VAE
from gan_lightning.run.fit import train

usual, steps = _BatchNorm.forward, {kind: kind.training_step for kind in (GAN, VAE)}
stepping = False


class Sum(torch.autograd.Function):
    """Of a tensor over all ranks."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return Sum.forward(ctx, gradient)


def in_step(self: GenerativeModel, *args: Any) -> None:
    """Synchronise here and nowhere else: pictures are the first rank's alone."""
    global stepping
    stepping = True
    next(step for kind, step in steps.items() if isinstance(self, kind))(self, *args)
    stepping = False


def synchronised(self: _BatchNorm, x: Tensor) -> Tensor:
    """Normalise by the mean and the variance of the global batch."""
    if not stepping:
        return usual(self, x)
    world, dims = torch.distributed.get_world_size(), [0, *range(2, x.ndim)]
    shape = [1, -1] + [1] * (x.ndim - 2)
    mean = Sum.apply(x.mean(dims)) / world
    centred = x - mean.view(shape)
    variance = Sum.apply(centred.square().mean(dims)) / world
    num = x.numel() / x.shape[1] * world
    with torch.no_grad():
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance * num / (num - 1), self.momentum)
        self.num_batches_tracked += 1
    normal = centred / (variance + self.eps).sqrt().view(shape)
    return normal * self.weight.view(shape) + self.bias.view(shape) if self.affine else normal


def main(folder: Path, *runs: str) -> None:
    torch.set_num_threads(1)
    _BatchNorm.forward = synchronised
    for kind in steps:
        kind.training_step = in_step
    for run in runs:
        name, *overrides = run.split()
        with initialize_config_dir(str(CONF), version_base="1.3"):
            config = compose("train", overrides)
        last = folder / name / "checkpoints" / "last.ckpt"
        (folder / name).mkdir(parents=True, exist_ok=True)
        train(config, folder / name, last if last.exists() else None)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
