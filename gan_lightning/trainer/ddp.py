"""Distributed data parallel training: gradient all-reduce, and detection of ranks that have ended."""

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

# Error messages of gloo, NCCL and torch's store if another process has ended.
CONNECTION_LOST = re.compile(r"by peer|broken pipe|remote process exited|pair closure|failed to recv|got 0 bytes", re.I)


class GANDDPStrategy(DDPStrategy):
    """DDP strategy for GANs: one all-reduce per update, of the gradients of the network that is updated.

    torch's DistributedDataParallel would reduce the gradients of all weights in each of the ``d_steps`` + 1 updates,
    including those of the network that is not updated, and search for unused parameters. Here an update sends one
    message: the gradients of its own network, and in the generator's update, which ends a step, also the running
    statistics of BatchNorm.
    """

    def configure_ddp(self) -> None:
        """Broadcast the weights of rank 0; the model is not wrapped in DistributedDataParallel."""
        for value in self.model.state_dict().values():
            message = value.contiguous()
            broadcast(message, 0)
            value.copy_(message)

    def optimizer_step(self, optimizer: Optimizer, closure: Callable[[], Any], *args: Any, **kwargs: Any) -> Any:
        """Average the gradients, then step; a gradient scaler then finds the same non-finite values on every rank."""
        weights = (weight for group in optimizer.param_groups for weight in group["params"])
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        # BatchNorm statistics only at the end of a step: before, the generator's may be part of an autograd graph.
        ends = optimizer is self.optimizers[0]
        self.average(gradients + [b for b in self.model.buffers() if ends and b.is_floating_point()])
        return super().optimizer_step(optimizer, closure, *args, **kwargs)

    @torch.no_grad()
    def average(self, values: list[Tensor]) -> None:
        """Replace values by their means over all processes, with one all-reduce."""
        message = torch.cat([value.flatten() for value in values])
        all_reduce(message)
        message /= self.world_size
        parts = message.split([value.numel() for value in values])
        torch._foreach_copy_(values, [part.view_as(value) for part, value in zip(parts, values, strict=True)])


def lost_process_message(trainer: Any, error: BaseException) -> str:
    """Return an error message if an error means that another process of the run has ended; "" otherwise.

    Args:
        trainer: The trainer of this process.
        error: The exception that a collective operation raised.
    """
    if trainer.world_size == 1 or not CONNECTION_LOST.search(str(error)):
        return ""
    children = getattr(trainer.strategy.launcher, "procs", [])  # the processes that this one started
    if children and all(child.poll() is None for child in children):
        time.sleep(0.5)  # a process ends after its connections
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
