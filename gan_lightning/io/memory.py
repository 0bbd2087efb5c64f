"""Checks of memory: estimates before an allocation, since the system kills a process silently, and error messages."""

import os
import sys
from typing import Any

from gan_lightning.errors import UserError, short_message

OOM_ADVICE = "out of memory; use a smaller data.batch_size, data.image_size or network.width, or a larger device"
# Parts of torch's error messages: on a CPU, on a GPU, and for sizes beyond 64 bits.
OOM_MESSAGES = ("allocate memory", "bad_alloc", "out of memory", "calculation overflowed", "multiplication overflow")


def check_fits_in_memory(what: str, num_bytes: float, advice: str) -> None:
    """Raise UserError if something needs more bytes than the machine has memory.

    Args:
        what: Description, in the plural.
        num_bytes: Lower bound of the memory that it needs.
        advice: What to change.

    Raises:
        UserError: The memory of this machine is known and too small.
    """
    available = physical_memory()
    if available is not None and num_bytes > available:
        raise UserError(
            f"{what} take {num_bytes / 1e9:,.0f} GB or more, and this machine has {available / 1e9:,.0f} GB of memory; "
            f"{advice}"
        )


def physical_memory() -> int | None:
    """Return the bytes of memory of this machine; None if it is unknown, as on Windows."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def peak_memory(device: Any) -> int | None:
    """Return the highest number of bytes that this process has used: on a GPU, of its memory; else of the machine's.

    Args:
        device: A ``torch.device``.

    Returns:
        The bytes; None if they are unknown, as on Windows.
    """
    if device.type == "cuda":
        import torch  # only where a device of it exists; this module is imported before torch

        return int(torch.cuda.max_memory_reserved(device))
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def out_of_memory_message(error: BaseException) -> str:
    """Return the message for an out-of-memory error, with the advice that was added to it as notes."""
    return "; ".join([OOM_ADVICE, *getattr(error, "__notes__", ())]) + f" ({short_message(error)})"


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error is an out-of-memory error."""
    is_torch_oom = isinstance(error, RuntimeError) and any(text in str(error) for text in OOM_MESSAGES)
    return is_torch_oom or isinstance(error, MemoryError)
