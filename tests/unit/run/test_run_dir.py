"""A run directory: its lock, files left by killed processes, its name, its overrides and its result."""

import json
import os

import pytest
from processes import ENDED

from gan_lightning.errors import UserError
from gan_lightning.run.run_dir import all_overrides, is_rank_zero, lock_run_dir
from gan_lightning.run.sweep import folder_name, result_of


def test_sweep_table_has_valid_parts_of_result(tmp_path):
    def row_of(record: dict, **result: object) -> dict:
        (tmp_path / "result.json").write_text(json.dumps(result), encoding="utf-8")
        return result_of(tmp_path, record)

    complete = {"status": "finished", "overrides": ["seed=1"], "metrics": {"d/lr": 1}, "duration_s": 2.5}
    assert row_of({}, **complete) == complete | {"job": 0, "error": ""}
    assert row_of({}, **complete, recipe=["data.flip=true"])["recipe"] == ["data.flip=true"]
    ended = {"job": 3, "overrides": ["seed=1"], "exit_status": 0, "error": ""}
    assert row_of(ended, **complete) == complete | {"job": 3, "error": ""}
    failed = ended | {"exit_status": 1, "error": "why"}
    assert {key: row_of(failed, **complete)[key] for key in ("status", "error")} == {"status": "failed", "error": "why"}
    killed = row_of(ended | {"exit_status": None}, **complete)
    assert (killed["status"], killed["error"]) == ("failed", "its process ended without a result; see train.log")
    invalid = [{"metrics": {"d/lr": "x"}}, {"metrics": {"d/lr": 10**400}}, {"cards": {"fid": "a"}}, {"error": 3}]
    for wrong in [*invalid, {"recipe": "data.flip=true"}, {"recipe": [3]}]:
        assert "cannot be read" in row_of({}, **(complete | wrong))["error"]
        assert row_of(ended, **(complete | wrong))["status"] == "finished"


def test_run_directory_is_locked_by_one_run(tmp_path):
    with lock_run_dir(tmp_path / "run", resuming=False):
        for resuming in (False, True):
            with (
                pytest.raises(UserError, match="in use by a running process"),
                lock_run_dir(tmp_path / "run", resuming),
            ):
                pass
    with lock_run_dir(tmp_path / "run", resuming=True):
        assert [path.name for path in (tmp_path / "run").iterdir()] == [".lock"]


def test_partial_files_of_killed_processes_are_removed(tmp_path):
    running = os.getppid()
    parts = [tmp_path / f"{name}.{ENDED}.part" for name in (".result.json", "checkpoints/.last.ckpt", "samples/.a.png")]
    live_part = tmp_path / f".samples.png.{running}.part"  # a running gan-sample writes into the run directory
    for part in (*parts, live_part):
        part.parent.mkdir(exist_ok=True)
        part.touch()
    folder = tmp_path / f".many.{ENDED}.part"  # left by a killed gan-sample --out many
    folder.mkdir()
    (folder / "000000.png").touch()
    with lock_run_dir(tmp_path, resuming=True):
        assert not any(part.exists() for part in (*parts, folder))
        assert live_part.exists()


def test_other_ranks_share_run_directory(tmp_path, monkeypatch):
    with lock_run_dir(tmp_path / "run", resuming=False):
        monkeypatch.setenv("LOCAL_RANK", "1")
        with lock_run_dir(tmp_path / "run", resuming=False):
            pass


def test_overrides_of_later_commands_come_last():
    first = ["model=dcgan", "trainer.max_steps=4"]
    assert all_overrides(first, first) == first
    assert all_overrides(first, ["trainer.max_steps=8"]) == [*first, "trainer.max_steps=8"]
    again = all_overrides([*first, "trainer.max_steps=8"], ["trainer.max_steps=4"])
    assert again == ["model=dcgan", "trainer.max_steps=8", "trainer.max_steps=4"]


def test_job_folders_are_named_by_overrides():
    assert folder_name("model=dcgan,seed=1") == "model=dcgan,seed=1"
    assert folder_name("data.root=/a/b") == "data.root=_a_b"
    assert folder_name("") == "defaults"
    long_names = [folder_name(f"model={'x' * 300}{end}") for end in "ab"]
    assert long_names[0] != long_names[1]
    assert max(map(len, long_names)) <= 150


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, True),
        ({"NODE_RANK": "0", "LOCAL_RANK": "0"}, True),
        ({"NODE_RANK": "1"}, False),
        ({"LOCAL_RANK": "1", "WORLD_SIZE": "2"}, False),
        ({"SLURM_PROCID": "1", "SLURM_NTASKS": "2", "SLURM_JOB_NAME": "gan"}, False),
        ({"SLURM_PROCID": "1", "SLURM_NTASKS": "2", "SLURM_JOB_NAME": "bash"}, True),
    ],
)
def test_rank_zero_follows_variables_that_lightning_uses(monkeypatch, variables, expected):
    for name in ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert is_rank_zero() == expected
