"""What several processes of one run tell each other."""

import re
import signal
import time
from collections.abc import Callable
from typing import Any

import torch
from pytorch_lightning.strategies import DDPStrategy
from torch import Tensor
from torch.distributed import all_reduce, broadcast
from torch.optim import Optimizer

# Errors of gloo, NCCL and torch's store where another process is no longer there.
LOST = re.compile(r"by peer|broken pipe|remote process exited|pair closure|failed to recv|got 0 bytes", re.I)


class TwoPlayers(DDPStrategy):
    """Data parallel: every process plays the game on its share of the batch, and a player's gradients are averaged.

    torch's DistributedDataParallel sends the gradients of all weights at each of the ``d_steps`` + 1 updates, the
    resting player's too, and looks for what an update left unused. Here one message goes out for an update: the
    player's own gradients, and with the generator's, which ends a step, the running statistics of BatchNorm.
    """

    def configure_ddp(self) -> None:
        """Begin with the first process's weights; there is no wrapper."""
        for value in self.model.state_dict().values():
            message = value.contiguous()
            broadcast(message, 0)
            value.copy_(message)

    def optimizer_step(self, optimizer: Optimizer, closure: Callable[[], Any], *args: Any, **kwargs: Any) -> Any:
        """Average, then step; a gradient scaler finds what is not finite on every process alike."""
        weights = (weight for group in optimizer.param_groups for weight in group["params"])
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        ends = optimizer is self.optimizers[0]  # before, the generator's statistics may be part of a graph
        self.average(gradients + [b for b in self.model.buffers() if ends and b.is_floating_point()])
        return super().optimizer_step(optimizer, closure, *args, **kwargs)

    @torch.no_grad()
    def average(self, values: list[Tensor]) -> None:
        """Replace values by their means over all processes, in one message."""
        message = torch.cat([value.flatten() for value in values])
        all_reduce(message)
        message /= self.world_size
        parts = message.split([value.numel() for value in values])
        torch._foreach_copy_(values, [part.view_as(value) for part, value in zip(parts, values, strict=True)])


def lost_processes(trainer: Any, error: BaseException) -> str:
    """Return a message where an error means that another process of the run has ended; nothing for other errors.

    Args:
        trainer: The trainer of this process.
        error: What a collective operation has raised.
    """
    if trainer.world_size == 1 or not LOST.search(str(error)):
        return ""
    children = getattr(trainer.strategy.launcher, "procs", [])  # those that this process has started
    if children and all(child.poll() is None for child in children):
        time.sleep(0.5)  # its connections end before the process does
    ended = [(rank, child.poll()) for rank, child in enumerate(children, 1) if child.poll()]
    if ended:
        which = ", ".join(
            f"rank {rank} ({signal.Signals(-code).name if code < 0 else f'exit status {code}'})" for rank, code in ended
        )
    else:
        which = f"rank {1 - trainer.global_rank}" if trainer.world_size == 2 else "another rank"
    return (
        f"rank {trainer.global_rank}: {which} has ended during training, so the run cannot continue; its checkpoints "
        "are intact, and ckpt_path=last resumes from the newest"
    )
