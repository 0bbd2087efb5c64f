"""Decoded pictures on disk, read by many runs: one array of bytes for each set of files, size and channels."""

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

import numpy as np
import PIL
import torch

from gan_lightning.bar import bar
from gan_lightning.data.decode import VERSION, Decoded, decode, decode_one, decode_to
from gan_lightning.data.pages import Pages
from gan_lightning.errors import UserError
from gan_lightning.files import locked, read_json, refuse_full_disk, whole
from gan_lightning.image import MARK, MARKED_SUFFIXES, is_generated
from gan_lightning.paths import cache_directory

log = logging.getLogger(__name__)

MOST_BYTES = 1 << 30  # of a description; one of ten million images takes about a tenth of that


class Cache:
    """A folder of decoded pictures.

    The array is written first and its description after it, each under its name only when it is complete, so that a
    run that is killed in between leaves nothing that a later one believes. Of several runs that want the same, one
    decodes and the others wait.

    Args:
        folder: Where it is. None keeps nothing.
        memory_gb: Pictures that take more (1e9 bytes) stay in the file, which is mapped.
    """

    def __init__(self, folder: str | Path | None, memory_gb: float) -> None:
        self.folder = cache_directory(folder)
        self.memory_gb, self.most = memory_gb, memory_gb * 1e9

    def get(self, paths: Sequence[Path], size: tuple[int, int], channels: int, white: int | None = None) -> Decoded:
        """Files decoded as :func:`~gan_lightning.data.decode.decode` does, or what is left of the last time.

        Raises:
            UserError: They take more memory than they may, and there is no file to map.
        """
        if self.folder is None:
            return self.in_memory(paths, size, channels, white, "data.cache=FOLDER keeps them in a file")
        path, shape = (
            self.folder / f"pictures-{key(paths, VERSION, PIL.__version__, *size, channels, white)}.uint8",
            (channels, *size),
        )
        if (found := self.read(path, paths, shape)) is not None:
            return found
        try:
            with ExitStack() as held:
                self.folder.mkdir(parents=True, exist_ok=True)
                held.enter_context(locked(path.with_suffix(".lock"), lambda: log.info(f"waiting for {path}")))
                if (found := self.read(path, paths, shape)) is not None:
                    return found
                for stale in self.folder.glob(f".{path.stem}.*.part"):  # of a process that was killed
                    stale.unlink()
                room = len(paths) * math.prod(shape)
                refuse_full_disk(self.folder, room, "the decoded pictures", "data.cache=FOLDER chooses another place")
                self.write(path, paths, size, channels, white)
            found = self.read(path, paths, shape)
        except UserError as error:
            log.warning(f"{error}. They are decoded again by each run")
        except OSError as error:
            log.warning(f"{self.folder}: cannot be used ({error.strerror}); pictures are decoded again by each run")
        fix = "data.cache=FOLDER chooses a folder that can be written"
        return found or self.in_memory(paths, size, channels, white, fix)

    def generated(self, paths: Sequence[Path]) -> list[int]:
        """Return the rows of the files that this package wrote, by their marks.

        Every PNG and GIF has to be opened for that, which takes hours for a million files on a network file system. So
        the result is kept, and later runs only compare names, lengths and times.
        """
        rows = [row for row, path in enumerate(paths) if path.suffix.lower() in MARKED_SUFFIXES]
        files = [paths[row] for row in rows]
        place = None
        if self.folder is not None:
            place = self.folder / f"generated-{key(files, MARK)}.json"
            with suppress(OSError, ValueError, TypeError, IndexError):  # there is none yet, or it is damaged
                return [rows[int(i)] for i in read_json(place, self.folder, MOST_BYTES)]
        marked, unread = [], 0
        for i, path in enumerate(bar(files, "searching for generated images")):
            try:
                if is_generated(path):
                    marked.append(i)
            except OSError:  # decoding reports it
                unread += 1
        if place is not None and not unread:
            with suppress(OSError), whole(place, "w") as file:
                json.dump(marked, file)
        return [rows[i] for i in marked]

    def in_memory(
        self, paths: Sequence[Path], size: tuple[int, int], channels: int, white: int | None, fix: str
    ) -> Decoded:
        """Decode, and keep nothing."""
        gigabytes = len(paths) * channels * math.prod(size) / 1e9
        if gigabytes > self.memory_gb:
            raise UserError(
                f"data.memory_gb={self.memory_gb:g}: {len(paths):,} such pictures take {gigabytes:,.1f} GB; {fix}, "
                "a smaller data.image_size or data.limit takes less, a larger data.memory_gb holds more"
            )
        return decode(paths, size, channels, white)

    def write(self, path: Path, paths: Sequence[Path], size: tuple[int, int], channels: int, white: int | None) -> None:
        """Decode into a file, and describe it in another."""
        with whole(path) as file:
            checksums: list[int] = []

            def begin() -> Callable[[np.ndarray], object]:
                file.seek(0)
                file.truncate()
                checksums.clear()
                return take

            def take(pixels: np.ndarray) -> None:
                file.write(pixels)
                checksums.append(zlib.crc32(pixels))

            decoded = decode_to(begin, paths, size, channels, white)
        facts = {"checksums": checksums, "broken": decoded.broken}
        names = "passing", "levels", "deep", "dark", "white", "stretched", "high_byte"
        facts |= {name: getattr(decoded, name) for name in names}
        facts |= {"sizes": [[*size, count] for size, count in decoded.sizes.items()], "modes": dict(decoded.modes)}
        with whole(path.with_suffix(".json"), "w") as file:
            json.dump(facts, file)
        log.info(f"{len(decoded.rows):,} pictures decoded, for later runs: {path}")

    def read(self, path: Path, paths: Sequence[Path], shape: tuple[int, int, int]) -> Decoded | None:
        """What a file holds; None where it is missing or damaged, or pictures can be read now that could not be."""
        try:
            facts = read_json(path.with_suffix(".json"), path.parent, MOST_BYTES)
            broken = {int(row): str(line) for row, line in facts["broken"].items()}
            sizes = Counter({(int(w), int(h)): int(count) for w, h, count in facts["sizes"]})
            modes = Counter({str(mode): int(count) for mode, count in facts["modes"].items()})
            rows = [row for row in range(len(paths)) if row not in broken]
            passing = [int(row) for row in facts["passing"]]
            low, high = map(int, facts["levels"])
            numbers = (low, high), *(int(facts[name]) for name in ("deep", "dark", "white", "stretched"))
            high_byte = None if facts["high_byte"] is None else int(facts["high_byte"])
            decoded = Decoded(torch.empty(0), rows, broken, sizes, modes, passing, *numbers, high_byte)
            if any(decode_one(paths[row], shape[1:], shape[0]).pixels is not None for row in passing):
                log.info(f"{path}: made anew, since pictures can be read that could not be")
                return None
            whole_shape, each = (len(rows), *shape), math.prod(shape)
            if path.stat().st_size != len(rows) * each:
                raise ValueError("another size")
            checksums = np.array(facts["checksums"], np.uint32)
            if len(checksums) != len(rows):
                raise ValueError("another number of checksums")
            if len(rows) * each > self.most:
                pages = Pages(path, each, self.most, checksums)
                return replace(decoded, images=pages.data.view(whole_shape), pages=pages)
            pixels = np.fromfile(path, np.uint8).reshape(whole_shape)
            if any(zlib.crc32(one) != crc32 for one, crc32 in zip(pixels, checksums.tolist(), strict=True)):
                raise ValueError("another checksum")
            return replace(decoded, images=torch.from_numpy(pixels))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError):
            log.warning(f"{path}: damaged; it is made anew")
            return None


def key(paths: Sequence[Path], *settings: object) -> str:
    """Return a hash of files, by name, length and time, and of the settings of what is made of them."""
    digest = hashlib.sha256(json.dumps(settings).encode())
    for path in paths:
        try:
            found = path.stat()
            version = found.st_size, found.st_mtime_ns
        except OSError:  # a link that leads nowhere; decoding reports it
            version = None
        digest.update(f"\0{path.absolute()}\0{version}".encode(errors="surrogateescape"))
    return digest.hexdigest()[:16]
