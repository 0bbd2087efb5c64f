"""The layout that CONTRIBUTING.md promises: conf mirrors the package, and imports point one way."""

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PACKAGE, CONF = ROOT / "gan_lightning", ROOT / "conf"

# What has no counterpart on the other side, and why it needs none.
ONLY_PYTHON = {
    "metric/neighbours",  # what those of manifolds and copies share
    "model/base",  # what the variants share
    "network/layers",  # what the networks share
    "data/base",  # the class that conf/data/base.yaml's keys belong to
    "data/points",  # what the ring and the grid share
    "data/cache",
    "data/layout",  # which files of a folder are data
    "data/natural",  # the order of names
    "data/validate",  # what every data set passes
    "data/decode",
    "data/pages",  # what folders of pictures share
}
ONLY_YAML = {
    "metric/default",  # the list of those for pictures
    "metric/all",  # the list of all of those
    "network/mlp_points",  # the same classes as mlp, smaller
    "callbacks/default",  # the list of all
    "data/base",  # keys that the sets of pictures share
}
ONLY_FOLDERS = {
    "trainer",
    "logger",
    "debug",
    "experiment",
    "optimizer",
    "protocol",
}  # no class of ours


def stems(folder: Path, suffix: str) -> set[str]:
    found = {f"{path.parent.name}/{path.stem}" for path in folder.glob(f"*/*{suffix}")}
    return {name for name in found if not name.endswith("__init__")}


def test_conf_mirrors_the_package():
    python, yamls = stems(PACKAGE, ".py"), stems(CONF, ".yaml")
    python = {name for name in python if not name.startswith("config/")}  # reads conf and is not configured by it
    packages = {name.partition("/")[0] for name in python}
    assert {name.partition("/")[0] for name in yamls} - packages == ONLY_FOLDERS
    mirrored = {name for name in yamls if name.partition("/")[0] in packages}
    assert python - ONLY_PYTHON == mirrored - ONLY_YAML
    assert python >= ONLY_PYTHON, "an exception that is none any more"
    assert mirrored >= ONLY_YAML, "an exception that is none any more"


@pytest.mark.parametrize("path", sorted(CONF.glob("*/*.yaml")), ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_yaml_names_classes_of_the_module_named_after_it(path):
    ours = re.findall(r"_target_: gan_lightning\.([\w.]+)\.\w+", path.read_text())
    name = f"{path.parent.name}.{path.stem}"
    if ours == ["trainer"]:
        assert name == "trainer.default"  # the one class whose variants are settings
    elif f"{path.parent.name}/{path.stem}" in ONLY_YAML or path.parent.name in ONLY_FOLDERS:
        assert ours == []
    else:
        assert set(ours) == {name}


def test_every_class_of_ours_in_a_yaml_exists():
    wanted = {
        target
        for path in CONF.rglob("*.yaml")
        for target in re.findall(r"_target_: (gan_lightning[\w.]+)", path.read_text())
    }
    assert len(wanted) > 30
    for target in wanted:
        module, _, name = target.rpartition(".")
        tree = ast.parse((ROOT / (module.replace(".", "/") + ".py")).read_text())
        assert name in {node.name for node in tree.body if isinstance(node, ast.ClassDef)}, target


def layers() -> dict[str, int]:
    """The table of CONTRIBUTING.md: a name of the package's top level, and its layer."""
    table = re.findall(r"^    (\d)  ([a-z_ ]+)$", (ROOT / "CONTRIBUTING.md").read_text(), re.M)
    return {name: int(layer) for layer, names in table for name in names.split()}


def imports(path: Path) -> set[str]:
    """Modules of ours that a file imports anywhere, as gan_lightning.model.base; names of the package's own aside."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            module = node.module or ""
            found |= {f"{module}.{alias.name}" if module == "gan_lightning" else module for alias in node.names}
    return {name for name in found if name.startswith("gan_lightning.")}


def test_the_table_of_layers_is_complete():
    names = {path.stem for path in PACKAGE.iterdir() if path.is_dir() or path.suffix == ".py"} - {"__init__"}
    names.discard("__pycache__")
    assert set(layers()) == names
    rows = re.findall(r"^    \d  ([a-z_ ]+)$", (ROOT / "CONTRIBUTING.md").read_text(), re.M)
    assert len(" ".join(rows).split()) == len(names), "a name stands twice"


def test_imports_point_one_way():
    layer, upward, graph = layers(), [], {}
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        if name == "gan_lightning":
            continue  # the front door: load() reaches up, inside the function
        own = name.split(".")[1]
        graph[name] = imports(path)
        for other in graph[name]:
            top = other.split(".")[1]
            a_package = (PACKAGE / own).is_dir() or (PACKAGE / top).is_dir()
            beside = a_package and layer[own] == layer[top]  # only plain modules share a layer and know each other
            if own != top and (layer[top] > layer[own] or beside):
                upward.append(f"{name} imports {other}")
    assert upward == []
    assert any(graph.values())
    TopologicalSorter(graph).prepare()  # raises CycleError


def test_variants_know_the_base_and_not_each_other():
    for path in (PACKAGE / "model").glob("*.py"):
        of_models = {name for name in imports(path) if name.startswith("gan_lightning.model")}
        # The baseline plays no game, so it learns without one.
        alone = path.stem in ("base", "vae", "__init__")
        assert of_models == (set() if alone else {"gan_lightning.model.base"}), path.name


def test_the_front_door_imports_nothing_at_once():
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    at_once = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    assert {node.module for node in at_once} == {"pathlib", "typing"}


def test_every_test_is_in_a_tier():
    tests = ROOT / "tests"
    assert {path.relative_to(tests).parts[0] for path in tests.rglob("test_*.py")} == {"unit", "integration", "docs"}


def test_no_file_is_a_drawer():
    names = {path.stem for path in PACKAGE.rglob("*.py")} | {path.stem for path in (ROOT / "tests").rglob("*.py")}
    assert names & {"util", "utils", "helpers", "helper", "misc", "common"} == set()


def test_yaml_files_are_read_by_plain_yaml():
    """No duplicate key hides another."""

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node, deep=False):
            keys = [self.construct_object(key, deep) for key, _ in node.value]
            assert len(keys) == len(set(keys)), f"a key twice in {path}"
            return super().construct_mapping(node, deep)

    for path in CONF.rglob("*.yaml"):
        with path.open() as file:
            yaml.load(file, Loader)
