"""Atomic writes, partial files of killed processes, and safe reading of files."""

import errno
import os
import re
import sys
from pathlib import Path

import pytest
from processes import ENDED

from gan_lightning.errors import UserError
from gan_lightning.io import files
from gan_lightning.io.files import atomic_write, read_json, read_regular, remove_parts, samples_by_step, set_aside
from gan_lightning.io.paths import absolute


def test_file_appears_when_complete(tmp_path):
    path = tmp_path / "new" / "folder" / "a.bin"
    with atomic_write(path) as file:
        file.write(b"half")
        file.flush()
        assert not path.exists()
        file.write(b" and half")
    assert path.read_bytes() == b"half and half"
    assert [*path.parent.iterdir()] == [path]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_failed_write_keeps_old_file(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(error), atomic_write(path, "w") as file:  # noqa: PT012
        file.write("new")
        file.flush()
        raise error
    assert path.read_text() == "old"
    assert [*tmp_path.iterdir()] == [path], "a partial file is left"


def test_new_file_replaces_old_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old and long")
    with atomic_write(path, "w") as file:
        file.write("new")
        assert path.read_text() == "old and long"
    assert path.read_text() == "new"


def test_write_error_names_target_file(tmp_path, monkeypatch):
    def fail_to_open(self, *_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(self))

    monkeypatch.setattr(Path, "open", fail_to_open)
    with pytest.raises(OSError, match=r"/a\.txt'"), atomic_write(tmp_path / "a.txt", "w"):
        pass


def test_files_are_ordered_by_step_in_name(tmp_path):
    """Dates may be wrong, for example after a copy; files with other names are ignored."""
    names = ["step_00000009.ckpt", "step_00000010.ckpt", "step_00000011 (copy).ckpt", "step_x.ckpt", "last.ckpt"]
    for date, name in enumerate([*names, "step_00000008.png"]):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (-date + 2**32, -date + 2**32))
    assert samples_by_step(tmp_path, ".ckpt") == [(step, tmp_path / f"step_{step:08d}.ckpt") for step in (9, 10)]
    assert samples_by_step(tmp_path) == [(8, tmp_path / "step_00000008.png")]


def test_samples_by_step_lists_only_regular_files(tmp_path):
    """Opening a named pipe would block forever."""
    (tmp_path / "step_1.png").touch()
    (tmp_path / "step_2.png").mkdir()
    (tmp_path / "step_3.png").symlink_to("nowhere")
    (tmp_path / "step_4.png").symlink_to("step_1.png")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "step_5.png")
    assert samples_by_step(tmp_path) == [(step, tmp_path / f"step_{step}.png") for step in (1, 4)]


def test_directory_in_place_of_file_is_set_aside(tmp_path, caplog):
    (tmp_path / "a.csv").mkdir()
    (tmp_path / "a.csv.1").touch()
    set_aside(tmp_path / "a.csv")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv.1", "a.csv.2"]
    assert (tmp_path / "a.csv.2").is_dir()
    assert [record.message for record in caplog.records] == [
        f"{tmp_path}/a.csv: not a regular file; it is renamed to a.csv.2"
    ]
    set_aside(tmp_path / "missing")


def test_set_aside_overwrites_nothing(tmp_path):
    (tmp_path / "a.csv").mkdir()
    (tmp_path / "a.csv.1").symlink_to("missing")
    set_aside(tmp_path / "a.csv")
    assert (tmp_path / "a.csv.1").is_symlink()
    assert (tmp_path / "a.csv.2").is_dir()


def test_only_partial_files_of_ended_processes_are_removed(tmp_path):
    """A partial directory is removed, too: ``gan-sample`` writes a directory of images."""
    with atomic_write(tmp_path / "mine", sync=False) as file:
        file.write(b"1")
    running = os.getppid()
    removed = [f".file.{ENDED}.part", f".folder.{ENDED}.part", f".link.{ENDED}.part"]
    remaining = [f".file.{running}.part", f".folder.{running}.part", ".user.part", f"file.{ENDED}.part", "mine"]
    for name in (removed[0], remaining[0], remaining[2], remaining[3]):
        (tmp_path / name).touch()
    for name in (removed[1], remaining[1]):
        (tmp_path / name).mkdir()
        (tmp_path / name / "000000.png").touch()
    (tmp_path / removed[2]).symlink_to(tmp_path / remaining[1])
    remove_parts(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(remaining)
    assert (tmp_path / remaining[1] / "000000.png").exists()
    remove_parts(tmp_path / "missing")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no FIFOs")
def test_pipe_or_device_in_place_of_file_is_set_aside(tmp_path):
    """Reading it would block forever, or never end."""
    os.mkfifo(tmp_path / "a.csv")
    (tmp_path / "b.csv").symlink_to("/dev/zero")
    for name in ("a.csv", "b.csv"):
        set_aside(tmp_path / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv.1", "b.csv.1"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot flush directories")
def test_missing_fsync_of_directories_is_warned_about_once(tmp_path, monkeypatch, caplog):
    original = os.fsync

    def fsync(descriptor):
        if os.path.isdir(f"/dev/fd/{descriptor}"):  # noqa: PTH112
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        original(descriptor)

    monkeypatch.setattr("os.fsync", fsync)
    monkeypatch.setattr(files, "without_fsync", set())
    for content in ("old", "new"):
        with atomic_write(tmp_path / "a.txt", "w") as file:
            file.write(content)
    assert (tmp_path / "a.txt").read_text() == "new"
    assert [record.message for record in caplog.records] == [
        f"{tmp_path}: the file system cannot flush directories (Invalid argument); after a power cut the latest files "
        "may be missing"
    ]


def test_rename_over_open_file_is_retried_on_windows(tmp_path, monkeypatch):
    attempts, original = [], Path.replace

    def fail_twice(self, target):
        attempts.append(target)
        if len(attempts) < 3:
            raise PermissionError(errno.EACCES, "another process holds it open")
        return original(self, target)

    monkeypatch.setattr(Path, "replace", fail_twice)
    monkeypatch.setattr(files, "RETRY_S", 0)
    monkeypatch.setattr(files, "WINDOWS", True)
    with atomic_write(tmp_path / "a.txt", "w") as file:
        file.write("new")
    assert len(attempts) == 3
    assert (tmp_path / "a.txt").read_text() == "new"


@pytest.mark.parametrize("kind", ["pipe", "folder", "link outside", "device", "too large", "missing", "linked folder"])
def test_read_regular_reads_only_regular_files_in_directory(tmp_path, kind):
    run, outside_directory = tmp_path / "run", tmp_path / "outside"
    run.mkdir()
    outside_directory.mkdir()
    (outside_directory / "secret").write_text("secret")
    path = run / "a"
    if kind == "pipe":
        if not hasattr(os, "mkfifo"):
            pytest.skip("Windows has no named pipes in directories")
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "link outside":
        path.symlink_to(outside_directory / "secret")
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "too large":
        with path.open("wb") as file:
            file.truncate(10**10)
    elif kind == "linked folder":
        (run / "below").symlink_to(outside_directory)
        path = run / "below" / "secret"
    with pytest.raises(OSError, match=re.escape(str(path))):
        read_regular(path, run, 100)


def test_read_regular_reads_files_and_links_in_directory(tmp_path):
    (tmp_path / "a").write_bytes(b"x" * 100)
    (tmp_path / "b").symlink_to("a")
    assert read_regular(tmp_path / "a", tmp_path, 100) == read_regular(tmp_path / "b", tmp_path, 100) == b"x" * 100


@pytest.mark.parametrize("content", [b"[" * 200_000, b"", b"{", b"\xff", b"9" * 5000])
def test_invalid_json_is_value_error(tmp_path, content):
    """The JSON parser raises RecursionError for deep nesting."""
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"nested|line|decode|digits"):
        read_json(tmp_path / "a.json", tmp_path, 1 << 20)
    (tmp_path / "a.json").write_bytes(b'{"a": [1]}')
    assert read_json(tmp_path / "a.json", tmp_path, 1 << 20) == {"a": [1]}
    with pytest.raises(OSError, match="larger than"):
        read_json(tmp_path / "a.json", tmp_path, 3)


def test_home_and_relative_paths_are_absolute(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert absolute("~/job") == absolute("job") == tmp_path / "job"


def test_unknown_home_directory_is_error(monkeypatch):
    monkeypatch.setattr("os.path.expanduser", lambda path: path)  # its behaviour without a passwd entry
    with pytest.raises(UserError, match=r"^~/job: the home directory is unknown; set HOME"):
        absolute("~/job")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot flush directories")
def test_directory_that_cannot_be_opened_logs_one_warning(tmp_path, monkeypatch, caplog):
    def fail(path, flags):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr("os.open", fail)
    monkeypatch.setattr(files, "without_fsync", set())
    for _ in range(2):
        files.sync_directory(tmp_path)
    assert [record.message for record in caplog.records] == [
        f"{tmp_path}: the file system cannot flush directories (Permission denied); after a power cut the latest files "
        "may be missing"
    ]


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOSYS, errno.ENOTSUP])
def test_file_system_without_fsync_logs_one_warning(tmp_path, monkeypatch, caplog, code):
    def fail(descriptor):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("os.fsync", fail)
    monkeypatch.setattr(files, "without_fsync", set())
    for content in ("old", "new"):
        with atomic_write(tmp_path / "a.txt", "w") as file:
            file.write(content)
    assert (tmp_path / "a.txt").read_text() == "new"
    (record,) = caplog.records
    assert record.message.startswith(f"{tmp_path}: the file system cannot flush files ({os.strerror(code)})")


def test_io_error_of_fsync_is_raised(tmp_path, monkeypatch):
    def fail(descriptor):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match=os.strerror(errno.EIO)) as caught, atomic_write(tmp_path / "a.txt") as file:
        file.write(b"new")
    assert caught.value.filename == str(tmp_path / "a.txt")
    assert [*tmp_path.iterdir()] == []


def test_error_of_rename_names_target(tmp_path):
    part, path = tmp_path / ".a.part", tmp_path / "a"
    part.touch()
    (path / "full").mkdir(parents=True)
    with pytest.raises(OSError, match=r".") as caught:
        files.replace(part, path)
    assert caught.value.filename == str(path)
