"""Descriptions of objects that were constructed in Python."""

import math
from functools import partial
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate

from gan_lightning.config.constraints import PositiveInt, Validated
from gan_lightning.config.description import OBJECT, description_of, undescribed
from gan_lightning.loss.non_saturating import NonSaturating
from gan_lightning.network.dcgan import DCGANGenerator
from gan_lightning.schedule import Linear


class Base(Validated):
    def __init__(self, size: PositiveInt = 1, **more: object) -> None:
        self.size, self.more = size, more


class Derived(Base):
    def __init__(self, name: str, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.name = name


class Inherits(Derived):
    pass


@pytest.mark.parametrize("value", [None, True, 3, -0.5, "text", [1, [2.0, None]], {"a": {"b": [1]}}, {}])
def test_plain_data_are_themselves(value):
    assert description_of(value) == value


def test_tuples_and_paths_become_lists_and_texts():
    assert description_of((1, Path("a") / "b")) == [1, str(Path("a/b"))]


def test_object_is_described_by_its_given_arguments():
    described = description_of(NonSaturating(label_smoothing=0.1))
    assert described == {"_target_": "gan_lightning.loss.non_saturating.NonSaturating", "label_smoothing": 0.1}
    assert instantiate(described).label_smoothing == 0.1
    assert description_of(NonSaturating()) == {"_target_": "gan_lightning.loss.non_saturating.NonSaturating"}


def test_arguments_of_outermost_constructor_are_recorded():
    for cls in (Derived, Inherits):
        target = f"{cls.__module__}.{cls.__name__}"
        assert description_of(cls("x", size=2, other=[1])) == {
            "_target_": target, "name": "x", "size": 2, "other": [1],
        }  # fmt: skip


def test_described_network_is_equal():
    network = DCGANGenerator(8, (1, 16, 16), width=4, norm="layer")
    again = instantiate(description_of(network), _convert_="all")
    assert {name: w.shape for name, w in again.state_dict().items()} == {
        name: w.shape for name, w in network.state_dict().items()
    }
    assert description_of(again) == description_of(network)


def test_recording_does_not_change_state_of_network():
    network = DCGANGenerator(8, (1, 16, 16), width=4)
    assert all("constructor" not in name for name in network.state_dict())
    assert description_of(network)["shape"] == [1, 16, 16]


def test_optimizer_and_dataclass():
    adam = partial(torch.optim.Adam, lr=2e-4, betas=(0.5, 0.999))
    described = description_of(adam)
    assert described == {"_target_": "torch.optim.Adam", "_partial_": True, "lr": 2e-4, "betas": [0.5, 0.999]}
    assert isinstance(instantiate(described)([torch.nn.Parameter(torch.zeros(1))]), torch.optim.Adam)
    assert description_of(Linear(1.0, 0.0)) == {
        "_target_": "gan_lightning.schedule.Linear", "start": 1.0, "end": 0.0, "until": 1.0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (torch.nn.Linear(1, 1), "torch.nn.Linear"),
        (lambda parameters: parameters, "builtins.function"),
        (partial(torch.optim.Adam, [1]), "functools.partial"),
        ([torch.zeros(1)] * 3, "torch.Tensor"),
        (math.inf, "float"),
        (2**64, "int"),
        ("${oc.env:HOME}", "str"),
        ({1: 2}, "builtins.dict"),
    ],
)
def test_other_objects_are_named(value, name):
    assert description_of(value) == f"{OBJECT}{name}"
    assert undescribed({"model": [description_of(value), {"x": description_of(value)}]}) == [name]


def test_list_is_described_up_to_first_object():
    """A list may be a data set of a million items."""

    class Items(list):
        def __iter__(self):
            yield torch.zeros(1)
            raise AssertionError("read further")

    assert description_of(Items()) == f"{OBJECT}torch.Tensor"


def test_undescribed_finds_nothing_in_plain_data():
    assert undescribed({"a": [1, "x", None], "b": {"_target_": "torch.optim.Adam"}}) == []
