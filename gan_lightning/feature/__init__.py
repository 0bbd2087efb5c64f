"""Feature networks: what the metrics look at samples through."""

from typing import Any, Protocol

import torch
from torch import Tensor

from gan_lightning.store import Store


class Samples(Protocol):
    """What a feature network may ask of a data set."""

    samples: Tensor
    labels: Tensor
    class_names: list[str]

    def verify(self) -> None:
        """Compare the samples with their checksums where they are mapped; called before they are read directly."""


class FeatureNetwork(Protocol):
    """What a feature network offers.

    Attributes:
        classes: Whether it names classes, that is returns logits.
        no_classes: Why it does not, for the user.
        data_classes: Whether these are the classes of the data.
        instant: Whether its features cost less to compute than to keep.
        batch: How many samples are looked at at a time, at most.
        logits_sha256: Of the weights that make logits of features, where the card does not cover them.
    """

    classes: bool
    no_classes: str
    data_classes: bool
    instant: bool
    batch: int
    logits_sha256: str

    def get_ready(self, data: Samples, store: Store, device: torch.device) -> None:
        """Load or train what is needed.

        Raises:
            UnavailableError: It is not to be had; the sentence says what would help.
        """

    def card(self) -> dict[str, Any]:
        """What identifies it: name, sha256 of its weights, resize rule."""

    def __call__(self, samples: Tensor) -> tuple[Tensor, Tensor | None]:
        """Stored samples (N, ...) to features (N, D), float32, and logits (N, classes) or None."""
