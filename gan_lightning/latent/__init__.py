"""Base classes and helpers of latent explorations, which generate samples of chosen latents."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import torch
from annotated_types import Interval, MinLen
from torch import Tensor

from gan_lightning.config.constraints import ClassLabel, Validated
from gan_lightning.data.datamodule import InMemoryDataModule
from gan_lightning.errors import UserError
from gan_lightning.io.cache import TensorCache
from gan_lightning.io.class_names import caption, resolve_class_numbers
from gan_lightning.model.sampling import SamplingMixin

DEFAULT_CLASSES = 10  # number of classes that are shown by default

# Constraints of the settings of explorations.
Classes = Annotated[Sequence[ClassLabel], MinLen(1)]
Rows = Annotated[int, Interval(ge=1, le=10_000)]
Steps = Annotated[int, Interval(ge=2, le=100_000)]
NumSamples = Annotated[int, Interval(ge=8, le=100_000)]
Distance = Annotated[float, Interval(gt=0, le=1e6)]


@dataclass
class Exploration:
    """The result of an exploration.

    Args:
        rows: Samples (T, ...) of each row; all rows have the same length.
        captions: Caption of each row.
        results: Further results as JSON-compatible data.
    """

    rows: list[Tensor]
    captions: list[str]
    results: dict[str, Any] = field(default_factory=dict)


class LatentExplorer(Validated, ABC):
    """Base class of explorations of a generator's latent space.

    Attributes:
        animated: Whether a row of samples is a path that can be shown as a video.
    """

    animated = True

    @abstractmethod
    def __call__(self, model: SamplingMixin) -> Exploration:
        """Explore a generator deterministically.

        Raises:
            UserError: The generator is not suitable.
        """


class NeedsData(LatentExplorer):
    """Base class of explorations that need the data on which the model was trained."""

    @abstractmethod
    def load_data(self, data: InMemoryDataModule, store: TensorCache) -> None:
        """Take what is needed from the data; called before the exploration.

        Args:
            data: The data module after ``setup``.
            store: Cache for results that take long to compute.
        """


def check_images(option: str, shape: Sequence[int]) -> None:
    """Raise UserError unless the shape of a sample is that of an image."""
    if len(shape) != 3:
        raise UserError(f"latent={option}: needs images, and the model generates points")


def check_at_most(name: str, value: int, available: int, what: str) -> None:
    """Raise UserError if a setting is larger than the number that is available."""
    if value > available:
        raise UserError(f"latent.{name}={value}: there are {available:,} {what}")


def selected_classes(model: SamplingMixin, classes: Sequence[int | str] | None) -> list[int]:
    """Return the numbers of the chosen classes, or by default of the first classes of a conditional model.

    Raises:
        UserError: The model does not have these classes.
    """
    if classes is None:
        return [*range(min(model.num_classes, DEFAULT_CLASSES))] or [0]
    return class_numbers("classes", classes, model.class_names, model.num_classes)


def class_numbers(setting: str, classes: Sequence[int | str], names: Sequence[str], num_classes: int) -> list[int]:
    """Return the numbers of classes that a setting gives by name or number.

    Raises:
        UserError: There are no such classes.
    """
    try:
        return resolve_class_numbers(classes, names, num_classes)
    except ValueError as error:
        value = f"[{','.join(map(str, classes))}]" if setting in ("classes", "targets") else classes[0]
        raise UserError(f"latent.{setting}={value}: {error}") from error


def alternating_labels(classes: Sequence[int], num: int) -> Tensor:
    """Return labels (num,) that cycle through the classes."""
    return torch.tensor(classes).repeat(-(-num // len(classes)))[:num]


def captions(model: SamplingMixin, classes: Sequence[int]) -> list[str]:
    """Return the captions of rows of classes; empty strings for an unconditional model."""
    return [caption(model.class_names, label) if model.num_classes else "" for label in classes]
