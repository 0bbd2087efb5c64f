"""Imports of the command modules, and files that git ignores."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE, CONF = ROOT / "gan_lightning", ROOT / "conf"


def test_command_modules_do_not_import_torch():
    commands = "cli.train", "run.command_line", "cli.sample", "cli.explore", "cli.export", "cli.play", "cli.report"
    modules = ["gan_lightning", *(f"gan_lightning.{name}" for name in commands)]
    code = f"import sys, {', '.join(modules)}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_git_ignores_no_published_file():
    """Patterns for the user's data and runs must not match folders of the same name inside the package."""
    files = [path for folder in (PACKAGE, CONF, ROOT / "docs", ROOT / "tests") for path in folder.rglob("*")]
    files = [path for path in files if path.is_file() and "__pycache__" not in path.parts]
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    done = subprocess.run(
        ["git", "check-ignore", "--no-index", *map(str, files)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.stdout == ""
