"""gan-train stopped by the callback TrainingMonitor."""

import json
import subprocess
import sys

from gan_lightning.run import checkpoint as checkpoints


def test_monitor_stop_writes_checkpoint_and_exits_with_status_1(tmp_path):
    words = [
        "trainer.max_steps=100", "callbacks.monitor.stop=true", "callbacks.monitor.every_n_steps=1",
        "model.generator_optimizer.lr=10.0", "network.generator.norm=none", "eval.every_n_steps=null",
        "model=vanilla", "data.batch_size=4",
        "trainer.accelerator=cpu", "data.image_size=16", "network.width=4",
    ]  # fmt: skip
    code = (
        "from gan_lightning.callbacks import monitor; monitor.WARMED_UP = 0; "
        "from gan_lightning.cli.train import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *words, f"hydra.run.dir={tmp_path}"], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 1, done.stderr
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["status"] == "failed"
    assert "mode collapse" in result["error"]
    step = checkpoints.read(tmp_path / "checkpoints" / "last.ckpt")["global_step"]
    assert step < 100
    assert f"stopped at step {step}" in done.stdout + done.stderr
    assert f"health  step {step}: generated samples vary" in done.stdout + done.stderr, (
        "the summary repeats the warning"
    )
    # Hydra opens the log file before the job starts; a failure there is reported in one line, too.
    (tmp_path / "train.log").unlink()
    (tmp_path / "train.log").mkdir()
    again = [sys.executable, "-m", "gan_lightning.cli.train", "ckpt_path=last", f"hydra.run.dir={tmp_path}"]
    done = subprocess.run(again, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2
    assert "train.log: cannot be written (Is a directory); hydra.run.dir" in done.stderr
    assert "Traceback" not in done.stderr
