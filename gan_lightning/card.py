"""The card of a score: everything that has to be equal before two numbers may be compared."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

# What a card may hold: the metric, the real samples, the feature network, the generated samples, their origin.
FIELDS = (
    *("metric", "settings", "data", "data_sha256", "split", "num_real", "num_held_out"),
    *("feature", "feature_sha256", "feature_accuracy", "feature_dtype", "resize", "logits_sha256"),
    *("num_generated", "weights", "batchnorm", "labels", "truncation", "generator_dtype", "quantising", "fitted"),
    *("sampling_seed", "training_seed", "origin", "versions"),
)
# Fields that tell where a score comes from; two scores that differ only in them may be compared.
ORIGIN = ("origin", "training_seed", "versions")


@dataclass
class Score:
    """A number with its protocol.

    Args:
        name: Of the metric, ``fid`` say.
        value: The number.
        card: What it was measured with.
        details: Lists by class.
        notes: Warnings that belong to the number.
    """

    name: str
    value: float
    card: dict[str, Any]
    details: dict[str, list[float]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def hash(self) -> str:
        """Of the card, without the fields of its origin."""
        return card_hash(self.card)

    def line(self) -> dict[str, Any]:
        """As plain data."""
        more = {"details": self.details, "notes": self.notes}
        return {
            "metric": self.name,
            "value": self.value,
            **{name: value for name, value in more.items() if value},
            "card_hash": self.hash,
            "card": self.card,
        }


def card_hash(card: Mapping[str, Any]) -> str:
    """Twelve hexadecimal digits."""
    protocol = {name: value for name, value in card.items() if name not in ORIGIN}
    return hashlib.sha256(json.dumps(protocol, sort_keys=True).encode()).hexdigest()[:12]


def differences(cards: Iterable[Mapping[str, Any]], allowed: Iterable[str] = ()) -> dict[str, list[Any]]:
    """The fields in which cards differ, with their values; those of the origin and those allowed left aside.

    A field that a card lacks, as real pictures have no BatchNorm, does not set it apart.
    """
    cards = list(cards)
    found = {}
    for name in dict.fromkeys(name for card in cards for name in card if name not in (*ORIGIN, *allowed)):
        values = {json.dumps(card[name], sort_keys=True): card[name] for card in cards if card.get(name) is not None}
        if len(values) > 1:
            found[name] = list(values.values())
    return found


def installed(package: str) -> str:
    """The version of a package; unknown of a clone that runs without being installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
