"""What a stranger installs: the make targets, and a wheel that works from any folder."""

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = set(re.search(r"^\.PHONY: (.*)$", MAKEFILE, re.M)[1].split())


def shell(*words: object, cwd: Path = ROOT, **environment: str) -> str:
    done = subprocess.run(
        [*map(str, words)], cwd=cwd, env=os.environ | environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_make_help_lists_every_target():
    listed = re.findall(r"^  make ([a-z-]+) +\S", shell("make", "help"), re.M)
    assert set(listed) == TARGETS
    assert len(listed) == len(TARGETS)


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", ".ci/run", ".pre-commit-config.yaml"])
def test_make_targets_that_are_named_exist(page):
    text = (ROOT / page).read_text()
    named = set(re.findall(r"(?:^|`|entry: |#.*: )make ([a-z][a-z-]*)", text, re.M))
    assert named
    assert named <= TARGETS


def test_ci_runs_what_contributors_run():
    assert re.findall(r"^make .*$", (ROOT / ".ci" / "run").read_text(), re.M) == ["make lint", "make test"]
    assert "bash .ci/run" in (ROOT / ".github" / "workflows" / "test.yml").read_text()


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The bin folder of a fresh environment with nothing but the wheel, over the packages of this one."""
    folder = tmp_path_factory.mktemp("installed")
    shell(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, ROOT)
    shell(sys.executable, "-m", "venv", folder / "env")
    here = subprocess.run(
        [sys.executable, "-c", "import site; print(site.getsitepackages()[0])"],
        capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    (there,) = (folder / "env" / "lib").glob("python*/site-packages")
    # Dependencies as they are, but not the editable install of this very package.
    for path in Path(here).iterdir():
        if "gan_lightning" not in path.name and not (there / path.name).exists():
            (there / path.name).symlink_to(path)
    (wheel,) = folder.glob("*.whl")
    shell(folder / "env" / "bin" / "python", "-m", "pip", "install", "--quiet", "--no-deps", wheel)
    return folder / "env" / "bin"


@pytest.mark.slow
def test_the_wheel_has_every_configuration_and_both_commands(installed):
    (wheel,) = installed.parent.parent.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (entry_points,) = (name for name in names if name.endswith("entry_points.txt"))
        assert {"gan-train", "gan-sample", "gan-evaluate"} <= set(
            re.findall(r"^[\w-]+", archive.read(entry_points).decode(), re.M)
        )
    confs = {str(path.relative_to(ROOT)) for path in (ROOT / "conf").rglob("*.yaml")}
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "gan_lightning").rglob("*.py")}
    assert {f"gan_lightning/{name}" for name in confs} | modules <= names
    assert not {name for name in names if name.startswith("tests")}


@pytest.mark.slow
def test_the_commands_work_from_any_folder(installed, tmp_path):
    assert "wgan_gp" in shell(installed / "gan-train", "--help", cwd=tmp_path)
    where = shell(installed / "python", "-c", "import gan_lightning; print(gan_lightning.__file__)", cwd=tmp_path)
    assert str(installed.parent) in where, "it is the wheel that is tried"
    tiny = ["network.width=4", "data.batch_size=4", "trainer.max_steps=1", "hydra.run.dir=run"]
    shell(installed / "gan-train", *tiny, cwd=tmp_path)
    shell(installed / "gan-sample", "run/checkpoints/last.ckpt", "--num", "4", "--out", "grid.png", cwd=tmp_path)
    assert (tmp_path / "grid.png").stat().st_size > 0


@pytest.mark.slow
def test_make_installs_once(tmp_path):
    """In a clone, with the packages of this environment; a second make of anything has nothing to install."""
    shell("git", "clone", "--quiet", ROOT, tmp_path / "clone")
    clone = tmp_path / "clone"
    python = f"PYTHON={sys.executable}"
    shell("make", "install", python, cwd=clone)
    installs = "pip install"
    assert installs in shell("make", "-n", "-B", "install", python, cwd=clone)
    for target in ("install", "train", "test", "lint", "bench", "tensorboard"):
        assert installs not in shell("make", "-n", target, python, cwd=clone)
