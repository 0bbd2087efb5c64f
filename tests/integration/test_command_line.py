"""gan-train as a process with an invalid command line."""

import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_invalid_command_line_exits_within_seconds_without_traceback(tmp_path):
    since = time.perf_counter()
    words = ["modle=dcgan", "trainer.max_steps=0"]
    done = subprocess.run(
        [sys.executable, ROOT / "train.py", *words], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert time.perf_counter() - since < 15
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[0].startswith("modle: there is no such key")
    assert "trainer.max_steps=0: must be" in done.stderr
    assert [*tmp_path.iterdir()] == [], "files were written"
