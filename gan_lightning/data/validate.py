"""Validation of data sets in ``setup``: dtype, axes, range and number of samples and labels, class names.

:func:`check_samples` is called for every data set, built-in and user-supplied.
"""

import logging
import math
import warnings
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gan_lightning.errors import UserError, escape_control
from gan_lightning.model.minibatch import describe_value

log = logging.getLogger(__name__)

MAX_LISTED = 5  # names in a message
PROBED = 10_000  # images whose range of values is computed
NARROW = 64  # levels of 256; an 8-bit image with fewer is nearly uniform
# The methods of a data module that training calls.
METHODS = "setup", "train_dataloader", "scale", "real", "held_out", "stored", "verify"


def check_samples(
    source: str, loaded: Any, images: bool, known_names: Sequence[str] | None = None
) -> tuple[Tensor, Tensor, list[str]]:
    """Validate the samples, labels and class names of a data set, and return samples and labels as tensors.

    NumPy arrays and lists are converted to tensors and integer labels to int64; nothing else is converted.

    Args:
        source: Name of the data set in messages.
        loaded: Samples (N, ...), labels (N,) and class names.
        images: Whether samples must be uint8 images (N, 1 or 3, H, W).
        known_names: Class names that the labels refer to if the data set returns none, as a test set may.

    Raises:
        UserError: With all errors, one line each.
    """
    if not isinstance(loaded, tuple | list) or len(loaded) != 3:
        raise UserError(
            f"{source}: returns {describe_value(loaded)}; return three values: samples, labels and "
            "class names ([] for none)"
        )
    samples, errors = as_tensor(loaded[0], "samples")
    names, name_errors = checked_names(loaded[2])
    if samples is not None:
        errors += image_errors(samples, loaded[1]) if images else point_errors(samples)
    count = None if samples is None or not samples.ndim else len(samples)
    labels, label_errors = checked_labels(loaded[1], count, names or list(known_names or []))
    if errors := [*errors, *label_errors, *name_errors]:
        raise UserError(*(f"{source}: {error}" for error in errors))
    return samples, labels, names  # type: ignore[return-value]  # None only with errors


def as_tensor(value: Any, what: str) -> tuple[Tensor | None, list[str]]:
    """Convert a tensor, an array or nested lists to a tensor; return it, or None and the error messages."""
    if isinstance(value, Tensor):
        if value.layout != torch.strided:
            return None, [f"{what} are a sparse tensor; make them dense: {what}.to_dense()"]
        return value.detach(), []
    if isinstance(value, list | tuple) and value and all(isinstance(one, Tensor) for one in value):
        return None, [f"{what} are a list of tensors; join them: torch.stack({what})"]
    try:
        array = np.ascontiguousarray(value)  # torch does not support negative strides
        if array.dtype.kind in "US":
            return None, [f"{what} are text; use whole numbers"]
        if array.dtype.kind == "O" and isinstance(value, np.ndarray):
            kind = "np.int64" if what == "labels" else "np.uint8"
            return None, [f"{what} are a NumPy array of objects; convert it: {what}.astype({kind})"]
        array = array.astype(array.dtype.newbyteorder("="), copy=False)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # read-only arrays are fine, since nothing writes to the tensor
            return torch.from_numpy(array), []
    except (TypeError, ValueError, RuntimeError):
        return None, [f"{what} are {describe_value(value)}; return a tensor or a NumPy array, all of one shape"]


def image_errors(samples: Tensor, labels: Any) -> list[str]:
    """Return an error message for each difference from images of shape (N, 1 or 3, H, W) and dtype uint8."""
    shape, errors = tuple(samples.shape), []
    problem = f"samples have the shape {shape}, and should have (N, 1 or 3, H, W)"
    if samples.ndim == 4 and shape[1] not in (1, 3):
        if shape[3] in (1, 3, 4):
            errors.append(f"{problem}; channels are last: samples.permute(0, 3, 1, 2)")
        elif shape[2] in (1, 3) and shape[3] == length(labels):
            errors.append(f"{problem}; samples are last: samples.permute(3, 2, 0, 1)")
        elif shape[1] == 4:
            errors.append(f"{problem}; drop the alpha channel: samples[:, :3]")
        else:
            errors.append(f"{problem}; {shape[1]} channels are not supported")
    elif samples.ndim == 3:
        errors.append(f"{problem}; add the axis of the channels: samples[:, None]")
    elif samples.ndim == 2 and (side := math.isqrt(shape[1])) ** 2 == shape[1]:
        errors.append(f"{problem}; give them their height and width: samples.reshape(-1, 1, {side}, {side})")
    elif samples.ndim != 4:
        errors.append(problem)
    if samples.numel() == 0:
        errors.append(f"there are no samples, or empty ones (the shape is {shape}); return at least one")
    elif samples.dtype != torch.uint8:
        errors.append(dtype_error(samples))
    return errors


def dtype_error(samples: Tensor) -> str:
    """Return the error message for images that are not uint8, with the conversion that their range suggests."""
    problem = f"samples are {samples.dtype}".replace("torch.", "")
    if samples.dtype == torch.bool:
        return f"{problem}, and should be uint8 in 0 to 255; convert them: samples.to(torch.uint8) * 255"
    if samples.is_complex():
        return f"{problem}, and should be uint8 in 0 to 255"
    numbers = samples.double()
    if not bool(numbers.isfinite().all()):
        return f"{problem} with values that are NaN or infinite, and should be uint8 in 0 to 255; replace these first"
    low, high = float(numbers.min()), float(numbers.max())
    if samples.is_floating_point() and low >= 0 and high <= 1:
        fix = "; convert them: (samples * 255).round().to(torch.uint8)"
    elif samples.is_floating_point() and low >= -1 and high <= 1:
        fix = "; convert them: ((samples + 1) * 127.5).round().to(torch.uint8)"
    elif low >= 0 and high <= 255:
        fix = f"; convert them: samples{'.round()' * samples.is_floating_point()}.to(torch.uint8)"
    elif low >= 0 and high <= 65535 and not samples.is_floating_point():
        fix = "; convert them: (samples.float() / 257).round().to(torch.uint8)"
    else:
        fix = "; scale them to that range first"
    return f"{problem} in [{low:.4g}, {high:.4g}], and should be uint8 in 0 to 255{fix}"


def point_errors(samples: Tensor) -> list[str]:
    """Return an error message for each problem with samples that are not images."""
    shape = tuple(samples.shape)
    if samples.ndim < 2:
        return [f"samples have the shape {shape}, and should have (N, D) or more axes: samples.reshape(N, -1)"]
    if samples.numel() == 0:
        return [f"there are no samples, or empty ones (the shape is {shape}); return at least one"]
    if samples.is_complex() or samples.dtype == torch.bool:
        return [f"samples are {str(samples.dtype).removeprefix('torch.')}; convert them: samples.float()"]
    wrong = int((~samples.isfinite()).flatten(1).any(1).sum())
    return [f"{wrong:,} of {len(samples):,} samples hold values that are NaN or infinite; leave them out"] * bool(wrong)


def checked_names(names: Any) -> tuple[list[str], list[str]]:
    """Return class names as text, and error messages."""
    if names is None:
        return [], []
    if isinstance(names, str) or not isinstance(names, list | tuple | np.ndarray):
        return [], [
            f"class names are {describe_value(names)}; return a list of one name for each class, or [] for none"
        ]
    names = [str(name) for name in names]
    if duplicates := [name for name, count in Counter(names).items() if count > 1]:
        return names, [f"class names occur more than once: {listed(duplicates)}; give each class its own name"]
    return names, []


def checked_labels(labels: Any, count: int | None, names: list[str]) -> tuple[Tensor | None, list[str]]:
    """Return labels as int64 (N,), and error messages; labels without class names are not checked."""
    if labels is None and count is not None:
        error = f"labels are None, with {len(names)} class names; return whole numbers from 0 to {len(names) - 1}"
        return torch.zeros(count, dtype=torch.long), [error] * bool(names)
    labels, errors = as_tensor(labels, "labels")
    if labels is None:
        return None, errors
    shape = tuple(labels.shape)
    if labels.ndim == 2 and shape[1] > 1:
        errors.append(f"labels have the shape {shape}, one-hot, and should have (N,): labels.argmax(1)")
    elif labels.ndim != 1:
        errors.append(f"labels have the shape {shape}, and should have (N,): labels.flatten()")
    if labels.ndim and count is not None and len(labels) != count:
        errors.append(f"there are {count:,} samples and {len(labels):,} labels; return one label for each sample")
    if errors or not names:
        return labels.long(), errors
    if labels.is_floating_point() or labels.is_complex():
        kind = str(labels.dtype).removeprefix("torch.")
        return labels, [f"labels are {kind}, and should be whole numbers: labels.long()"]
    labels = labels.long()
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < len(names):
        low, high = int(labels.min()), int(labels.max())
        fix = "subtract 1: labels - 1" if (low, high) == (1, len(names)) else "number the classes from 0"
        errors.append(
            f"labels run from {low} to {high}, and should run from 0 to {len(names) - 1}, as there are {len(names)} "
            f"class names; {fix}"
        )
    return labels, errors


def length(value: Any) -> int | None:
    """Return the number of elements; None if the value has no length."""
    try:
        return len(value)
    except TypeError:
        return None


def listed(names: Sequence[str]) -> str:
    """Return the first few names, quoted, and the number of the others."""
    more = f" and {len(names) - MAX_LISTED:,} more" if len(names) > MAX_LISTED else ""
    return ", ".join(f"'{escape_control(name)}'" for name in names[:MAX_LISTED]) + more


def warn_of_labels(source: str, labels: Tensor, names: Sequence[str]) -> None:
    """Log a warning about classes without samples, or about labels without class names."""
    if not names:
        if len(labels) and (labels != labels[0]).any():
            log.warning(f"{source}: the labels are ignored, since there are no class names; return one for each class")
        return
    empty = [names[i] for i in (labels.bincount(minlength=len(names)) == 0).nonzero().flatten().tolist()]
    if empty:
        log.warning(
            f"{source}: {len(empty):,} of {len(names):,} classes have no samples: {listed(empty)}; leave their names "
            "out, or use more samples"
        )


def warn_of_range(source: str, low: int, high: int) -> None:
    """Log a warning if 8-bit images use a small part of their range."""
    if high == low:
        log.warning(f"{source}: all pixels of nearly all images are {low}; check the files, there is nothing to learn")
    elif high - low < NARROW:
        log.warning(
            f"{source}: nearly all images use only the values {low} to {high} of 0 to 255, so they have little "
            "contrast; scale them to 0 to 255 (a mask of zeros and ones times 255)"
        )


def levels(images: Tensor) -> tuple[int, int]:
    """Return the lowest and highest value of up to ``PROBED`` evenly spaced images, without outliers."""
    some = images[:: -(-len(images) // PROBED)].flatten(1)
    return usual_levels(some.amin(1).tolist(), some.amax(1).tolist())


def usual_levels(lowest: Sequence[int], highest: Sequence[int]) -> tuple[int, int]:
    """Return the lowest and highest value of images, without the darkest and the brightest tenth of them.

    Otherwise a few images with another range would hide that the others are nearly uniform.

    Args:
        lowest: The lowest value of each image.
        highest: The highest value of each image.
    """
    outliers = len(lowest) // 10
    return (sorted(lowest)[outliers], sorted(highest)[-1 - outliers]) if lowest else (0, 0)


def check_module(data: Any) -> None:
    """Raise UserError if a data module lacks a method that training calls."""
    if missing := [name for name in METHODS if not callable(getattr(data, name, None))]:
        raise UserError(
            f"data._target_={type(data).__module__}.{type(data).__qualname__}: the class has no {', '.join(missing)}; "
            "derive it from gan_lightning.data.datamodule.ImageData, whose method read returns uint8 images (N, 1 or "
            "3, H, W), labels (N,) and class names"
        )
