"""Files that appear whole or not at all."""

import errno
import os
import sys
from pathlib import Path

import pytest

from gan_lightning import files
from gan_lightning.errors import UserError
from gan_lightning.files import by_age, read_regular, whole
from gan_lightning.paths import absolute


def test_a_file_appears_when_it_is_complete(tmp_path):
    path = tmp_path / "new" / "folder" / "a.bin"
    with whole(path) as file:
        file.write(b"half")
        file.flush()
        assert not path.exists()
        file.write(b" and half")
    assert path.read_bytes() == b"half and half"
    assert [*path.parent.iterdir()] == [path]


@pytest.mark.parametrize("fault", [ValueError, KeyboardInterrupt, SystemExit])
def test_the_old_file_stays_when_writing_fails(tmp_path, fault):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(fault), whole(path, "w") as file:  # noqa: PT012
        file.write("new")
        file.flush()
        raise fault
    assert path.read_text() == "old"
    assert [*tmp_path.iterdir()] == [path], "the part is left behind"


def test_the_new_file_replaces_the_old(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old and long")
    with whole(path, "w") as file:
        file.write("new")
        assert path.read_text() == "old and long"
    assert path.read_text() == "new"


def test_an_error_names_the_file_that_was_asked_for(tmp_path, monkeypatch):
    def refuse(self, *_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(self))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(OSError, match=r"/a\.txt'"), whole(tmp_path / "a.txt", "w"):
        pass


def test_by_age_goes_by_time_then_name(tmp_path):
    for name, seconds in {"c": 1, "a": 3, "b": 2, "d": 2}.items():
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (seconds, seconds))
    assert [path.name for path in by_age(tmp_path.iterdir())] == ["c", "b", "d", "a"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot flush directories")
def test_a_file_system_without_fsync_on_directories_is_warned_about_once(tmp_path, monkeypatch, caplog):
    real = os.fsync

    def fsync(descriptor):
        if os.path.isdir(f"/dev/fd/{descriptor}"):  # noqa: PTH112
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        real(descriptor)

    monkeypatch.setattr("os.fsync", fsync)
    monkeypatch.setattr(files, "without_fsync", set())
    for content in ("old", "new"):
        with whole(tmp_path / "a.txt", "w") as file:
            file.write(content)
    assert (tmp_path / "a.txt").read_text() == "new"
    assert [record.message for record in caplog.records] == [
        f"{tmp_path}: the file system cannot flush directories (Invalid argument); after a power cut the latest files "
        "may be missing"
    ]


def test_a_rename_over_an_open_file_is_retried_on_windows(tmp_path, monkeypatch):
    attempts, real = [], Path.replace

    def refused_twice(self, target):
        attempts.append(target)
        if len(attempts) < 3:
            raise PermissionError(errno.EACCES, "another process holds it open")
        return real(self, target)

    monkeypatch.setattr(Path, "replace", refused_twice)
    monkeypatch.setattr(files, "RETRY_S", 0)
    monkeypatch.setattr(files, "WINDOWS", True)
    with whole(tmp_path / "a.txt", "w") as file:
        file.write("new")
    assert len(attempts) == 3
    assert (tmp_path / "a.txt").read_text() == "new"


@pytest.mark.parametrize("kind", ["pipe", "folder", "link outside", "device", "too large", "missing", "linked folder"])
def test_only_regular_files_inside_the_directory_are_read(tmp_path, kind):
    run, outside = tmp_path / "run", tmp_path / "outside"
    run.mkdir()
    outside.mkdir()
    (outside / "secret").write_text("secret")
    path = run / "a"
    if kind == "pipe":
        if not hasattr(os, "mkfifo"):
            pytest.skip("Windows has no named pipes in directories")
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "link outside":
        path.symlink_to(outside / "secret")
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "too large":
        with path.open("wb") as file:
            file.truncate(10**10)
    elif kind == "linked folder":
        (run / "below").symlink_to(outside)
        path = run / "below" / "secret"
    with pytest.raises(OSError, match=r"a|secret"):
        read_regular(path, run, 100)


def test_regular_files_and_links_within_the_directory_are_read(tmp_path):
    (tmp_path / "a").write_bytes(b"x" * 100)
    (tmp_path / "b").symlink_to("a")
    assert read_regular(tmp_path / "a", tmp_path, 100) == read_regular(tmp_path / "b", tmp_path, 100) == b"x" * 100


def test_paths_of_users_are_expanded_and_absolute(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert absolute("~/job") == absolute("job") == tmp_path / "job"


def test_a_home_directory_that_is_unknown_is_an_error_in_one_line(monkeypatch):
    monkeypatch.setattr("pathlib.Path.expanduser", lambda self: (_ for _ in ()).throw(RuntimeError("no home")))
    with pytest.raises(UserError, match=r"^~/job: the home directory is unknown; set HOME"):
        absolute("~/job")
