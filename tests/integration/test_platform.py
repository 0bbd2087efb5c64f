"""Commands on a simulated Windows, see tests/support/windows.py."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from gan_lightning.run.checkpoint import read

ROOT = Path(__file__).parents[2]


TINY = (
    *("data.image_size=16", "data.batch_size=4", "network.width=4", "trainer.accelerator=cpu"),
    *("feature.width=4", "feature.dim=8", "eval.num_generated=250", "eval.every_n_steps=2", "metric=fid"),
    *("callbacks.checkpoint.every_n_steps=1", "callbacks.metric_logger.every_n_steps=1"),
)


@pytest.fixture(scope="module")
def ran(tmp_path_factory) -> Path:
    """Import every module, then train, resume, sample, evaluate, export and report a tiny run; return its folder."""
    if sys.platform == "win32":
        pytest.skip("Windows is simulated")
    folder = tmp_path_factory.mktemp("windows")
    photos = folder / "phótos"
    for name in ("a", "é"):
        (photos / name).mkdir(parents=True)
        for shade in range(13):
            Image.new("RGB", (16, 16), (16 * shade, 9, 9)).save(photos / name / f"{shade}.png")
    train = ["train", *TINY, "hydra.run.dir=run"]
    mapped = ["data=image_folder", "data.root=phótos", "data.memory_gb=1e-6", "data.cache=cache"]
    lines = [
        [*train, *mapped, "trainer.max_steps=2"],
        [*train, *mapped, "trainer.max_steps=4", "ckpt_path=last"],
        ["sample", "run/checkpoints/last.ckpt", "--num", "4", "--out", "grid.png"],
        ["evaluate", "run", "eval.num_generated=250", "out=scores"],
        ["export", "run/checkpoints/last.ckpt", "--out", "exported", "--no-onnx"],
        ["sample", "exported", "--num", "4", "--out", "of_export.png"],
        ["report", "run", "--out", "report.html"],
    ]
    words = [word for line in lines for word in ("--", *line)][1:]
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "support" / "windows.py"), *words],
        cwd=folder, capture_output=True, text=True, encoding="utf-8", check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_modules_import_and_run_trains_and_resumes(ran):
    assert read(ran / "run" / "checkpoints" / "last.ckpt")["global_step"] == 4
    assert json.loads((ran / "run" / "result.json").read_text(encoding="utf-8"))["status"] == "finished"


def test_samples_scores_and_export_are_written_and_texts_are_utf_8(ran):
    with Image.open(ran / "grid.png") as grid, Image.open(ran / "of_export.png") as of_export:
        assert grid.size == of_export.size
    assert json.loads((ran / "scores.json").read_text(encoding="utf-8"))["rows"]
    for name in ("report.html", "run/train.log", "run/config.yaml"):
        assert "phótos" in (ran / name).read_text(encoding="utf-8"), name


def test_csv_files_have_one_line_end_per_row(ran):
    """The csv module writes its own line ends, which a file in text mode would double."""
    tables = [*ran.rglob("*.csv")]
    assert tables
    for table in tables:
        content = table.read_bytes()
        assert b"\r\r\n" not in content, table
        assert len([*csv.reader(content.decode().splitlines())]) == content.count(b"\n") >= 2
