"""gan-sample killed while it writes."""

import signal
import subprocess
import sys

import pytest


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals between processes")
def test_killed_gan_sample_can_be_repeated(run, tmp_path):
    run(tmp_path / "run", "model=dcgan", "trainer.max_steps=1", "~callbacks.sample_grid", "~logger")
    code = (
        "import os, signal, sys; from gan_lightning.io import image; from gan_lightning.cli import sample; write = "
        "image.write_png\n"
        "def killed(path, *more, **settings):\n"
        "    if path.name == '000003.png': os.kill(os.getpid(), signal.SIGKILL)\n"
        "    write(path, *more, **settings)\n"
        "image.write_png = killed; sample.main()"
    )
    place = tmp_path / "samples"
    place.mkdir()
    words = [str(tmp_path / "run" / "checkpoints" / "last.ckpt"), "--num", "6", "--out", str(place / "out")]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True)
    assert done.returncode == -signal.SIGKILL
    assert [path.name.startswith(".out.") for path in place.iterdir()] == [True], "not only a temporary directory"
    subprocess.run([sys.executable, "-m", "gan_lightning.cli.sample", *words], capture_output=True, check=True)
    assert [path.name for path in place.iterdir()] == ["out"]
    assert len([*(place / "out").iterdir()]) == 6
