"""The layout of CONTRIBUTING.md: a folder imports only lower ones, and conf/ mirrors the package."""

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PACKAGE, CONF = ROOT / "gan_lightning", ROOT / "conf"
# Options without a module: lists of other options, and settings that several options share.
WITHOUT_MODULE = {
    "metric/default",
    "metric/all",
    "network/mlp_points",
    "callbacks/default",
    "data/base",
    "augment/custom",
}
WITHOUT_FOLDER = {"logger", "debug", "experiment", "optimizer", "protocol"}  # groups that configure other libraries
TABLE = re.findall(r"^    ( ?\d+)  (\w+) ", (ROOT / "CONTRIBUTING.md").read_text(), re.M)
LEVEL = {name: int(level) for level, name in TABLE}


def imports(path: Path) -> set[str]:
    """Return the modules of this package that a file imports, inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {name for name in found & modules().keys() if name != "gan_lightning"}


def modules() -> dict[str, Path]:
    files = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in PACKAGE.rglob("*.py")}
    return {name.removesuffix(".__init__"): path for name, path in files.items()}


def test_folder_imports_only_folders_below():
    """Modules of one folder may import each other without a cycle; ``gan_lightning.load`` may import any module."""
    graph = {name: imports(path) for name, path in modules().items() if name != "gan_lightning"}
    assert {name.split(".")[1] for name in graph} == LEVEL.keys()
    assert len(TABLE) == len(LEVEL)
    for name, imported in graph.items():
        folder = name.split(".")[1]
        forbidden = [
            other for other in imported if folder != (top := other.split(".")[1]) and LEVEL[top] >= LEVEL[folder]
        ]
        assert forbidden == [], name
    TopologicalSorter(graph).prepare()  # raises CycleError


@pytest.mark.parametrize("path", sorted(CONF.glob("*/*.yaml")), ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_option_configures_module_of_same_name(path):
    targets = set(re.findall(r"_target_: (gan_lightning\.[\w.]+)\.\w+", path.read_text()))
    if path.parent.name == "trainer":
        assert targets <= {"gan_lightning.trainer"}
    elif f"{path.parent.name}/{path.stem}" in WITHOUT_MODULE or path.parent.name in WITHOUT_FOLDER:
        assert targets == set()
    else:
        assert targets == {f"gan_lightning.{path.parent.name}.{path.stem}"}


def test_classes_in_options_exist():
    targets = {
        target_name
        for path in CONF.rglob("*.yaml")
        for target_name in re.findall(r"_target_: (gan_[\w.]+)", path.read_text())
    }
    assert len(targets) > 30
    for target in targets:
        module, _, name = target.rpartition(".")
        assert name in {node.name for node in ast.parse(modules()[module].read_text()).body if hasattr(node, "name")}


def test_models_import_no_other_model():
    for path in (PACKAGE / "model").glob("*.py"):
        if (CONF / "model" / path.with_suffix(".yaml").name).exists():
            assert {name for name in imports(path) if name.startswith("gan_lightning.model")} <= {
                "gan_lightning.model",
                "gan_lightning.model.base",
                "gan_lightning.model.gan",
                "gan_lightning.model.micro_batch",
            }


def test_package_imports_no_submodule_at_import():
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    top_level = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    assert {node.module for node in top_level} == {"pathlib", "typing"}


def test_every_test_file_is_in_a_tier():
    tests = ROOT / "tests"
    assert {path.relative_to(tests).parts[0] for path in tests.rglob("test_*.py")} == {"unit", "integration", "docs"}


def test_unit_test_folders_mirror_package():
    folders = {path.parent.name for path in (ROOT / "tests" / "unit").glob("*/test_*.py")}
    assert folders <= LEVEL.keys()


def test_no_module_has_meaningless_name():
    names = {path.stem for path in [*PACKAGE.rglob("*.py"), *(ROOT / "tests").rglob("*.py")]}
    assert names & {"util", "utils", "helpers", "helper", "misc", "common"} == set()


def test_yaml_files_have_no_duplicate_keys():
    """A plain YAML parser would silently use the last one."""

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node, deep=False):
            keys = [self.construct_object(key, deep) for key, _ in node.value]
            assert len(keys) == len(set(keys)), f"duplicate key in {path}"
            return super().construct_mapping(node, deep)

    for path in CONF.rglob("*.yaml"):
        with path.open() as file:
            yaml.load(file, Loader)
