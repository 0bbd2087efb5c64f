"""Data modules, decoding and caches; ``from_dataset`` makes a data module of a data set constructed in Python."""

from typing import Any

__all__ = ["from_dataset"]


def __getattr__(name: str) -> Any:
    """Import :func:`~gan_lightning.data.dataset.from_dataset` at its first use, since its module imports torch."""
    if name in __all__:
        from gan_lightning.data.dataset import from_dataset

        return from_dataset
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
