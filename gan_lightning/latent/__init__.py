"""Ways through a generator's latent space: each makes samples of latents that it chooses."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any

import torch
from annotated_types import Interval, MinLen
from torch import Tensor, nn

from gan_lightning.class_names import caption, numbers
from gan_lightning.config.constraints import ClassLabel, Validated
from gan_lightning.data.base import StepData
from gan_lightning.errors import UserError
from gan_lightning.sampler import Sampler
from gan_lightning.store import Store

ROWS = 10  # classes that are shown where none was chosen

# Constraints of the explorers' settings.
Classes = Annotated[Sequence[ClassLabel], MinLen(1)]
Rows = Annotated[int, Interval(ge=1, le=10_000)]
Steps = Annotated[int, Interval(ge=2, le=100_000)]
NumSamples = Annotated[int, Interval(ge=8, le=100_000)]
Distance = Annotated[float, Interval(gt=0, le=1e6)]


@dataclass
class Found:
    """What an exploration shows.

    Args:
        rows: Samples (T, ...) of each row, all of one length.
        captions: Of each row.
        figures: Numbers that belong to it, as plain data.
    """

    rows: list[Tensor]
    captions: list[str]
    figures: dict[str, Any] = field(default_factory=dict)


class Explorer(Validated, ABC):
    """What every way offers.

    Attributes:
        moves: Whether a row of what it finds is a way in time, which can be played.
    """

    moves = True

    @abstractmethod
    def __call__(self, model: Sampler) -> Found:
        """Explore a generator; the same settings find the same.

        Raises:
            UserError: The generator is none for this.
        """


class OfData(Explorer):
    """A way that looks at the data which a model was trained on."""

    @abstractmethod
    def see(self, data: StepData, store: Store) -> None:
        """Look at the data, before anything else.

        Args:
            data: Set up.
            store: Where what takes long to compute is kept.
        """


def refuse_points(way: str, shape: Sequence[int]) -> None:
    """Raise UserError where the shape of a sample is that of a point in the plane."""
    if len(shape) != 3:
        raise UserError(f"latent={way}: the model makes points, and no pictures")


def refuse_more(name: str, value: int, there: int, of: str) -> None:
    """Raise UserError where more were asked for than there are."""
    if value > there:
        raise UserError(f"latent.{name}={value}: there are {there:,} {of}")


def latents(model: Sampler, seeds: Sequence[int]) -> Tensor:
    """The first latent (len(seeds), latent_dim) of each seed, as gan-sample draws it."""
    return torch.cat([model.draw_latents(1, seed=seed)[0] for seed in seeds])


def shown_classes(model: Sampler, classes: Sequence[int | str] | None) -> list[int]:
    """The classes that were chosen, or the first ones of a conditional model.

    Raises:
        UserError: The model does not have them.
    """
    if classes is None:
        return [*range(min(model.num_classes, ROWS))] or [0]
    return class_numbers("classes", classes, model.class_names, model.num_classes)


def class_numbers(setting: str, classes: Sequence[int | str], names: Sequence[str], num_classes: int) -> list[int]:
    """Return the numbers of classes that a setting gives by name or number.

    Raises:
        UserError: There are no such classes.
    """
    try:
        return numbers(classes, names, num_classes)
    except ValueError as error:
        told = f"[{','.join(map(str, classes))}]" if setting in ("classes", "targets") else classes[0]
        raise UserError(f"latent.{setting}={told}: {error}") from error


def in_turn(classes: Sequence[int], num: int) -> Tensor:
    """Labels (num,) that take turns."""
    return torch.tensor(classes).repeat(-(-num // len(classes)))[:num]


def captions(model: Sampler, classes: Sequence[int]) -> list[str]:
    """What stands beside a row of a class."""
    return [caption(model.class_names, label) if model.num_classes else "" for label in classes]


@contextmanager
def blended(network: nn.Module, one: int, other: int, shares: Tensor) -> Iterator[None]:
    """Let every embedding of a network give a blend of two classes, whichever it is asked for.

    Args:
        network: With an ``nn.Embedding`` wherever it is told a class.
        one: A class.
        other: Another.
        shares: Of the other (N,), one for each sample of the batch.
    """

    def blend(embedding: nn.Embedding, _: Any, __: Tensor) -> Tensor:
        weights = shares.to(embedding.weight)[:, None]
        return torch.lerp(embedding.weight[one], embedding.weight[other], weights)

    hooks = [part.register_forward_hook(blend) for part in network.modules() if isinstance(part, nn.Embedding)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
