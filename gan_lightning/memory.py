"""What is not going to fit into memory, told before the system ends the process without a word."""

import os

from gan_lightning.errors import UserError

LESS_MEMORY = (
    "there is not enough memory; a smaller data.batch_size, data.image_size or network.width, or a larger device"
)
# Of torch: on a CPU, on a GPU, and for sizes beyond 64 bits.
SIGNS = ("allocate memory", "bad_alloc", "out of memory", "calculation overflowed", "multiplication overflow")


def refuse_too_large(what: str, num_bytes: float, advice: str) -> None:
    """Raise UserError where something needs more bytes than the machine has memory, if that is known.

    Args:
        what: What it is, in the plural.
        num_bytes: What it needs at least.
        advice: What to change.
    """
    there = physical_memory()
    if there is not None and num_bytes > there:
        raise UserError(
            f"{what} take {num_bytes / 1e9:,.0f} GB or more, and this machine has {there / 1e9:,.0f} GB of memory; "
            f"{advice}"
        )


def physical_memory() -> int | None:
    """Return the bytes of memory of this machine; None where the system does not tell, as on Windows."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def is_lack_of_memory(error: BaseException) -> bool:
    """Whether an error says that there is too little memory."""
    told = isinstance(error, RuntimeError) and any(sign in str(error) for sign in SIGNS)
    return told or isinstance(error, MemoryError)
