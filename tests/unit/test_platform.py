"""Windows: POSIX-only names are used only with a fallback."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from windows import ABSENT_MODULES, ABSENT_NAMES

ROOT = Path(__file__).parents[2]


def unguarded_uses(text: str) -> Iterator[str]:
    """Yield uses of names that Windows lacks, outside of ``hasattr`` and ``try``."""
    tree = ast.parse(text)
    guarded = {
        node
        for try_node in ast.walk(tree)
        if isinstance(try_node, ast.Try)
        and any(
            "ImportError" in ast.unparse(handler) or "AttributeError" in ast.unparse(handler)
            for handler in try_node.handlers
        )
        for statement in try_node.body
        for node in ast.walk(statement)
    }
    hasattr_names = {
        node.args[1].value
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "hasattr" and isinstance(node.args[1], ast.Constant)
    }
    for node in ast.walk(tree):
        found = []
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names if alias.name.partition(".")[0] in ABSENT_MODULES]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            absent = ABSENT_NAMES.get(node.module, set())
            found = [alias.name for alias in node.names if alias.name in absent or node.module in ABSENT_MODULES]
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            found = [node.attr] if node.attr in ABSENT_NAMES.get(node.value.id, set()) | {"madvise"} else []
        elif isinstance(node, ast.Attribute):
            found = [node.attr] if node.attr == "madvise" else []
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(".replace") and len(node.args) == 1:
            found = [
                "Path.replace, which fails while another process has the file open; use gan_lightning.io.files.replace"
            ]
        for name in found:
            allowed = name in hasattr_names or ("madvise" in hasattr_names and name.startswith("MADV_"))
            if node not in guarded and not allowed:
                yield f"line {node.lineno}: {name}"


@pytest.mark.parametrize(
    "text",
    [
        "import fcntl",
        "from resource import getrusage",
        "import signal\nsignal.SIGUSR1",
        "from os import fork",
        "import os\ndef f():\n    return os.sysconf('SC_PAGE_SIZE')",
        "x.map.madvise(3)",
        "(folder / 'a').replace(folder / 'b')",
    ],
)
def test_posix_only_names_are_detected(text):
    assert len([*unguarded_uses(text)]) == 1


@pytest.mark.parametrize(
    "text",
    [
        "try:\n    import resource\nexcept ImportError:\n    resource = None",
        "import signal\ngetattr(signal, 'SIGUSR1', None)",
        "import os\nif hasattr(os, 'sysconf'):\n    os.sysconf('SC_PAGE_SIZE')",
        "import mmap\nif hasattr(mmap.mmap, 'madvise'):\n    x.map.madvise(mmap.MADV_WILLNEED)",
        "text.replace('a', 'b')",
    ],
)
def test_posix_only_names_with_fallback_are_allowed(text):
    assert not [*unguarded_uses(text)]


@pytest.mark.parametrize(
    "path",
    [*sorted((ROOT / "gan_lightning").rglob("*.py")), *sorted((ROOT / "benchmarks").glob("*.py"))],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_module_uses_no_posix_only_name_without_fallback(path):
    if path.name != "files.py":  # it contains the replacement for Path.replace
        assert not [*unguarded_uses(path.read_text(encoding="utf-8"))]
