"""The base class of feature networks, whose features and logits the metrics compare."""

from abc import ABC, abstractmethod
from typing import Any, Protocol

import torch
from torch import Tensor

from gan_lightning.io.cache import TensorCache


class Samples(Protocol):
    """The part of a data module that a feature network uses."""

    samples: Tensor
    labels: Tensor
    class_names: list[str]

    def verify(self) -> None:
        """Verify the checksums of memory-mapped samples; called before ``samples`` is read directly."""


class FeatureNetwork(ABC):
    """Base class of feature networks.

    Attributes:
        classes: Whether the network returns class logits.
        no_logits_reason: Why it does not, for the user.
        predicts_data_classes: Whether its classes are those of the data.
        inception: Whether it is the network of published FIDs; distances through others have names of their own.
        cheap: Whether its features are faster to compute than to cache.
        batch: Maximum batch size.
        logits_sha256: Hash of the weights of the last layer, where ``card`` does not cover them.
    """

    classes = False
    no_logits_reason = ""
    predicts_data_classes = False
    inception = False
    cheap = False
    batch = 250
    logits_sha256 = ""

    @abstractmethod
    def setup(self, data: Samples, store: TensorCache, device: torch.device) -> None:
        """Load or train the network.

        Raises:
            UnavailableError: The network is unavailable; the message gives a remedy.
        """

    @abstractmethod
    def card(self) -> dict[str, Any]:
        """Return what identifies the network on a protocol card: name, hash of its weights, resize rule."""

    @abstractmethod
    def __call__(self, samples: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return features (N, D) as float32 and logits (N, classes) or None of samples as stored (N, ...)."""
