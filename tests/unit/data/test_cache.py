"""Cache of decoded images: what invalidates it, and damaged, missing or unwritable cache files."""

import json
import os
import re
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sample_images import noise

from gan_lightning.data import cache as caches
from gan_lightning.data.cache import Cache
from gan_lightning.data.datamodule import StepBatchLoader
from gan_lightning.data.decode import decode
from gan_lightning.data.image_folder import ImageFolder
from gan_lightning.data.pages import MappedFile
from gan_lightning.errors import UserError
from gan_lightning.evaluation.evaluator import Evaluator
from gan_lightning.feature.classifier import Classifier
from gan_lightning.feature.custom import CustomModule
from gan_lightning.io.cache import TensorCache
from gan_lightning.latent.nearest import Nearest
from gan_lightning.metric.fid import FID

SMAPS = Path("/proc/self/smaps")
MAPPED = 1e-9  # GB, so that everything is too large for memory


@pytest.fixture
def paths(tmp_path):
    return noise(tmp_path / "photos")


def count_decoded(monkeypatch) -> list[int]:
    """Return a list to which every later decoding appends its number of files."""
    decoded, decode_to = [], caches.decode_to

    def counting(take, files, *rest):
        decoded.append(len(files))
        return decode_to(take, files, *rest)

    monkeypatch.setattr(caches, "decode_to", counting)
    return decoded


@pytest.mark.parametrize("memory_gb", [1, MAPPED])
def test_cached_images_equal_decoded_images(paths, tmp_path, monkeypatch, memory_gb):
    decoded, expected = count_decoded(monkeypatch), decode(paths, (16, 12), 3)
    for _ in range(3):
        found = Cache(tmp_path / "cache", memory_gb).get(paths, (16, 12), 3)
        assert torch.equal(found.images, expected.images)
        assert (found.rows, found.broken) == (expected.rows, expected.broken)
        assert (found.sizes, found.modes) == (expected.sizes, expected.modes)
        assert (found.pages is None) == (memory_gb == 1)
    assert decoded == [len(paths)]


def test_cache_key_covers_files_size_channels_and_pillow_version(paths, tmp_path, monkeypatch):
    decoded = count_decoded(monkeypatch)

    def get(files=paths, size=(16, 12), channels=3):
        return Cache(tmp_path / "cache", 1).get(files, size, channels).images

    get()
    get(size=(12, 16))
    get(channels=1)
    get(files=paths[:-2])
    paths[0].touch()
    get()
    before = paths[1].stat()
    Image.new("RGB", (20, 24), "red").save(paths[1])
    os.utime(paths[1], ns=(before.st_atime_ns, before.st_mtime_ns))  # same modification time, different size
    assert (get()[1] == torch.tensor([255, 0, 0]).view(3, 1, 1)).all()
    paths[1].rename(paths[1].with_name("zz.png"))
    get(files=sorted(paths[0].parent.iterdir()))
    monkeypatch.setattr("PIL.__version__", "99.0")
    get(files=sorted(paths[0].parent.iterdir()))
    assert len(decoded) == 8
    get(files=sorted(paths[0].parent.iterdir()))
    assert len(decoded) == 8


def test_damaged_list_of_generated_images_is_rebuilt(paths, tmp_path):
    cache = Cache(tmp_path / "cache", 1)
    assert cache.generated(paths) == []
    (found,) = (tmp_path / "cache").glob("generated-*.json")
    for content in ("[" * 200_000, "[99]", "{", "1"):
        found.write_text(content)
        assert cache.generated(paths) == []
        assert found.read_text() == "[]"


DAMAGES = "cut", "longer", "one bit", "no description", "half a description", "wrong description", "nested"


@pytest.mark.parametrize(
    ("how", "memory_gb"),
    [(how, memory_gb) for how in DAMAGES for memory_gb in (1, MAPPED) if (how, memory_gb) != ("one bit", MAPPED)],
)
def test_damaged_cache_file_is_rebuilt(paths, tmp_path, caplog, monkeypatch, how, memory_gb):
    expected = Cache(tmp_path / "cache", 1).get(paths, (16, 12), 3).images
    (pixels,), (description,) = ((tmp_path / "cache").glob(f"*.{suffix}") for suffix in ("uint8", "json"))
    if how == "no description":
        description.unlink()
    elif how == "half a description":
        description.write_text(description.read_text()[:30])
    elif how == "nested":
        description.write_text("[" * 200_000)
    elif how == "wrong description":
        description.write_text(json.dumps(json.loads(description.read_text()) | {"broken": {"x": "y"}}))
    else:
        content = pixels.read_bytes()
        pixels.write_bytes(
            {"cut": content[:-1], "longer": content + b"1", "one bit": bytes([content[0] ^ 1]) + content[1:]}[how]
        )
    decoded = count_decoded(monkeypatch)
    found = Cache(tmp_path / "cache", memory_gb).get(paths, (16, 12), 3)
    assert torch.equal(found.images, expected)
    assert decoded == [len(paths)]
    assert ("damaged" in caplog.text) == (how != "no description")


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), OSError(5, "Input/output error")])
def test_image_with_transient_read_error_is_decoded_later(paths, tmp_path, monkeypatch, error):
    expected, decoded, opened = decode(paths, (16, 12), 3), count_decoded(monkeypatch), Image.open

    def fail_to_open(path, *args, **kwargs):
        if path == paths[3]:
            raise error
        return opened(path, *args, **kwargs)

    monkeypatch.setattr(Image, "open", fail_to_open)
    for _ in range(2):
        found = Cache(tmp_path / "cache", 1).get(paths, (16, 12), 3)
        assert found.broken[3] == error.strerror
        assert len(found.images) == len(expected.images) - 1
    assert decoded == [len(paths)]
    monkeypatch.setattr(Image, "open", opened)
    for _ in range(2):
        found = Cache(tmp_path / "cache", 1).get(paths, (16, 12), 3)
        assert torch.equal(found.images, expected.images)
        assert (found.rows, found.broken) == (expected.rows, expected.broken)
    assert decoded == [len(paths)] * 2


def test_concurrent_runs_decode_once(paths, tmp_path, monkeypatch):
    decoded = count_decoded(monkeypatch)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: Cache(tmp_path / "cache", 1).get(paths, (64, 64), 3).images, range(4)))
    assert all(torch.equal(images, found[0]) for images in found)
    assert decoded == [len(paths)]


@pytest.mark.parametrize("memory_gb", [1, MAPPED])
@pytest.mark.parametrize("why", ["it is a file", "the disk is full", "it is too small"])
def test_unwritable_cache_is_reported(paths, tmp_path, caplog, monkeypatch, memory_gb, why):
    folder = tmp_path / "cache"
    if why == "it is a file":
        folder.write_text("")
    elif why == "the disk is full":
        monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    else:
        monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    messages = {"it is a file": "File exists", "the disk is full": "No space left", "it is too small": "0 MB are free"}
    if memory_gb == 1:
        assert len(Cache(folder, memory_gb).get(paths, (16, 12), 3).images) == 40
    else:
        with pytest.raises(UserError, match=r"data.memory_gb=1e-09: 42 images .*; set data.cache=FOLDER"):
            Cache(folder, memory_gb).get(paths, (16, 12), 3)
    assert messages[why] in caplog.text
    assert not folder.is_dir() or {path.suffix for path in folder.iterdir()} <= {".lock"}


def test_memory_limit_applies_without_cache(paths):
    assert len(Cache(None, 1).get(paths, (16, 12), 3).images) == 40
    with pytest.raises(UserError, match=r"data.memory_gb=1e-09: 42 images"):
        Cache(None, MAPPED).get(paths, (16, 12), 3)


def test_batches_from_memory_and_mapped_file_are_equal(paths, tmp_path, monkeypatch):
    batches = []
    for memory_gb in (1, MAPPED):
        cache = {"cache": tmp_path / "cache", "memory_gb": memory_gb}
        data = ImageFolder(paths[0].parent, 32, skip_broken=True, batch_size=8, seed=3, **cache)
        data.setup()
        loader = StepBatchLoader(data.samples, data.labels, 8, 2, seed=3, start=5, stop=20, pages=data.pages)
        batches.append([samples for samples, _ in loader])
    assert data.pages is not None
    assert all(torch.equal(a, b) for a, b in zip(*batches, strict=True))


@pytest.fixture
def damaged(paths, tmp_path) -> tuple[ImageFolder, Path]:
    """A mapped data set with one flipped bit in the last image of its cache file."""
    cache = {"cache": tmp_path / "cache", "memory_gb": MAPPED}
    ImageFolder(paths[0].parent, 16, skip_broken=True, **cache).setup()
    (file,) = (tmp_path / "cache").glob("*.uint8")
    content = bytearray(file.read_bytes())
    content[-5] ^= 16
    file.write_bytes(content)
    data = ImageFolder(paths[0].parent, 16, skip_broken=True, **cache)
    data.setup()
    assert data.pages is not None
    return data, file


def test_flipped_bit_in_mapped_file_stops_loader_before_use(damaged, paths, tmp_path):
    data, file = damaged
    loader = StepBatchLoader(data.samples, data.labels, 4, seed=3, stop=10, pages=data.pages)
    rows_read = []
    with pytest.raises(
        UserError, match=rf"{re.escape(str(file))}: image 39 differs from what was written.*start again"
    ):
        rows_read.extend(loader.rows(step) for step, _ in enumerate(loader))
    assert rows_read
    assert 39 not in torch.cat(rows_read).tolist()
    again = ImageFolder(paths[0].parent, 16, skip_broken=True, cache=tmp_path / "cache", memory_gb=MAPPED)
    again.setup()
    assert torch.equal(again.samples, decode(paths, (16, 16), 3).images)
    assert len(list(StepBatchLoader(again.samples, again.labels, 4, seed=3, stop=30, pages=again.pages))) == 30


def test_mapped_file_is_verified_before_copy_to_gpu(damaged, monkeypatch):
    data, _ = damaged
    monkeypatch.setattr(data, "steps", lambda: {"minibatch": 4})
    monkeypatch.setattr(data, "gather_device", lambda: torch.device("meta"))
    with pytest.raises(UserError, match="image 39 differs"):
        data.train_dataloader()


@pytest.mark.parametrize("num_real", [None, 39, 10])
def test_flipped_bit_is_detected_by_evaluator(damaged, tmp_path, num_real):
    """Only the real images that are compared are read."""
    data, _ = damaged
    feature = CustomModule(torch.nn.Flatten())
    evaluation = Evaluator(feature, {"fid": FID()}, num_generated=40, num_real=num_real, seed=4, cache=str(tmp_path))
    rows = evaluation.subset(num_real, torch.arange(40))[0]
    with pytest.raises(UserError, match="image 39 differs") if 39 in rows else nullcontext():
        evaluation.setup(data, conditional=False)
    assert (39 in rows) == (num_real != 10)


def test_flipped_bit_is_detected_by_classifier_and_nearest(damaged, tmp_path):
    data, _ = damaged
    data.class_names = ["odd", "even"]
    data.labels = torch.arange(40) % 2
    with pytest.raises(UserError, match="image 39 differs"):
        Classifier(width=4, dim=8).setup(data, TensorCache(tmp_path / "scores"), torch.device("cpu"))
    with pytest.raises(UserError, match="image 39 differs"):
        Nearest().load_data(data, TensorCache(tmp_path / "scores"))


def test_held_out_images_are_verified(paths, tmp_path):
    def held_out() -> torch.Tensor:
        cache = {"cache": tmp_path / "cache", "memory_gb": MAPPED}
        data = ImageFolder(paths[0].parent, 16, limit=20, skip_broken=True, **cache)
        data.setup()
        return data.held_out()[0]

    assert len(held_out()) == 21
    (file,) = (file for file in (tmp_path / "cache").glob("*.uint8") if file.stat().st_size == 21 * 3 * 16 * 16)
    content = bytearray(file.read_bytes())
    content[-5] ^= 16
    file.write_bytes(content)
    with pytest.raises(UserError, match="image 20 differs"):
        held_out()


def test_damaged_file_in_read_only_cache_is_named_in_error(damaged, monkeypatch):
    data, file = damaged

    def read_only(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "unlink", read_only)
    expected = re.escape(f"remove {file.with_suffix('.json')}, or set data.cache=FOLDER, and start again")
    with pytest.raises(UserError, match=f"image 39 differs.*{expected}"):
        data.real(40)


def test_flipped_bit_is_detected_in_real_images(damaged):
    data, _ = damaged
    data.real(39)
    with pytest.raises(UserError, match="image 39 differs"):
        data.real(40)


def test_image_is_verified_once(damaged, monkeypatch):
    data, _ = damaged
    lengths, crc32 = [], zlib.crc32
    monkeypatch.setattr("zlib.crc32", lambda content: lengths.append(len(content)) or crc32(content))
    rows = torch.arange(39)
    for _ in range(3):
        data.pages.verify(rows)
    assert lengths == [3 * 16 * 16] * 39


def resident() -> int:
    """Return the resident bytes of the mapped file."""
    mapping = SMAPS.read_text().partition(".uint8\n")[2]
    return 1024 * int(mapping.partition("Rss:")[2].split()[0])


@pytest.mark.skipif(not SMAPS.exists(), reason="needs /proc/self/smaps of Linux")
def test_resident_memory_of_mapped_file_is_bounded(tmp_path):
    """60 MB of images are read several times with a limit of 20 MB."""
    path = tmp_path / "images.uint8"
    path.write_bytes(bytes(5000 * 12288))
    pages = MappedFile(path, 12288, 2e7, np.full(5000, zlib.crc32(bytes(12288)), np.uint32))
    samples = pages.data.view(5000, 3, 64, 64)
    peak = 0
    for step, _ in enumerate(StepBatchLoader(samples, torch.zeros(5000), 64, stop=400, pages=pages)):
        if step % 8 == 7:  # 20 MB are read in about 18 steps
            peak = max(peak, resident())
    assert 1e6 < peak < 2.2e7
