"""The base class of metrics, which compare the features of generated samples with those of real ones."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from gan_lightning.config.constraints import Validated


@dataclass
class FeatureSet:
    """A set of samples with their features and logits.

    Args:
        samples: Images (N, C, H, W) as uint8, or points (N, 2).
        features: Features (N, D).
        labels: Classes (N,): those of real samples, or those that a conditional generator was given.
        logits: Class logits (N, classes) of the feature network; None if it has no classes.
        centres: Means (modes, 2) of a Gaussian mixture in the plane; None for all other data.
        std: Standard deviation of each mode of that mixture.
        held_out: With a training set: real samples that were not used for training; None if no metric needs them.
    """

    samples: Tensor
    features: Tensor
    labels: Tensor
    logits: Tensor | None = None
    centres: Tensor | None = None
    std: float = 0.0
    held_out: "FeatureSet | None" = None

    def __len__(self) -> int:
        return len(self.features)


class Metric(Validated, ABC):
    """Base class of metrics.

    Attributes:
        lower: Names of the scores that are better if lower.
        higher: Names of the scores that are better if higher.
        names_without_inception: Other names, if the features are not Inception's, of the scores and of the metric on
            their protocol card; distances through other networks are not called FID and KID.
        needs: Requirements besides features: "logits" of any classes, "classes" for logits of the data's own classes,
            "condition" for a conditional model, "centres" of a mixture, "held_out" real samples.
    """

    lower: tuple[str, ...] = ()
    higher: tuple[str, ...] = ()
    names_without_inception: ClassVar[Mapping[str, str]] = {}
    needs: frozenset[str] = frozenset()

    @property
    def min_samples(self) -> int:
        """Return the number of real and of generated samples that the metric needs at least."""
        return 2

    def settings(self) -> dict[str, Any]:
        """Return the settings of this metric for the protocol card of its scores."""
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}

    def prepare(self, real: FeatureSet) -> dict[str, Tensor]:
        """Compute what depends on the real samples alone, which is cached."""
        return {}

    @abstractmethod
    def __call__(
        self, real: FeatureSet, prepared: dict[str, Tensor], fake: FeatureSet
    ) -> Mapping[str, float | list[float]]:
        """Return scores by name, and per-class lists as further entries."""

    def warnings(self, real: FeatureSet, fake: FeatureSet) -> list[str]:
        """Return warnings about the reliability of the scores of these sets of samples, without the scores' names."""
        return []

    def figure(self, real: FeatureSet, fake: FeatureSet) -> Tensor | None:
        """Return a figure that illustrates the scores as uint8 (3, H, W); None for most metrics."""
        return None
