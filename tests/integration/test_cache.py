"""Cache of decoded images: the process that fills it is killed."""

import signal
import subprocess
import sys
import time

import pytest
from sample_images import noise

from gan_lightning.data.cache import Cache


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals between processes")
def test_image_cache_recovers_after_writer_is_killed(tmp_path):
    """The partial file is not a cache entry, and the next writer removes it."""
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
