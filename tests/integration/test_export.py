"""Exported ONNX generator in an environment without torch."""

import subprocess
import sys

from gan_lightning.cli import export as program


def test_onnx_generator_runs_without_torch(run, tmp_path):
    run(tmp_path / "run", "model=cgan", "trainer.max_steps=1", "~callbacks.sample_grid", "~logger")
    words = str(tmp_path / "run" / "checkpoints" / "last.ckpt"), "--out", str(tmp_path / "out")
    program.export(program.build_parser().parse_args(words))
    code = (
        "import sys; sys.modules['torch'] = None; import numpy as np, onnxruntime as ort\n"
        "session = ort.InferenceSession('generator.onnx')\n"
        "latent = np.random.default_rng(0).standard_normal((3, 100), dtype=np.float32)\n"
        "pixels, images = session.run(None, {'latent': latent, 'label': np.array([1, 2, 3])})\n"
        "print(pixels.shape, pixels.dtype, images.shape, images.dtype)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path / "out", capture_output=True, text=True)
    assert done.stdout == "(3, 3, 16, 16) uint8 (3, 1, 16, 16) float32\n", done.stderr
