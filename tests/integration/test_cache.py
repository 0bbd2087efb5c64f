"""A process that is killed while it fills the cache of decoded images."""

import signal
import subprocess
import sys
import time

import pytest
from sample_images import noise

from gan_lightning.data.cache import Cache


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals between processes")
def test_killed_while_decoding(tmp_path):
    """What was half written is no file of the cache, and does not stay for ever."""
    paths = noise(tmp_path / "photos")
    code = "import sys; from pathlib import Path; from gan_lightning.data.cache import Cache\n"
    code += "Cache(sys.argv[1], 1).get([Path(path) for path in sys.argv[2:]] * 400, (64, 64), 3)"
    child = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "cache"), *map(str, paths)])
    for _ in range(3000):
        if any(part.stat().st_size for part in (tmp_path / "cache").glob(".*.part")):
            break
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    assert not list((tmp_path / "cache").glob("*.json"))
    assert list((tmp_path / "cache").glob(".*.part"))
    many = paths * 400
    assert len(Cache(tmp_path / "cache", 1).get(many, (64, 64), 3).images) == 40 * 400
    assert not list((tmp_path / "cache").glob(".*.part"))
