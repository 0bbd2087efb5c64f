"""Installation: make targets, CI, the wheel, dependencies and their lock file, the Docker image."""

import ast
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import gan_lightning

ROOT = Path(__file__).parents[2]
MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = set(re.search(r"^\.PHONY: (.*)$", MAKEFILE, re.M)[1].split())


# A make that runs inside another one prints the directories it enters.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name not in {"MAKEFLAGS", "MAKELEVEL", "MFLAGS"}}


def shell(*words: object, cwd: Path = ROOT, **environment: str) -> str:
    done = subprocess.run(
        [*map(str, words)], cwd=cwd, env=ENVIRONMENT | environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no make")
def test_make_help_lists_every_target():
    listed = re.findall(r"^  make ([a-z-]+) +\S", shell("make", "help"), re.M)
    assert set(listed) == TARGETS
    assert len(listed) == len(TARGETS)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no make")
def test_overrides_outside_args_are_error():
    words = "make", "-n", "train", "model=wgan", "data.image_size=[96,64]"
    done = subprocess.run(words, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "train.py" not in done.stdout
    assert re.search(r'pass overrides as ARGS: make train ARGS="[^"]*model=wgan', done.stderr)
    passed = shell("make", "-n", "train", f"PYTHON={sys.executable}", "ARGS=model=wgan data=mnist")
    assert passed.endswith("train.py model=wgan data=mnist\n")


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", ".ci/run", ".pre-commit-config.yaml"])
def test_make_targets_in_documents_exist(page):
    text = (ROOT / page).read_text()
    named = set(re.findall(r"(?:^|`|entry: |#.*: )make ([a-z][a-z-]*)", text, re.M))
    assert named
    assert named <= TARGETS


def test_ci_runs_make_lint_and_make_test_all():
    assert re.findall(r"^make .*$", (ROOT / ".ci" / "run").read_text(), re.M) == ["make lint", "make test-all"]
    assert "bash .ci/run" in (ROOT / ".github" / "workflows" / "test.yml").read_text()


def test_ci_is_read_only_and_tests_windows_and_lowest_versions():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "test.yml").read_text())
    assert workflow["permissions"] == {"contents": "read"}
    assert workflow["concurrency"]["cancel-in-progress"]
    jobs = workflow["jobs"]
    assert jobs["windows"]["runs-on"] == "windows-latest"
    for job, command in {"windows": "pip install", "lowest": "--resolution lowest-direct"}.items():
        runs = [step["run"] for step in jobs[job]["steps"] if "run" in step]
        assert any(command in run and ".[dev]" in run for run in runs)
        assert any(run.endswith("tests/unit") for run in runs)
    used = [step["uses"] for job in jobs.values() for step in job["steps"] if "uses" in step]
    assert all(re.fullmatch(r"actions/[\w-]+@v\d+", action) for action in used)


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """Install the wheel into a new environment with links to this one's packages; return its bin folder."""
    folder = tmp_path_factory.mktemp("installed")
    shell(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, ROOT)
    shell(sys.executable, "-m", "venv", folder / "env")
    here = subprocess.run(
        [sys.executable, "-c", "import site; print(site.getsitepackages()[0])"],
        capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    (there,) = (folder / "env" / "lib").glob("python*/site-packages")
    # All packages but the editable install of this one.
    for path in Path(here).iterdir():
        if "gan_lightning" not in path.name and not (there / path.name).exists():
            (there / path.name).symlink_to(path)
    (wheel,) = folder.glob("*.whl")
    shell(folder / "env" / "bin" / "python", "-m", "pip", "install", "--quiet", "--no-deps", wheel)
    return folder / "env" / "bin"


@pytest.mark.slow
def test_wheel_contains_configurations_modules_and_commands(installed):
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
def test_installed_commands_run_in_any_directory(installed, tmp_path):
    assert "wgan_gp" in shell(installed / "gan-train", "--help", cwd=tmp_path)
    where = shell(installed / "python", "-c", "import gan_lightning; print(gan_lightning.__file__)", cwd=tmp_path)
    assert str(installed.parent) in where, "the wheel is not imported"
    tiny = ["network.width=4", "data.batch_size=4", "trainer.max_steps=1", "hydra.run.dir=run"]
    shell(installed / "gan-train", *tiny, cwd=tmp_path)
    shell(installed / "gan-sample", "run/checkpoints/last.ckpt", "--num", "4", "--out", "grid.png", cwd=tmp_path)
    assert (tmp_path / "grid.png").stat().st_size > 0


@pytest.mark.slow
def test_make_installs_once(tmp_path):
    """In a clone, with the packages of this environment: later make targets install nothing."""
    shell("git", "clone", "--quiet", ROOT, tmp_path / "clone")
    clone = tmp_path / "clone"
    python = f"PYTHON={sys.executable}"
    shell("make", "install", python, cwd=clone)
    installs = "pip install"
    assert installs in shell("make", "-n", "-B", "install", python, cwd=clone)
    for target in ("install", "train", "test", "test-all", "lint", "bench", "tensorboard"):
        assert installs not in shell("make", "-n", target, python, cwd=clone)


PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DECLARED = [Requirement(line) for line in PROJECT["dependencies"]]
OPTIONAL = {name: lines for name, lines in PROJECT["optional-dependencies"].items() if name != "dev"}
EXTRAS = [Requirement(line) for lines in OPTIONAL.values() for line in lines]
REQUIRED_BY = {
    "numpy": "torchvision",
    "scipy": "scikit-learn",
    "tqdm": "pytorch-lightning",
    "pyyaml": "omegaconf",
    "starlette": "gradio",
}


def test_dependencies_are_few_and_each_lower_bound_has_a_comment():
    assert len(DECLARED) <= 14
    block = re.search(r"^dependencies = \[\n(.*?)^\]", (ROOT / "pyproject.toml").read_text(), re.M | re.S)[1]
    assert all(re.search(r'>=[\d.]+",\s+# \w', line) for line in block.splitlines())


def test_imported_packages_are_declared_or_required_by_declared_ones():
    """Numpy and the like are requirements of a declared package, according to its metadata."""
    for name, owner in REQUIRED_BY.items():
        assert owner in {one.name for one in (*DECLARED, *EXTRAS)}
        assert name in {canonicalize_name(Requirement(line).name) for line in metadata.requires(owner)}
    known = {canonicalize_name(one.name) for one in (*DECLARED, *EXTRAS)} | set(REQUIRED_BY) | {"gan-lightning"}
    owners, undeclared = metadata.packages_distributions(), set()
    for path in (ROOT / "gan_lightning").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            for top in {name.partition(".")[0] for name in names} - sys.stdlib_module_names - {"gan_lightning"}:
                if not known & {canonicalize_name(owner) for owner in owners.get(top, [top])}:
                    undeclared.add(f"{path.relative_to(ROOT)}: {top}")
    assert undeclared == set()


LEFT_OUT = "wandb", "mlflow", "hydra-ray-launcher", "datasets"  # large, and not in the Docker image


def test_lock_file_has_all_dependencies_with_hashes():
    lock = (ROOT / "requirements.lock").read_text()
    entries = re.split(r"\n(?=\S)", lock.split("#    make lock\n")[1])
    versions = {}
    for entry in entries:
        head, _, hashes = entry.partition("\\\n")
        requirement = Requirement(head.strip())
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", hashes), requirement.name
        versions.setdefault(requirement.name, []).append(str(requirement.specifier).removeprefix("=="))
    for one in (*DECLARED, *(one for one in EXTRAS if one.name not in LEFT_OUT)):
        assert all(version in one.specifier for version in versions[canonicalize_name(one.name)]), one
    assert "://" not in lock, "the lock file contains an index or URL"


def test_docker_image_installs_only_the_lock_file():
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    installs = [line for line in lines if "pip install" in line]
    assert len(installs) == 2
    assert all("--require-hashes" in line or "--no-deps --no-build-isolation" in line for line in installs)
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {word for line in lines if line.startswith("COPY") for word in line.split()[1:-1]}
    assert copied == kept
    assert all((ROOT / name).exists() for name in copied)
    assert any(line.startswith("USER ") for line in lines), "the container runs as root"


def test_package_version_equals_project_version():
    assert gan_lightning.__version__ == PROJECT["version"]
