"""Files that appear whole or not at all."""

import errno
import os
from pathlib import Path

import pytest

from gan_lightning.files import by_age, whole


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
    def refuse(self, *_):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(self))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(OSError, match=r"/a\.txt'"), whole(tmp_path / "a.txt", "w"):
        pass


def test_by_age_goes_by_time_then_name(tmp_path):
    for name, seconds in {"c": 1, "a": 3, "b": 2, "d": 2}.items():
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (seconds, seconds))
    assert [path.name for path in by_age(tmp_path.iterdir())] == ["c", "b", "d", "a"]
