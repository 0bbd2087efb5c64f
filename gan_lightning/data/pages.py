"""A file of samples that is mapped into memory and not read."""

import mmap
from pathlib import Path

import torch
from torch import Tensor

AROUND = 2**17  # bytes: about so much is mapped with each picture, as the system also maps what lies near it


class Pages:
    """A file that is mapped and not read: what of it is in memory.

    Args:
        path: An array of bytes.
        each: Bytes of a picture.
        most: So many bytes may be in memory, about.

    Attributes:
        data: All bytes (n,), as a view of the file.
    """

    def __init__(self, path: Path, each: int, most: float) -> None:
        with path.open("rb") as file:
            self.map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        self.data = torch.frombuffer(self.map, dtype=torch.uint8)
        self.each, self.most, self.touched = each, most, 0

    def fetch(self, rows: Tensor) -> None:
        """Begin to read pictures that are wanted soon, without waiting for them."""
        for row in rows.tolist():
            start = row * self.each
            start, end = start - start % mmap.PAGESIZE, start + self.each
            self.map.madvise(mmap.MADV_WILLNEED, start, end - start)
        self.touched += len(rows) * (self.each + AROUND)
        if self.touched > self.most:  # what is let go of stays with the system for as long as it has room
            self.map.madvise(mmap.MADV_DONTNEED)
            self.touched = 0
