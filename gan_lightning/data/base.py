"""What all data sets share: samples in memory, dealt out in an order that is a function of seed and position."""

import logging
import math
import os
import zlib
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from tarfile import TarError
from typing import Any

import torch
from pytorch_lightning import LightningDataModule
from torch import Tensor

from gan_lightning import seed as seeds
from gan_lightning.config.constraints import AtLeastOne, Channels, ImageSize, PositiveInt, Seed, Validated
from gan_lightning.data.pages import Pages
from gan_lightning.data.validate import (
    PROBED,
    check_samples,
    length,
    levels,
    warn_of_labels,
    warn_of_range,
)
from gan_lightning.errors import UserError
from gan_lightning.files import directories, locked
from gan_lightning.geometry import sides
from gan_lightning.image import from_uint8, resize, with_channels
from gan_lightning.memory import refuse_too_large
from gan_lightning.minibatch import scale_error
from gan_lightning.paths import absolute

log = logging.getLogger(__name__)

MOST_HELD_OUT = 10_000  # of a folder, whose pictures have to be decoded
NO_TEST_SET = (
    "no real samples are held out of training, as held_out, eval.split=test and metric=memorization need "
    "them: these data have no test set"
)


class StepLoader:
    """The ``d_steps`` minibatches of each generator step, one after the other.

    Item ``i`` of the run is ``perm(seed, i // n)[i % n]``: every epoch has an order of its own, minibatches span
    epochs, and any step can be the first. A minibatch is shared among the ranks in slices, so that any number of them
    sees the same one.

    Args:
        samples: All samples (n, ...), on the device that gathers them.
        labels: Their labels (n,), there too.
        minibatch: Samples per discriminator update, over all ranks.
        d_steps: Minibatches per generator step.
        seed: Decides the order.
        start: Generator step to begin with.
        stop: Generator step to end before; the budget.
        rank: This process.
        world_size: Number of processes; divides ``minibatch``.
        pages: The file that ``samples`` is a view of, if it is one.
    """

    def __init__(
        self,
        samples: Tensor,
        labels: Tensor,
        minibatch: int,
        d_steps: int = 1,
        seed: int = 0,
        start: int = 0,
        stop: int = 0,
        rank: int = 0,
        world_size: int = 1,
        pages: Pages | None = None,
    ) -> None:
        self.samples, self.labels, self.pages = samples, labels, pages
        self.minibatch, self.d_steps, self.seed = minibatch, d_steps, seed
        self.start, self.stop = start, stop
        self.rank, self.world_size = rank, world_size
        self.permutation: tuple[int, Tensor] = -1, torch.empty(0)

    def __len__(self) -> int:
        """The whole budget, also of a run that goes on: Lightning counts from its beginning."""
        return self.stop

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Samples (d_steps * minibatch / world_size, ...) and labels of each step."""
        for step in range(self.start, self.stop):
            rows = self.rows(step)
            if self.pages is not None:
                self.pages.verify(rows)
                self.pages.fetch(self.rows(step + 1))
            yield self.samples.index_select(0, rows), self.labels[rows]  # an eighth of the time of samples[rows]

    def rows(self, step: int) -> Tensor:
        """Which samples this rank sees at a step."""
        count = self.minibatch * self.d_steps
        position, parts = step * count, []
        while count:
            epoch, offset = divmod(position, len(self.samples))
            parts.append(self.order(epoch)[offset : offset + count])
            position, count = position + len(parts[-1]), count - len(parts[-1])
        rows = parts[0] if len(parts) == 1 else torch.cat(parts)
        return rows.view(self.d_steps, self.world_size, -1)[:, self.rank].flatten()

    def order(self, epoch: int) -> Tensor:
        """The permutation of an epoch."""
        if self.permutation[0] != epoch:
            generator = torch.Generator().manual_seed(seeds.mix(self.seed, seeds.ORDER, epoch))
            order = torch.randperm(len(self.samples), generator=generator)
            self.permutation = epoch, order.to(self.samples.device)
        return self.permutation[1]

    def state_dict(self) -> dict[str, Any]:
        """Nothing: the place follows from the trainer's step. Lightning warns of loaders without this method."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to restore."""


class StepData(Validated, LightningDataModule):
    """Samples and labels in memory.

    Args:
        batch_size: Samples per discriminator step, over all devices.
        seed: Decides the order, and whatever is drawn.

    Attributes:
        samples: All samples (n, ...), as they are stored.
        labels: Classes (n,); zeros where there are none.
        class_names: Names of the classes; empty where there are none.
        pages: The file that ``samples`` is a view of; None where they are in memory.
        of_images: Whether samples are uint8 images, which is validated.
    """

    of_images = False

    def __init__(self, batch_size: PositiveInt, seed: Seed) -> None:
        super().__init__()
        self.batch_size, self.seed = batch_size, seed
        self.samples: Tensor | None = None
        self.pages: Pages | None = None

    @abstractmethod
    def load(self) -> tuple[Tensor, Tensor, list[str]]:
        """Samples, labels and class names."""

    @abstractmethod
    def scale(self, samples: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Stored samples as the networks see them."""

    @property
    def source(self) -> str:
        """The data set as messages name it."""
        return type(self).__name__

    def setup(self, stage: str | None = None) -> None:
        """Read and validate everything, once.

        Raises:
            UserError: The data are not there, or cannot be used.
        """
        if self.samples is None:
            loaded = check_samples(self.source, self.load(), self.of_images)
            self.samples, self.labels, self.class_names = loaded
            if not self.of_images and self.samples.ndim == 4 and self.samples.shape[1] in (1, 3):
                probed = self.scale(self.samples[:: -(-len(self.samples) // PROBED)])
                if error := scale_error(float(probed.min()), float(probed.max())):
                    raise UserError(f"{self.source}: {error}")
            warn_of_labels(self.source, self.labels, self.class_names)

    def test(self) -> tuple[Tensor, Tensor, list[str]] | None:
        """The test set, in the form of :meth:`load`; None where there is none."""
        return None

    def held_out(self) -> tuple[Tensor, Tensor]:
        """Real samples that training never sees, as they are stored, and their labels.

        Raises:
            UserError: There are none, or they cannot be used.
        """
        found = self.test()
        if found is None:
            raise UserError(NO_TEST_SET)
        samples, labels, _ = check_samples(f"{self.source}, test set", found, False, self.class_names)
        if samples.shape[1:] != self.samples.shape[1:]:
            raise UserError(
                f"{self.source}, test set: samples have the shape {tuple(samples.shape[1:])}, and those of the "
                f"training set {self.shape}; return equal shapes"
            )
        return samples, labels

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        return tuple(self.samples.shape[1:])

    @property
    def num_classes(self) -> int:
        """Number of classes; 0 where there are no labels."""
        return len(self.class_names)

    def train_dataloader(self) -> StepLoader:
        """Batches from the trainer's step to the end of its budget."""
        place = self.place()
        if place.type == "cpu":  # images of a mapped file are verified batch by batch
            return StepLoader(self.samples, self.labels, **self.steps(), pages=self.pages)
        self.verify()
        return StepLoader(self.samples.to(place), self.labels.to(place), **self.steps())

    def steps(self) -> dict[str, int]:
        """What the trainer and the model say of the steps to come, and this rank's share in them."""
        place = self.trainer
        return {
            "minibatch": self.batch_size,
            "d_steps": place.lightning_module.d_steps,
            "seed": self.seed,
            "start": place.global_step,
            "stop": place.max_steps,
            "rank": place.global_rank,
            "world_size": place.world_size,
        }

    def place(self) -> torch.device:
        """Where the samples are gathered: on the GPU if they take no more than half of what is free there."""
        device = self.trainer.lightning_module.device
        if device.type != "cuda" or not self.trainer.data_on_device:
            return torch.device("cpu")
        return device if self.samples.nbytes <= torch.cuda.mem_get_info(device)[0] / 2 else torch.device("cpu")

    def on_after_batch_transfer(self, batch: tuple[Tensor, Tensor], dataloader_idx: int) -> tuple[Tensor, Tensor]:
        """Scale on the device, where it is cheap and the stored bytes have travelled."""
        samples, labels = batch
        return self.scale(samples, self.trainer.lightning_module.dtype), labels

    def real(self, num: int, labels: Tensor | None = None) -> Tensor:
        """The first ``num`` samples, or the first of each label in turn; scaled, and again from the start at the end.

        A class of which there is no sample is shown black.

        Args:
            num: How many.
            labels: Classes (num,) to show.
        """
        if labels is None:
            return self.scale(self.stored(torch.arange(num) % len(self.samples)))
        chosen = self.samples.new_zeros(num, *self.shape)
        for label in labels.unique():
            places, members = (labels == label).nonzero().flatten(), (self.labels == label).nonzero().flatten()
            if len(members):
                chosen[places] = self.stored(members[torch.arange(len(places)) % len(members)])
        return self.scale(chosen)

    def stored(self, rows: Tensor) -> Tensor:
        """Samples as they are stored; those of a mapped file are compared with their checksums."""
        if self.pages is not None:
            self.pages.verify(rows)
        return self.samples[rows]

    def verify(self) -> None:
        """Compare all samples of a mapped file with their checksums; to be called before ``samples`` is read directly.

        Raises:
            UserError: One differs.
        """
        if self.pages is not None:
            self.pages.verify_all()


class ImageData(StepData):
    """Pictures, held as uint8 and scaled to [-1, 1] on the device.

    Args:
        root: Folder of the data sets.
        image_size: A side, or height and width.
        channels: 1 for gray, 3 for colour.
        flip: Mirror each picture with probability one half, anew every time.
        limit: Use only so many pictures; None for all.
        batch_size: Pictures per discriminator step, over all devices.
        seed: Decides the order and the flips.
    """

    of_images = True
    provides_images = True
    provides_points = False

    def __init__(
        self,
        root: str | Path,
        image_size: ImageSize,
        channels: Channels,
        flip: bool = False,
        limit: AtLeastOne | None = None,
        batch_size: PositiveInt = 64,
        seed: Seed = 0,
    ) -> None:
        super().__init__(batch_size, seed)
        self.root = absolute(root)
        self.image_size, self.channels = sides(image_size), channels
        self.flip, self.limit = flip, limit

    @abstractmethod
    def read(self, rows: slice) -> tuple[Tensor, Tensor, list[str]]:
        """Pictures (n, 1 or 3, H, W) as uint8, labels (n,) and class names, empty where there are no labels.

        Args:
            rows: Which of the training pictures.
        """

    def load(self) -> tuple[Tensor, Tensor, list[str]]:
        """What is read, limited and brought to the size and the channels that were asked for."""
        return self.fitted(*self.checked(self.read(slice(self.limit))))

    def checked(self, found: Any, which: str = "", known_names: Sequence[str] = ()) -> tuple[Tensor, Tensor, list[str]]:
        """Validate images, labels and class names, and warn where the images use a small part of their range.

        Args:
            found: What was read.
            which: Says which part of the data set it is, for messages.
            known_names: Class names of the training set, where a test set may return none.

        Raises:
            UserError: They cannot be used.
        """
        source = self.source + which
        images, labels, names = check_samples(source, found, True, known_names)
        warn_of_range(source, *self.levels(images))
        return images, labels, names

    def levels(self, images: Tensor) -> tuple[int, int]:
        """Lowest and highest value of images that were read."""
        return levels(images)

    def fitted(self, pictures: Tensor, labels: Tensor, class_names: list[str]) -> tuple[Tensor, Tensor, list[str]]:
        """Pictures of the size and the channels that were asked for."""
        if pictures.shape[1:] == (self.channels, *self.image_size):
            return pictures, labels, class_names
        size = len(pictures) * self.channels * math.prod(self.image_size)
        refuse_too_large(f"data.image_size: {len(pictures):,} such pictures", size, "a smaller one, or data.limit")
        return resize(with_channels(pictures, self.channels), self.image_size), labels, class_names

    def held_out(self) -> tuple[Tensor, Tensor]:
        """The test set, or else what lies beyond the limit."""
        found, which = self.test(), ", test set"
        if found is None and self.limit is not None:
            found, which = self.read(slice(self.limit, self.limit + MOST_HELD_OUT)), ", samples beyond data.limit"
        if found is None or length(found[0]) == 0:
            raise UserError(f"{NO_TEST_SET}; data.limit leaves some out")
        pictures, labels, names = self.fitted(*self.checked(found, which, self.class_names))
        if names and names != self.class_names:  # classes of which fewer are left are numbered by themselves
            number = {name: i for i, name in enumerate(self.class_names)}
            labels = torch.tensor([number.get(name, -1) for name in names])[labels]
            pictures, labels = pictures[labels >= 0], labels[labels >= 0]
        return pictures, labels

    def scale(self, samples: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Uint8 to [-1, 1]."""
        return from_uint8(samples, dtype)

    def on_after_batch_transfer(self, batch: tuple[Tensor, Tensor], dataloader_idx: int) -> tuple[Tensor, Tensor]:
        """Flip and scale on the device; the coins are thrown for the global batch, and each rank takes its own."""
        samples, labels = batch
        if self.flip:
            place, d_steps = self.trainer, self.trainer.lightning_module.d_steps
            generator = torch.Generator().manual_seed(seeds.mix(self.seed, seeds.FLIPS, place.global_step))
            coins = torch.rand(d_steps, place.world_size, len(samples) // d_steps, generator=generator) < 0.5
            heads = coins[:, place.global_rank].flatten()
            rows = torch.arange(len(samples)).add_(heads, alpha=len(samples)).to(samples.device, non_blocking=True)
            samples = torch.cat([samples, samples.flip(-1)]).index_select(0, rows)  # a fifth of the time of where
        return super().on_after_batch_transfer((samples, labels), dataloader_idx)


def downloaded(name: str, root: Path, place: str, files: Sequence[str], fetch: Callable[[], Any]) -> Any:
    """What ``fetch`` returns, one process at a time; or which files the user may put where if it fails.

    Raises:
        UserError: The files are neither there nor to be had, or they are damaged.
    """
    try:
        with ExitStack() as held:
            with suppress(OSError):  # it cannot be written, or has no locks
                root.mkdir(parents=True, exist_ok=True)
                held.enter_context(locked(root, lambda: log.info(f"waiting for another process, which uses {root}")))
            return fetch()
    except (OSError, EOFError, RuntimeError, TypeError, ValueError, AssertionError, zlib.error, TarError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"data={name}: its files are not there or damaged, and the download failed ({reason}). "
            f"Put {', '.join(files)} into {root / place}, or say where they are: data.root=FOLDER"
            f"{elsewhere(root, root / place, files)}"
        ) from error


def root_above(root: Path, place: str, file: str) -> Path:
    """The folder of the data sets, where the user has passed the folder of the files or one in between.

    Args:
        root: What was passed.
        place: Where the files are below the folder of the data sets.
        file: One of them; with or without ``.gz``.
    """
    parts = Path(place).parts
    for passed in range(len(parts), 0, -1):
        inner = root.joinpath(*parts[passed:])
        # Path.exists raises PermissionError.
        there = any(os.path.exists(inner / name) for name in (file, file.removesuffix(".gz")))  # noqa: PTH110
        if there and root.parts[-passed:] == parts[:passed]:
            return root.parents[passed - 1]
    return root


def elsewhere(root: Path, place: Path, files: Sequence[str]) -> str:
    """Where a file lies that belongs into ``place``, under its name or another spelling; empty where none is found."""

    def plain(name: str) -> str:
        return name.removesuffix(".gz").replace(".", "-")

    wanted = {plain(name): name.removesuffix(".gz") for name in files}
    for folder, found in directories(root, lambda _: None):
        for path in (folder / name for name in sorted(found) if plain(name) in wanted):
            target = place / (wanted[plain(path.name)] + path.suffix * (path.suffix == ".gz"))
            if path != target and os.path.isfile(path):  # noqa: PTH113  (Path.is_file raises PermissionError)
                return f". {path} looks like one of them: move it to {target}, and the others likewise"
    return ""
