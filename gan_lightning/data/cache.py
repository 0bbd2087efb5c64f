"""Cache of decoded images on disk, shared by runs: one array of bytes for each set of files, size and channels."""

import hashlib
import json
import logging
import math
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import torch

from gan_lightning.data.decode import VERSION, Decoded, Fit, decode, decode_one, decode_to
from gan_lightning.data.image_file import ImageFile, is_generated, version_of
from gan_lightning.data.pages import MappedFile
from gan_lightning.errors import UserError
from gan_lightning.io.files import atomic_write, check_free_space, file_lock, read_json
from gan_lightning.io.image import MARK, MARKED_SUFFIXES
from gan_lightning.io.paths import cache_directory
from gan_lightning.io.progress import progress_bar

log = logging.getLogger(__name__)

COUNTS = "deep", "dark", "white", "stretched"  # numbers of a description
MAX_DESCRIPTION_BYTES = 1 << 30  # the description of ten million images takes about a tenth


class Cache:
    """A directory of decoded images.

    The array is written first and its description (``.json``) second, both atomically, so that a run that is killed in
    between leaves no entry that a later run would use. If several runs need the same entry, one decodes it and the
    others wait.

    Args:
        folder: The directory; None disables the cache.
        memory_gb: Limit on the size in memory (1e9 bytes); larger arrays are memory-mapped.
    """

    def __init__(self, folder: str | Path | None, memory_gb: float) -> None:
        self.folder = cache_directory(folder)
        self.memory_gb, self.max_bytes = memory_gb, memory_gb * 1e9

    def get(
        self,
        paths: Sequence[ImageFile],
        size: tuple[int, int],
        channels: int,
        white: int | None = None,
        fit: Fit = "crop",
    ) -> Decoded:
        """Decode files as :func:`~gan_lightning.data.decode.decode` does, or return the cached result.

        Raises:
            UserError: The images exceed ``memory_gb``, and there is no file to memory-map.
        """
        if self.folder is None:
            return self.in_memory(paths, size, channels, white, fit, "set data.cache=FOLDER to keep them in a file")
        settings = [VERSION, PIL.__version__, *size, channels, white, *([] if fit == "crop" else [fit])]
        path = self.folder / f"images-{key(paths, *settings)}.uint8"
        shape = channels, *size
        if (found := self.read(path, paths, shape)) is not None:
            return found
        try:
            with ExitStack() as held:
                held.enter_context(file_lock(path.with_suffix(".lock")))
                if (found := self.read(path, paths, shape)) is not None:
                    return found
                for stale in self.folder.glob(f".{path.stem}.*.part"):  # left by a killed process
                    stale.unlink()
                num_bytes = len(paths) * math.prod(shape)
                check_free_space(self.folder, num_bytes, "the decoded images", "set data.cache=FOLDER to another disk")
                self.write(path, paths, size, channels, white, fit)
            found = self.read(path, paths, shape)
        except UserError as error:
            log.warning(f"{error}; each run decodes the images again")
        except OSError as error:
            log.warning(f"{self.folder}: cannot be used ({error.strerror}); each run decodes the images again")
        advice = "set data.cache=FOLDER to a folder that can be written"
        return found or self.in_memory(paths, size, channels, white, fit, advice)

    def generated(self, paths: Sequence[ImageFile]) -> list[int]:
        """Return the indices of the image files that this package generated, by the marks in them.

        Opening every PNG and GIF takes hours for a million files on a network file system, so the result is cached by
        the files' names, sizes and modification times.
        """
        rows = [row for row, path in enumerate(paths) if path.suffix.lower() in MARKED_SUFFIXES]
        files = [paths[row] for row in rows]
        cached = None
        if self.folder is not None:
            cached = self.folder / f"generated-{key(files, MARK)}.json"
            with suppress(OSError, ValueError, TypeError, IndexError):  # missing or damaged
                return [rows[int(i)] for i in read_json(cached, self.folder, MAX_DESCRIPTION_BYTES)]
        marked, unreadable = [], 0
        for i, path in enumerate(progress_bar(files, "searching for generated images")):
            try:
                if is_generated(path):
                    marked.append(i)
            except OSError:  # decoding reports it
                unreadable += 1
        if cached is not None and not unreadable:
            with suppress(OSError), atomic_write(cached, "w") as file:
                json.dump(marked, file)
        return [rows[i] for i in marked]

    def in_memory(
        self,
        paths: Sequence[ImageFile],
        size: tuple[int, int],
        channels: int,
        white: int | None,
        fit: Fit,
        advice: str,
    ) -> Decoded:
        """Decode into memory, without the cache.

        Args:
            paths: The files.
            size: Height and width.
            channels: 1 for gray, 3 for colour.
            white: As in :func:`~gan_lightning.data.decode.decode_to`.
            fit: As in :func:`~gan_lightning.data.decode.decode`.
            advice: What to change so that the images can be memory-mapped, for the error message.

        Raises:
            UserError: The images exceed ``memory_gb``.
        """
        gigabytes = len(paths) * channels * math.prod(size) / 1e9
        if gigabytes > self.memory_gb:
            raise UserError(
                f"data.memory_gb={self.memory_gb:g}: {len(paths):,} images of this size take {gigabytes:,.1f} GB; "
                f"{advice}, use a smaller data.image_size or data.limit, or increase data.memory_gb"
            )
        return decode(paths, size, channels, white, fit)

    def write(
        self,
        path: Path,
        paths: Sequence[ImageFile],
        size: tuple[int, int],
        channels: int,
        white: int | None,
        fit: Fit,
    ) -> None:
        """Decode into a file, and write its description (checksums and statistics) to another."""
        with atomic_write(path) as file:
            checksums: list[int] = []

            def start() -> Callable[[np.ndarray], object]:
                file.seek(0)
                file.truncate()
                checksums.clear()
                return append

            def append(pixels: np.ndarray) -> None:
                file.write(pixels)
                checksums.append(zlib.crc32(pixels.data))

            decoded = decode_to(start, paths, size, channels, white, fit)
        names = "broken", "transient", "levels", *COUNTS, "high_byte", "modes"
        description = {name: getattr(decoded, name) for name in names}
        description |= {"checksums": checksums, "sizes": [[*size, count] for size, count in decoded.sizes.items()]}
        with atomic_write(path.with_suffix(".json"), "w") as file:
            json.dump(description, file)
        log.info(f"{len(decoded.rows):,} images decoded and cached for later runs: {path}")

    def read(self, path: Path, paths: Sequence[ImageFile], shape: tuple[int, int, int]) -> Decoded | None:
        """Read an entry; return None if it is missing or damaged, or if files can be read now that failed before."""
        try:
            description = read_json(path.with_suffix(".json"), path.parent, MAX_DESCRIPTION_BYTES)
            low, high = map(int, description["levels"])
            broken = {int(row): str(line) for row, line in description["broken"].items()}
            rows = [row for row in range(len(paths)) if row not in broken]
            counts: dict[str, Any] = {name: int(description[name]) for name in COUNTS}
            decoded = Decoded(
                rows=rows,
                broken=broken,
                sizes=Counter({(int(w), int(h)): int(count) for w, h, count in description["sizes"]}),
                modes=Counter({str(mode): int(count) for mode, count in description["modes"].items()}),
                transient=[int(row) for row in description["transient"]],
                levels=(low, high),
                high_byte=None if description["high_byte"] is None else int(description["high_byte"]),
                **counts,
            )
            if any(decode_one(paths[row], shape[1:], shape[0]).pixels is not None for row in decoded.transient):
                log.info(f"{path}: decoded again, since some files can be read that could not be read before")
                return None
            array_shape, image_bytes = (len(rows), *shape), math.prod(shape)
            if path.stat().st_size != len(rows) * image_bytes:
                raise ValueError("wrong size")
            checksums = np.array(description["checksums"], np.uint32)
            if len(checksums) != len(rows):
                raise ValueError("wrong number of checksums")
            if len(rows) * image_bytes > self.max_bytes:
                pages = MappedFile(path, image_bytes, self.max_bytes, checksums)
                return replace(decoded, images=pages.data.view(array_shape), pages=pages)
            pixels = np.fromfile(path, np.uint8).reshape(array_shape)
            if any(zlib.crc32(one.data) != crc32 for one, crc32 in zip(pixels, checksums.tolist(), strict=True)):
                raise ValueError("wrong checksum")
            return replace(decoded, images=torch.from_numpy(pixels))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError):
            log.warning(f"{path}: damaged; the images are decoded again")
            return None


def key(paths: Sequence[ImageFile], *settings: object) -> str:
    """Return a hash of files (by name, size and modification time) and of settings, for the name of a cached file.

    Members of an archive are hashed by its path, size and modification time, and their names and positions in it.
    """
    digest = hashlib.sha256(json.dumps(settings).encode())
    for path in paths:
        digest.update(f"\0{version_of(path)}".encode(errors="surrogateescape"))
    return digest.hexdigest()[:16]
