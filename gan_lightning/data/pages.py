"""A file of images that is memory-mapped instead of read, for data sets that are larger than the memory."""

import mmap
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gan_lightning.errors import UserError

FAULT_AROUND = 2**17  # bytes that the system maps in addition to each image, approximately
VERIFIED_AT_ONCE = 500  # images per read-ahead when all of them are verified
HAS_MADVISE = hasattr(mmap.mmap, "madvise")  # not on Windows


class MappedFile:
    """A memory-mapped file of images, with read-ahead, a limit on resident memory and checksums.

    The checksum of an image is verified when it is used for the first time: reading a whole file of 50 GB at the start
    would take a minute.

    Args:
        path: The file; beside it lies a description of the same name with the suffix ``.json``, without which
            :class:`~gan_lightning.data.cache.Cache` decodes the images again.
        image_bytes: Size of one image in bytes.
        max_resident: Approximate limit on the bytes of the file that are in memory.
        checksums: CRC-32 of each image (n,).

    Attributes:
        data: All bytes (n * image_bytes,), a view of the file.
    """

    def __init__(self, path: Path, image_bytes: int, max_resident: float, checksums: np.ndarray) -> None:
        with path.open("rb") as file:
            self.map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        self.data = torch.frombuffer(self.map, dtype=torch.uint8)
        self.path, self.image_bytes, self.max_resident, self.resident = path, image_bytes, max_resident, 0
        self.checksums, self.verified = checksums, np.zeros(len(checksums), bool)

    def fetch(self, rows: Tensor) -> None:
        """Start to read images into memory (read-ahead), without waiting for them."""
        if not HAS_MADVISE:
            return
        for row in rows.tolist():
            start = row * self.image_bytes
            start, end = start - start % mmap.PAGESIZE, start + self.image_bytes
            self.map.madvise(mmap.MADV_WILLNEED, start, end - start)
        self.resident += len(rows) * (self.image_bytes + FAULT_AROUND)
        if self.resident > self.max_resident:  # released pages stay in the system's page cache while memory is free
            self.map.madvise(mmap.MADV_DONTNEED)
            self.resident = 0

    def verify(self, rows: Tensor) -> None:
        """Verify the checksums of images that have not been verified yet.

        Raises:
            UserError: A checksum differs. The file's description is removed if possible, so that the next run decodes
                the images again.
        """
        rows = rows.numpy()
        for row in rows[~self.verified[rows]].tolist():
            with memoryview(self.map) as content:
                found = zlib.crc32(content[row * self.image_bytes : (row + 1) * self.image_bytes])
            if found != self.checksums[row]:
                description = self.path.with_suffix(".json")
                fix = "start again to decode the images again"
                try:
                    description.unlink(missing_ok=True)
                except OSError:  # the directory is read-only
                    fix = f"remove {description}, or set data.cache=FOLDER, and start again"
                raise UserError(
                    f"{self.path}: image {row:,} differs from what was written (checksum mismatch; the disk may be "
                    f"failing); {fix}"
                )
            self.verified[row] = True

    def verify_all(self) -> None:
        """Verify the checksums of all images that have not been verified yet, within the limit on resident memory.

        Raises:
            UserError: A checksum differs, as in :meth:`verify`.
        """
        for rows in torch.from_numpy((~self.verified).nonzero()[0]).split(VERIFIED_AT_ONCE):
            self.fetch(rows)
            self.verify(rows)
