"""Pictures that are too many for one disk, streamed in chunks by litdata (https://github.com/Lightning-AI/litData)."""

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
from gan_lightning.data.base import ImageData, StepLoader
from gan_lightning.data.decode import WHITE, Picture, decode_one, is_dark, warn_of_depth, white_of
from gan_lightning.errors import UserError, printable
from gan_lightning.paths import cache_directory

log = logging.getLogger(__name__)

ADDRESS = re.compile(r"[a-z0-9]{2,}:")  # s3://, and litdata's local:; a single letter is a drive of Windows
FORMAT = {"image": "bytes", "label": "int"}  # of a sample; the label may be missing


class Chunks:
    """What litdata has packed: chunks of encoded pictures, each with a label or none.

    Args:
        root: Folder or address (``s3://``, ``gs://``, ``hf://``, ...) in which ``index.json`` lies.
        cache: Folder for chunks that come from elsewhere; None leaves it to litdata.
        cache_gb: So much of them stays there (1e9 bytes).

    Attributes:
        sizes: Pictures in each chunk.
        labelled: Whether they have labels.

    Raises:
        UserError: There are none, or of another form.
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
            # Single samples are fetched one by one, past the cache, until a slice was asked for; and not by slices,
            # which are of what litdata thinks is this rank's share.
            self.dataset[0:0]
            folder = Path(self.dataset.input_dir.path if "://" not in str(root) else self.dataset.cache_dir.path)
            config = json.loads((folder / "index.json").read_text())["config"]
            types, kinds = config["types"], config["data_format"]
        except Exception as error:  # of a dozen libraries, one for each kind of place
            raise UserError(
                f"data.root={str(root)!r}: litdata cannot read it ({printable(str(error)) or type(error).__name__})"
            ) from error
        if "image" not in types or not types.items() <= FORMAT.items() or kinds != list(types.values()):
            raise UserError(
                f"data.root={str(root)!r}: its samples are {types or kinds}, and should be dictionaries of 'image', "
                "the bytes of a picture's file, and 'label', a whole number or missing; docs/data.md packs some"
            )
        self.labelled = "label" in types
        self.sizes = [end - start for start, end in self.dataset.region_of_interest]
        self.starts = np.cumsum([0, *self.sizes]).tolist()

    def read(self, chunk: int) -> list[tuple[bytes, int]]:
        """All pictures of a chunk, encoded, and their labels."""
        samples = (self.dataset[i] for i in range(self.starts[chunk], self.starts[chunk + 1]))
        return [(bytes(sample["image"]), int(sample.get("label", 0))) for sample in samples]


class StreamLoader(StepLoader):
    """The minibatches of each step, in an order that mixes a window of chunks at a time.

    The chunks have an order of their own in every epoch. A window of them is read into memory, mixed and dealt out
    while the next is being read. The order is a function of seed and position, as all are here, but no permutation of
    the whole: pictures of chunks that are not in one window never meet.

    Args:
        chunks: Where the pictures are.
        classes: How many classes there are; 0 ignores the labels.
        window: Chunks that are mixed with each other.
        size: Height and width.
        channels: 1 for gray, 3 for colour.
        white: The value that becomes 255 in images with integers of more than 8 bits.
        **steps: Further arguments of :class:`~gan_lightning.data.base.StepLoader`.
    """

    def __init__(
        self,
        chunks: Chunks,
        classes: int,
        window: int,
        size: tuple[int, int],
        channels: int,
        white: int = WHITE,
        **steps: Any,
    ) -> None:
        super().__init__(torch.empty(0), torch.empty(0), **steps)
        self.chunks, self.classes, self.window, self.size, self.channels = chunks, classes, window, size, channels
        self.white = white
        self.plan: tuple[int, list[list[int]], list[int]] = -1, [], []
        self.held: dict[tuple[int, int], Future[list[tuple[bytes, int]]]] = {}

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Samples and labels of each step; the next step's are decoded while one is played."""
        with (
            ThreadPoolExecutor(1) as self.reader,
            ThreadPoolExecutor(1) as ahead,
            ThreadPoolExecutor() as self.decoders,
        ):
            following = ahead.submit(self.batch, self.start)
            for step in range(self.start, self.stop):
                batch = following.result()
                if step + 1 < self.stop:
                    following = ahead.submit(self.batch, step + 1)
                yield batch

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """What this rank sees at a step.

        Raises:
            UserError: A picture cannot be read, or its label is none of the classes.
        """
        count = self.minibatch * self.d_steps
        places = torch.arange(step * count, (step + 1) * count).view(self.d_steps, self.world_size, -1)
        given = [self.sample(place) for place in places[:, self.rank].flatten().tolist()]
        found = decoded(self.decoders, given, self.size, self.channels, self.white)[0]
        return found, labels_of(given, self.classes)

    def sample(self, place: int) -> tuple[bytes, int]:
        """The sample at a place in the run."""
        epoch, offset = divmod(place, sum(self.chunks.sizes))
        _, windows, ends = self.planned(epoch)
        number = bisect_right(ends, offset)
        start = ends[number - 1] if number else 0
        following = (epoch, number + 1) if number + 1 < len(windows) else (epoch + 1, 0)
        for key in ((epoch, number), following):
            if key not in self.held:
                self.held = {other: window for other, window in self.held.items() if other >= (epoch, number)}
                self.held[key] = self.reader.submit(self.mixed, *key)
        return self.held[epoch, number].result()[offset - start]

    def planned(self, epoch: int) -> tuple[int, list[list[int]], list[int]]:
        """An epoch's windows of chunks, and where each ends."""
        if self.plan[0] != epoch:
            generator = torch.Generator().manual_seed(seeds.mix(self.seed, seeds.ORDER, epoch))
            windows = torch.randperm(len(self.chunks.sizes), generator=generator).split(self.window)
            windows = [window.tolist() for window in windows]
            ends = accumulate(sum(self.chunks.sizes[chunk] for chunk in window) for window in windows)
            self.plan = epoch, windows, list(ends)
        return self.plan

    def mixed(self, epoch: int, number: int) -> list[tuple[bytes, int]]:
        """All samples of a window, in the order in which they are dealt out."""
        samples = [sample for chunk in self.planned(epoch)[1][number] for sample in self.chunks.read(chunk)]
        generator = torch.Generator().manual_seed(seeds.mix(self.seed, seeds.ORDER, epoch, number))
        return [samples[i] for i in torch.randperm(len(samples), generator=generator).tolist()]


def labels_of(samples: list[tuple[bytes, int]], classes: int) -> Tensor:
    """Labels (n,), zeros where there are no classes.

    Raises:
        UserError: There are others than the classes' numbers.
    """
    labels = torch.tensor([label if classes else 0 for _, label in samples])
    if classes and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise UserError(f"data.num_classes={classes}: there are labels from {labels.min()} to {labels.max()}")
    return labels


def decoded(
    pool: ThreadPoolExecutor, samples: list[tuple[bytes, int]], size: tuple[int, int], channels: int, white: int
) -> tuple[Tensor, list[Picture]]:
    """Pictures (n, C, H, W) of encoded samples, and what was found in each.

    Raises:
        UserError: One cannot be read.
    """
    found = list(pool.map(lambda sample: decode_one(io.BytesIO(sample[0]), size, channels, white), samples))
    if faults := [picture.fault for picture in found if picture.pixels is None]:
        raise UserError(f"data.root: {len(faults)} of {len(found)} pictures of the stream cannot be read ({faults[0]})")
    return torch.from_numpy(np.stack([picture.pixels for picture in found])), found


class Stream(ImageData):
    """Pictures in chunks of litdata's, on a disk or far away; each is centre-cropped and scaled when it is dealt out.

    Args:
        root: Folder or address (``s3://``, ``gs://``, ``hf://``, ...) in which ``index.json`` lies.
        image_size: A side, or height and width.
        channels: 1 for gray, 3 for colour.
        num_classes: Of the labels; 0 ignores them.
        known: How many pictures are held in memory, for figures and pictures of real ones.
        window: Chunks that are mixed with each other; two windows are in memory.
        cache: Folder for chunks that come from elsewhere.
        cache_gb: So much of them stays there (1e9 bytes).
        **data: Further arguments of :class:`~gan_lightning.data.base.ImageData`.
    """

    provides_labels: ClassVar = {"num_classes": 10}

    def __init__(
        self,
        root: str,
        image_size: ImageSize = 64,
        channels: Channels = 3,
        num_classes: Annotated[int, Interval(ge=0, le=1_000_000)] = 0,
        known: PositiveInt = 10_000,
        window: PositiveInt = 4,
        cache: str | Path | None = None,
        cache_gb: PositiveFloat = 50,
        **data: Any,
    ) -> None:
        super().__init__(root, image_size, channels, **data)
        self.address = str(root) if ADDRESS.match(str(root)) else str(self.root)
        self.classes, self.known, self.window, self.white = num_classes, known, window, WHITE
        folder = cache_directory(cache)
        self.cache, self.cache_gb = None if folder is None else folder / "stream", cache_gb

    @property
    def source(self) -> str:
        """The data set as messages name it."""
        return f"data.root={self.address}"

    def read(self, rows: slice) -> tuple[Tensor, Tensor, list[str]]:
        """The first pictures, which are held.

        Raises:
            UserError: There are none, or they are not what was said.
        """
        if self.limit is not None:
            raise UserError("data.limit: has no effect on a stream; data.known is how many pictures are held")
        self.chunks = Chunks(self.address, self.cache, self.cache_gb)
        if self.classes and not self.chunks.labelled:
            raise UserError(f"data.num_classes={self.classes}: the samples of {self.address!r} have no labels")
        samples: list[tuple[bytes, int]] = []
        for chunk in range(len(self.chunks.sizes)):
            samples += self.chunks.read(chunk)
            if len(samples) >= self.known:
                break
        samples = samples[: self.known]
        labels = labels_of(samples, self.classes)
        with ThreadPoolExecutor() as pool:
            pictures, found = decoded(pool, samples, self.image_size, self.channels, WHITE)
            deep = [picture.peak for picture in found if picture.peak is not None]
            if any(deep) and (white := white_of(max(deep))) != WHITE:
                self.white = white  # of the whole stream, since its images have to stay comparable
                pictures, _ = decoded(pool, samples, self.image_size, self.channels, white)
        high_byte = max((picture.high_byte for picture in found if picture.high_byte is not None), default=None)
        dark, stretched = sum(is_dark(peak, self.white) for peak in deep), sum(picture.stretched for picture in found)
        warn_of_depth(self.source, len(deep), dark, self.white, stretched, high_byte)
        log.info(f"{sum(self.chunks.sizes):,} pictures in {len(self.chunks.sizes):,} chunks; {len(samples):,} are held")
        return pictures, labels, [str(label) for label in range(self.classes)]

    def held_out(self) -> tuple[Tensor, Tensor]:
        """None are.

        Raises:
            UserError: Always.
        """
        raise UserError(
            "no real samples are held out of training, as held_out, eval.split=test and metric=memorization need them: "
            "a run sees all of a stream"
        )

    def train_dataloader(self) -> StreamLoader:
        """Batches from the trainer's step to the end of its budget."""
        picture = self.image_size, self.channels, self.white
        return StreamLoader(self.chunks, self.classes, self.window, *picture, **self.steps())
