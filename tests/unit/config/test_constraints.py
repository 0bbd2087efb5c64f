"""Constraints in constructors' signatures: read from source without importing it, and enforced in Python."""

import inspect
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict, Unpack

import pytest
from annotated_types import Ge, Gt, Interval, Len, MinLen, MultipleOf, doc
from omegaconf import OmegaConf

from gan_lightning.config import constraints, signature
from gan_lightning.config.constraints import Validated, describe, mismatch
from gan_lightning.config.signature import REQUIRED, read
from gan_lightning.config.validation import errors_of_values

Pairs = Annotated[Sequence[Annotated[Sequence[float], Len(2, 2)]], MinLen(1), doc("a list of pairs")]


@pytest.mark.parametrize(
    ("annotation", "valid", "invalid", "expected"),
    [
        (bool, [True], [1, None, "true"], "true or false"),
        (int, [3], [True, 1.5, "3", None], "a whole number"),
        (float, [3, 0.5], [True, "x", float("nan"), float("inf")], "a number"),
        (str | Path, ["a", Path("a")], [1, None], "text"),
        (str | None, ["a", None], [1], "text or null"),
        (None | int, [1, None], ["a"], "a whole number or null"),
        (Annotated[float, Gt(0)], [0.1, 3], [0, -1, "a"], "a number above 0"),
        (Annotated[int, Interval(ge=1, lt=5)], [1, 4], [0, 5], "a whole number of at least 1 and below 5"),
        (Annotated[int, Ge(0), MultipleOf(4)], [0, 8], [6, -4], "a whole number of at least 0 and a multiple of 4"),
        (Literal["a", 3], ["a", 3], ["b", "3", True], "one of a, 3"),
        (Literal[1], [1], [True, 1.0], "one of 1"),
        (list[int], [[1, 2], [], (1,)], [["a"], "12", 3], "a list, each a whole number"),
        (tuple[float, float], [[1, 2]], [[1], [1, 2, 3]], "a list of 2, each a number"),
        (tuple[int, ...], [[1, 2, 3]], [["a"]], "a list, each a whole number"),
        (Annotated[list[int], MinLen(2)], [[1, 2]], [[1], 3], "a list of at least 2, each a whole number"),
        (Pairs, [[[0, 1], [1, 2]]], [[], [[0]], [0]], "a list of pairs"),
        (Any, [1, "a", None], [], "Any"),
    ],
)
def test_values_are_validated_against_annotation(annotation, valid, invalid, expected):
    assert [value for value in valid if mismatch(annotation, value)] == []
    assert [value for value in invalid if mismatch(annotation, value) != expected] == []
    assert describe(annotation) == expected


SOURCE = """
from __future__ import annotations
from typing import TYPE_CHECKING, Annotated, Literal, Optional, Unpack
import annotated_types as at
from annotated_types import Interval
from package import Base, Options
from package.deep import Weight as W
if TYPE_CHECKING:
    from torch import Tensor

class Mine(Base):
    needs_labels = True
    names = ("a", "b")
    computed = len("a")
    def __init__(self, weight: W = 10.0, k: Annotated[int, at.Gt(0)] = 1, norm: Literal["a", None] = "a",
                 old: Optional["int"] = None, x: Tensor | None = None, **more: Unpack[Options]) -> None:
        super().__init__(**more)

class Child(Mine):
    names = ("c",)

class Other(Base):
    def __init__(self, **kwargs) -> None:
        self.part = dict(**kwargs)

class Unreadable(nowhere.Base):
    pass

def function(a: int, *, b: bool = False) -> None: ...
"""
PACKAGE = """
from typing import TypedDict
from .deep import Weight
class Options(TypedDict, total=False):
    steps: int
    extra: bool
class Base:
    needs_labels = False
    provides = {"norm": ("a",)}
    def __init__(self, steps: Weight = 5, seed: int = 0) -> None: ...
"""


DEEP = """
from typing import Annotated
from annotated_types import Interval
Weight = Annotated[float, Interval(gt=0)]
"""


@pytest.fixture
def user_module(tmp_path, monkeypatch):
    """A user's module and a package that it imports from."""
    (tmp_path / "mine.py").write_text(SOURCE)
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").write_text(PACKAGE)
    (tmp_path / "package" / "deep.py").write_text(DEEP)
    monkeypatch.syspath_prepend(tmp_path)
    for cached in (signature.load, signature.read):
        cached.cache_clear()


@pytest.mark.usefixtures("user_module")
def test_signature_includes_base_classes_and_unpacked_options():
    signature_of_class = read("mine.Mine")
    assert not signature_of_class.is_open
    expected = {name: describe(parameter.annotation) for name, parameter in signature_of_class.parameters.items()}
    assert expected == {
        "steps": "a number above 0",  # the annotation of the base class, not that of the options
        "extra": "true or false",
        "seed": "a whole number",
        "weight": "a number above 0",
        "k": "a whole number above 0",
        "norm": "one of a, None",
        "old": "a whole number or null",
        "x": "Any or null",
    }
    assert (signature_of_class.parameters["weight"].default, signature_of_class.parameters["seed"].default) == (10.0, 0)
    assert signature_of_class.parameters["extra"].default is REQUIRED
    assert signature_of_class.attributes == {"needs_labels": True, "provides": {"norm": ("a",)}, "names": ("a", "b")}
    child = read("mine.Child")
    assert (child.parameters, child.attributes["names"]) == (signature_of_class.parameters, ("c",))
    assert [*read("mine.function").parameters] == ["a", "b"]


@pytest.mark.usefixtures("user_module")
def test_unreadable_class_accepts_all_arguments():
    assert read("mine.Other").is_open, "its arguments are not passed to the base class"
    assert read("mine.Unreadable").is_open
    assert read("mine.Nothing") is read("nowhere.Nothing") is read("mine") is read("") is None
    assert "mine" not in sys.modules


class Options(TypedDict, total=False):
    k: Annotated[int, Gt(0)]
    label: str


class Part(Validated):
    def __init__(self, weight: Annotated[float, Gt(0)] = 1.0, norm: Literal["none", "batch"] = "none") -> None:
        self.weight = weight


class Child(Part):
    def __init__(self, k: Annotated[int, Gt(0)] = 1, **part: Any) -> None:
        super().__init__(**part)
        self.k = k


class Collected(Validated):
    def __init__(self, **options: Unpack[Options]) -> None:
        self.options = options


def test_constructor_enforces_annotations():
    assert Child(2, weight=0.5).weight == 0.5
    with pytest.raises(ValueError, match=r"^weight=0: must be a number above 0; norm=x: must be one of none, batch$"):
        Part(0, "x")
    with pytest.raises(ValueError, match="weight=-1"):
        Child(weight=-1)
    with pytest.raises(ValueError, match="k=0"):
        Child(0)
    with pytest.raises(ValueError, match="k=0"):
        Collected(k=0)
    with pytest.raises(TypeError, match="unexpected keyword argument 'other'"):
        Part(other=1)
    assert [*inspect.signature(Part).parameters] == ["weight", "norm"]


def test_constraint_applies_to_referenced_key():
    part = {
        "_target_": "gan_lightning.network.mlp.MLPDiscriminator",
        "shape": "${data_info.shape}",
        "width": "${width}",
    }
    config = OmegaConf.create({"width": 0, "data_info": {"shape": None}, "one": part, "two": dict(part)})
    assert errors_of_values(config, {}) == [
        "width=0: must be a whole number of at least 1 and at most 2147483647",
    ]


def test_circular_references_are_errors():
    config = OmegaConf.create({"seed": "${a.b}", "a": {"b": "${seed}"}})
    assert all(error.startswith(("seed: ", "a.b: ")) for error in errors_of_values(config, {}))


def test_unknown_arguments_are_errors():
    optimizer = {"_target_": "torch.optim.SGD", "_partial_": True, "lr": 0.1, "betas": [0.5, 0.9], "nesterov": "x"}
    model = {"_target_": "gan_lightning.model.wgan_gp.WGANGP", "gp_wieght": 1, "seed": -1}
    config = OmegaConf.create({"model": {**model, "optimizer": optimizer}})
    first, *rest = errors_of_values(config, {})
    assert first.startswith(
        "model.gp_wieght: gan_lightning.model.wgan_gp.WGANGP takes no such argument (did you mean gp_"
    )
    assert [error.partition(":")[0] for error in rest] == [
        "model.optimizer",
        "model.seed=-1",
        "model.optimizer.betas",
        "model.optimizer.nesterov=x",
    ]


def test_annotations_from_source_equal_runtime_annotations():
    """The command line reads constraints from source, and constructors enforce them at run time."""
    from typing import get_type_hints

    from gan_lightning.evaluation.evaluator import Evaluator
    from gan_lightning.model.gan import GAN
    from gan_lightning.network.resnet import ResNetDiscriminator

    for kind in (GAN, Evaluator, ResNetDiscriminator):
        parameters = read(f"{kind.__module__}.{kind.__qualname__}").parameters
        for name, hint in get_type_hints(kind.__init__, include_extras=True).items():
            if name != "return" and "Any" not in describe(parameters[name].annotation):  # classes are described as Any
                assert describe(parameters[name].annotation) == describe(hint), name
    assert constraints.PositiveInt.__metadata__
