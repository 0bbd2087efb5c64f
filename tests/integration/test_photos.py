"""experiment=photos end to end: choices, estimate, the same run typed by hand, resume, sweep, mistakes."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from same_run import assert_equal

import gan_lightning
from gan_lightning.run.checkpoint import read

ROOT = Path(__file__).parents[2]
TINY = "network.width=4", "data.batch_size=4", "trainer.accelerator=cpu", "trainer.max_steps=22"
TINY += "eval.every_n_steps=null", "~callbacks.sample_grid", "~logger"


def program(cwd: Path, *words: str) -> subprocess.CompletedProcess:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "300"}
    command = [sys.executable, str(ROOT / "train.py"), *words]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def state(run: Path) -> dict:
    checkpoint = read(run / "checkpoints" / "last.ckpt")
    return {key: checkpoint[key] for key in ("state_dict", "optimizer_states", "global_step")}


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess]:
    """A folder with 100 photos and a run of the recipe in it."""
    cwd, generator = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    (cwd / "photos").mkdir()
    for i in range(100):
        Image.fromarray(generator.integers(0, 256, (20, 26, 3), np.uint8)).save(cwd / "photos" / f"{i}.png")
    done = program(cwd, "experiment=photos", "data.root=photos", *TINY, "hydra.run.dir=run")
    assert done.returncode == 0, done.stderr
    return cwd, done


def test_choices_are_printed_logged_and_stored_apart_from_typed_ones(finished):
    cwd, done = finished
    result = json.loads((cwd / "run/result.json").read_text())
    assert [choice.partition("=")[0] for choice in result["recipe"]] == [
        "data.image_size",
        "data.flip",
        "model",
        "augment",
        "model.ema_decay",
    ]
    assert result["recipe"][:4] == ["data.image_size=20", "data.flip=true", "model=dcgan", "augment=diffaugment"]
    assert result["overrides"] == ["experiment=photos", "data.root=photos", *TINY]
    stored = read(cwd / "run/checkpoints/last.ckpt")["hyper_parameters"]
    assert (stored["recipe"], stored["overrides"]) == (result["recipe"], result["overrides"])
    config = yaml.safe_load((cwd / "run/config.yaml").read_text())
    assert (config["data"]["image_size"], config["trainer"]["max_steps"]) == (20, 22)
    log = (cwd / "run/train.log").read_text()
    for choice in result["recipe"]:
        (line,) = [line for line in done.stdout.splitlines() if line.split()[:2] == ["chosen", choice]]
        assert line in log
        assert len(line.split()) > 4, "no reason"


def test_expected_duration_and_memory_are_logged_after_ten_timed_steps(finished):
    lines = [line for line in finished[1].stdout.splitlines() if line.startswith("expected duration")]
    assert len(lines) == 1
    assert " for 2 more steps of " in lines[0]
    assert lines[0].endswith(" GB")
    assert "; peak memory " in lines[0]


def test_run_equals_one_with_the_same_settings_typed(finished):
    cwd, _ = finished
    recipe = json.loads((cwd / "run/result.json").read_text())["recipe"]
    done = program(cwd, "data=image_folder", "data.root=photos", *recipe, *TINY, "hydra.run.dir=typed")
    assert done.returncode == 0, done.stderr
    assert "expected duration" not in done.stdout
    assert_equal(state(cwd / "run"), state(cwd / "typed"))
    assert "recipe" not in json.loads((cwd / "typed/result.json").read_text())


def test_model_of_finished_run_samples(finished):
    assert gan_lightning.load(finished[0] / "run").sample(2, labels=None, seed=0).shape == (2, 3, 20, 20)


def test_resumed_run_keeps_its_choices(finished):
    cwd, _ = finished
    before = json.loads((cwd / "run/result.json").read_text())
    shutil.copytree(cwd / "run", cwd / "resumed")  # other tests read the run as it ended
    command = "experiment=photos", "data.root=photos", "ckpt_path=last", "hydra.run.dir=resumed", "trainer.max_steps=23"
    done = program(cwd, *command)
    assert done.returncode == 0, done.stderr
    assert "chosen" not in done.stdout
    after = json.loads((cwd / "resumed/result.json").read_text())
    assert (after["step"], after["recipe"]) == (23, before["recipe"])
    assert after["overrides"][-1] == "trainer.max_steps=23"


def test_sweep_chooses_for_each_job_and_is_resumed_with_stored_choices(finished):
    cwd, _ = finished
    tiny = [word for word in TINY if not word.startswith(("data.batch_size", "trainer.max_steps"))]
    words = ["-m", "experiment=photos", "data.root=photos", "data.batch_size=4,8", *tiny, "trainer.max_steps=2"]
    words += ["callbacks.checkpoint.every_n_steps=1", "hydra.sweep.dir=sweep", "hydra.sweep.subdir=${data.batch_size}"]
    done = program(cwd, *words)
    assert done.returncode == 0, done.stdout + done.stderr
    results = {size: json.loads((cwd / f"sweep/{size}/result.json").read_text()) for size in (4, 8)}
    configs = {size: yaml.safe_load((cwd / f"sweep/{size}/config.yaml").read_text()) for size in (4, 8)}
    for size, result in results.items():
        assert result["status"] == "finished"
        assert "data.image_size=20" in result["recipe"]
        assert f"data.batch_size={size}" in result["overrides"]
        assert (configs[size]["data"]["image_size"], configs[size]["data"]["batch_size"]) == (20, size)
        stored = read(cwd / f"sweep/{size}/checkpoints/last.ckpt")["hyper_parameters"]
        assert (stored["recipe"], stored["choices"]["augment"]) == (result["recipe"], "diffaugment")
    assert done.stdout.count("chosen  data.image_size=20") == 2
    (cwd / "sweep/8/result.json").unlink()
    for name in ("last", "step_00000002"):
        (cwd / f"sweep/8/checkpoints/{name}.ckpt").unlink()
    again = program(cwd, *words)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "resuming from sweep/8/checkpoints/step_00000001.ckpt, step 1" in again.stdout
    assert "chosen" not in again.stdout
    assert "changed:" not in again.stdout
    assert json.loads((cwd / "sweep/8/result.json").read_text())["recipe"] == results[8]["recipe"]


def test_mistake_ends_with_one_line_and_status_2(finished):
    cwd, _ = finished
    (cwd / "empty").mkdir()
    done = program(cwd, "experiment=photos", "data.root=empty")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [f"data.root='{cwd}/empty': is empty"]


def test_cfg_shows_chosen_values_as_yaml(finished):
    done = program(finished[0], "experiment=photos", "data.root=photos", "--cfg", "job")
    assert done.returncode == 0, done.stderr
    config = yaml.safe_load(done.stdout)
    assert (config["data"]["image_size"], config["trainer"]["max_steps"]) == (20, 20000)
    assert config["augment"]["_target_"].endswith("DiffAugment")
    assert "# chosen  data.image_size=20" in done.stdout
