"""Constructor signatures are read without importing the module."""

import subprocess
import sys
from pathlib import Path


def test_reading_signature_imports_no_library(tmp_path):
    names = "gan_lightning.model.wgan_gp.WGANGP", "gan_lightning.trainer.Trainer", "torch.optim.Adam"
    code = f"""
import sys
from gan_lightning.config.signature import read
for name in {names}:
    assert not read(name).is_open
    assert read(name).parameters
assert not {{"torch", "pytorch_lightning", "numpy"}} & {{*sys.modules}}
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
