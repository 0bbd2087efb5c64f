"""Streaming of litdata chunks: order, resuming, invalid samples and the disk limit of the local cache."""

import io
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from same_run import assert_equal
from sample_images import pack, sample

from gan_lightning.data.stream import Chunks, Stream, StreamLoader
from gan_lightning.errors import UserError
from gan_lightning.run.checkpoint import read

NUM = 60


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return pack(tmp_path_factory.mktemp("stream"), map(sample, range(NUM)))


def loader(root, minibatch=8, d_steps=1, start=0, stop=30, window=2, **kwargs) -> StreamLoader:
    steps = {"minibatch": minibatch, "d_steps": d_steps, "start": start, "stop": stop, "seed": 1} | kwargs
    return StreamLoader(Chunks(root, None, 1), 3, window, (8, 8), 3, **steps)


def numbers(batch) -> list[int]:
    """Return the sample numbers of a batch, after checking its labels."""
    images, labels = batch
    found = images[:, 0, 0, 0].div(4, rounding_mode="floor").tolist()
    assert labels.tolist() == [i % 3 for i in found]
    return found


def test_epoch_has_every_sample_once_in_own_order(root):
    numbers_read = [i for batch in loader(root, stop=45, minibatch=4) for i in numbers(batch)]
    epochs = numbers_read[:NUM], numbers_read[NUM : 2 * NUM], numbers_read[2 * NUM :]
    assert all(sorted(epoch) == list(range(NUM)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert epochs[0] != sorted(epochs[0])


def test_samples_of_shuffle_window_are_mixed(root):
    chunks = [i // 7 for i in [i for batch in loader(root, stop=15, minibatch=4) for i in numbers(batch)]]
    assert len(set(chunks[:14])) == 2
    assert chunks[:14] != sorted(chunks[:14])
    assert chunks[:14] != sorted(chunks[:14], reverse=True)


def test_order_depends_only_on_seed_and_position(root):
    complete = [numbers(batch) for batch in loader(root, d_steps=2)]
    assert [numbers(batch) for batch in loader(root, d_steps=2, start=11)] == complete[11:]
    assert [numbers(batch) for batch in loader(root, d_steps=2, seed=2)] != complete
    for world_size in (2, 4):
        ranks = [
            [torch.tensor(numbers(b)).view(2, -1) for b in loader(root, d_steps=2, rank=rank, world_size=world_size)]
            for rank in range(world_size)
        ]
        assert [torch.cat(parts, 1).flatten().tolist() for parts in zip(*ranks, strict=True)] == complete


def test_at_most_two_chunks_are_loaded(root):
    steps = loader(root, minibatch=4)
    num_loaded = [len(steps.loaded) for _ in steps]
    assert max(num_loaded) == 2


def test_resumed_run_with_stream_is_bit_identical(run, root, tmp_path):
    overrides = "model=cgan", "data=stream", f"data.root={root}", "data.num_classes=3", "data.image_size=16"
    overrides = (
        *overrides,
        "data.shuffle_window=2",
        "network.width=4",
        "data.batch_size=8",
        "data.flip=true",
        "data.limit=null",
    )
    run(tmp_path / "whole", *overrides, "trainer.max_steps=9")
    run(tmp_path / "cut", *overrides, "trainer.max_steps=4")
    last = tmp_path / "cut" / "checkpoints" / "last.ckpt"
    run(tmp_path / "cut", *overrides, "trainer.max_steps=9", ckpt_path=last)
    complete = read(tmp_path / "whole" / "checkpoints" / "last.ckpt")
    assert_equal(complete["state_dict"], read(last)["state_dict"])


def test_first_samples_are_reference_and_none_is_held_out(root):
    data = Stream(root, 8, num_classes=3, reference_size=20, batch_size=8, seed=0)
    data.setup()
    assert data.samples.shape == (20, 3, 8, 8)
    assert data.labels.tolist() == [i % 3 for i in range(20)]
    assert data.class_names == ["0", "1", "2"]
    with pytest.raises(UserError, match="held out"):
        data.held_out()


class Trap:
    """Fails the test when it is unpickled."""

    def __reduce__(self):
        return pytest.fail, ("unpickled",)


@pytest.mark.parametrize(
    ("samples", "kwargs", "expected"),
    [
        ([{"image": b"no image", "label": 0}] * 9, {}, "9 of 9 images of the stream cannot be read"),
        ([{"image": sample(0)["image"]}] * 9, {"num_classes": 3}, "have no labels"),
        ([{"image": sample(0)["image"], "label": 5}] * 9, {"num_classes": 3}, "the labels run from 5 to 5"),
        ([{"image": sample(0)["image"], "label": -1}] * 9, {"num_classes": 3}, "the labels run from -1 to -1"),
        ([{"photo": sample(0)["image"]}] * 9, {}, "should be dictionaries of 'image'"),
        ([{"image": Trap()}] * 9, {}, "should be dictionaries of 'image'"),
        ([sample(0)] * 9, {"limit": 3}, "data.limit: has no effect"),
    ],
)
def test_invalid_stream_is_rejected(tmp_path, samples, kwargs, expected):
    data = Stream(pack(tmp_path, samples), 8, batch_size=8, seed=0, **kwargs)
    with pytest.raises(UserError, match=expected):
        data.setup()


def test_false_index_does_not_unpickle_samples(tmp_path):
    root = pack(tmp_path, [{"image": Trap()}] * 9)
    index = json.loads((tmp_path / "index.json").read_text())
    index["config"]["types"] = {"image": "bytes"}
    (tmp_path / "index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match="should be dictionaries of 'image'"):
        Chunks(root, None, 1)


@pytest.mark.parametrize("content", [None, "{", "{}", "[]"])
def test_missing_or_invalid_index_is_error(tmp_path, content):
    if content is not None:
        (tmp_path / "index.json").write_text(content)
    with pytest.raises(UserError, match=r"data\.root=.*litdata cannot read it"):
        Chunks(str(tmp_path), None, 1)


def test_missing_litdata_error_names_extra(monkeypatch, root):
    monkeypatch.setitem(__import__("sys").modules, "litdata", None)
    with pytest.raises(UserError, match=r"pip install 'gan-lightning\[stream\]'"):
        Chunks(root, None, 1)


def test_decoded_images_equal_packed_images(root):
    images, _ = next(iter(loader(root)))
    assert images.dtype == torch.uint8
    assert np.array_equal(images[:, 1:].numpy(), np.zeros((8, 2, 8, 8)))


def test_label_out_of_range_in_later_chunk_is_error(tmp_path):
    root = pack(tmp_path, [sample(0)] * 20 + [sample(0) | {"label": 7}])
    with pytest.raises(UserError, match=r"data\.num_classes=3: the labels run from 0 to 7"):
        list(loader(root, stop=3))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # litdata leaves files open
def test_remote_chunks_are_fetched_and_disk_use_is_bounded(root, tmp_path):
    """``local:`` is litdata's stand-in for remote storage."""
    size = sum(path.stat().st_size for path in Path(root).glob("*.bin")) / 9
    chunks = Chunks(f"local:{root}", tmp_path / "cache", 3.5 * size / 1e9)
    assert chunks.labelled
    order = [4, 0, 8, 2, 5, 1, 7, 3, 6, 0, 4]
    peak = 0
    for chunk in order:
        assert [label for _, label in chunks.read(chunk)] == [i % 3 for i in range(NUM)][7 * chunk : 7 * chunk + 7]
        cached = list((tmp_path / "cache").rglob("*.bin"))
        assert cached, "no chunk is cached"
        peak = max(peak, len(cached))
    assert peak <= 5


def test_16_bit_images_of_stream_share_one_scale(tmp_path, caplog):
    """The reference samples determine the scale of all later samples."""
    samples = []
    for i in range(20):
        file = io.BytesIO()
        Image.fromarray(np.full((8, 8), 4000 - 100 * i, np.uint16)).save(file, "png")
        samples.append({"image": file.getvalue()})
    data = Stream(pack(tmp_path, samples), 8, channels=1, reference_size=5, batch_size=4, seed=0)
    data.setup()
    assert data.samples.flatten(1)[:, 0].tolist() == [round(255 * (4000 - 100 * i) / 4095) for i in range(5)]
    assert f"data.root={tmp_path}: 5 images in a format of 16 or 32 bits a pixel use 12 of them" in caplog.text
    module = SimpleNamespace(d_steps=1)
    data.trainer = SimpleNamespace(global_step=0, max_steps=5, global_rank=0, world_size=1, lightning_module=module)
    levels = {int(image.max()) for batch, _ in data.train_dataloader() for image in batch}
    assert levels == {round(255 * (4000 - 100 * i) / 4095) for i in range(20)}
