"""docs/python.md and docs/notebooks: every code block and every cell runs; the stored outputs are clean."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from markdown_blocks import blocks

ROOT = Path(__file__).parents[2]
PAGE, SUPPORT = ROOT / "docs" / "python.md", ROOT / "tests" / "support"
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
LARGEST = 1_000_000  # bytes of a notebook


def run(script: str, path: Path, folder: Path) -> subprocess.CompletedProcess:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "JUPYTER_PLATFORM_DIRS": "1"}
    environment |= {"IPYTHONDIR": str(folder / ".ipython")}
    return subprocess.run(
        [sys.executable, SUPPORT / script, path],
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


def cells(path: Path, kind: str) -> list[dict]:
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == kind]


def test_code_blocks_of_page_run(tmp_path):
    done = run("markdown_blocks.py", PAGE, tmp_path)
    assert done.returncode == 0, (done.stdout + done.stderr)[-5000:]
    assert (tmp_path / "samples.png").exists()
    found = blocks(PAGE)
    assert {language for _, language, _ in found} == {"python", "text"}
    assert len(re.findall("```|~~~", PAGE.read_text())) == 2 * len(found)


def test_page_lists_public_names():
    import gan_lightning

    listed = re.findall(r"^\| `gan_lightning\.(\w+)` \|", PAGE.read_text(), re.M)
    assert sorted(listed) == sorted(gan_lightning.__all__)


def test_quoted_message_is_that_of_from_dataset():
    import torch
    from torch.utils.data import TensorDataset

    from gan_lightning import UserError, from_dataset

    quoted = next(text for _, language, text in blocks(PAGE) if language == "text").strip()
    images = torch.stack([torch.zeros(3, 8, 8), torch.ones(3, 8, 8)])
    with pytest.raises(UserError, match=f"^{re.escape(quoted)}$"):
        from_dataset(TensorDataset(images), 8).setup()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(path, tmp_path):
    pytest.importorskip("nbclient", reason="pip install 'gan-lightning[dev]'")
    done = run("notebooks.py", path, tmp_path)
    assert done.returncode == 0, (done.stdout + done.stderr)[-5000:]
    assert [*tmp_path.glob("runs/*/checkpoints/last.ckpt")] != []


def test_failing_cell_is_reported(tmp_path):
    nbformat = pytest.importorskip("nbformat")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("raise ValueError('of this cell')")])
    nbformat.write(notebook, tmp_path / "failing.ipynb")
    done = run("notebooks.py", tmp_path / "failing.ipynb", tmp_path)
    assert done.returncode == 1
    assert "of this cell" in done.stderr


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_stored_outputs_are_complete_and_clean(path):
    text, code = path.read_text(), cells(path, "code")
    assert path.stat().st_size < LARGEST
    assert [cell["execution_count"] for cell in code] == [*range(1, len(code) + 1)], "executed in order, once"
    outputs = [output for cell in code for output in cell["outputs"]]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 3
    assert {output["output_type"] for output in outputs} <= {"stream", "display_data", "execute_result"}
    assert {output["name"] for output in outputs if output["output_type"] == "stream"} <= {"stdout"}, "a progress bar"
    assert re.findall(r"(?<![\w.:])/(?:home|root|tmp|work|Users|usr|opt)/", text) == [], "a path of the machine"
    assert json.loads(text)["metadata"].keys() == {"kernelspec"}


def test_notebooks_are_linked_and_their_links_have_targets():
    assert [path.stem for path in NOTEBOOKS] == ["digits", "own_images_and_networks"]
    for page in (PAGE, ROOT / "docs" / "README.md"):
        assert set(re.findall(r"\(notebooks/(\w+)\.ipynb\)", page.read_text())) == {path.stem for path in NOTEBOOKS}
    for path in NOTEBOOKS:
        for cell in cells(path, "markdown"):
            for link in re.findall(r"\]\(([^)#]+)[^)]*\)", "".join(cell["source"])):
                assert (path.parent / link).is_file(), f"{path.name}: {link}"
