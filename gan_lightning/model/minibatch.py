"""Split and validate the batches that a data loader returns: types, shapes and ranges of samples and labels."""

import logging
import math
from typing import Any

import torch
from torch import Tensor

from gan_lightning.errors import UserError
from gan_lightning.model.modes import eval_mode

log = logging.getLogger(__name__)

MAX_ABS_VALUE = 1.5  # of images in [-1, 1]; resizing may overshoot the range a little


def minibatches(batch: Any, model: Any) -> list[tuple[Tensor, Tensor]]:
    """Split a batch into the ``d_steps`` minibatches of one step.

    Shapes and types are validated, which needs no transfer from the device; values only in the first batch of a fit.

    Args:
        batch: Samples (d_steps * N, ...) and labels (d_steps * N,).
        model: The model that is trained, a ``GenerativeModel``.

    Returns:
        Samples (N, ...) and labels (N,) of each minibatch.

    Raises:
        UserError: The batch is not a pair of samples and labels, or not ``d_steps`` minibatches of equal size.
    """
    d_steps = model.d_steps
    if not (isinstance(batch, tuple | list) and len(batch) == 2 and all(isinstance(part, Tensor) for part in batch)):
        raise UserError(
            f"batch: must be a pair of samples (N, ...) and labels (N,), not {describe_value(batch)}; data without "
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
    if not model.history:
        check_values(samples, labels, model)
    return list(zip(samples.chunk(d_steps), labels.chunk(d_steps), strict=True))


def check_values(samples: Tensor, labels: Tensor, model: Any) -> None:
    """Validate the values of a batch of any data loader, with one transfer from the device.

    Args:
        samples: Samples (N, ...).
        labels: Labels (N,), which unconditional models ignore.
        model: The model that is trained, a ``GenerativeModel``.

    Raises:
        UserError: A type, a shape or a range does not fit the networks.
    """
    weight, num_classes = next(model.generator.parameters()), model.num_classes
    dtype, shape = weight.dtype, tuple(getattr(getattr(model.trainer, "datamodule", None), "shape", ()))
    if not shape:  # the data module has no shape, or there is only a data loader
        with torch.no_grad(), eval_mode(model.generator) as generator:
            z, y = weight.new_zeros(1, model.latent_dim), torch.zeros(1, dtype=torch.long, device=weight.device)
            shape = tuple(generator(z, y).shape[1:])
    of, kind = tuple(samples.shape[1:]), str(samples.dtype).removeprefix("torch.")
    errors = []
    if samples.dtype == torch.uint8:
        errors.append("samples are uint8; the networks take floats in [-1, 1]: samples / 127.5 - 1")
    elif samples.dtype != dtype:
        errors.append(f"samples are {kind}; the networks are {str(dtype).removeprefix('torch.')}: samples.to({dtype})")
    if of != shape:
        last = len(of) == 3 and (of[2], *of[:2]) == shape
        fix = "; channels are last: samples.permute(0, 3, 1, 2)" if last else ""
        fix = "; add the axis of the channels: samples[:, None]" if (1, *of) == shape else fix
        errors.append(f"samples have the shape {of}, and the networks expect {shape}{fix}")
    if num_classes and labels.dtype != torch.int64:
        kind = str(labels.dtype).removeprefix("torch.")
        errors.append(f"labels are {kind}; class numbers are int64: labels.long()")
    extremes = samples.min(), samples.max(), labels.min(), labels.max()
    low, high, first, last = torch.stack([value.float() for value in extremes]).tolist()
    if not math.isfinite(high - low):
        errors.append("samples hold values that are NaN or infinite")
    elif len(shape) == 3 and not errors and (error := scale_error(low, high)):
        if low >= -MAX_ABS_VALUE and high <= MAX_ABS_VALUE:
            log.warning(f"batch: {error}")
        else:
            errors.append(error)
    if num_classes and not 0 <= first <= last < num_classes:
        fix = "; subtract 1: labels - 1" if first == 1 else ""
        errors.append(f"labels run from {first:.0f} to {last:.0f}, and should run from 0 to {num_classes - 1}{fix}")
    if errors:
        raise UserError(*(f"batch: {error}" for error in errors))


def scale_error(low: float, high: float) -> str:
    """Return the error message for images that are not in [-1, 1], or "" if they are.

    Images in [0, 1], as ``ToTensor`` returns them, are an error too: they have no values below 0.
    """
    inside = low >= -MAX_ABS_VALUE and high <= MAX_ABS_VALUE
    if inside and (low < 0 or low == high):
        return ""
    fix = ": 2 * samples - 1" if inside else ": samples / 127.5 - 1" if low >= 0 and high <= 255 else ""
    return f"images in [{low:.4g}, {high:.4g}], and should be in [-1, 1]{fix}"


def describe_value(value: Any) -> str:
    """Describe a value of a wrong type for a message: its type, and its shape or length."""
    if value is None:
        return "None"
    if isinstance(value, Tensor):
        return f"one tensor of shape {tuple(value.shape)}"
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)} values"
    return f"a value of type {type(value).__name__}"
