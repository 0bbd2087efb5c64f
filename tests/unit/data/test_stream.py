"""Chunks of litdata's: what is dealt out, in which order, and what is refused."""

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


def loader(root, minibatch=8, d_steps=1, start=0, stop=30, window=2, **more) -> StreamLoader:
    steps = {"minibatch": minibatch, "d_steps": d_steps, "start": start, "stop": stop, "seed": 1} | more
    return StreamLoader(Chunks(root, None, 1), 3, window, (8, 8), 3, **steps)


def numbers(batch) -> list[int]:
    """Which samples a batch has, after a look at their labels."""
    pictures, labels = batch
    found = pictures[:, 0, 0, 0].div(4, rounding_mode="floor").tolist()
    assert labels.tolist() == [i % 3 for i in found]
    return found


def test_every_epoch_has_all_once_in_an_order_of_its_own(root):
    dealt = [i for batch in loader(root, stop=45, minibatch=4) for i in numbers(batch)]
    epochs = dealt[:NUM], dealt[NUM : 2 * NUM], dealt[2 * NUM :]
    assert all(sorted(epoch) == list(range(NUM)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert epochs[0] != sorted(epochs[0])


def test_pictures_of_a_window_are_mixed(root):
    chunks = [i // 7 for i in [i for batch in loader(root, stop=15, minibatch=4) for i in numbers(batch)]]
    assert len(set(chunks[:14])) == 2
    assert chunks[:14] != sorted(chunks[:14])
    assert chunks[:14] != sorted(chunks[:14], reverse=True)


def test_the_order_is_a_function_of_seed_and_position(root):
    complete = [numbers(batch) for batch in loader(root, d_steps=2)]
    assert [numbers(batch) for batch in loader(root, d_steps=2, start=11)] == complete[11:]
    assert [numbers(batch) for batch in loader(root, d_steps=2, seed=2)] != complete
    for world_size in (2, 4):
        ranks = [
            [torch.tensor(numbers(b)).view(2, -1) for b in loader(root, d_steps=2, rank=rank, world_size=world_size)]
            for rank in range(world_size)
        ]
        assert [torch.cat(parts, 1).flatten().tolist() for parts in zip(*ranks, strict=True)] == complete


def test_no_more_than_two_windows_are_held(root):
    steps = loader(root, minibatch=4)
    held = [len(steps.loaded) for _ in steps]
    assert max(held) == 2


def test_a_run_goes_on_bit_for_bit(run, root, tmp_path):
    words = "model=cgan", "data=stream", f"data.root={root}", "data.num_classes=3", "data.image_size=16"
    words = (
        *words,
        "data.shuffle_window=2",
        "network.width=4",
        "data.batch_size=8",
        "data.flip=true",
        "data.limit=null",
        "data.limit=null",
    )
    run(tmp_path / "whole", *words, "trainer.max_steps=9")
    run(tmp_path / "cut", *words, "trainer.max_steps=4")
    last = tmp_path / "cut" / "checkpoints" / "last.ckpt"
    run(tmp_path / "cut", *words, "trainer.max_steps=9", ckpt_path=last)
    complete = read(tmp_path / "whole" / "checkpoints" / "last.ckpt")
    assert_equal(complete["state_dict"], read(last)["state_dict"])


def test_the_first_are_held(root):
    data = Stream(root, 8, num_classes=3, reference_size=20, batch_size=8, seed=0)
    data.setup()
    assert data.samples.shape == (20, 3, 8, 8)
    assert data.labels.tolist() == [i % 3 for i in range(20)]
    assert data.class_names == ["0", "1", "2"]
    with pytest.raises(UserError, match="held out"):
        data.held_out()


class Trap:
    """Runs code where it is unpickled."""

    def __reduce__(self):
        return pytest.fail, ("unpickled",)


@pytest.mark.parametrize(
    ("samples", "more", "told"),
    [
        ([{"image": b"no picture", "label": 0}] * 9, {}, "9 of 9 images of the stream cannot be read"),
        ([{"image": sample(0)["image"]}] * 9, {"num_classes": 3}, "have no labels"),
        ([{"image": sample(0)["image"], "label": 5}] * 9, {"num_classes": 3}, "the labels run from 5 to 5"),
        ([{"image": sample(0)["image"], "label": -1}] * 9, {"num_classes": 3}, "the labels run from -1 to -1"),
        ([{"picture": sample(0)["image"]}] * 9, {}, "should be dictionaries of 'image'"),
        ([{"image": Trap()}] * 9, {}, "should be dictionaries of 'image'"),
        ([sample(0)] * 9, {"limit": 3}, "data.limit: has no effect"),
    ],
)
def test_what_is_refused(tmp_path, samples, more, told):
    data = Stream(pack(tmp_path, samples), 8, batch_size=8, seed=0, **more)
    with pytest.raises(UserError, match=told):
        data.setup()


def test_a_description_that_lies_runs_nothing(tmp_path):
    root = pack(tmp_path, [{"image": Trap()}] * 9)
    index = json.loads((tmp_path / "index.json").read_text())
    index["config"]["types"] = {"image": "bytes"}
    (tmp_path / "index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match="should be dictionaries of 'image'"):
        Chunks(root, None, 1)


@pytest.mark.parametrize("content", [None, "{", "{}", "[]"])
def test_a_place_without_an_index_is_told(tmp_path, content):
    if content is not None:
        (tmp_path / "index.json").write_text(content)
    with pytest.raises(UserError, match=r"data\.root=.*litdata cannot read it"):
        Chunks(str(tmp_path), None, 1)


def test_without_litdata_the_extra_is_named(monkeypatch, root):
    monkeypatch.setitem(__import__("sys").modules, "litdata", None)
    with pytest.raises(UserError, match=r"pip install 'gan-lightning\[stream\]'"):
        Chunks(root, None, 1)


def test_pictures_are_those_that_were_packed(root):
    pictures, _ = next(iter(loader(root)))
    assert pictures.dtype == torch.uint8
    assert np.array_equal(pictures[:, 1:].numpy(), np.zeros((8, 2, 8, 8)))


def test_a_label_of_no_class_is_told_wherever_it_is(tmp_path):
    root = pack(tmp_path, [sample(0)] * 20 + [sample(0) | {"label": 7}])
    with pytest.raises(UserError, match=r"data\.num_classes=3: the labels run from 0 to 7"):
        list(loader(root, stop=3))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # litdata leaves files to be closed
def test_what_is_far_away_is_fetched_by_chunks_and_the_disk_has_no_more_than_was_said(root, tmp_path):
    """``local:`` is litdata's stand-in for places that are reached over a network."""
    size = sum(path.stat().st_size for path in Path(root).glob("*.bin")) / 9
    chunks = Chunks(f"local:{root}", tmp_path / "cache", 3.5 * size / 1e9)
    assert chunks.labelled
    order = [4, 0, 8, 2, 5, 1, 7, 3, 6, 0, 4]
    most = 0
    for chunk in order:
        assert [label for _, label in chunks.read(chunk)] == [i % 3 for i in range(NUM)][7 * chunk : 7 * chunk + 7]
        there = list((tmp_path / "cache").rglob("*.bin"))
        assert there, "nothing is kept"
        most = max(most, len(there))
    assert most <= 5


def test_deep_images_of_a_stream_have_one_scale(tmp_path, caplog):
    """Those that are held decide it, and those that are dealt out later have it too."""
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
