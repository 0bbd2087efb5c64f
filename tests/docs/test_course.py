"""docs/course: the code blocks of every page run in order; their assert statements check the page's claims."""

import os
import re
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from markdown_blocks import blocks

ROOT = Path(__file__).parents[2]
COURSE = ROOT / "docs" / "course"
PAGES = sorted(COURSE.glob("[0-9]*.md"))
IMAGE = re.compile(r"!\[[^\]]+\]\(\.\./images/course/([\w.]+)\)")
LARGEST = 60_000  # bytes of an image


def run(page: Path, folder: Path) -> subprocess.CompletedProcess:
    """Run a page's blocks in a folder, with ``train.py`` and the commands of this checkout."""
    (folder / "train.py").symlink_to(ROOT / "train.py")
    path = os.pathsep.join([sysconfig.get_path("scripts"), str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"PATH": path, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, ROOT / "tests" / "support" / "markdown_blocks.py", page],
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def runs(request, tmp_path_factory) -> Iterator[dict[Path, tuple[Path, Future]]]:
    """Start the selected pages, two at a time; return each page's folder and its future result."""
    own = [
        item for item in request.session.items if item.parent is request.node
    ]  # not of modules with a fixture of the same name
    selected = [item.callspec.params["page"] for item in own if "runs" in item.fixturenames]
    directories = {page: tmp_path_factory.mktemp(page.stem) for page in selected}
    with ThreadPoolExecutor(2) as pool:
        yield {page: (folder, pool.submit(run, page, folder)) for page, folder in directories.items()}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_code_blocks_of_page_run(page, runs):
    folder, running = runs[page]
    done = running.result()
    assert done.returncode == 0, (done.stdout + done.stderr)[-5000:]
    shown = IMAGE.findall(page.read_text())
    assert shown, "the page shows no image of its blocks"
    assert [name for name in shown if not (folder / name).exists()] == [], "images that no block writes"


@pytest.mark.parametrize("page", [COURSE / "README.md", *PAGES], ids=lambda page: page.stem)
def test_all_code_blocks_are_recognised(page):
    """Blocks in other languages, or with fences that the pattern does not match, would be skipped silently."""
    found = blocks(page)
    assert {language for _, language, _ in found} <= {"bash", "python", "text"}
    assert len(re.findall("```|~~~", page.read_text())) == 2 * len(found)
    if page in PAGES:
        assert any(language == "bash" for _, language, _ in found)
        assert any("\nassert " in text for _, language, text in found if language == "python")


def test_pages_are_numbered_and_linked_in_order():
    assert [page.name.partition("_")[0] for page in PAGES] == [str(i + 1) for i in range(len(PAGES))]
    links = re.findall(r"\]\((\d_\w+\.md)\)", (COURSE / "README.md").read_text())
    assert links == [page.name for page in PAGES]


def test_images_are_small_and_used():
    images = sorted((ROOT / "docs" / "images" / "course").iterdir())
    assert [path.name for path in images if path.stat().st_size > LARGEST] == []
    shown = {name for page in PAGES for name in IMAGE.findall(page.read_text())}
    assert shown == {path.name for path in images}


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ("```python\ntwo = 2\nassert two == 3\n```", 'page.md", line 7, in'),
        ("```bash\nfalse\ntrue\n```", "page.md, the block at line 6: exit status 1"),
    ],
)
def test_failing_block_is_reported_with_page_and_line(block, message, tmp_path):
    """Output of earlier blocks is kept, and later blocks do not run."""
    page = tmp_path / "page.md"
    page.write_text(f"# Page\n```python\nprint(6 * 7)\n```\n{block}\n```bash\ntouch after\n```\n")
    done = run(page, tmp_path)
    assert done.returncode == 1
    assert done.stdout == "42\n"
    assert message in done.stderr
    assert not (tmp_path / "after").exists()
