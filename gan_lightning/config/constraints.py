"""Constraints of constructor arguments, declared as annotations, and their validation.

A constraint is an annotation: a type, ``Literal`` for choices, ``Annotated`` with annotated-types for ranges::

    def __init__(self, gp_weight: Annotated[float, Gt(0)] = 10.0, norm: Literal["none", "batch"] = "none") -> None:

:mod:`gan_lightning.config.signature` reads the annotations of a class from its source for the command line;
:class:`Validated` enforces them when a class is constructed in Python. Nothing here imports torch.
"""

import functools
import inspect
import math
import operator
import types
import typing
from collections import abc
from collections.abc import Callable, Iterable, Iterator, Sequence
from numbers import Integral, Real
from os import PathLike
from pathlib import Path
from typing import Annotated, Any, Literal, Union, Unpack

from annotated_types import Ge, GroupedMetadata, Gt, Interval, Le, Len, Lt, MaxLen, MinLen, MultipleOf, doc

from gan_lightning.config.description import RECORDED, description_of

AtLeastOne = Annotated[int, Ge(1)]
PositiveInt = Annotated[int, Interval(ge=1, le=2_147_483_647)]
PositiveFloat = Annotated[float, Gt(0)]
NonNegativeInt = Annotated[int, Interval(ge=0, le=2_147_483_647)]
NonNegativeFloat = Annotated[float, Ge(0)]
Fraction = Annotated[float, Interval(ge=0, lt=1)]
Probability = Annotated[float, Interval(ge=0, le=1)]
Decay = Annotated[float, Interval(gt=0, lt=1)]
Seed = Annotated[int, Interval(ge=0, le=4_294_967_295)]
Norm = Literal["none", "batch", "layer"]
Side = Annotated[int, Interval(ge=1, le=65_535)]
ImageSize = Annotated[Side | Annotated[Sequence[Side], Len(2, 2)], doc("a side or [height,width] in pixels")]
Channels = Literal[1, 3]
Scale = Annotated[int, Interval(ge=1, le=32)]
ClassLabel = Annotated[Annotated[int, Ge(0)] | str, doc("the name or the number of a class")]

REFERENCES = "train", "test", "all"  # real samples that generated ones are compared with; any other text is a path
Reference = Annotated[str, doc("one of train, test, all, or a folder or archive of images")]

NULL = (None, types.NoneType)
NAMES: dict[Any, str] = {bool: "true or false", int: "a whole number", float: "a number", str: "text", Path: "text"}
NAMES |= dict.fromkeys(NULL, "null")
# Attribute, comparison and wording of each bound.
BOUNDS = {
    Gt: ("gt", operator.gt, "above"),
    Ge: ("ge", operator.ge, "of at least"),
    Lt: ("lt", operator.lt, "below"),
    Le: ("le", operator.le, "at most"),
}


def mismatch(annotation: Any, value: Any) -> str | None:
    """Return a description of the valid values; None if the value is valid."""
    return None if admits(annotation, value) else describe(annotation)


def admits(annotation: Any, value: Any) -> bool:
    """Return whether a value has the annotated type, is in the range and is one of the choices.

    Types that cannot occur in a configuration file, such as networks, are not checked.
    """
    origin, args = parts(annotation)
    if origin is Annotated:
        return admits(args[0], value) and all(holds(constraint, value) for constraint in expand(args[1:]))
    if origin is Union:
        return any(admits(part, value) for part in args)
    if origin is Literal:
        return any(type(value) is type(choice) and value == choice for choice in args)
    if origin in NULL:
        return value is None
    if origin is bool:
        return isinstance(value, bool)
    if origin in (int, float):
        if isinstance(value, bool) or not isinstance(value, Integral if origin is int else Real):
            return False
        return math.isfinite(value)
    if origin in (str, Path):
        return isinstance(value, str | PathLike)
    if origin not in (list, tuple, abc.Sequence):
        return True
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        return False
    if origin is tuple and args and args[-1] is not Ellipsis:
        return len(value) == len(args) and all(map(admits, args, value))
    return all(admits(args[0], item) for item in value) if args else True


def parts(annotation: Any) -> tuple[Any, tuple[Any, ...]]:
    """Return the origin and the arguments of an annotation."""
    origin = typing.get_origin(annotation) or annotation
    return Union if origin is types.UnionType else origin, typing.get_args(annotation)


def expand(metadata: Iterable[Any]) -> Iterator[Any]:
    """Yield single constraints; ``Interval`` and ``Len`` are groups of two."""
    for one in metadata:
        yield from expand(one) if isinstance(one, GroupedMetadata) else (one,)


def holds(constraint: Any, value: Any) -> bool:
    """Return whether a value satisfies one constraint of annotated-types; other metadata are ignored."""
    if type(constraint) in BOUNDS:
        name, compare, _ = BOUNDS[type(constraint)]
        return compare(value, getattr(constraint, name))
    if isinstance(constraint, MultipleOf):
        return value % constraint.multiple_of == 0
    if isinstance(constraint, MinLen):
        return len(value) >= constraint.min_length
    return len(value) <= constraint.max_length if isinstance(constraint, MaxLen) else True


def describe(annotation: Any) -> str:
    """Return a description of an annotation for a message, as it follows "must be"."""
    origin, args = parts(annotation)
    if origin is Annotated:
        constraints = [*expand(args[1:])]
        documented = [one.documentation for one in constraints if hasattr(one, "documentation")]
        return documented[0] if documented else with_constraints(describe(args[0]), constraints)
    if origin is Union:
        return " or ".join(dict.fromkeys(describe(part) for part in sorted(args, key=lambda part: part in NULL)))
    if origin is Literal:
        return f"one of {', '.join(dict.fromkeys(map(str, args)))}"
    if origin in (list, tuple, abc.Sequence):
        length = f" of {len(args)}" if origin is tuple and args and args[-1] is not Ellipsis else ""
        return f"a list{length}" + (f", each {describe(args[0])}" if args else "")
    return NAMES.get(origin, getattr(origin, "__name__", str(origin)))


def with_constraints(words: str, constraints: list[Any]) -> str:
    """Add ranges and lengths to the description of a type."""
    bounds = [f"{BOUNDS[type(c)][2]} {getattr(c, BOUNDS[type(c)][0]):.10g}" for c in constraints if type(c) in BOUNDS]
    least = max((c.min_length for c in constraints if isinstance(c, MinLen)), default=0)
    most = min((c.max_length for c in constraints if isinstance(c, MaxLen)), default=None)
    if least or most is not None:
        length = f"{least}" if least == most else f"at least {least}" if most is None else f"{least} to {most}"
        words = words.replace("a list", f"a list of {length}", 1)
    multiples = [f"a multiple of {c.multiple_of:.10g}" for c in constraints if isinstance(c, MultipleOf)]
    return " and ".join([" ".join([words, *bounds[:1]]), *bounds[1:], *multiples])


class Validated:
    """Base class whose subclasses' constructors raise ValueError if an argument violates its annotation.

    The arguments are recorded, see :mod:`gan_lightning.config.description`, so that a model that was constructed in
    Python can be rebuilt from its checkpoint.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__init__" in vars(cls):
            cls.__init__ = validated(cls.__init__)


def validated(init: Callable[..., None]) -> Callable[..., None]:
    """Wrap a constructor so that it validates its arguments; forwarded ones are validated by the base class."""
    signature = inspect.signature(init)
    own = next(iter(signature.parameters))  # self
    collecting = [name for name, one in signature.parameters.items() if one.kind is one.VAR_KEYWORD]

    @functools.cache  # evaluated at the first call, when all names in the annotations are defined
    def annotations() -> dict[str, Any]:
        try:
            found = typing.get_type_hints(init, include_extras=True)
        except NameError:  # a name that is only imported under TYPE_CHECKING
            return {}
        for name, hint in [*found.items()]:
            if typing.get_origin(hint) is Unpack:
                found |= typing.get_type_hints(typing.get_args(hint)[0], include_extras=True)
                del found[name]
        return found

    @functools.wraps(init)
    def checked(self: Any, *args: Any, **kwargs: Any) -> None:
        try:
            given: dict[str, Any] = signature.bind(self, *args, **kwargs).arguments
        except TypeError:
            given = {}  # the call below raises Python's own error
        given |= {k: v for name in collecting for k, v in given.pop(name, {}).items()}
        hints = annotations()
        checks = ((name, value, mismatch(hints[name], value)) for name, value in given.items() if name in hints)
        if errors := [f"{name}={value}: must be {valid}" for name, value, valid in checks if valid]:
            raise ValueError("; ".join(errors))
        is_outermost = type(self).__init__ is checked  # not a base class's constructor
        arguments = (
            description_of({name: value for name, value in given.items() if name != own}) if is_outermost else None
        )
        init(self, *args, **kwargs)
        if is_outermost:
            object.__setattr__(self, RECORDED, arguments)

    return checked
