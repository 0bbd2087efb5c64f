"""The course keeps its word: every block of its pages is run in order, and each asserts what its page claims."""

import os
import re
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from course import blocks

ROOT = Path(__file__).parents[2]
COURSE = ROOT / "docs" / "course"
PAGES = sorted(COURSE.glob("[0-9]*.md"))
PICTURE = re.compile(r"!\[[^\]]+\]\(\.\./images/course/([\w.]+)\)")
LARGEST = 60_000  # bytes of a picture


def run(page: Path, folder: Path) -> subprocess.CompletedProcess:
    """A page's blocks in a folder, where ``python train.py`` and the commands are those of this checkout."""
    (folder / "train.py").symlink_to(ROOT / "train.py")
    path = os.pathsep.join([sysconfig.get_path("scripts"), str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"PATH": path, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, ROOT / "tests" / "support" / "course.py", page],
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def runs(request, tmp_path_factory) -> Iterator[dict[Path, tuple[Path, Future]]]:
    """Of every page that is asked for its folder and what comes of it; two pages run side by side."""
    own = [item for item in request.session.items if item.parent is request.node]  # other files have their "runs" too
    asked = [item.callspec.params["page"] for item in own if "runs" in item.fixturenames]
    directories = {page: tmp_path_factory.mktemp(page.stem) for page in asked}
    with ThreadPoolExecutor(2) as pool:
        yield {page: (folder, pool.submit(run, page, folder)) for page, folder in directories.items()}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_page_keeps_its_word(page, runs):
    folder, running = runs[page]
    done = running.result()
    assert done.returncode == 0, (done.stdout + done.stderr)[-5000:]
    shown = PICTURE.findall(page.read_text())
    assert shown, "a page shows what its blocks have drawn"
    assert [name for name in shown if not (folder / name).exists()] == [], "no block makes them"


@pytest.mark.parametrize("page", [COURSE / "README.md", *PAGES], ids=lambda page: page.stem)
def test_every_block_is_of_a_kind_that_is_run(page):
    """Nothing is left out by another name of a language, or by a fence that the pattern does not see."""
    found = blocks(page)
    assert {language for _, language, _ in found} <= {"bash", "python", "text"}
    assert len(re.findall("```|~~~", page.read_text())) == 2 * len(found)
    if page in PAGES:
        assert any(language == "bash" for _, language, _ in found)
        assert any("\nassert " in text for _, language, text in found if language == "python")


def test_pages_follow_one_another():
    assert [page.name.partition("_")[0] for page in PAGES] == [str(i + 1) for i in range(len(PAGES))]
    links = re.findall(r"\]\((\d_\w+\.md)\)", (COURSE / "README.md").read_text())
    assert links == [page.name for page in PAGES]


def test_pictures_are_small_and_shown():
    pictures = sorted((ROOT / "docs" / "images" / "course").iterdir())
    assert [path.name for path in pictures if path.stat().st_size > LARGEST] == []
    shown = {name for page in PAGES for name in PICTURE.findall(page.read_text())}
    assert shown == {path.name for path in pictures}


@pytest.mark.parametrize(
    ("block", "told"),
    [
        ("```python\ntwo = 2\nassert two == 3\n```", 'page.md", line 7, in'),
        ("```bash\nfalse\ntrue\n```", "page.md, the block at line 6: exit status 1"),
    ],
)
def test_block_that_fails_is_named(block, told, tmp_path):
    """With its page and line; what is printed before it is kept, and nothing after it is run."""
    page = tmp_path / "page.md"
    page.write_text(f"# Page\n```python\nprint(6 * 7)\n```\n{block}\n```bash\ntouch after\n```\n")
    done = run(page, tmp_path)
    assert done.returncode == 1
    assert done.stdout == "42\n"
    assert told in done.stderr
    assert not (tmp_path / "after").exists()
