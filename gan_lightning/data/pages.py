"""A file of samples that is mapped into memory and not read."""

import mmap
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gan_lightning.errors import UserError

AROUND = 2**17  # bytes: about so much is mapped with each picture, as the system also maps what lies near it
VERIFIED_AT_ONCE = 500  # images, where all of them are verified
ADVICE = hasattr(mmap.mmap, "madvise")  # which Windows lacks


class Pages:
    """A file that is mapped and not read: what of it is in memory.

    Each image is compared with its checksum when it is used for the first time. To read the whole file at the start
    would take a minute for 50 GB.

    Args:
        path: An array of bytes; its description, without which the cache makes it anew, ends in ``.json``.
        each: Bytes of a picture.
        most: So many bytes may be in memory, about.
        checksums: CRC-32 (n,) of each picture.

    Attributes:
        data: All bytes (n,), as a view of the file.
    """

    def __init__(self, path: Path, each: int, most: float, checksums: np.ndarray) -> None:
        with path.open("rb") as file:
            self.map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        self.data = torch.frombuffer(self.map, dtype=torch.uint8)
        self.path, self.each, self.most, self.touched = path, each, most, 0
        self.checksums, self.verified = checksums, np.zeros(len(checksums), bool)

    def fetch(self, rows: Tensor) -> None:
        """Begin to read pictures that are wanted soon, without waiting for them."""
        if not ADVICE:
            return
        for row in rows.tolist():
            start = row * self.each
            start, end = start - start % mmap.PAGESIZE, start + self.each
            self.map.madvise(mmap.MADV_WILLNEED, start, end - start)
        self.touched += len(rows) * (self.each + AROUND)
        if self.touched > self.most:  # what is let go of stays with the system for as long as it has room
            self.map.madvise(mmap.MADV_DONTNEED)
            self.touched = 0

    def verify(self, rows: Tensor) -> None:
        """Compare images with their checksums, each once.

        Raises:
            UserError: One differs. The file's description is removed where that is possible, and the next run decodes
                the images again.
        """
        rows = rows.numpy()
        for row in rows[~self.verified[rows]].tolist():
            with memoryview(self.map) as content:
                found = zlib.crc32(content[row * self.each : (row + 1) * self.each])
            if found != self.checksums[row]:
                description = self.path.with_suffix(".json")
                fix = "start again, and the images are decoded again"
                try:
                    description.unlink(missing_ok=True)
                except OSError:  # the folder cannot be written
                    fix = f"remove {description}, or set data.cache=FOLDER, and start again"
                raise UserError(
                    f"{self.path}: image {row:,} differs from what was written (its checksum is another one; a failing "
                    f"disk?); {fix}"
                )
            self.verified[row] = True

    def verify_all(self) -> None:
        """Compare all images that have not been used yet with their checksums, reading ahead within ``most`` bytes.

        Raises:
            UserError: One differs, as in :meth:`verify`.
        """
        for rows in torch.from_numpy((~self.verified).nonzero()[0]).split(VERIFIED_AT_ONCE):
            self.fetch(rows)
            self.verify(rows)
