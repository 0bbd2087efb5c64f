"""Base classes of all data sets: data modules of samples in memory, and the loader of a generator step's minibatches.

The order of the samples is a function of the seed and the position, so there is no loader state to save.
"""

import logging
import math
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import LightningDataModule
from torch import Tensor

from gan_lightning import seed as seeds
from gan_lightning.config.constraints import AtLeastOne, Channels, ImageSize, PositiveInt, Seed, Validated
from gan_lightning.config.image_size import to_height_width
from gan_lightning.data.pages import MappedFile
from gan_lightning.data.validate import PROBED, check_samples, length, levels, warn_of_labels, warn_of_range
from gan_lightning.errors import UserError
from gan_lightning.io.image import from_uint8, resize, with_channels
from gan_lightning.io.memory import check_fits_in_memory
from gan_lightning.io.paths import absolute
from gan_lightning.model.minibatch import scale_error

log = logging.getLogger(__name__)

MAX_HELD_OUT = 10_000  # images of a folder, since they have to be decoded
NONE_HELD_OUT = (
    "no real samples are held out of training, which held_out, eval.reference=test and metric=memorization need"
)
NO_TEST_SET = f"{NONE_HELD_OUT}: this data set has no test set"


class StepBatchLoader:
    """Iterable over generator steps that yields the ``d_steps`` minibatches of each, concatenated.

    Item ``i`` of the run is ``perm(seed, i // n)[i % n]``: every epoch has its own order, minibatches may span two
    epochs, and iteration can start at any step. Each rank gets a slice of every minibatch, so the global minibatch does
    not depend on the world size.

    Args:
        samples: All samples (n, ...), on the device that gathers them.
        labels: Their labels (n,), on the same device.
        minibatch: Samples per discriminator update, over all ranks.
        d_steps: Minibatches per generator step.
        seed: Seed of the order.
        start: First generator step.
        stop: End of the generator steps, exclusive: the budget.
        rank: Rank of this process.
        world_size: Number of processes; divides ``minibatch``.
        pages: The memory-mapped file that ``samples`` is a view of; None if they are in memory.
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
        pages: MappedFile | None = None,
    ) -> None:
        self.samples, self.labels, self.pages = samples, labels, pages
        self.minibatch, self.d_steps, self.seed = minibatch, d_steps, seed
        self.start, self.stop = start, stop
        self.rank, self.world_size = rank, world_size
        self.permutation: tuple[int, Tensor] = -1, torch.empty(0)

    def __len__(self) -> int:
        """Return the whole budget, for a resumed run too, since Lightning counts from step 0."""
        return self.stop

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield samples (d_steps * minibatch / world_size, ...) and labels of each step."""
        for step in range(self.start, self.stop):
            rows = self.rows(step)
            if self.pages is not None:
                self.pages.verify(rows)
                self.pages.fetch(self.rows(step + 1))
            yield self.samples.index_select(0, rows), self.labels[rows]  # takes an eighth of the time of samples[rows]

    def rows(self, step: int) -> Tensor:
        """Return the indices of this rank's samples of a step."""
        count = self.minibatch * self.d_steps
        position, parts = step * count, []
        while count:
            epoch, offset = divmod(position, len(self.samples))
            parts.append(self.order(epoch)[offset : offset + count])
            position, count = position + len(parts[-1]), count - len(parts[-1])
        rows = parts[0] if len(parts) == 1 else torch.cat(parts)
        return rows.view(self.d_steps, self.world_size, -1)[:, self.rank].flatten()

    def order(self, epoch: int) -> Tensor:
        """Return the permutation of an epoch."""
        if self.permutation[0] != epoch:
            generator = torch.Generator().manual_seed(seeds.mix(self.seed, seeds.ORDER, epoch))
            order = torch.randperm(len(self.samples), generator=generator)
            self.permutation = epoch, order.to(self.samples.device)
        return self.permutation[1]

    def state_dict(self) -> dict[str, Any]:
        """Return no state, since the position follows from the step. Lightning warns of loaders without this method."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Do nothing, since there is no state."""


class InMemoryDataModule(Validated, LightningDataModule):
    """Data module of samples and labels that are in memory, or in a memory-mapped file.

    Args:
        batch_size: Samples per discriminator update, over all devices.
        seed: Seed of the order of samples and of random transformations.

    Attributes:
        samples: All samples (n, ...), as stored, before :meth:`scale`.
        labels: Class labels (n,); zeros if there are no classes.
        class_names: Names of the classes; empty if there are none.
        pages: The memory-mapped file that ``samples`` is a view of; None if they are in memory.
    """

    samples: Tensor
    labels: Tensor
    class_names: list[str]
    trainer: Any  # Lightning sets it before it requests the loaders

    def __init__(self, batch_size: PositiveInt, seed: Seed) -> None:
        super().__init__()
        self.batch_size, self.seed = batch_size, seed
        self.samples = None
        self.pages: MappedFile | None = None

    @abstractmethod
    def load(self) -> tuple[Tensor, Tensor, list[str]]:
        """Read and return samples, labels and class names."""

    @abstractmethod
    def scale(self, samples: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Convert stored samples to the range that the networks are trained on."""

    @property
    def source(self) -> str:
        """Name of the data set in messages."""
        return type(self).__name__

    def setup(self, stage: str | None = None) -> None:
        """Read and validate the data, at the first call only.

        Raises:
            UserError: The data are missing or invalid.
        """
        if self.samples is None:
            self.samples, self.labels, self.class_names = self.checked(self.load())
            warn_of_labels(self.source, self.labels, self.class_names)

    def checked(self, found: Any, which: str = "", known_names: Sequence[str] = ()) -> tuple[Tensor, Tensor, list[str]]:
        """Validate samples, labels and class names, and return the samples and labels to store.

        Args:
            found: What :meth:`load` or :meth:`test` has returned.
            which: Name of the part of the data set, appended to :attr:`source` in messages.
            known_names: Class names of the training set; a test set may return none.

        Raises:
            UserError: They are invalid.
        """
        source = self.source + which
        samples, labels, names = check_samples(source, found, False, known_names)
        if samples.ndim == 4 and samples.shape[1] in (1, 3):
            probed = self.scale(samples[:: -(-len(samples) // PROBED)])
            if error := scale_error(float(probed.min()), float(probed.max())):
                raise UserError(f"{source}: {error}")
        return samples, labels, names

    def test(self) -> tuple[Tensor, Tensor, list[str]] | None:
        """Return the test set in the form of :meth:`load`; None if there is none."""
        return None

    def whole(self) -> tuple[Tensor, Tensor]:
        """Return all samples, also those that are left out of training, as stored, and their labels."""
        self.verify()
        return self.samples, self.labels

    def held_out(self, num: int | None = None) -> tuple[Tensor, Tensor]:
        """Return real samples that are not used in training, as stored, and their labels.

        Args:
            num: How many are sufficient, if it takes time to read them; None for all.

        Raises:
            UserError: There are none, or they are invalid.
        """
        found = self.test()
        if found is None:
            raise UserError(NO_TEST_SET)
        samples, labels, _ = self.checked(found, ", test set", self.class_names)
        if samples.shape[1:] != self.samples.shape[1:]:
            raise UserError(
                f"{self.source}, test set: samples have the shape {tuple(samples.shape[1:])}, and those of the "
                f"training set {self.shape}; return equal shapes"
            )
        return samples, labels

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one stored sample."""
        return tuple(self.samples.shape[1:])

    @property
    def num_classes(self) -> int:
        """Number of classes; 0 if there are no labels."""
        return len(self.class_names)

    def train_dataloader(self) -> StepBatchLoader:
        """Return the loader of the steps from the trainer's current one to the end of its budget."""
        device = self.gather_device()
        if device.type == "cpu":  # images of a memory-mapped file are verified batch by batch
            return StepBatchLoader(self.samples, self.labels, **self.steps(), pages=self.pages)
        self.verify()
        return StepBatchLoader(self.samples.to(device), self.labels.to(device), **self.steps())

    def steps(self) -> dict[str, Any]:
        """Return the arguments of a :class:`StepBatchLoader` that follow from the trainer, the model and the rank."""
        trainer = self.trainer
        return {
            "minibatch": self.batch_size,
            "d_steps": trainer.lightning_module.d_steps,
            "seed": self.seed,
            "start": trainer.global_step,
            "stop": trainer.max_steps,
            "rank": trainer.global_rank,
            "world_size": trainer.world_size,
        }

    def gather_device(self) -> torch.device:
        """Return the device that gathers minibatches: the GPU if the samples take at most half of its free memory."""
        device = self.trainer.lightning_module.device
        if device.type != "cuda" or not self.trainer.data_on_device:
            return torch.device("cpu")
        return device if self.samples.nbytes <= torch.cuda.mem_get_info(device)[0] / 2 else torch.device("cpu")

    def on_after_batch_transfer(self, batch: tuple[Tensor, Tensor], dataloader_idx: int) -> tuple[Tensor, Tensor]:
        """Scale on the device, so that the transfer moves stored bytes and not floats."""
        samples, labels = batch
        return self.scale(samples, self.trainer.lightning_module.dtype), labels

    def real(self, num: int, labels: Tensor | None = None) -> Tensor:
        """Return the first ``num`` samples, or the first of each label; scaled, and repeated if there are too few.

        A class without samples is filled with stored zeros (black).

        Args:
            num: Number of samples.
            labels: Class labels (num,) of the samples to return; None for the first samples of the data set.
        """
        if labels is None:
            return self.scale(self.stored(torch.arange(num) % len(self.samples)))
        chosen = self.samples.new_zeros(num, *self.shape)
        for label in labels.unique():
            positions, members = (labels == label).nonzero().flatten(), (self.labels == label).nonzero().flatten()
            if len(members):
                chosen[positions] = self.stored(members[torch.arange(len(positions)) % len(members)])
        return self.scale(chosen)

    def stored(self, rows: Tensor) -> Tensor:
        """Return samples as stored; the checksums of those in a memory-mapped file are verified."""
        if self.pages is not None:
            self.pages.verify(rows)
        return self.samples[rows]

    def verify(self) -> None:
        """Verify the checksums of all samples of a memory-mapped file; call it before reading ``samples`` directly.

        Raises:
            UserError: A checksum differs.
        """
        if self.pages is not None:
            self.pages.verify_all()


class ImageData(InMemoryDataModule):
    """Images, stored as uint8 and scaled to [-1, 1] on the device.

    Args:
        root: Directory of the data sets.
        image_size: Side, or height and width, in pixels.
        channels: 1 for gray, 3 for colour.
        flip: Flip each image horizontally with probability 0.5, drawn again at each use.
        limit: Number of images to use; None for all.
        batch_size: Images per discriminator update, over all devices.
        seed: Seed of the order and of the flips.
    """

    provides_images = True
    provides_points = False
    how_to_hold_out = "set data.limit to leave some images out of training"

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
        self.image_size, self.channels = to_height_width(image_size), channels
        self.flip, self.limit = flip, limit

    @abstractmethod
    def read(self, rows: slice) -> tuple[Tensor, Tensor, list[str]]:
        """Return images (n, 1 or 3, H, W) as uint8, labels (n,) and class names; an empty list if there are no labels.

        Args:
            rows: Slice of the training images to read.
        """

    def load(self) -> tuple[Tensor, Tensor, list[str]]:
        """Read up to ``limit`` images."""
        return self.read(slice(self.limit))

    def read_held_out(self, num: int | None) -> tuple[Tensor, Tensor, list[str]] | None:
        """Read the images beyond ``limit``, all or at least ``num``; return None if there is no limit."""
        return None if self.limit is None else self.read(slice(self.limit, self.limit + MAX_HELD_OUT))

    def checked(self, found: Any, which: str = "", known_names: Sequence[str] = ()) -> tuple[Tensor, Tensor, list[str]]:
        """Validate images as the base class does, and convert them to the configured size and channels.

        A warning is logged if they use a small part of their range.
        """
        source = self.source + which
        images, labels, names = check_samples(source, found, True, known_names)
        warn_of_range(source, *self.levels(images))
        if images.shape[1:] != (self.channels, *self.image_size):
            size = len(images) * self.channels * math.prod(self.image_size)
            advice = "use a smaller data.image_size or data.limit"
            check_fits_in_memory(f"data.image_size: {len(images):,} images of this size", size, advice)
            images = resize(with_channels(images, self.channels), self.image_size)
        return images, labels, names

    def levels(self, images: Tensor) -> tuple[int, int]:
        """Return the lowest and highest value of images that were read, without outliers."""
        return levels(images)

    def held_out(self, num: int | None = None) -> tuple[Tensor, Tensor]:
        """Return the test set; if there is none, the images that are held out of the training set.

        Raises:
            UserError: There are neither, or they are invalid.
        """
        found, which = self.test(), ", test set"
        if found is None:
            found, which = self.read_held_out(num), ", held-out images"
        if found is None or length(found[0]) == 0:
            raise UserError(f"{NO_TEST_SET}; {self.how_to_hold_out}")
        return self.with_own_classes(found, which)

    def whole(self) -> tuple[Tensor, Tensor]:
        """Return all images, also those beyond ``limit`` and held-out ones, as stored, and their labels."""
        return self.with_own_classes(self.read_all(), ", whole data set")

    def read_all(self) -> tuple[Tensor, Tensor, list[str]]:
        """Read all images."""
        return self.read(slice(None))

    def with_own_classes(self, found: Any, which: str) -> tuple[Tensor, Tensor]:
        """Return validated images of classes of the training set, and their labels as in the training set.

        Args:
            found: What :meth:`read` has returned.
            which: Name of the part of the data set in messages.
        """
        images, labels, names = self.checked(found, which, self.class_names)
        if names and names != self.class_names:  # a subset without some of the classes has its own numbers for them
            number = {name: i for i, name in enumerate(self.class_names)}
            labels = torch.tensor([number.get(name, -1) for name in names])[labels]
            images, labels = images[labels >= 0], labels[labels >= 0]
        return images, labels

    def scale(self, samples: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Convert uint8 to [-1, 1]."""
        return from_uint8(samples, dtype)

    def on_after_batch_transfer(self, batch: tuple[Tensor, Tensor], dataloader_idx: int) -> tuple[Tensor, Tensor]:
        """Flip and scale on the device; flips are drawn for the global batch, and each rank uses its own slice."""
        samples, labels = batch
        if self.flip:
            trainer, d_steps = self.trainer, self.trainer.lightning_module.d_steps
            generator = torch.Generator().manual_seed(seeds.mix(self.seed, seeds.FLIPS, trainer.global_step))
            flips = torch.rand(d_steps, trainer.world_size, len(samples) // d_steps, generator=generator) < 0.5
            flips = flips[:, trainer.global_rank].flatten()
            rows = torch.arange(len(samples)).add_(flips, alpha=len(samples)).to(samples.device, non_blocking=True)
            # Takes a fifth of the time of torch.where.
            samples = torch.cat([samples, samples.flip(-1)]).index_select(0, rows)
        return super().on_after_batch_transfer((samples, labels), dataloader_idx)
