"""Warnings of libraries that need no action from users."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

# Each with its reason.
IGNORED_WARNINGS = (
    r".*does not have many workers",  # batches come from memory, without workers
    r".*LeafSpec.*is deprecated",  # Lightning's use of torch, https://github.com/pytorch/pytorch/issues/160818
    r".*Checkpoint directory .* exists and is not empty",  # a resumed run
    r".*is smaller than the logging interval",  # our own callback logs
    r".*module\(s\) in eval mode",  # the EMA of the generator
    r".*callbacks used to create the checkpoint need to be provided",  # callbacks may be removed on resume
    r".*nn\.functional\.all_gather is deprecated",  # Lightning's use of torch
    r".*grad attribute of a Tensor that is not a leaf",  # torch.compile reads .grad of its inputs
)


@contextmanager
def ignore_library_warnings() -> Iterator[None]:
    """Ignore these warnings; the filters of the process are restored at the end."""
    with warnings.catch_warnings():
        for pattern in IGNORED_WARNINGS:
            warnings.filterwarnings("ignore", pattern)
        yield
