"""Archives that are rejected: hostile members, bombs, damaged and encrypted archives; a single folder is left out."""

import io
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest
import torch
from image_containers import files_of, photos, write_tar, write_zip
from PIL import Image

from gan_lightning.data import archive, container
from gan_lightning.data.archive import Tar, Zip
from gan_lightning.data.image_folder import ImageFolder
from gan_lightning.data.layout import LeftOut
from gan_lightning.errors import UserError

OPENERS = {"zip": (write_zip, Zip), "tar": (write_tar, Tar)}


@pytest.fixture
def png() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(file, "png")
    return file.getvalue()


@pytest.mark.parametrize("kind", OPENERS)
@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("/etc/a.png", "has an absolute path"),
        ("C:/a.png", "has an absolute path"),
        ("C:\\a.png", "has an absolute path"),
        ("\\a.png", "has an absolute path"),
        ("../a.png", "has a path with '..'"),
        ("cats/../../a.png", "has a path with '..'"),
        ("cats\\..\\a.png", "has a path with '..'"),
        ("more.zip", "is an archive itself"),
        ("cats/more.tar.GZ", "is an archive itself"),
        ("rows.parquet", "is an archive itself"),
        ("good.png", "occurs twice"),
        ("./good.png", "occurs twice"),
    ],
)
def test_archive_with_hostile_member_is_rejected(tmp_path, png, kind, name, problem):
    write, open_archive = OPENERS[kind]
    with pytest.warns(UserWarning, match="Duplicate name") if (kind, name) == ("zip", "good.png") else no_warning():
        path = write(tmp_path / "a", [("good.png", png), (name, png)])
    with pytest.raises(UserError) as caught:
        open_archive(path)
    assert str(caught.value).startswith(f"data.root={str(path)!r}: {name!r} in it {problem}; nothing is read from such")
    assert sorted(tmp_path.iterdir()) == [path]


def no_warning():
    import contextlib

    return contextlib.nullcontext()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_tar_with_link_or_device_is_rejected(tmp_path, png, kind):
    path = write_tar(tmp_path / "a.tar", [("good.png", png)])
    with tarfile.open(path, "a") as file:
        member = tarfile.TarInfo("evil.png")
        member.type, member.linkname = kind, "/etc/passwd"
        file.addfile(member)
    with pytest.raises(UserError, match=r"'evil\.png' in it is a link, a device or a sparse file; nothing is read"):
        Tar(path)


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO])
def test_zip_with_link_or_device_is_rejected(tmp_path, png, kind):
    path = write_zip(tmp_path / "a.zip", [("good.png", png)])
    with zipfile.ZipFile(path, "a") as file:
        member = zipfile.ZipInfo("evil.png")
        member.create_system, member.external_attr = 3, (kind | 0o777) << 16
        file.writestr(member, "/etc/passwd")
    with pytest.raises(UserError, match=r"'evil\.png' in it is a link or a device; nothing is read"):
        Zip(path)


def test_encrypted_zip_is_rejected(tmp_path, png):
    path = write_zip(tmp_path / "a.zip", [("a.png", png)])
    content = bytearray(path.read_bytes())
    content[content.rindex(b"PK\1\2") + 8] |= 1  # the flag in the directory
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"'a\.png' in it is encrypted; pack the images without a password"):
        Zip(path)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_zip_with_unbounded_compression_is_rejected(tmp_path, png, method):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", method) as file:
        file.writestr("a.png", png)
    with pytest.raises(UserError, match=r"'a\.png' in it is neither stored nor deflated"):
        Zip(tmp_path / "a.zip")


def test_zip_bomb_is_rejected_before_decompression(tmp_path, monkeypatch):
    monkeypatch.setattr(container, "FREE_BYTES", 1 << 20)
    path = write_zip(tmp_path / "a.zip", [(f"{i}.bmp", bytes(1 << 19)) for i in range(3)])
    monkeypatch.setattr(Zip, "read", lambda *_: pytest.fail("was read"))
    with pytest.raises(UserError, match=r"'2\.bmp' in it exceeds the limit of 1,048,576 decompressed bytes; nothing"):
        Zip(path)


@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz"])
def test_compressed_tar_bomb_is_rejected_at_limit(tmp_path, monkeypatch, mode):
    monkeypatch.setattr(container, "FREE_BYTES", 1 << 21)
    path = write_tar(tmp_path / "a.tar", [("a.bmp", bytes(1 << 23))], mode)
    with pytest.raises(UserError, match=r"a\.tar': is larger than the limit of 2,097,152 decompressed bytes"):
        Tar(path, scratch=tmp_path / "scratch")
    assert [*(tmp_path / "scratch").iterdir()] == []


def test_archive_of_ordinary_ratio_is_read(tmp_path, monkeypatch):
    """The limit is on the ratio for larger archives: 200 times the bytes of the file."""
    monkeypatch.setattr(container, "FREE_BYTES", 1)
    assert len(Zip(write_zip(tmp_path / "a.zip", files_of(photos(tmp_path / "photos")))).members) == 40


@pytest.mark.parametrize("kind", OPENERS)
def test_oversized_image_is_rejected(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(archive, "MAX_IMAGE_BYTES", 1000)
    write, open_archive = OPENERS[kind]
    assert open_archive(write(tmp_path / "a", [("a.bmp", bytes(1000)), ("a.bin", bytes(2000))])).members
    with pytest.raises(UserError, match=r"'a\.bmp' in it has 1,001 bytes, more than the limit of 1,000"):
        open_archive(write(tmp_path / "b", [("a.bmp", bytes(1001))]))


@pytest.mark.parametrize("kind", OPENERS)
def test_archive_of_too_many_files_is_rejected(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(archive, "MAX_MEMBERS", 3)
    write, open_archive = OPENERS[kind]
    assert len(open_archive(write(tmp_path / "a", [(f"{i}.png", b"") for i in range(3)])).members) == 3
    with pytest.raises(UserError, match="has more than 3 files; split it"):
        open_archive(write(tmp_path / "b", [(f"{i}.png", b"") for i in range(4)]))


def test_forged_size_in_zip_does_not_decompress_more(tmp_path, png):
    """The size in the directory is smaller than the content."""
    path = write_zip(tmp_path / "a.zip", [("a.png", png), ("b.png", bytes(10_000_000))])
    content = bytearray(path.read_bytes())
    at = content.rindex(b"PK\1\2")
    content[at + 24 : at + 28] = (100).to_bytes(4, "little")
    path.write_bytes(content)
    found = Zip(path)
    with pytest.raises(OSError, match="Bad CRC-32"):
        found.read(found.members["b.png"].where)
    with pytest.raises(UserError, match=r"1 of 2 images cannot be read: '.*/b\.png' \(Bad CRC-32"):
        ImageFolder(path, 8).setup()


@pytest.mark.parametrize("cut", [0.5, 0.9, "end", "trailer"])
@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_cut_off_tar_is_error(tmp_path, mode, cut):
    """Without the check of the end, the images after it would be missing without notice."""
    path = write_tar(tmp_path / "a.tar", files_of(photos(tmp_path / "photos")), mode)
    content = path.read_bytes()
    with tarfile.open(path) as file:
        at = file.getmembers()[20].offset
    if isinstance(cut, str) and mode == "w:gz":
        pytest.skip("gzip has a checksum at its end")
    if cut == "end":
        content = content[:at]
    elif cut == "trailer":
        content = content[: content.rstrip(b"\0").__len__() // 512 * 512 + 512]
    else:
        content = content[: int(len(content.rstrip(b"\0")) * cut)]
    path.write_bytes(content)
    with pytest.raises(
        UserError, match=r"a\.tar': (cannot be read as a tar archive \(|is damaged or cut off at byte )"
    ):
        Tar(path)


def test_tar_with_damaged_header_is_error(tmp_path):
    path = write_tar(tmp_path / "a.tar", files_of(photos(tmp_path / "photos")))
    with tarfile.open(path) as file:
        at = file.getmembers()[20].offset
    content = bytearray(path.read_bytes())
    content[at + 10] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"is damaged or cut off at byte {at:,}; copy or pack it again"):
        Tar(path)


@pytest.mark.parametrize(
    "content", [b"PK\3\4" + bytes(50), b"PK\5\6" + b"\xff" * 18, b"\x1f\x8b" + bytes(50), b"BZh9xxxx"]
)
def test_damaged_archive_is_error(tmp_path, content):
    path = tmp_path / "a"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"a': cannot be read as a (zip|tar) archive \(.+\)"):
        ImageFolder(path, 8).setup()


def test_archive_is_read_by_several_threads(tmp_path):
    """More images than a task of a thread has."""
    folder = photos(tmp_path / "photos", 300)
    data = ImageFolder(folder, 8)
    data.setup()
    for path in (
        write_zip(tmp_path / "a.zip", files_of(folder)),
        write_tar(tmp_path / "a.tar", files_of(folder)),
        write_tar(tmp_path / "a.tgz", files_of(folder), "w:gz"),
    ):
        found = ImageFolder(path, 8)
        found.setup()
        assert torch.equal(found.samples, data.samples)


def test_nothing_is_written_beside_archive(tmp_path, monkeypatch):
    folder = photos(tmp_path / "photos")
    (tmp_path / "place").mkdir()
    monkeypatch.chdir(tmp_path / "place")
    path = write_zip(tmp_path / "a.zip", files_of(folder))
    ImageFolder(path, 8).setup()
    assert [*Path().iterdir()] == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zip", "photos", "place"]


@pytest.mark.parametrize("kind", OPENERS)
def test_deeply_nested_path_is_rejected(tmp_path, png, kind):
    write, open_archive = OPENERS[kind]
    assert open_archive(write(tmp_path / "a", [("x/" * 90 + "a.png", png), ("b/b.png", png)])).names
    with pytest.raises(UserError, match=r"has paths of more than 100 folders, such as 'x/x/"):
        open_archive(write(tmp_path / "b", [("x/" * 3000 + "a.png", png)]))


@pytest.mark.parametrize("kind", OPENERS)
def test_name_of_many_digits_is_read(tmp_path, png, kind):
    """Python converts only numbers of up to 4,300 digits."""
    write, open_archive = OPENERS[kind]
    path = write(tmp_path / "a", [("9" * 6000 + ".png", png), ("1.png", png)])
    assert [len(image.name) for image in open_archive(path).listing(LeftOut()).images] == [5, 6004]
