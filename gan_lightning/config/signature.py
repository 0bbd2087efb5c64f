"""Constructor signatures and literal class attributes, read from source code with ``ast`` instead of an import.

Importing torch and Lightning takes seconds, parsing a class with its base classes takes milliseconds. This lets the
command line report wrong types, ranges and choices at once, for this package's and for user-supplied classes.
"""

import ast
import functools
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, Union

import annotated_types

REQUIRED = object()  # instead of a default value
# Types that annotations are evaluated to; any other class becomes Any.
TYPES: dict[str, Any] = {f"builtins.{kind.__name__}": kind for kind in (bool, int, float, str, list, tuple)}
TYPES |= {f"{package}.Sequence": Sequence for package in ("typing", "collections.abc")}
TYPES |= {"pathlib.Path": Path, "typing.List": list, "typing.Tuple": tuple}


@dataclass(frozen=True)
class Parameter:
    """One parameter of a constructor: its annotation (``Any`` if unreadable) and default (``REQUIRED`` if none)."""

    annotation: Any = Any
    default: Any = REQUIRED


@dataclass
class Signature:
    """Signature and attributes of a class.

    Args:
        parameters: The constructor's parameters by name, including those that it forwards to a base class.
        is_open: Whether it may take further parameters, because a base class or ``**kwargs`` cannot be read.
        attributes: Class attributes with literal values, including inherited ones.
    """

    parameters: dict[str, Parameter] = field(default_factory=dict)
    is_open: bool = False
    attributes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Module:
    """Parsed source code of a module."""

    name: str
    is_package: bool
    names: dict[str, ast.AST]  # top-level definitions, assignments and imports

    def resolve(self, node: ast.AST) -> str:
        """Return the fully qualified name of a name or attribute node; "" for other nodes."""
        if isinstance(node, ast.Attribute):
            return f"{self.resolve(node.value)}.{node.attr}"
        if not isinstance(node, ast.Name):
            return ""
        definition = self.names.get(node.id)
        if isinstance(definition, ast.Import):
            alias = next(one for one in definition.names if (one.asname or one.name.partition(".")[0]) == node.id)
            return alias.name if alias.asname else node.id
        if isinstance(definition, ast.ImportFrom):
            package = self.name.split(".")[: None if self.is_package else -1]
            package = package[: len(package) + 1 - definition.level] if definition.level else []
            alias = next(one for one in definition.names if (one.asname or one.name) == node.id)
            return ".".join([*package, *filter(None, [definition.module]), alias.name])
        return f"{self.name if definition else 'builtins'}.{node.id}"


@functools.cache
def load(name: str) -> Module | None:
    """Parse a module; return None if there is no source file for it."""
    package, *rest = name.split(".")
    try:
        spec = importlib.util.find_spec(package)  # imports nothing, as the name has no dot
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    path, search_path = Path(spec.origin or ""), [*map(Path, spec.submodule_search_locations or ())]
    for part in rest:
        found = [*(f / part / "__init__.py" for f in search_path), *(f / f"{part}.py" for f in search_path)]
        path = next((file for file in found if file.is_file()), Path())
        search_path = [path.parent] if path.name == "__init__.py" else []
    if path.suffix != ".py" or not path.is_file():
        return None
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return None
    return Module(name, path.name == "__init__.py", dict(definitions(tree.body)))


def definitions(body: Sequence[ast.stmt]) -> Iterator[tuple[str, ast.AST]]:
    """Yield the names that statements define, with their nodes; also from the bodies of ``if`` and ``try``."""
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            yield node.name, node
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            yield node.targets[0].id, node.value
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
            yield node.target.id, node.value
        elif isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                name = alias.name if isinstance(node, ast.ImportFrom) else alias.name.partition(".")[0]
                yield alias.asname or name, node
        elif isinstance(node, ast.If | ast.Try):
            yield from definitions(node.body)


def locate(target: str) -> tuple[Module, ast.AST] | None:
    """Return the module that defines a dotted name, and the definition's node; re-exports are followed."""
    for _ in range(10):  # bounds a chain of re-exports
        parent, _, name = target.rpartition(".")
        module = load(parent) if parent else None
        node = module.names.get(name) if module else None
        if module is None or node is None:
            return None
        if not isinstance(node, ast.Import | ast.ImportFrom):
            return module, node
        target = module.resolve(ast.Name(name))
    return None


@functools.cache
def read(target: str) -> Signature | None:
    """Return the signature of a class or function by its dotted name; None if its source code is not found."""
    if (found := locate(target)) is None:
        return None
    module, node = found
    if isinstance(node, ast.FunctionDef):
        return arguments(module, node)
    if not isinstance(node, ast.ClassDef):
        return None
    bases = [module.resolve(base.value if isinstance(base, ast.Subscript) else base) for base in node.bases]
    readable = [base for base in map(read, filter(is_followed, bases)) if base]
    attributes = {name: value for base in reversed(readable) for name, value in base.attributes.items()}
    for name, value in definitions(node.body):
        with suppress(ValueError, TypeError):
            attributes[name] = ast.literal_eval(value)
    if "typing.TypedDict" in bases or any("dataclass" in ast.unparse(one) for one in node.decorator_list):
        found = {name: one for base in reversed(readable) for name, one in base.parameters.items()}
        for one in node.body:
            if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name):
                found[one.target.id] = Parameter(evaluate(module, one.annotation), default(one.value))
        return Signature(found, attributes=attributes)
    init = next((one for one in node.body if isinstance(one, ast.FunctionDef) and one.name == "__init__"), None)
    own, options = (arguments(module, init, method=True), unpacked(module, init)) if init else (Signature(), {})
    if init is None or forwards_kwargs(init):
        named = [base for base in bases if not base.startswith(("builtins.object", "typing.", "abc."))]
        above = [(base, read(base) or Signature(is_open=True)) for base in named]
        base, above = next(((b, one) for b, one in above if one.parameters or one.is_open), ("", Signature()))
        # A base class's annotations take precedence over an Unpack[...] in the subclass, except for other libraries'
        # classes, whose arguments the subclass restricts.
        own.parameters = options | above.parameters | ({} if is_followed(base) else options) | own.parameters
        own.is_open = above.is_open
    return Signature(options | own.parameters, own.is_open, attributes)


def is_followed(name: str) -> bool:
    """Return whether the source of a base class or alias is read; for large libraries that is slow and not needed."""
    return name.partition(".")[0] not in {*sys.stdlib_module_names, "torch", "pytorch_lightning"}


def arguments(module: Module, function: ast.FunctionDef, method: bool = False) -> Signature:
    """Return the parameters of a function; for a method without the first (``self``)."""
    args = function.args
    named = [*args.posonlyargs, *args.args]
    defaults = [None] * (len(named) - len(args.defaults)) + args.defaults
    pairs = [*zip(named[method:], defaults[method:], strict=True), *zip(args.kwonlyargs, args.kw_defaults, strict=True)]
    found = {one.arg: Parameter(evaluate(module, one.annotation), default(value)) for one, value in pairs}
    return Signature(found, is_open=args.kwarg is not None and not unpacked(module, function))


def unpacked(module: Module, function: ast.FunctionDef) -> dict[str, Parameter]:
    """Return the keyword arguments of ``**kwargs: Unpack[...]``; an empty dictionary if there is none."""
    collects = function.args.kwarg.annotation if function.args.kwarg else None
    if isinstance(collects, ast.Subscript) and module.resolve(collects.value).endswith(".Unpack"):
        options = read(module.resolve(collects.slice))
        return options.parameters if options else {}
    return {}


def forwards_kwargs(init: ast.FunctionDef) -> bool:
    """Return whether a constructor forwards its keyword arguments to the base class's constructor."""
    if init.args.kwarg is None:
        return False
    calls = [one for one in ast.walk(init) if isinstance(one, ast.Call) and ast.unparse(one.func) == "super().__init__"]
    forwarded = {part.id for call in calls for part in ast.walk(call) if isinstance(part, ast.Name)}
    return init.args.kwarg.arg in forwarded


def default(node: ast.expr | None) -> Any:
    """Return the value of a default; ``REQUIRED`` if there is none, ``...`` if it is not a literal."""
    try:
        return REQUIRED if node is None else ast.literal_eval(node)
    except (ValueError, TypeError):
        return ...


def evaluate(module: Module, node: ast.expr | None) -> Any:
    """Evaluate an annotation to types of ``typing``; unknown classes become ``Any``."""
    if isinstance(node, ast.Constant):
        return evaluate(module, ast.parse(node.value, mode="eval").body) if isinstance(node.value, str) else None
    if isinstance(node, ast.BinOp):
        return Union[evaluate(module, node.left), evaluate(module, node.right)]  # noqa: UP007
    if isinstance(node, ast.Subscript):
        name = module.resolve(node.value)
        args = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        if name.endswith(".Literal"):
            return Literal[tuple(map(ast.literal_eval, args))]
        if name.endswith(".Annotated"):
            metadata = tuple(metadata for arg in args[1:] if (metadata := constraint(module, arg)))
            return Annotated[(evaluate(module, args[0]), *metadata)] if metadata else evaluate(module, args[0])
        inner = tuple(... if ast.unparse(arg) == "..." else evaluate(module, arg) for arg in args)
        if name.endswith((".Optional", ".Union")):
            return Union[(*inner, None)] if name.endswith(".Optional") else Union[inner]  # noqa: UP007
        return TYPES[name][inner] if name in TYPES else Any
    name = module.resolve(node) if node else ""
    if name in TYPES or not is_followed(name):
        return TYPES.get(name, Any)
    source, alias = locate(name) or (module, None)
    return evaluate(source, alias) if isinstance(alias, ast.Name | ast.Subscript | ast.BinOp) else Any


def constraint(module: Module, node: ast.expr) -> Any:
    """Return a constraint of annotated-types, such as ``Gt(0)``; None for other metadata."""
    if not isinstance(node, ast.Call):
        return None
    name = module.resolve(node.func)
    kind = getattr(annotated_types, name.rpartition(".")[2], None) if name.startswith("annotated_types.") else None
    if kind is None:
        return None
    named = {str(one.arg): ast.literal_eval(one.value) for one in node.keywords}
    return kind(*map(ast.literal_eval, node.args), **named)
