"""Minibatches of a training step, from a batch of any data loader."""

from typing import Any

from torch import Tensor

from gan_lightning.errors import UserError


def minibatches(batch: Any, d_steps: int) -> list[tuple[Tensor, Tensor]]:
    """Split a batch into the ``d_steps`` minibatches of one step.

    Only shapes and types are compared, which costs no transfer from the device.

    Args:
        batch: Samples (d_steps * N, ...) and labels (d_steps * N,).
        d_steps: Number of minibatches.

    Returns:
        Samples (N, ...) and labels (N,) of each minibatch.

    Raises:
        UserError: The batch is not a pair of samples and labels, or not ``d_steps`` minibatches of equal size.
    """
    if not (isinstance(batch, tuple | list) and len(batch) == 2 and all(isinstance(part, Tensor) for part in batch)):
        raise UserError(
            f"batch: must be a pair of samples (N, ...) and labels (N,), not {described(batch)}; data without "
            "classes use zeros as labels"
        )
    samples, labels = batch
    if labels.shape != samples.shape[:1]:
        raise UserError(
            f"batch: labels of shape {tuple(labels.shape)} for {len(samples)} samples; they must be class numbers "
            f"of shape ({len(samples)},)"
        )
    if labels.is_floating_point():
        raise UserError(f"batch: labels of type {labels.dtype}; they must be class numbers (torch.int64)")
    if len(samples) % d_steps or not len(samples):
        minibatch = max(len(samples), 1)
        raise UserError(
            f"batch of {len(samples)} samples: must be a multiple of model.d_steps={d_steps}, since a step "
            f"has d_steps minibatches; batch_size={minibatch * d_steps} has minibatches of {minibatch}, and "
            "drop_last=True leaves out an incomplete last batch"
        )
    return list(zip(samples.chunk(d_steps), labels.chunk(d_steps), strict=True))


def described(value: Any) -> str:
    """Return the type of a value of a wrong type, with its shape or the number of its parts, for a message."""
    if value is None:
        return "None"
    if isinstance(value, Tensor):
        return f"one tensor of shape {tuple(value.shape)}"
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)} values"
    return f"a value of type {type(value).__name__}"
