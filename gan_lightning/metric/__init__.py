"""Metrics: each compares what was generated with what is real, through the eyes of a feature network."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from gan_lightning.config.constraints import Validated


@dataclass
class Seen:
    """A set of samples, and what a feature network sees in them.

    Args:
        samples: Pictures (N, C, H, W) as uint8, or points (N, 2).
        features: (N, D).
        labels: Classes (N,): those of real samples, or those that a generator was asked for.
        logits: Of the network's classes (N, classes); None where it names none.
        centres: Means (modes, 2) of a mixture in the plane, with ``deviation``; None for everything else.
        deviation: Standard deviation of each mode.
        held_out: Real samples that training never saw, beside a training set; None where nobody asks for them.
    """

    samples: Tensor
    features: Tensor
    labels: Tensor
    logits: Tensor | None = None
    centres: Tensor | None = None
    deviation: float = 0.0
    held_out: "Seen | None" = None

    def __len__(self) -> int:
        return len(self.features)


class Metric(Validated, ABC):
    """What every metric offers.

    Attributes:
        lower: The scores of which a lower one is better.
        higher: Those of which a higher one is.
        needs: Besides features: "logits" of whatever classes, "classes" that are the data's own, a conditional model
            ("condition"), a mixture's "centres", "held_out" real samples.
    """

    lower: tuple[str, ...] = ()
    higher: tuple[str, ...] = ()
    needs: frozenset[str] = frozenset()

    @property
    def least(self) -> int:
        """Samples that it needs on each side."""
        return 2

    def settings(self) -> dict[str, Any]:
        """What of this metric's own stands on the card of its scores."""
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}

    def prepare(self, real: Seen) -> dict[str, Tensor]:
        """What depends on the real samples alone; it is computed once and cached."""
        return {}

    @abstractmethod
    def __call__(self, real: Seen, prepared: dict[str, Tensor], fake: Seen) -> dict[str, float | list[float]]:
        """Scores by name, and lists by class as further entries."""

    def notes(self, real: Seen, fake: Seen) -> list[str]:
        """What a reader of the scores has to be told of these sets of samples."""
        return []

    def picture(self, real: Seen, fake: Seen) -> Tensor | None:
        """What there is to see, as uint8 (3, H, W)."""
        return None
