"""Progress bar for operations that may take more than a few seconds."""

import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm


def progress_bar(over: Iterable[Any] | None = None, what: str = "", **more: Any) -> tqdm:
    """Return a tqdm progress bar that appears after three seconds and disappears at the end.

    In a file, such as a cluster job's output, it is updated every 30 seconds only.

    Args:
        over: The iterable; None to call ``update`` instead.
        what: Description at the left of the progress bar.
        **more: Further arguments of tqdm.
    """
    interval = 0.5 if sys.stderr.isatty() else 30
    return tqdm(over, what, leave=False, delay=3, mininterval=interval, maxinterval=interval, **more)
