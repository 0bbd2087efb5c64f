"""Protocol cards: a score is comparable with another one if their cards, which describe the protocol, are equal."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

# Fields of a card: metric, real samples, feature network, generated samples, origin.
FIELDS = (
    *("metric", "settings", "data", "data_sha256", "split", "num_real", "num_held_out"),
    *("feature", "feature_sha256", "feature_accuracy", "feature_dtype", "resize", "logits_sha256"),
    *("num_generated", "weights", "batchnorm", "labels", "truncation", "generator_dtype", "quantising", "fitted"),
    *("sampling_seed", "training_seed", "origin", "versions"),
)
# Fields that describe where a score comes from; scores that differ only in these are comparable.
ORIGIN = ("origin", "training_seed", "versions")


@dataclass
class Score:
    """A score with its protocol card.

    Args:
        name: Name of the score, such as ``fd``.
        value: The value.
        card: The protocol card.
        details: Per-class lists by name.
        notes: Warnings about the reliability of the value.
    """

    name: str
    value: float
    card: dict[str, Any]
    details: dict[str, list[float]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def hash(self) -> str:
        """Return the hash of the card without the fields of its origin."""
        return card_hash(self.card)

    def line(self) -> dict[str, Any]:
        """Return the score as a JSON-compatible dictionary."""
        more = {"details": self.details, "notes": self.notes}
        return {
            "metric": self.name,
            "value": self.value,
            **{name: value for name, value in more.items() if value},
            "card_hash": self.hash,
            "card": self.card,
        }


def card_hash(card: Mapping[str, Any]) -> str:
    """Return twelve hexadecimal digits of the hash of a card without the fields of its origin."""
    protocol = {name: value for name, value in card.items() if name not in ORIGIN}
    return hashlib.sha256(json.dumps(protocol, sort_keys=True).encode()).hexdigest()[:12]


def differences(cards: Iterable[Mapping[str, Any]], allowed: Iterable[str] = ()) -> dict[str, list[Any]]:
    """Return the fields in which cards differ with their values, ignoring those of the origin and ``allowed`` ones.

    A field that a card lacks is not a difference: real images have no BatchNorm, for example.
    """
    cards = list(cards)
    differing = {}
    for name in dict.fromkeys(name for card in cards for name in card if name not in (*ORIGIN, *allowed)):
        values = {json.dumps(card[name], sort_keys=True): card[name] for card in cards if card.get(name) is not None}
        if len(values) > 1:
            differing[name] = list(values.values())
    return differing
