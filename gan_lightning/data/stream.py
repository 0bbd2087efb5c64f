"""Data set of images streamed in chunks by litdata (https://github.com/Lightning-AI/litData), larger than the disk."""

import io
import json
import logging
import re
from bisect import bisect_right
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import accumulate
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from annotated_types import Interval
from torch import Tensor

from gan_lightning import seed as seeds
from gan_lightning.config.constraints import Channels, ImageSize, PositiveFloat, PositiveInt
from gan_lightning.data.datamodule import NONE_HELD_OUT, ImageData, StepBatchLoader
from gan_lightning.data.decode import WHITE, Decoded, decode_one, warn_of_depth, white_of
from gan_lightning.errors import UserError, escape_control
from gan_lightning.io.paths import cache_directory

log = logging.getLogger(__name__)

ADDRESS = re.compile(r"[a-z0-9]{2,}:")  # s3:// or litdata's local:; a single letter is a Windows drive
FORMAT = {"image": "bytes", "label": "int"}  # fields of a sample; the label is optional


class Chunks:
    """Reader of a data set that litdata has packed: chunks of encoded images, optionally with labels.

    Args:
        root: Directory or address (``s3://``, ``gs://``, ``hf://``, ...) that contains ``index.json``.
        cache: Directory of downloaded chunks; None for litdata's default.
        cache_gb: Limit on its size (1e9 bytes).

    Attributes:
        sizes: Number of images in each chunk.
        labelled: Whether the images have labels.

    Raises:
        UserError: The data set is missing or has another format.
    """

    def __init__(self, root: str, cache: Path | None, cache_gb: float) -> None:
        try:
            from litdata import StreamingDataset
        except ImportError as error:
            raise UserError("data=stream: needs litdata; pip install 'gan-lightning[stream]'") from error
        try:
            self.dataset = StreamingDataset(
                str(root), cache_dir=None if cache is None else str(cache), max_cache_size=int(cache_gb * 1e9)
            )
            # litdata downloads single samples past its cache until the first slice is read. Other slices cannot be
            # used, since they are slices of the part that litdata assigns to this rank.
            self.dataset[0:0]
            folder = Path(self.dataset.input_dir.path if "://" not in str(root) else self.dataset.cache_dir.path)
            config = json.loads((folder / "index.json").read_text())["config"]
            types, kinds = config["types"], config["data_format"]
        except Exception as error:  # many libraries, one for each kind of storage
            raise UserError(
                f"data.root={str(root)!r}: litdata cannot read it "
                f"({escape_control(str(error)) or type(error).__name__})"
            ) from error
        if "image" not in types or not types.items() <= FORMAT.items() or kinds != list(types.values()):
            raise UserError(
                f"data.root={str(root)!r}: its samples are {types or kinds}, but should be dictionaries of 'image', "
                "the bytes of an image file, and optionally 'label', a whole number; docs/data.md has an example"
            )
        self.labelled = "label" in types
        self.sizes = [end - start for start, end in self.dataset.region_of_interest]
        self.starts = np.cumsum([0, *self.sizes]).tolist()

    def read(self, chunk: int) -> list[tuple[bytes, int]]:
        """Return all images of a chunk, encoded, with their labels (0 if there are none)."""
        samples = (self.dataset[i] for i in range(self.starts[chunk], self.starts[chunk + 1]))
        return [(bytes(sample["image"]), int(sample.get("label", 0))) for sample in samples]


class StreamLoader(StepBatchLoader):
    """Loader of the minibatches of each step, shuffled within a window of chunks.

    Each epoch has its own order of the chunks. A window of chunks is read into memory and shuffled while minibatches
    are taken from the previous one. The order is a function of the seed and the position, but not a permutation of the
    whole data set: images of different windows are never in one minibatch, except at the border of two windows.

    Args:
        chunks: Reader of the data set.
        classes: Number of classes; 0 ignores the labels.
        shuffle_window: Number of chunks in a window.
        size: Height and width.
        channels: 1 for gray, 3 for colour.
        white: The value that is mapped to 255 in images with integers of more than 8 bits.
        **steps: Further arguments of :class:`~gan_lightning.data.datamodule.StepBatchLoader`.
    """

    def __init__(
        self,
        chunks: Chunks,
        classes: int,
        shuffle_window: int,
        size: tuple[int, int],
        channels: int,
        white: int = WHITE,
        **steps: Any,
    ) -> None:
        super().__init__(torch.empty(0), torch.empty(0), **steps)
        self.chunks, self.classes, self.shuffle_window = chunks, classes, shuffle_window
        self.size, self.channels, self.white = size, channels, white
        self.current_plan: tuple[int, list[list[int]], list[int]] = -1, [], []
        self.loaded: dict[tuple[int, int], Future[list[tuple[bytes, int]]]] = {}

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield samples and labels of each step; the next step's are decoded in the background."""
        with (
            ThreadPoolExecutor(1) as self.reader,
            ThreadPoolExecutor(1) as prefetcher,
            ThreadPoolExecutor() as self.decoders,
        ):
            next_batch = prefetcher.submit(self.batch, self.start)
            for step in range(self.start, self.stop):
                batch = next_batch.result()
                if step + 1 < self.stop:
                    next_batch = prefetcher.submit(self.batch, step + 1)
                yield batch

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Return this rank's samples and labels of a step.

        Raises:
            UserError: An image cannot be read, or its label is out of range.
        """
        count = self.minibatch * self.d_steps
        positions = torch.arange(step * count, (step + 1) * count).view(self.d_steps, self.world_size, -1)
        samples = [self.sample(position) for position in positions[:, self.rank].flatten().tolist()]
        decoded = decode_samples(self.decoders, samples, self.size, self.channels, self.white)
        return decoded.images, labels_of(samples, self.classes)

    def sample(self, position: int) -> tuple[bytes, int]:
        """Return the encoded sample at a position of the run; start to read its window and the next one."""
        epoch, offset = divmod(position, sum(self.chunks.sizes))
        _, windows, ends = self.plan(epoch)
        number = bisect_right(ends, offset)
        start = ends[number - 1] if number else 0
        following = (epoch, number + 1) if number + 1 < len(windows) else (epoch + 1, 0)
        for key in ((epoch, number), following):
            if key not in self.loaded:
                self.loaded = {other: window for other, window in self.loaded.items() if other >= (epoch, number)}
                self.loaded[key] = self.reader.submit(self.load_window, *key)
        return self.loaded[epoch, number].result()[offset - start]

    def plan(self, epoch: int) -> tuple[int, list[list[int]], list[int]]:
        """Return an epoch, its windows of chunks, and the position at which each window ends."""
        if self.current_plan[0] != epoch:
            generator = torch.Generator().manual_seed(seeds.mix(self.seed, seeds.ORDER, epoch))
            windows = torch.randperm(len(self.chunks.sizes), generator=generator).split(self.shuffle_window)
            windows = [window.tolist() for window in windows]
            ends = accumulate(sum(self.chunks.sizes[chunk] for chunk in window) for window in windows)
            self.current_plan = epoch, windows, list(ends)
        return self.current_plan

    def load_window(self, epoch: int, number: int) -> list[tuple[bytes, int]]:
        """Read all samples of a window of an epoch, and shuffle them."""
        samples = [sample for chunk in self.plan(epoch)[1][number] for sample in self.chunks.read(chunk)]
        generator = torch.Generator().manual_seed(seeds.mix(self.seed, seeds.ORDER, epoch, number))
        return [samples[i] for i in torch.randperm(len(samples), generator=generator).tolist()]


def labels_of(samples: list[tuple[bytes, int]], classes: int) -> Tensor:
    """Return the labels (n,) of encoded samples; zeros if there are no classes.

    Raises:
        UserError: A label is out of range.
    """
    labels = torch.tensor([label if classes else 0 for _, label in samples])
    if classes and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise UserError(
            f"data.num_classes={classes}: the labels run from {labels.min()} to {labels.max()}, and should run from 0 "
            f"to {classes - 1}"
        )
    return labels


def decode_samples(
    pool: ThreadPoolExecutor, samples: list[tuple[bytes, int]], size: tuple[int, int], channels: int, white: int
) -> Decoded:
    """Decode samples by several threads.

    Raises:
        UserError: An image cannot be read.
    """
    results = list(pool.map(lambda sample: decode_one(io.BytesIO(sample[0]), size, channels, white), samples))
    if errors := [result.error for result in results if result.pixels is None]:
        raise UserError(f"data.root: {len(errors)} of {len(results)} images of the stream cannot be read ({errors[0]})")
    pixels = np.stack([result.pixels for result in results if result.pixels is not None])
    decoded = Decoded(torch.from_numpy(pixels), white=white)
    for row, result in enumerate(results):
        decoded.add(row, result)
    return decoded


class Stream(ImageData):
    """Images in litdata's chunks, on a disk or in remote storage; each is centre-cropped and resized when it is used.

    Args:
        root: Directory or address (``s3://``, ``gs://``, ``hf://``, ...) that contains ``index.json``.
        image_size: Side, or height and width, in pixels.
        channels: 1 for gray, 3 for colour.
        num_classes: Number of classes; 0 ignores the labels.
        reference_size: Number of images in memory, as the reference for metrics and for grids of real samples.
        shuffle_window: Number of chunks that are shuffled together; two windows are in memory.
        cache: Directory of downloaded chunks.
        cache_gb: Limit on its size (1e9 bytes).
        **data: Further arguments of :class:`~gan_lightning.data.datamodule.ImageData`.
    """

    provides_labels: ClassVar = {"num_classes": 10}

    def __init__(
        self,
        root: str,
        image_size: ImageSize = 64,
        channels: Channels = 3,
        num_classes: Annotated[int, Interval(ge=0, le=1_000_000)] = 0,
        reference_size: PositiveInt = 10_000,
        shuffle_window: PositiveInt = 4,
        cache: str | Path | None = None,
        cache_gb: PositiveFloat = 50,
        **data: Any,
    ) -> None:
        super().__init__(root, image_size, channels, **data)
        self.address = str(root) if ADDRESS.match(str(root)) else str(self.root)
        self.classes, self.white = num_classes, WHITE
        self.reference_size, self.shuffle_window = reference_size, shuffle_window
        folder = cache_directory(cache)
        self.cache, self.cache_gb = None if folder is None else folder / "stream", cache_gb

    @property
    def source(self) -> str:
        """Name of the data set in messages."""
        return f"data.root={self.address}"

    def read(self, rows: slice) -> tuple[Tensor, Tensor, list[str]]:
        """Read the first ``reference_size`` images, the reference for metrics.

        Raises:
            UserError: The data set is missing, has another format or no labels; or ``limit`` is set.
        """
        if self.limit is not None:
            raise UserError(
                "data.limit: has no effect on a stream; data.reference_size is the number of images in memory"
            )
        self.chunks = Chunks(self.address, self.cache, self.cache_gb)
        if self.classes and not self.chunks.labelled:
            raise UserError(f"data.num_classes={self.classes}: the samples of {self.address!r} have no labels")
        samples: list[tuple[bytes, int]] = []
        for chunk in range(len(self.chunks.sizes)):
            samples += self.chunks.read(chunk)
            if len(samples) >= self.reference_size:
                break
        samples = samples[: self.reference_size]
        labels = labels_of(samples, self.classes)
        with ThreadPoolExecutor() as pool:
            decoded = decode_samples(pool, samples, self.image_size, self.channels, WHITE)
            # For the whole stream, so that the brightness of its images stays comparable.
            self.white = white_of(decoded.peak)
            if self.white != WHITE:
                decoded = decode_samples(pool, samples, self.image_size, self.channels, self.white)
        warn_of_depth(self.source, decoded)
        total = sum(self.chunks.sizes)
        log.info(
            f"{total:,} images in {len(self.chunks.sizes):,} chunks; {len(samples):,} are in memory as the reference"
        )
        return decoded.images, labels, [str(label) for label in range(self.classes)]

    def held_out(self, num: int | None = None) -> tuple[Tensor, Tensor]:
        """Raise an error, since a run may use every image of a stream.

        Raises:
            UserError: Always.
        """
        raise UserError(f"{NONE_HELD_OUT}: a run uses all images of a stream")

    def train_dataloader(self) -> StreamLoader:
        """Return the loader of the steps from the trainer's current one to the end of its budget."""
        image = self.image_size, self.channels, self.white
        return StreamLoader(self.chunks, self.classes, self.shuffle_window, *image, **self.steps())
