"""Progress of what may take more than a few seconds."""

import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm


def bar(over: Iterable[Any] | None = None, what: str = "", **more: Any) -> tqdm:
    """A bar that appears after three seconds and goes when it is done; in a file it is written seldom."""
    interval = 0.5 if sys.stderr.isatty() else 30
    return tqdm(over, what, leave=False, delay=3, mininterval=interval, maxinterval=interval, **more)
