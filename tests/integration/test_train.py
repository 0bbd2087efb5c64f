"""gan-train end to end, in processes of its own: run directories, sweeps, failures, full disks."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import torch
import yaml
from omegaconf import OmegaConf
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import gan_lightning
from gan_lightning.io.files import file_lock
from gan_lightning.run.checkpoint import read
from gan_lightning.run.run_dir import lock_run_dir

ROOT = Path(__file__).parents[2]
TINY = [
    "network.width=4",
    "data.limit=20",
    "data.batch_size=4",
    "data.image_size=16",
    "trainer.accelerator=cpu",
    "trainer.max_steps=3",
    "eval.num_generated=20",
    "feature.width=4",
]


def program(cwd: Path, *words: str, **variables: str) -> subprocess.CompletedProcess:
    """Run ``python train.py`` in a folder."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "300"} | variables
    command = [sys.executable, str(ROOT / "train.py"), *words]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess]:
    cwd = tmp_path_factory.mktemp("finished")
    done = program(cwd, "model=acgan", *TINY, "callbacks.metric_logger.every_n_steps=1")
    assert done.returncode == 0, done.stderr
    (run,) = cwd.glob("runs/*/*")
    return run, done


def test_run_dir_is_named_by_experiment_and_time(finished):
    run, _ = finished
    assert run.parent.name == "acgan-digits"
    assert re.fullmatch(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d-\d{6}", run.name), "no date and time with microseconds"


def test_run_dir_contains_documented_files(finished):
    run, _ = finished
    names = {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()}
    events = {name for name in names if name.startswith("tensorboard/events.out.tfevents.")}
    assert events
    assert names - events == {
        ".lock",
        "config.yaml",
        "train.log",
        "metrics.csv",
        "evaluation.jsonl",
        "result.json",
        "samples/real.png",
        "samples/step_00000001.png",
        "samples/step_00000002.png",
        "samples/step_00000003.png",
        "samples/timeline.png",
        "samples/training.gif",
        "checkpoints/last.ckpt",
        "checkpoints/best.ckpt",
        "checkpoints/step_00000003.ckpt",
        "tensorboard/hparams.yaml",
    }


def test_config_yaml_is_resolved(finished):
    text = (finished[0] / "config.yaml").read_text()
    assert "${" not in text
    config = yaml.safe_load(text)
    assert config["trainer"]["max_steps"] == 3
    assert config["model"]["generator"]["shape"] == [1, 16, 16]
    assert config["model"]["generator"]["num_classes"] == 10


def test_metrics_and_scores_are_in_csv_result_and_terminal(finished):
    run, done = finished
    with (run / "metrics.csv").open(newline="") as file:
        rows = [*csv.DictReader(file)]
    assert [row["step"] for row in rows] == ["1", "2", "3"]
    result = json.loads((run / "result.json").read_text())
    assert (result["status"], result["step"]) == ("finished", 3)
    assert result["duration_s"] > 0
    assert result["versions"]["torch"] == torch.__version__.partition("+")[0]
    scores = {name.removeprefix("eval/") for name in result["metrics"] if name.startswith("eval/")}
    metrics = {name: value for name, value in result["metrics"].items() if not name.startswith("eval/")}
    assert metrics == pytest.approx({key: float(value) for key, value in rows[-1].items() if key != "step"})
    lines = [json.loads(line) for line in (run / "evaluation.jsonl").read_text().splitlines()]
    assert {line["metric"] for line in lines} == scores > {"fd", "class_accuracy"}
    assert f"fd  best {result['metrics']['eval/fd']:.4g} at step 3" in done.stdout
    assert result["metrics"]["images_seen"] == 12
    assert {"d/adversarial", "d/class_real", "g/class_fake", "d/accuracy_fake"} <= result["metrics"].keys()
    assert f"d/class_real {result['metrics']['d/class_real']:.4g}" in done.stdout


def test_tensorboard_events_contain_scalars_and_images(finished):
    events = EventAccumulator(str(finished[0] / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("d/adversarial")] == [1, 2, 3]
    assert {"samples", "real"} <= set(events.Tags()["images"])
    assert any(tag.startswith("eval/fd_") for tag in events.Tags()["scalars"])


SHORT = "model=vanilla", *TINY, "eval.every_n_steps=null", "~callbacks.sample_grid"


@pytest.mark.parametrize(
    "word", ["hydra.run.dir=~/my job", "++hydra.run.dir='~/my job'", "hydra.run.dir=${oc.env:JOBS}/my job"]
)
def test_tilde_in_run_dir_is_expanded_for_all_files(tmp_path, word):
    """Hydra does not expand ~, but Lightning does; without a fix, the files are split between two directories."""
    home, cwd = tmp_path / "home", tmp_path / "cwd"
    home.mkdir()
    cwd.mkdir()
    where = {"HOME": str(home), "JOBS": "~"}
    first = program(cwd, *SHORT, word, "ckpt_path=last", "trainer.max_steps=2", **where)
    assert first.returncode == 0, first.stdout + first.stderr
    assert [*cwd.iterdir()] == [], "files are written to ./~"
    assert (home / "my job/metrics.csv").exists()
    assert read(home / "my job/checkpoints/last.ckpt")["global_step"] == 2
    second = program(cwd, *SHORT, word, "ckpt_path=last", "trainer.max_steps=4", **where)
    assert second.returncode == 0, second.stdout + second.stderr
    assert "step 2" in second.stdout.splitlines()[0]
    assert json.loads((home / "my job/result.json").read_text())["step"] == 4
    other = program(cwd, *SHORT, "model=wgan", word, **where)
    assert other.returncode == 1
    assert "contains another run; add ckpt_path=last" in other.stdout
    assert [*cwd.iterdir()] == []


def test_tilde_in_sweep_dir_is_expanded_for_all_files(tmp_path):
    where = {"HOME": str(tmp_path / "home"), "GAN_CACHE_DIR": "~/cache"}
    cwd = tmp_path / "cwd"
    cwd.mkdir()
    words = "-m", *SHORT, "seed=1,2", "hydra.sweep.dir=~/sweep", "hydra.sweep.subdir=${seed}"
    first = program(cwd, *words, **where)
    assert first.returncode == 0, first.stdout + first.stderr
    assert [*cwd.iterdir()] == []
    assert {path.parent.name for path in (tmp_path / "home/sweep").rglob("result.json")} == {"1", "2"}
    assert (tmp_path / "home/sweep/sweep.csv").exists()
    second = program(cwd, *words, **where)
    assert second.stdout.count("nothing to do: finished before, at step 3") == 2


def test_relative_paths_refer_to_start_directory_under_chdir(tmp_path):
    """hydra.job.chdir=true changes the working directory before the job resolves relative paths."""
    (tmp_path / "cats").mkdir()
    for i in range(4):
        Image.new("RGB", (16, 16), (60 * i, 0, 200)).save(tmp_path / f"cats/{i}.png")
    words = ["model=dcgan", "data=image_folder", "data.image_size=16", *(w for w in TINY if "limit" not in w)]
    words += ["data.batch_size=2", "data.root=cats", "eval.every_n_steps=1", "hydra.run.dir=run", "ckpt_path=last"]
    done = program(tmp_path, *words, "hydra.job.chdir=true", GAN_CACHE_DIR="cache")
    assert done.returncode == 0, done.stdout + done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"cats", "cache", "run"}
    assert not (tmp_path / "run/run").exists()
    assert read(tmp_path / "run/checkpoints/last.ckpt")["global_step"] == 3
    assert OmegaConf.load(tmp_path / "run/config.yaml").data.root == str(tmp_path / "cats")
    assert f"hydra.run.dir={tmp_path}/run" not in done.stdout


def test_moved_run_directory_is_resumed_in_place(tmp_path):
    """A checkpoint stores neither its run directory nor the path of init_from."""
    start = program(tmp_path, *SHORT, "hydra.run.dir=start")
    assert start.returncode == 0, start.stdout + start.stderr
    words = "init_from=start/checkpoints/last.ckpt", "hydra.run.dir=here/run", "logger=csv"
    assert program(tmp_path, *SHORT, *words).returncode == 0
    shutil.rmtree(tmp_path / "start")
    (tmp_path / "here").rename(tmp_path / "there")
    done = program(tmp_path, "ckpt_path=there/run/checkpoints/last.ckpt", "trainer.max_steps=5")
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads((tmp_path / "there/run/result.json").read_text())["step"] == 5
    assert not (tmp_path / "here").exists()
    assert "changed: trainer.max_steps from 3 to 5" in done.stdout
    assert done.stdout.count("changed") == 1, done.stdout


def test_unknown_objective_fails_run_and_keeps_metrics(tmp_path):
    """Otherwise an optimizing sweeper would continue with missing values."""
    done = program(tmp_path, *TINY, "eval.every_n_steps=null", "objective=d/adversarail", "hydra.run.dir=run")
    assert done.returncode == 1
    assert "objective=d/adversarail: the run has no such metric (did you mean d/adversarial?)" in done.stdout
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert (result["status"], result["step"]) == ("failed", 3)
    assert "d/adversarial" in result["metrics"], "the other metrics are missing"


def test_sample_grid_has_one_row_per_class(finished):
    with Image.open(finished[0] / "samples" / "step_00000003.png") as grid:
        assert grid.height == 5 * (10 * 18 + 2)
        assert 5 * (8 * 18 + 2) < grid.width < 5 * (8 * 18 + 2) + 100, "no class names beside the rows"


def test_terminal_shows_output_paths_and_no_library_warnings(finished):
    run, done = finished
    for path in (
        run / "samples" / "step_00000003.png",
        run / "samples" / "training.gif",
        run / "checkpoints" / "last.ckpt",
    ):
        assert str(path.relative_to(run.parents[2])) in done.stdout
    assert "tensorboard --logdir runs/acgan-digits" in done.stdout
    assert "3 generator steps, 12 images seen" in done.stdout
    assert "3/3" in done.stderr
    for word in ("Warning", "warn", "deprecated", "Traceback", "HINT", "💡", "GPU available"):
        assert word not in done.stdout + done.stderr


def test_checkpoint_contains_networks_and_loads_as_model(finished):
    path = finished[0] / "checkpoints" / "last.ckpt"
    keys = torch.load(path, weights_only=True)["state_dict"].keys()
    assert {key.partition(".")[0] for key in keys} == {"generator", "discriminator"}
    model = gan_lightning.load(path)
    images = model.sample(3, labels=[1, 2, 3], seed=0)
    assert images.shape == (3, 1, 16, 16)
    assert images.abs().max() <= 1


def test_run_dir_of_another_run_is_rejected(finished):
    run, _ = finished
    before = (run / "result.json").read_text()
    done = program(run.parents[2], *TINY, f"hydra.run.dir={run}")
    assert done.returncode != 0
    assert "contains another run; add ckpt_path=last" in done.stdout + done.stderr
    assert (run / "result.json").read_text() == before, "files of the other run were changed"


def test_init_from_starts_new_run_and_ckpt_path_resumes_it(finished, tmp_path):
    run, _ = finished
    last = run / "checkpoints" / "last.ckpt"
    done = program(tmp_path, f"init_from={last}", "model=acgan", *TINY, "trainer.max_steps=1", "hydra.run.dir=new")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "new" / "result.json").read_text())["step"] == 1
    on = program(tmp_path, f"ckpt_path={tmp_path}/new/checkpoints/last.ckpt", "trainer.max_steps=2")
    assert on.returncode == 0, on.stderr
    assert "step 1" in on.stdout
    assert json.loads((tmp_path / "new" / "result.json").read_text())["step"] == 2
    with (tmp_path / "new" / "metrics.csv").open(newline="") as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["1", "2"]


@pytest.mark.parametrize("launcher", ["basic", "joblib"])
def test_failing_job_of_sweep_leaves_other_jobs_running(tmp_path, launcher):
    if launcher == "joblib":
        pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    words = ["-m", "model=dcgan,wgan_gp", "network.discriminator.norm=none,batch", *TINY, "trainer.max_steps=1"]
    extra = ["hydra.sweep.dir=sweep", f"hydra/launcher={launcher}"]
    extra += ["hydra.launcher.n_jobs=2"] if launcher == "joblib" else []
    done = program(tmp_path, *words, *extra)
    assert done.returncode == 1, done.stdout + done.stderr
    with (tmp_path / "sweep" / "sweep.csv").open(newline="") as file:
        rows = [*csv.DictReader(file)]
    assert [row["status"] for row in rows] == ["finished", "finished", "finished", "failed"]
    failed = rows[-1]
    assert "model=wgan_gp" in failed["overrides"]
    assert "network.discriminator.norm=batch: model=wgan_gp needs" in failed["error"]
    for row in rows[:3]:
        assert float(row["duration_s"]) > 0
        assert float(row["d/adversarial"])
        assert (tmp_path / row["run"] / "checkpoints" / "last.ckpt").exists()
    assert re.search(r"^overrides +status +", done.stdout, re.M)
    assert "model=wgan_gp network.discriminator.norm=batch" in done.stdout
    assert "sweep/sweep.csv" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_sweep_over_paths_runs_one_job_per_path(tmp_path):
    for name in ("cats", "dogs"):
        (tmp_path / name).mkdir()
        for i in range(4):
            Image.new("RGB", (16, 16), (60 * i, 0, 200)).save(tmp_path / name / f"{i}.png")
    words = ["model=dcgan", "data=image_folder", "data.image_size=16", *(w for w in TINY if "limit" not in w)]
    words += ["data.batch_size=2", "trainer.max_steps=1"]
    done = program(tmp_path, "-m", *words, "data.root=cats,dogs", "hydra.sweep.dir=sweep")
    assert done.returncode == 0, done.stdout + done.stderr
    runs = [path.parent for path in (tmp_path / "sweep").rglob("result.json")]
    roots = {OmegaConf.load(run / "config.yaml").data.root for run in runs}
    assert roots == {str(tmp_path / "cats"), str(tmp_path / "dogs")}
    assert all(f",data.root={root}," in run.name for run, root in zip(sorted(runs), ("cats", "dogs"), strict=True))
    last = [run / "checkpoints" / "last.ckpt" for run in sorted(runs)]
    links = [tmp_path / name for name in ("a.ckpt", "b.ckpt")]
    for link, path in zip(links, last, strict=True):
        link.symlink_to(path)
    done = program(tmp_path, "-m", *words, "data.root=cats", "init_from=a.ckpt,b.ckpt", "hydra.sweep.dir=next")
    assert done.returncode == 0, done.stdout + done.stderr
    assert len([*(tmp_path / "next").rglob("last.ckpt")]) == 2
    assert "nothing to do" not in done.stdout


def test_job_with_locked_run_dir_fails_sweep(tmp_path):
    words = "-m", "model=vanilla", "seed=1,2", *TINY, "trainer.max_steps=1", "hydra.sweep.dir=sweep"
    words = *words, "hydra.sweep.subdir=${seed}"
    (tmp_path / "sweep/1").mkdir(parents=True)
    with file_lock(tmp_path / "sweep/1", lambda: pytest.fail("held")):
        done = program(tmp_path, *words)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "in use by a running process" in done.stdout
    assert re.search(r"sweep/2 *$", done.stdout, re.M), done.stdout  # the table
    assert (tmp_path / "sweep/2/checkpoints/last.ckpt").exists()
    assert "Traceback" not in done.stdout + done.stderr
    assert program(tmp_path, *words).returncode == 0


def test_failed_job_of_earlier_sweep_does_not_fail_this_sweep(tmp_path):
    words = "-m", "model=vanilla", *TINY, "trainer.max_steps=1", "hydra.sweep.dir=sweep", "hydra.sweep.subdir=${seed}"
    assert program(tmp_path, *words, "seed=1", "model.generator_optimizer.lr=1e30").returncode == 1
    past = time.time() - 60
    os.utime(tmp_path / "sweep/1/result.json", (past, past))
    done = program(tmp_path, *words, "seed=2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^.*failed", done.stdout, re.M)


@pytest.mark.parametrize("launcher", ["basic", "joblib"])
def test_sweep_table_lists_own_failures_and_unreadable_results(tmp_path, launcher):
    """The jobs' directories are outside of the sweep directory, which contains unrelated results."""
    sweep = tmp_path / "sweep"
    contents = {"half": b'{"status": "fin', "list": b"[1, 2]", "empty": b"{}", "deep": b"[" * 100_000}
    contents["other"] = b'{"status": 3, "overrides": 4}'
    for name, content in contents.items():
        (sweep / name).mkdir(parents=True)
        (sweep / name / "result.json").write_bytes(content)
    (sweep / "folder/result.json").mkdir(parents=True)
    os.mkfifo(sweep / "half/pipe")
    (sweep / "linked").mkdir()
    (sweep / "linked/result.json").symlink_to(sweep / "half/pipe")
    words = "-m", *SHORT, "seed=1,2", "model.generator_optimizer.lr=1e30", f"hydra/launcher={launcher}"
    done = program(tmp_path, *words, "hydra.sweep.dir=sweep", "hydra.sweep.subdir=../elsewhere/${seed}")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    with (sweep / "sweep.csv").open(newline="", encoding="utf-8") as file:
        rows = {row["run"]: row for row in csv.DictReader(file)}
    others = {f"sweep/{name}" for name in (*contents, "folder", "linked")}
    assert rows.keys() == {"elsewhere/1", "elsewhere/2"} | others
    for seed in ("1", "2"):
        assert rows[f"elsewhere/{seed}"]["status"] == "failed"
        assert rows[f"elsewhere/{seed}"]["error"]
    for name in (*contents, "folder", "linked"):
        assert rows[f"sweep/{name}"]["status"] == "unknown"
        assert f"sweep/{name}/result.json: cannot be read (" in rows[f"sweep/{name}"]["error"]
    assert not [*sweep.glob(".jobs*")]


@contextmanager
def large_sweep(cwd: Path, *words: str) -> Iterator[tuple[subprocess.Popen, set[int]]]:
    """Start a sweep of three long runs; yield it and the max_steps of those that train (their directories)."""
    budgets = 100_000_001, 100_000_002, 100_000_003
    words = "-m", *SHORT, f"trainer.max_steps={','.join(map(str, budgets))}", "hydra.sweep.dir=sweep", *words
    words = *words, "hydra.sweep.subdir=${trainer.max_steps}", "callbacks.progress.refresh_s=0.01"
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(ROOT / "train.py"), *words]
    with subprocess.Popen(
        command, cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as sweep:
        training = set()
        for line in sweep.stdout:
            training |= {budget for budget in budgets if re.search(rf"[1-9]\d*/{budget}", line)}  # progress bars
            if len(training) == (2 if "hydra/launcher=joblib" in words else 1):
                break
        yield sweep, training


JOBLIB = "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"


def test_joblib_workers_stop_when_sweep_is_killed(tmp_path):
    """Otherwise joblib's workers would continue and keep their run directories locked."""
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    with large_sweep(tmp_path, *JOBLIB) as (sweep, training):
        sweep.kill()
        sweep.stdout.read()  # until the last process that writes to it has ended
    for run in ((tmp_path / f"sweep/{budget}") for budget in training):
        step = read(run / "checkpoints/last.ckpt")["global_step"]
        assert f"stopped at step {step:,}" in (run / "result.json").read_text(encoding="utf-8")
        with lock_run_dir(run, resuming=True):
            pass
    assert {path.name for path in (tmp_path / "sweep").glob("1*")} == {*map(str, training)}, "another job has started"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds the workers in Linux's /proc")
def test_killed_worker_fails_sweep_with_one_line_and_table_is_written(tmp_path):
    """Like the kernel's out-of-memory killer."""
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    with large_sweep(tmp_path, *JOBLIB) as (sweep, training):
        holders = {}
        for path in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if (path / "cwd").readlink() == tmp_path and "popen_loky_posix" in (path / "cmdline").read_text():
                    holders[int(path.name)] = path
        os.kill(min(pid for pid in holders if pid != sweep.pid), signal.SIGKILL)
        output = sweep.stdout.read()
    assert sweep.returncode == 2, output
    assert "a worker process of the sweep was killed" in output
    assert "Traceback" not in output
    with (tmp_path / "sweep/sweep.csv").open(newline="", encoding="utf-8") as file:
        rows = {row["run"]: row["status"] for row in csv.DictReader(file)}
    assert rows.keys() >= {f"sweep/{budget}" for budget in training}
    assert "finished" not in rows.values()
    assert not [*(tmp_path / "sweep").glob(".jobs*")]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals between processes")
def test_interrupted_sweep_writes_its_table(tmp_path):
    with large_sweep(tmp_path) as (sweep, (budget,)):
        sweep.send_signal(signal.SIGTERM)
        output = sweep.stdout.read()
    assert sweep.returncode == 143, output
    with (tmp_path / "sweep/sweep.csv").open(newline="", encoding="utf-8") as file:
        assert [(row["run"], row["status"]) for row in csv.DictReader(file)] == [(f"sweep/{budget}", "interrupted")]
    assert not [*(tmp_path / "sweep").glob(".jobs*")]


def test_killed_sweep_resumes_unfinished_jobs_only(tmp_path):
    words = "-m", "model=vanilla", "seed=1,2,3", *TINY, "trainer.max_steps=4", "callbacks.checkpoint.every_n_steps=2"
    often = "callbacks.metric_logger.every_n_steps=1", "hydra.sweep.dir=sweep", "hydra.sweep.subdir=${seed}"
    assert program(tmp_path, *words, *often).returncode == 0
    complete = {seed: torch.load(tmp_path / f"sweep/{seed}/checkpoints/last.ckpt") for seed in (1, 2, 3)}
    lines = (tmp_path / "sweep/2/metrics.csv").read_text()
    first = (tmp_path / "sweep/1/result.json").read_bytes()
    for name in ("result.json", "checkpoints/last.ckpt", "checkpoints/best.ckpt", "checkpoints/step_00000004.ckpt"):
        (tmp_path / "sweep/2" / name).unlink()
    shutil.rmtree(tmp_path / "sweep/3")
    second = program(tmp_path, *words, *often)
    assert second.returncode == 0, second.stderr
    assert "finished before, at step 4: sweep/1" in second.stdout
    assert "resuming from sweep/2/checkpoints/step_00000002.ckpt, step 2" in second.stdout
    assert "changed:" not in second.stdout
    assert (tmp_path / "sweep/1/result.json").read_bytes() == first
    for seed, before in complete.items():
        after = torch.load(tmp_path / f"sweep/{seed}/checkpoints/last.ckpt")
        assert after["global_step"] == 4
        torch.testing.assert_close(after["state_dict"], before["state_dict"], rtol=0, atol=0)
    assert [line.rpartition(",")[0] for line in lines.splitlines()] == [
        line.rpartition(",")[0] for line in (tmp_path / "sweep/2/metrics.csv").read_text().splitlines()
    ]
    with (tmp_path / "sweep" / "sweep.csv").open(newline="") as file:
        assert [row["status"] for row in csv.DictReader(file)] == ["finished"] * 3


def test_repeated_command_leaves_finished_run_unchanged(tmp_path):
    often = "callbacks.metric_logger.every_n_steps=1", "callbacks.checkpoint.every_n_steps=2"
    words = "model=vanilla", *TINY, *often, "hydra.run.dir=run", "trainer.max_steps=4", "ckpt_path=last"
    assert program(tmp_path, *words).returncode == 0
    result = (tmp_path / "run/result.json").read_bytes()
    second = program(tmp_path, *words)
    assert second.returncode == 0
    assert "nothing to do: finished before, at step 4: run" in second.stdout
    assert (tmp_path / "run/result.json").read_bytes() == result
    for name in ("last", "best", "step_00000004"):
        (tmp_path / f"run/checkpoints/{name}.ckpt").unlink()
    assert "resuming from" in program(tmp_path, *words).stdout
    scalars = EventAccumulator(str(tmp_path / "run/tensorboard")).Reload()
    final = [tag for tag in scalars.Tags()["scalars"] if tag.startswith("final/")]
    assert final
    for tag in final:
        assert [event.step for event in scalars.Scalars(tag)] == [5], tag


def test_resumed_sweep_rejects_changed_settings_of_its_runs(tmp_path):
    words = "-m", "model=vanilla", "seed=1", *TINY, "hydra.sweep.dir=sweep", "hydra.sweep.subdir=${seed}"
    assert program(tmp_path, *words).returncode == 0
    done = program(tmp_path, *words, "loss.label_smoothing=0.1")
    assert done.returncode == 1
    assert "loss.label_smoothing: the run was started with 0.0, not 0.1" in done.stdout
    longer = program(tmp_path, *words, "trainer.max_steps=5")
    assert longer.returncode == 0
    assert "changed: trainer.max_steps from 3 to 5" in longer.stdout
    assert json.loads((tmp_path / "sweep/1/result.json").read_text())["step"] == 5


SMALL_DISK = """
import resource, sys
import torch
from tensorboard.compat.proto.event_pb2 import Event
from gan_lightning.callbacks.checkpoint import Checkpoint
from gan_lightning.callbacks.metric_logger import MetricLogger
from gan_lightning.cli.train import main
def checkpoint(trainer):
    return 50_000
def tensorboard(trainer):  # exceeds the limit, whatever the writer's thread has written before
    trainer.logger.experiment.add_image("noise", torch.rand(3, 100, 100), 2)
    return 20_000
def scalar(trainer):  # the writer's thread ends with an error, which the next scalar raises
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
    writer = trainer.logger.experiment.file_writer.event_writer
    writer.add_event(Event(step=2, wall_time=0))
    writer._async_writer._worker.join()
    return 1
def metrics(trainer):
    return 1
of = {checkpoint: Checkpoint, tensorboard: Checkpoint, scalar: MetricLogger, metrics: MetricLogger}
(kind,) = (kind for kind in of if kind.__name__ == sys.argv[1])
before = of[kind].on_train_batch_end
def then(self, trainer, *args):
    if trainer.global_step == 2:
        resource.setrlimit(resource.RLIMIT_FSIZE, (kind(trainer), resource.RLIM_INFINITY))
    before(self, trainer, *args)
of[kind].on_train_batch_end = then
del sys.argv[1]
main()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on the size of files")
@pytest.mark.parametrize(
    ("kind", "file", "words"),
    [
        ("checkpoint", "run/checkpoints/step_00000002.ckpt", ["~logger"]),  # then nothing else reaches the limit
        ("tensorboard", "run/tensorboard", []),
        ("scalar", "run/tensorboard", ["callbacks.metric_logger.every_n_steps=1"]),
        ("metrics", "run/metrics.csv", ["~logger", "callbacks.metric_logger.every_n_steps=1"]),
    ],
)
def test_full_disk_keeps_previous_checkpoint(tmp_path, kind, file, words):
    words = "model=vanilla", *TINY, "callbacks.checkpoint.every_n_steps=1", "eval.every_n_steps=null", *words
    command = [sys.executable, "-c", SMALL_DISK, kind, *words, "hydra.run.dir=run"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert f"\n{file}: cannot be written (File too large). The run ends; its earlier checkpoints" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    assert sorted(path.name for path in (tmp_path / "run/checkpoints").iterdir()) == ["last.ckpt", "step_00000001.ckpt"]
    assert read(tmp_path / "run/checkpoints/last.ckpt")["global_step"] == 1
    if kind in ("checkpoint", "tensorboard"):  # with the smaller limits result.json does not fit either
        assert json.loads((tmp_path / "run/result.json").read_text())["status"] == "failed"


OUT_OF_TIME = """
from pytorch_lightning.callbacks import Timer
from gan_lightning.cli.train import main
Timer.time_elapsed = lambda self, stage="train": 99.0 if self.steps >= 3 else 0.0
def check(self, trainer):
    self.steps = trainer.global_step
    trainer.should_stop = trainer.should_stop or self.time_elapsed() > 50
Timer._check_time_remaining, Timer.steps = check, 0
main()
"""


def test_run_stopped_by_max_time_reports_same_step_everywhere_and_resumes(tmp_path):
    """In terminal, log, result.json, metrics.csv and TensorBoard; resumed, with total duration and all overrides."""
    words = ["model=vanilla", *TINY, "eval.every_n_steps=null", "hydra.run.dir=run", "trainer.max_steps=20"]
    command = [sys.executable, "-c", OUT_OF_TIME, *words, "+trainer.max_time=00:00:00:50"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    message = "stopped at step 3: trainer.max_time has passed"
    for text in (done.stdout, (tmp_path / "run/train.log").read_text()):
        assert "3 generator steps, 12 images seen" in text
        assert f"{message}; to resume: " in text
        assert " ckpt_path=last hydra.run.dir=run trainer.max_time=null" in text
    before = json.loads((tmp_path / "run/result.json").read_text())
    assert [before[key] for key in ("status", "step", "error")] == ["stopped", 3, message]
    with (tmp_path / "run/metrics.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row.pop("step") == "3"
    assert before["metrics"] == pytest.approx({name: float(value) for name, value in row.items()})
    scalars = EventAccumulator(str(tmp_path / "run/tensorboard")).Reload()
    assert [(x.step, x.value) for x in scalars.Scalars("images_seen")] == [(3, 12)]
    assert read(tmp_path / "run/checkpoints/last.ckpt")["global_step"] == 3

    words = "ckpt_path=last", "hydra.run.dir=run", "trainer.max_time=null", "trainer.max_steps=4"
    on = program(tmp_path, *words)
    assert on.returncode == 0, on.stderr
    assert "Be aware" not in on.stderr
    log = (tmp_path / "run/train.log").read_text()
    for line in ("resuming from run/checkpoints/last.ckpt, step 3", "changed: trainer.max_steps from 20 to 4"):
        assert line in on.stdout
        assert log.count(line) == 1
    result = json.loads((tmp_path / "run/result.json").read_text())
    assert (result["status"], result["step"], result["metrics"]["images_seen"]) == ("finished", 4, 16)
    assert result["overrides"][: len(before["overrides"])] == before["overrides"]
    assert result["overrides"][len(before["overrides"]) :] == ["trainer.max_time=null", "trainer.max_steps=4"]
    kept = read(tmp_path / "run/checkpoints/last.ckpt")
    assert kept["hyper_parameters"]["overrides"] == result["overrides"]
    earlier = torch.load(tmp_path / "run/checkpoints/step_00000003.ckpt")["callbacks"]["Checkpoint"]["seconds"]
    assert result["duration_s"] > kept["callbacks"]["Checkpoint"]["seconds"] - 0.1 > earlier


BROKEN_HOOK = """
from gan_lightning.callbacks.progress import Progress
from gan_lightning.cli.train import main
def on_train_end(*_):
    raise ZeroDivisionError("no score")
Progress.on_train_end = on_train_end
main()
"""


def test_error_in_on_train_end_fails_run_and_keeps_last_step(tmp_path):
    words = "model=vanilla", *TINY, "eval.every_n_steps=null", "hydra.run.dir=run"
    done = subprocess.run(
        [sys.executable, "-c", BROKEN_HOOK, *words], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stdout.count("ZeroDivisionError: no score") == 1
    assert read(tmp_path / "run/checkpoints/last.ckpt")["global_step"] == 3
    result = json.loads((tmp_path / "run/result.json").read_text())
    assert [result[key] for key in ("status", "step", "error")] == ["failed", 3, "ZeroDivisionError: no score"]
    assert result["metrics"]["images_seen"] == 12


def test_cfg_job_prints_configuration_without_training(tmp_path):
    done = program(tmp_path, "--cfg", "job", "model=wgan", "seed=5")
    assert done.returncode == 0
    config = yaml.safe_load(done.stdout)
    assert config["seed"] == 5
    assert config["model"]["clip_value"] == 0.01
    assert [*tmp_path.rglob("*.ckpt")] == []


def test_failed_run_prints_error_and_writes_result(tmp_path):
    done = program(tmp_path, "data=mnist", f"data.root={tmp_path}/empty", "hydra.run.dir=run")
    assert done.returncode != 0
    assert "Traceback" not in done.stdout + done.stderr
    assert "Put train-images-idx3-ubyte.gz" in done.stdout + done.stderr
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["status"] == "failed"
    assert "train-images-idx3-ubyte.gz" in result["error"]


def test_profiler_report_is_printed_and_logged(tmp_path):
    done = program(tmp_path, "debug=profile", *TINY, "trainer.max_steps=2", "hydra.run.dir=run")
    assert done.returncode == 0, done.stderr
    for text in (done.stdout, (tmp_path / "run" / "train.log").read_text()):
        assert "Profiler Report" in text
        assert "training_step" in text
