"""Order and flips of the batches, and what each data set holds."""

import os
import re
import time
import urllib.error
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from pytorch_lightning import LightningDataModule
from torch.utils.data import DataLoader, TensorDataset

from gan_lightning import seed as seeds
from gan_lightning.data.celeba import CelebA
from gan_lightning.data.cifar10 import CIFAR10
from gan_lightning.data.datamodule import ImageData, InMemoryDataModule, StepBatchLoader
from gan_lightning.data.digits import Digits
from gan_lightning.data.downloaded import find_data_root, misplaced_file_hint
from gan_lightning.data.fashion_mnist import FashionMNIST
from gan_lightning.data.gaussian_grid import GaussianGrid
from gan_lightning.data.gaussian_mixture import GaussianMixture
from gan_lightning.data.gaussian_ring import GaussianRing
from gan_lightning.data.image_folder import ImageFolder
from gan_lightning.data.mnist import MNIST
from gan_lightning.data.stacked_mnist import StackedMNIST
from gan_lightning.data.stream import Stream
from gan_lightning.data.validate import check_samples
from gan_lightning.errors import UserError
from gan_lightning.io import files
from gan_lightning.io.image import from_uint8, resize, to_uint8, with_channels
from gan_lightning.run.fit import train

# --- order ----------------------------------------------------------------------------------------------------------


def numbers(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.arange(n), 1000 + torch.arange(n)


def naive_order(seed: int, n: int, count: int) -> list[int]:
    """Position i of the endless sequence is perm(seed, i // n)[i % n], read one at a time."""
    order = []
    for position in range(count):
        generator = torch.Generator().manual_seed(seeds.mix(seed, seeds.ORDER, position // n))
        order.append(torch.randperm(n, generator=generator)[position % n].item())
    return order


@pytest.mark.parametrize(
    ("n", "minibatch", "d_steps"), [(64, 8, 1), (10, 4, 1), (10, 4, 5), (3, 8, 1), (1, 4, 2), (7, 7, 3)]
)
def test_order_is_the_naive_one(n, minibatch, d_steps):
    steps = 3 * n // (minibatch * d_steps) + 4
    loader = StepBatchLoader(*numbers(n), minibatch, d_steps, seed=5, stop=steps)
    batches = list(loader)
    assert len(batches) == steps
    assert all(len(samples) == minibatch * d_steps for samples, _ in batches)
    order = torch.cat([samples for samples, _ in batches]).tolist()
    assert order == naive_order(5, n, steps * minibatch * d_steps)
    assert torch.cat([labels for _, labels in batches]).tolist() == [1000 + row for row in order]
    for epoch in range(len(order) // n):
        assert sorted(order[epoch * n : (epoch + 1) * n]) == list(range(n))


def test_epochs_and_seeds_differ():
    def order(seed, start):
        return torch.cat(
            [s for s, _ in StepBatchLoader(*numbers(40), 10, seed=seed, start=start, stop=start + 4)]
        ).tolist()

    assert order(0, 0) != order(0, 4)
    assert order(0, 0) != order(1, 0)
    assert order(0, 0) != list(range(40))
    assert order(0, 4) == order(0, 4)


def test_a_loader_that_starts_later_goes_on_with_the_same_batches():
    complete = [s.tolist() for s, _ in StepBatchLoader(*numbers(10), 4, 2, seed=1, stop=9)]
    for start in (1, 4, 5, 8, 9):
        later = StepBatchLoader(*numbers(10), 4, 2, seed=1, start=start, stop=9)
        assert [s.tolist() for s, _ in later] == complete[start:]
        assert len(later) == 9


@pytest.mark.parametrize("world_size", [1, 2, 4])
@pytest.mark.parametrize("n", [5, 50])
def test_ranks_share_the_same_minibatches(n, world_size):
    minibatch, d_steps, steps = 8, 3, 4
    alone = [s.view(d_steps, minibatch) for s, _ in StepBatchLoader(*numbers(n), minibatch, d_steps, stop=steps)]
    ranks = [
        [s for s, _ in StepBatchLoader(*numbers(n), minibatch, d_steps, stop=steps, rank=rank, world_size=world_size)]
        for rank in range(world_size)
    ]
    for step in range(steps):
        parts = [ranks[rank][step].view(d_steps, minibatch // world_size) for rank in range(world_size)]
        assert torch.equal(torch.cat(parts, dim=1), alone[step])


# --- flips, scale, channels -----------------------------------------------------------------------------------------


class Stripes(ImageData):
    """Pictures whose left half is black and whose right is white, so that a flip shows."""

    def read(self, rows):
        images = torch.zeros(256, 1, 8, 8, dtype=torch.uint8)
        images[..., 4:] = 255
        images[:, 0, 0, 0] = torch.arange(256)
        return images[rows], torch.zeros(256)[rows], []


def attach(data, step=0, d_steps=1, rank=0, world_size=1):
    module = SimpleNamespace(device=torch.device("cpu"), d_steps=d_steps, dtype=torch.float32)
    data.trainer = SimpleNamespace(
        global_step=step, global_rank=rank, world_size=world_size, max_steps=100, lightning_module=module
    )
    return data


def flipped(data, samples, step=0, **place) -> list[bool]:
    """Which samples come back mirrored; fails where one is neither mirrored nor itself."""
    batch, _ = attach(data, step, **place).on_after_batch_transfer((samples, torch.zeros(len(samples))), 0)
    same = (batch == from_uint8(samples)).flatten(1).all(1)
    mirrored = (batch == from_uint8(samples.flip(-1))).flatten(1).all(1)
    assert torch.equal(same, ~mirrored)
    return mirrored.tolist()


def test_flips_mirror_half_and_are_a_function_of_seed_and_step():
    data = Stripes("data", 8, 1, flip=True, seed=3)
    data.setup()
    coins = {step: flipped(data, data.samples, step) for step in range(20)}
    share = np.mean(list(coins.values()))
    assert 0.47 < share < 0.53  # 5120 coins: four deviations are 0.028
    assert all(0.3 < np.mean(coin) < 0.7 for coin in coins.values())
    assert len({tuple(coin) for coin in coins.values()}) == 20
    torch.manual_seed(99)
    assert flipped(data, data.samples, 7) == coins[7]
    other = Stripes("data", 8, 1, flip=True, seed=4)
    assert flipped(other, data.samples, 7) != coins[7]


def test_without_flip_nothing_is_mirrored():
    data = Stripes("data", 8, 1)
    data.setup()
    assert not any(flipped(data, data.samples, 7))


@pytest.mark.parametrize("world_size", [2, 4])
def test_ranks_flip_as_one_process_would(world_size):
    data = Stripes("data", 8, 1, flip=True)
    data.setup()
    d_steps, minibatch = 2, 16
    alone = torch.tensor(flipped(data, data.samples[:32], 5, d_steps=d_steps)).view(d_steps, minibatch)
    shares = data.samples[:32].view(d_steps, world_size, -1, 1, 8, 8)
    ranks = [
        torch.tensor(flipped(data, shares[:, r].flatten(0, 1), 5, d_steps=d_steps, rank=r, world_size=world_size)).view(
            d_steps, -1
        )
        for r in range(world_size)
    ]
    assert torch.equal(torch.cat(ranks, dim=1), alone)


def test_uint8_survives_the_round_trip():
    levels = torch.arange(256, dtype=torch.uint8)
    scaled = from_uint8(levels)
    assert scaled.dtype == torch.float32
    assert scaled.min() == -1
    assert scaled.max() == pytest.approx(1, abs=1e-6)
    assert torch.equal(to_uint8(scaled), levels)
    assert to_uint8(torch.tensor([-3.0, 3.0])).tolist() == [0, 255]
    double = from_uint8(levels, torch.float64)
    assert double.dtype == torch.float64
    assert torch.equal(to_uint8(double), levels)


def test_channels_both_ways():
    colour = torch.tensor([[255, 0, 0], [0, 255, 0], [0, 0, 255], [9, 9, 9]], dtype=torch.uint8)[..., None, None]
    gray = with_channels(colour, 1)
    assert gray.flatten().tolist() == [76, 150, 29, 9]  # 255 times .299, .587 and .114
    assert gray.dtype == torch.uint8
    picture = torch.randint(256, (5000, 3, 2, 2), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    pillow = [np.asarray(Image.fromarray(p.permute(1, 2, 0).numpy()).convert("L")) for p in picture]
    ours = with_channels(picture, 1).squeeze(1).int()
    assert (ours - torch.from_numpy(np.stack(pillow)).int()).abs().max() <= 1
    assert torch.equal(with_channels(gray, 3), gray.repeat(1, 3, 1, 1))
    assert with_channels(gray, 1) is gray
    assert with_channels(colour, 3) is colour


def test_resize_to_a_rectangle():
    picture = torch.zeros(2, 1, 8, 8, dtype=torch.uint8)
    picture[..., 4:] = 200
    resized = resize(picture, (6, 4))
    assert resized.shape == (2, 1, 6, 4)
    assert resized[0, 0, :, 0].max() < 30
    assert resized[0, 0, :, 3].min() > 170
    assert resize(picture, (8, 8)) is picture


def test_limit_and_real_rows():
    data = Stripes("data", 8, 1, limit=10)
    data.setup()
    assert len(data.samples) == len(data.labels) == 10
    assert data.shape == (1, 8, 8)
    assert data.num_classes == 0
    digits = Digits("data")
    digits.setup()
    labels = torch.tensor([3, 3, 7])
    real = digits.real(3, labels)
    threes = (digits.labels == 3).nonzero().flatten()
    assert torch.equal(real[:2], from_uint8(digits.samples[threes[:2]]))
    assert torch.equal(digits.real(5), from_uint8(digits.samples[:5]))


def test_a_class_without_samples_is_shown_black():
    digits = Digits("data", limit=1)
    digits.setup()
    label = int(digits.labels[0])
    real = digits.real(3, torch.tensor([label, (label + 1) % 10, label]))
    assert torch.equal(real[[0, 2]], from_uint8(digits.samples[[0, 0]]))
    assert torch.equal(real[1], torch.full_like(real[1], -1))


def test_the_loader_takes_the_trainers_place():
    data = attach(Stripes("data", 8, 1, batch_size=8), step=3, d_steps=2, rank=1, world_size=2)
    data.setup()
    loader = data.train_dataloader()
    assert (loader.start, loader.stop, loader.rank, loader.world_size) == (3, 100, 1, 2)
    samples, labels = next(iter(loader))
    assert samples.shape == (8, 1, 8, 8)  # two minibatches of 8, of which this rank has half
    assert labels.shape == (8,)


# --- the data sets that come ready ----------------------------------------------------------------------------------


def test_digits_look_like_digits():
    data = Digits("data", 32, 1)
    data.setup()
    assert data.samples.shape == (1797, 1, 32, 32)
    assert data.samples.dtype == torch.uint8
    assert data.class_names == [str(digit) for digit in range(10)]
    assert data.labels.bincount().min() > 150
    assert (data.samples.min(), data.samples.max()) == (0, 255)
    pixels = data.scale(data.samples).flatten(1)
    train, test = slice(0, 1200), slice(1200, None)
    means = torch.stack([pixels[train][data.labels[train] == digit].mean(0) for digit in range(10)])
    guesses = torch.cdist(pixels[test], means).argmin(1)
    assert (guesses == data.labels[test]).float().mean() > 0.8


def test_digits_in_colour_and_of_another_size():
    data = Digits("data", [28, 20], 3, limit=20)
    data.setup()
    assert data.samples.shape == (20, 3, 28, 20)
    assert torch.equal(data.samples[:, 0], data.samples[:, 2])


@pytest.mark.parametrize(
    ("data", "modes", "nearest", "extent"),
    [(GaussianRing(num=20_000), 8, 2 * np.sin(np.pi / 8), 1.0), (GaussianGrid(num=20_000), 25, 2.0, 4.0)],
    ids=["ring", "grid"],
)
def test_points_lie_around_distinct_centres(data, modes, nearest, extent):
    data.setup()
    centres = data.centres()
    assert centres.shape == (modes, 2)
    gaps = torch.cdist(centres, centres) + 10 * torch.eye(modes)
    assert gaps.min() == pytest.approx(nearest, abs=1e-5)
    assert centres.abs().max() == pytest.approx(extent, abs=1e-6)
    assert centres.mean(0).abs().max() < 1e-6
    assert data.num_classes == modes
    assert data.shape == (2,)
    distances = torch.cdist(data.samples, centres)
    assert torch.equal(distances.argmin(1), data.labels)
    share = (distances.min(1).values < 3 * data.std).float().mean()
    assert share == pytest.approx(1 - np.exp(-4.5), abs=0.003)  # 98.89 %; one deviation of this share is 0.0007
    counts = data.labels.bincount(minlength=modes)
    assert (counts - 20_000 / modes).abs().max() < 5 * (20_000 / modes) ** 0.5


def test_points_follow_the_seed():
    def points(seed):
        data = GaussianRing(num=100, seed=seed)
        data.setup()
        return data.samples

    assert torch.equal(points(1), points(1))
    assert not torch.equal(points(1), points(2))


@pytest.mark.parametrize("failure", [RuntimeError("not found or corrupted"), urllib.error.URLError("no route")])
@pytest.mark.parametrize(
    ("kind", "folder", "file"),
    [
        (MNIST, "MNIST/raw", "train-images-idx3-ubyte.gz"),
        (FashionMNIST, "FashionMNIST/raw", "t10k-labels-idx1-ubyte.gz"),
        (CIFAR10, "cifar-10-batches-py", "data_batch_5"),
    ],
)
def test_a_failed_download_says_which_files_to_put_where(monkeypatch, tmp_path, kind, folder, file, failure):
    def fail(*_, **__):
        raise failure

    monkeypatch.setattr(kind, "dataset", fail)
    with pytest.raises(UserError) as error:
        kind(tmp_path).setup()
    for part in (str(tmp_path / folder), file, "data.root"):
        assert part in str(error.value)


def test_files_are_fetched_by_one_at_a_time(tmp_path, monkeypatch):
    """By the jobs of a sweep, say, or by the processes of a run."""
    inside, most = [], []

    def fetch(*_, **__):
        inside.append(1)
        most.append(len(inside))
        time.sleep(0.05)
        inside.pop()

    monkeypatch.setattr(MNIST, "dataset", fetch)
    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(MNIST(tmp_path / "data").fetch, True) for _ in range(4)]:
            done.result()
    assert most == [1, 1, 1, 1]


def test_other_faults_of_a_download_are_not_hidden(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise KeyError("a fault of ours")

    monkeypatch.setattr(MNIST, "dataset", fail)
    with pytest.raises(KeyError):
        MNIST(tmp_path).fetch(True)


# --- real data ------------------------------------------------------------------------------------------------------


def root_of(folder: str) -> Path:
    """Where the real data are; only what is not there at all is skipped, what cannot be read fails."""
    root = Path(os.environ.get("GAN_DATA_DIR", "data"))
    if not (root / folder).is_dir():
        pytest.skip(f"no {folder} in {root}; GAN_DATA_DIR says where it is")
    return root


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "folder", "count"),
    [(MNIST, "MNIST", 60_000), (FashionMNIST, "FashionMNIST", 60_000), (CIFAR10, "cifar-10-batches-py", 50_000)],
)
def test_downloaded_data(kind, folder, count):
    data = kind(root_of(folder))
    data.setup()
    assert len(data.samples) == count
    assert data.labels.bincount().tolist() == pytest.approx([count / 10] * 10, rel=0.15)


@pytest.mark.slow
def test_real_celeba():
    data = CelebA(root_of("celeba"), attribute="Smiling", limit=2000)
    data.setup()
    assert data.samples.shape == (2000, 3, 64, 64)
    assert 0.4 < data.labels.float().mean() < 0.6


# --- Stacked MNIST, and what is held out -----------------------------------------------------------------------------


def test_stacked_digits_are_the_number_that_their_channels_show(monkeypatch, tmp_path):
    """Of pictures whose gray level is their digit."""

    def fetch(self, train=True):
        digits = torch.arange(50) % 10
        level = digits if train else digits + 100
        pictures = level[:, None, None].expand(-1, 28, 28).byte()
        return SimpleNamespace(data=pictures, targets=digits, classes=[f"{i} - {i}" for i in range(10)])

    monkeypatch.setattr(StackedMNIST, "fetch", fetch)
    data = StackedMNIST(tmp_path, num=500)
    data.setup()
    assert data.samples.shape == (500, 3, 28, 28)
    assert (data.num_classes, data.class_names[7], data.class_names[123]) == (1000, "007", "123")
    shown = (data.samples[:, :, 0, 0].long() * torch.tensor([100, 10, 1])).sum(1)
    assert torch.equal(data.labels, shown)
    assert len(data.labels.unique()) > 300, "they are drawn at random"
    again = StackedMNIST(tmp_path, num=500, seed=5)
    again.setup()
    assert torch.equal(again.samples, data.samples), "the same for every seed"
    held_out, labels = data.held_out()
    assert held_out.min() >= 100, "test digits"
    assert torch.equal(((held_out[:, :, 0, 0].long() - 100) * torch.tensor([100, 10, 1])).sum(1), labels)


@pytest.mark.parametrize("kind", [MNIST, FashionMNIST])
def test_the_test_digits_are_held_out(kind, tmp_path, monkeypatch):
    asked = []

    def dataset(root, train, download):
        asked.append(train)
        pictures = torch.full((3, 28, 28), 1 if train else 2, dtype=torch.uint8)
        return SimpleNamespace(data=pictures, targets=torch.tensor([0, 1, 2]), classes=["a", "b", "c"])

    monkeypatch.setattr(kind, "dataset", staticmethod(dataset))
    data = kind(tmp_path, image_size=32)
    data.setup()
    pictures, labels = data.held_out()
    assert asked == [True, False]
    assert (int(data.samples.max()), int(pictures.max())) == (1, 2)
    assert pictures.shape == (3, 1, 32, 32)
    assert labels.tolist() == [0, 1, 2]


def test_a_mixture_lies_where_it_is_wanted():
    data = GaussianMixture([[0, 0], [5, 1]], std=0.1, num=4000)
    data.setup()
    assert data.class_names == ["(0, 0)", "(5, 1)"]
    for label, centre in enumerate([[0.0, 0.0], [5.0, 1.0]]):
        points = data.samples[data.labels == label]
        assert 1800 < len(points) < 2200
        torch.testing.assert_close(points.mean(0), torch.tensor(centre), atol=0.02, rtol=0)
        torch.testing.assert_close(points.std(0), torch.full((2,), 0.1), atol=0.01, rtol=0)


@pytest.mark.parametrize(
    ("centres", "names"),
    [
        ([[0, 0], [0, 0], [1, 1]], ["0 (0, 0)", "1 (0, 0)", "(1, 1)"]),
        ([[1, 0], [0.123412, 0], [0.123408, 0]], ["(1, 0)", "1 (0.1234, 0)", "2 (0.1234, 0)"]),
    ],
)
def test_centres_that_look_the_same_have_numbers(centres, names):
    data = GaussianMixture(centres, num=30)
    data.setup()
    assert data.class_names == names


# --- validation of what a data set returns ----------------------------------------------------------------------------

IMAGES = torch.randint(0, 256, (40, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
LABELS, NAMES = torch.arange(40) % 4, list("abcd")


class Own(ImageData):
    """A user's data set, which returns what the test wants."""

    def __init__(self, samples=IMAGES, labels=LABELS, names=NAMES, returned=None, held_out=None, **data):
        super().__init__("data", 8, 1, **data)
        self.returned, self.held = returned or (samples, labels, names), held_out

    def read(self, rows):
        samples, labels, names = self.returned
        return samples[rows], None if labels is None else labels[rows], names

    def test(self):
        return self.held


def errors_of(**returned) -> tuple[str, ...]:
    with pytest.raises(UserError) as error:
        Own(**returned).setup()
    assert all(line.startswith("Own: ") and "\n" not in line for line in error.value.errors)
    return error.value.errors


@pytest.mark.parametrize(
    ("samples", "told"),
    [
        (IMAGES / 255, r"float32 in \[0, 1\], .*: \(samples \* 255\)\.round\(\)\.to\(torch\.uint8\)$"),
        (IMAGES / 255 * 0.3, r"float32 in \[0, 0\.3\], .*\(samples \* 255\)"),
        ((IMAGES / 127.5 - 1).half(), r"float16 in \[-1, 1\], .*\(\(samples \+ 1\) \* 127\.5\)\.round\(\)\.to\(torch"),
        (IMAGES.double(), r"float64 in \[0, 255\], .*: samples\.round\(\)\.to\(torch\.uint8\)$"),
        (IMAGES.long(), r"int64 in \[0, 255\], .*: samples\.to\(torch\.uint8\)$"),
        (257 * IMAGES.int(), r"int32 in \[0, 6\.554e\+04\], .*\(samples\.float\(\) / 257\)\.round\(\)"),
        (IMAGES.float() - 128, "float32 in .*; scale them to that range first"),
        (IMAGES > 127, r"bool, .*: samples\.to\(torch\.uint8\) \* 255$"),
        (torch.full((40, 1, 8, 8), torch.nan), "float32 with values that are NaN or infinite"),
        (IMAGES.permute(0, 2, 3, 1), r"\(40, 8, 8, 1\), .*samples\.permute\(0, 3, 1, 2\)"),
        (IMAGES.expand(-1, 4, -1, -1), r"\(40, 4, 8, 8\), .*alpha channel: samples\[:, :3\]"),
        (IMAGES.expand(-1, 5, -1, -1), r"\(40, 5, 8, 8\), .*5 channels are not supported"),
        (IMAGES[:, 0], r"\(40, 8, 8\), .*samples\[:, None\]"),
        (IMAGES.flatten(1), r"\(40, 64\), .*samples\.reshape\(-1, 1, 8, 8\)"),
        (IMAGES.flatten(), r"\(2560,\)"),
        (IMAGES[:0], "there are no samples"),
        (IMAGES[..., :0], "there are no samples, or empty ones"),
        ([*IMAGES], r"a list of tensors; join them: torch\.stack"),
        (np.array(["a.png"] * 40), "samples are text"),
    ],
)
def test_samples_that_are_no_images_are_refused(samples, told):
    faults = errors_of(samples=samples)
    assert re.search(told, faults[0])


def test_samples_as_the_last_axis(monkeypatch):
    """As in MATLAB's files of SVHN; a limit would cut the wrong axis."""
    monkeypatch.setattr(Own, "read", lambda self, rows: self.returned)
    (fault,) = [line for line in errors_of(samples=IMAGES.permute(2, 3, 1, 0)) if "samples have the shape" in line]
    assert "samples.permute(3, 2, 0, 1)" in fault


@pytest.mark.parametrize(
    ("labels", "names", "told"),
    [
        (torch.eye(4)[LABELS], NAMES, r"labels have the shape \(40, 4\), one-hot, .*labels\.argmax\(1\)"),
        (LABELS[:, None], NAMES, r"labels have the shape \(40, 1\), .*labels\.flatten\(\)"),
        (LABELS + 1, NAMES, r"labels run from 1 to 4, .*from 0 to 3, .*subtract 1: labels - 1"),
        (LABELS - 1, NAMES, "labels run from -1 to 2, .*number the classes from 0"),
        (LABELS, NAMES[:3], "labels run from 0 to 3, and should run from 0 to 2, as there are 3 class names"),
        (LABELS.float(), NAMES, r"labels are float32, .*labels\.long\(\)"),
        (LABELS[:30], NAMES, "40 samples and 30 labels"),
        (LABELS.repeat(2), NAMES, "40 samples and 80 labels"),
        (None, NAMES, "labels are None, with 4 class names; return whole numbers from 0 to 3"),
        (np.array(NAMES)[LABELS], NAMES, "labels are text"),
        (LABELS, ["a", "b", "a", "d"], "class names occur more than once: 'a';"),
        (LABELS, "abcd", "class names are a value of type str; return a list"),
        (LABELS, {"a": 0, "b": 1}, "class names are a value of type dict"),
    ],
)
def test_labels_and_names_that_cannot_be_used_are_refused(labels, names, told):
    (fault,) = errors_of(labels=labels, names=names)
    assert re.search(told, fault)


def test_all_errors_of_a_data_set_come_at_once():
    faults = errors_of(samples=IMAGES / 255, labels=LABELS[:30] + 1, names=["a", "a"])
    assert len(faults) == 3
    for told in ("float32", "40 samples and 30 labels", "more than once"):
        assert any(told in fault for fault in faults)


@pytest.mark.parametrize("returned", [(IMAGES, LABELS), IMAGES[:2], None, [IMAGES]])
def test_another_number_of_values_is_refused(monkeypatch, returned):
    monkeypatch.setattr(Own, "read", lambda self, rows: returned)
    with pytest.raises(UserError, match=r"Own: returns .*return three values: samples, labels and class names"):
        Own().setup()


@pytest.mark.parametrize(
    ("samples", "labels", "names"),
    [
        (IMAGES.numpy(), LABELS.numpy().astype(np.int16), np.array(NAMES)),
        (IMAGES.numpy()[::-1], [3, 2, 1, 0] * 10, tuple(NAMES)),
        (IMAGES, LABELS.to(torch.uint8), [0, 1, 2, 3]),
        (IMAGES, LABELS > 1, ["no", "yes"]),
    ],
)
def test_arrays_lists_and_other_integers_are_taken(samples, labels, names):
    data = Own(samples, labels, names)
    data.setup()
    assert torch.equal(data.samples, torch.as_tensor(np.ascontiguousarray(np.asarray(samples))))
    assert data.labels.dtype == torch.int64
    assert data.labels.tolist() == [int(label) for label in labels]
    assert data.class_names == [str(name) for name in names]


def test_arrays_in_another_byte_order_are_read():
    data = Own(IMAGES.numpy(), LABELS.numpy().astype(">i8"))
    data.setup()
    assert torch.equal(data.labels, LABELS)
    points = OwnPoints(torch.randn(40, 2).numpy().astype(">f4"))
    points.setup()
    assert torch.equal(points.samples, torch.from_numpy(points.returned[0].astype("<f4")))


@pytest.mark.parametrize(
    ("samples", "labels", "told"),
    [
        (IMAGES, LABELS.numpy().astype(object), r"labels are a NumPy array of objects; .* labels\.astype\(np\.int64\)"),
        (IMAGES.numpy().astype(object), LABELS, r"samples are a NumPy array of objects; .*samples\.astype\("),
        (IMAGES.to_sparse(), LABELS, r"samples are a sparse tensor; .* samples\.to_dense\(\)"),
        (IMAGES, LABELS.to_sparse(), r"labels are a sparse tensor; .* labels\.to_dense\(\)"),
    ],
)
def test_containers_that_are_not_read_are_named(samples, labels, told):
    with pytest.raises(UserError, match=f"^Own: {told}"):
        check_samples("Own", (samples, labels, NAMES), True)


def test_without_classes_labels_may_be_missing(caplog):
    data = Own(labels=None, names=None)
    data.setup()
    assert (data.labels.tolist(), data.class_names) == ([0] * 40, [])
    assert caplog.text == ""
    Own(names=[]).setup()
    assert "Own: the labels are ignored, since there are no class names" in caplog.text


def test_empty_classes_are_named(caplog):
    Own(names=[*NAMES, "e", "f"]).setup()
    assert "Own: 2 of 6 classes have no samples: 'e', 'f'; leave their names out" in caplog.text


@pytest.mark.parametrize(
    ("samples", "told"),
    [
        (IMAGES // 16, "use only the values 0 to 15 of 0 to 255"),
        (IMAGES % 2, "use only the values 0 to 1 of 0 to 255.*times 255"),
        (IMAGES // 4, "use only the values 0 to 63 of 0 to 255"),
        (torch.cat([IMAGES[:3], IMAGES[3:] // 16]), "use only the values 0 to 15 of 0 to 255"),  # with outliers
        (torch.full_like(IMAGES, 7), "all pixels of nearly all images are 7"),
    ],
)
def test_images_of_a_small_range_get_a_warning(caplog, samples, told):
    Own(samples).setup()
    assert re.search(f"Own: .*{told}", caplog.text)
    caplog.clear()
    Own().setup()
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("held_out", "told"),
    [
        ((IMAGES / 255, LABELS, NAMES), r"Own, test set: samples are float32 in \[0, 1\]"),
        ((IMAGES, LABELS + 1, []), "Own, test set: labels run from 1 to 4"),
        ((IMAGES, LABELS[:-1], NAMES), "Own, test set: there are 40 samples and 39 labels"),
        ((IMAGES, LABELS), "Own, test set: returns a tuple of 2 values"),
    ],
)
def test_test_sets_are_validated_too(held_out, told):
    data = Own(held_out=held_out)
    data.setup()
    with pytest.raises(UserError, match=told):
        data.held_out()


class OwnPoints(InMemoryDataModule):
    """A user's points."""

    def __init__(self, samples, labels=LABELS, names=NAMES, test=None):
        super().__init__(8, 0)
        self.returned, self.held = (samples, labels, names), test

    def load(self):
        return self.returned

    def scale(self, samples, dtype=torch.float32):
        return samples.to(dtype)

    def test(self):
        return self.held


@pytest.mark.parametrize(
    ("samples", "told"),
    [
        (torch.zeros(40), r"OwnPoints: samples have the shape \(40,\), .*samples\.reshape\(N, -1\)"),
        (torch.zeros(0, 2), "OwnPoints: there are no samples"),
        (torch.tensor([[0.0, torch.inf]] * 40), "OwnPoints: 40 of 40 samples hold values that are NaN or infinite"),
        (torch.zeros(40, 2, dtype=torch.complex64), "OwnPoints: samples are complex64"),
        (torch.zeros(41, 2), "OwnPoints: there are 41 samples and 40 labels"),
    ],
)
def test_points_are_validated_too(samples, told):
    with pytest.raises(UserError, match=told):
        OwnPoints(samples).setup()


def test_samples_with_channels_are_images_also_outside_of_imagedata():
    """They would train in a range that generators do not have."""
    images = IMAGES / 255
    for samples, low, high, fix in ((images, "0", "1", "2 * samples - 1"), (IMAGES.float(), "0", "255", "samples / ")):
        told = rf"OwnPoints: images in \[{low}, {high}\], and should be in \[-1, 1\]: {re.escape(fix)}"
        with pytest.raises(UserError, match=told):
            OwnPoints(samples).setup()
    data = OwnPoints(2 * images - 1)
    data.setup()
    assert data.shape == IMAGES.shape[1:]


def test_held_out_points_are_of_the_same_shape():
    points = torch.randn(40, 2)
    data = OwnPoints(points.numpy(), test=(points[:, :1], LABELS, []))
    data.setup()
    assert torch.equal(data.samples, points)
    with pytest.raises(UserError, match=r"OwnPoints, test set: .*\(1,\), and those of the training set \(2,\)"):
        data.held_out()
    data.held = points, LABELS, []
    assert torch.equal(data.held_out()[0], points)
    data.held = None
    with pytest.raises(UserError, match="this data set has no test set"):
        data.held_out()


class PlainModule(LightningDataModule):
    """A data module as it is written for plain Lightning."""

    batch_size = 8

    def train_dataloader(self):
        return DataLoader(TensorDataset(IMAGES / 127.5 - 1, LABELS), 8)


def test_a_data_module_of_plain_lightning_is_refused_in_one_line(monkeypatch, compose, tmp_path):
    monkeypatch.setattr("gan_lightning.run.build.instantiate", lambda *_, **__: PlainModule())
    with pytest.raises(
        UserError,
        match=r"PlainModule: the class has no scale, real, held_out, stored, verify; derive .*ImageData",
    ) as error:
        train(compose(), tmp_path)
    assert len(error.value.errors) == 1


@pytest.mark.parametrize("limit", [None, 2, 5000])
@pytest.mark.parametrize("kind", [MNIST, FashionMNIST, StackedMNIST])
def test_digits_with_labels_of_another_set(kind, tmp_path, monkeypatch, limit):
    """The counts differ, however few are used."""

    def dataset(root, train, download):
        pictures = torch.randint(0, 256, (6, 28, 28), dtype=torch.uint8)
        return SimpleNamespace(data=pictures, targets=torch.arange(4), classes=list("0123456789"))

    monkeypatch.setattr(kind, "dataset", staticmethod(dataset))
    data = kind(tmp_path, limit=limit)
    with pytest.raises(UserError) as error:
        data.setup()
    assert "there are 6 samples and 4 labels" in str(error.value)
    for part in ("train-images-idx3-ubyte, train-labels-idx1-ubyte", str(tmp_path)):
        assert part in str(error.value)
    with pytest.raises(UserError, match="t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte: there are 6 samples and 4"):
        data.test()


def idx(values: np.ndarray) -> bytes:
    """An array in MNIST's format."""
    shape = b"".join(size.to_bytes(4, "big") for size in values.shape)
    return bytes([0, 0, 8, values.ndim]) + shape + values.astype(np.uint8).tobytes()


def mnist_files(folder: Path, train_labels: int = 6) -> Path:
    folder.mkdir(parents=True)
    for name, count, labels in (("train", 6, train_labels), ("t10k", 4, 4)):
        (folder / f"{name}-images-idx3-ubyte").write_bytes(idx(np.full((count, 28, 28), 9) * np.eye(28)))
        (folder / f"{name}-labels-idx1-ubyte").write_bytes(idx(np.arange(labels) % 10))
    return folder


@pytest.mark.parametrize("passed", ["", "MNIST", "MNIST/raw"])
def test_any_of_the_folders_of_mnist_is_a_root(tmp_path, passed):
    mnist_files(tmp_path / "MNIST" / "raw")
    data = MNIST(tmp_path / passed, limit=5)
    data.setup()
    assert data.labels.tolist() == [0, 1, 2, 3, 4]
    assert len(data.held_out()[0]) == 4


def test_labels_of_the_test_set_under_the_name_of_the_training_set(tmp_path):
    mnist_files(tmp_path / "MNIST" / "raw", train_labels=4)
    with pytest.raises(UserError, match="train-labels-idx1-ubyte: there are 6 samples and 4 labels"):
        MNIST(tmp_path, limit=3).setup()


def test_labels_beyond_the_ten_digits(tmp_path):
    folder = mnist_files(tmp_path / "FashionMNIST" / "raw")
    (folder / "train-labels-idx1-ubyte").write_bytes(idx(np.arange(6) + 5))
    with pytest.raises(UserError, match=r"data=fashion_mnist .*labels run from 5 to 10, and should run from 0 to 9"):
        FashionMNIST(tmp_path, limit=2).setup()


@pytest.mark.parametrize("content", [b"", b"<html>", bytes(20), idx(np.zeros((6, 28, 28)))[:-9]])
@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "train-labels-idx1-ubyte"])
def test_damaged_files_of_digits_are_an_error_in_one_line(tmp_path, name, content):
    folder = mnist_files(tmp_path / "MNIST" / "raw")
    (folder / name).write_bytes(content)
    with pytest.raises(UserError, match="data=mnist: its files are missing or damaged") as error:
        MNIST(tmp_path).setup()
    assert len(error.value.errors) == 1


@pytest.mark.parametrize(
    ("place", "target"),
    [
        ("train-images-idx3-ubyte.gz", "MNIST/raw/train-images-idx3-ubyte.gz"),
        ("archive/train-images.idx3-ubyte", "MNIST/raw/train-images-idx3-ubyte"),
        ("MNIST/raw/train-images.idx3-ubyte", "MNIST/raw/train-images-idx3-ubyte"),
    ],
)
def test_files_in_another_place_are_found(tmp_path, monkeypatch, place, target):
    (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / place).write_bytes(b"x")

    def fail(*_, **__):
        raise urllib.error.URLError("no route")

    monkeypatch.setattr(MNIST, "dataset", fail)
    with pytest.raises(UserError) as error:
        MNIST(tmp_path).setup()
    assert f"{tmp_path / place} looks like one of them: move it to {tmp_path / target}" in str(error.value)


def test_the_search_for_files_in_another_place_is_bounded(tmp_path, monkeypatch):
    """``data.root=/`` and a failed download would search the whole machine."""
    monkeypatch.setattr(files, "MAX_ENTRIES", 5)
    for i in range(9):
        (tmp_path / f"{i}").touch()
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "a.gz").touch()
    assert misplaced_file_hint(tmp_path, tmp_path / "MNIST", ["a.gz"]) == ""
    monkeypatch.setattr(files, "MAX_ENTRIES", 50)
    assert f"{tmp_path / 'below' / 'a.gz'} looks like one of them" in misplaced_file_hint(
        tmp_path, tmp_path / "x", ["a.gz"]
    )


def test_a_folder_that_may_not_be_searched_is_passed_over(tmp_path, monkeypatch):
    (tmp_path / "locked").mkdir()
    (tmp_path / "locked" / "a.gz").touch()
    (tmp_path / "open").mkdir()
    (tmp_path / "open" / "a.gz").touch()
    original = Path.stat

    def hindered(path: Path, **options: bool) -> os.stat_result:
        if path.parent.name == "locked":
            raise PermissionError(13, "Permission denied")
        return original(path, **options)

    monkeypatch.setattr(Path, "stat", hindered)
    found = misplaced_file_hint(tmp_path, tmp_path / "x", ["a.gz"])
    assert "looks like one of them" in found
    assert find_data_root(tmp_path / "locked", "locked", "a") == tmp_path / "locked"


@pytest.mark.parametrize("limit", [None, 2])
def test_cifar_batches_with_too_few_labels(tmp_path, monkeypatch, limit):
    def dataset(root, train, download):
        pictures = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), np.uint8)
        return SimpleNamespace(data=pictures, targets=[0, 1, 2, 3], classes=list("0123456789"))

    monkeypatch.setattr(CIFAR10, "dataset", staticmethod(dataset))
    (tmp_path / "cifar-10-batches-py").mkdir()
    (tmp_path / "cifar-10-batches-py" / "data_batch_1").write_bytes(b"")
    data = CIFAR10(tmp_path / "cifar-10-batches-py", limit=limit)
    with pytest.raises(UserError, match="data_batch_5: there are 6 samples and 4 labels"):
        data.setup()
    assert data.root == tmp_path


def test_paths_are_expanded_and_absolute(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    folder = ImageFolder("~/photos", cache="~/cache")
    assert (folder.root, folder.cache.folder) == (tmp_path / "photos", tmp_path / "cache")
    assert Digits("here").root == tmp_path / "here"
    assert Stream("~/packed", cache="kept").address == str(tmp_path / "packed")
    assert Stream("s3://bucket/faces").address == "s3://bucket/faces"
    assert Stream("packed", cache="kept").cache == tmp_path / "kept" / "stream"
