"""Train variants in one process, or in several that torchrun has started; see test_ranks.py.

torch's SyncBatchNorm supports CUDA only; a substitute computes BatchNorm's global statistics on the CPU.
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

original_forward, original_steps = _BatchNorm.forward, {kind: kind.training_step for kind in (GAN, VAE)}
in_training_step = False


class AllReduceSum(torch.autograd.Function):
    """Differentiable sum of a tensor over all ranks."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return AllReduceSum.forward(ctx, gradient)


def synchronised_step(self: GenerativeModel, *args: Any) -> Any:
    """Run the training step with synchronised BatchNorm; outside of it, rank 0 samples images alone."""
    global in_training_step
    in_training_step = True
    outputs = next(step for kind, step in original_steps.items() if isinstance(self, kind))(self, *args)
    in_training_step = False
    return outputs


def synchronised_forward(self: _BatchNorm, x: Tensor) -> Tensor:
    """Normalise by the mean and the variance of the global batch."""
    if not in_training_step:
        return original_forward(self, x)
    world, dims = torch.distributed.get_world_size(), [0, *range(2, x.ndim)]
    shape = [1, -1] + [1] * (x.ndim - 2)
    mean = AllReduceSum.apply(x.mean(dims)) / world
    centred = x - mean.view(shape)
    variance = AllReduceSum.apply(centred.square().mean(dims)) / world
    num = x.numel() / x.shape[1] * world
    with torch.no_grad():
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance * num / (num - 1), self.momentum)
        self.num_batches_tracked += 1
    normalised = centred / (variance + self.eps).sqrt().view(shape)
    return normalised * self.weight.view(shape) + self.bias.view(shape) if self.affine else normalised


def main(folder: Path, *runs: str) -> None:
    torch.set_num_threads(1)
    _BatchNorm.forward = synchronised_forward
    for kind in original_steps:
        kind.training_step = synchronised_step
    for run in runs:
        name, *overrides = run.split()
        with initialize_config_dir(str(CONF), version_base="1.3"):
            config = compose("train", overrides)
        last = folder / name / "checkpoints" / "last.ckpt"
        (folder / name).mkdir(parents=True, exist_ok=True)
        train(config, folder / name, last if last.exists() else None)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
