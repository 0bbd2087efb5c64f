"""Data modules: batch order, flips, image conversion, the included data sets and the validation of samples."""

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
def test_step_loader_order_matches_naive_implementation(n, minibatch, d_steps):
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


def test_order_differs_between_epochs_and_seeds():
    def order(seed, start):
        return torch.cat(
            [s for s, _ in StepBatchLoader(*numbers(40), 10, seed=seed, start=start, stop=start + 4)]
        ).tolist()

    assert order(0, 0) != order(0, 4)
    assert order(0, 0) != order(1, 0)
    assert order(0, 0) != list(range(40))
    assert order(0, 4) == order(0, 4)


def test_loader_started_later_yields_same_batches():
    complete = [s.tolist() for s, _ in StepBatchLoader(*numbers(10), 4, 2, seed=1, stop=9)]
    for start in (1, 4, 5, 8, 9):
        later = StepBatchLoader(*numbers(10), 4, 2, seed=1, start=start, stop=9)
        assert [s.tolist() for s, _ in later] == complete[start:]
        assert len(later) == 9


@pytest.mark.parametrize("world_size", [1, 2, 4])
@pytest.mark.parametrize("n", [5, 50])
def test_ranks_together_yield_minibatches_of_one_process(n, world_size):
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
    """Images with a black left half and a white right half, so that a flip is visible."""

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
    """Return for each sample whether it was mirrored; fail where it is neither mirrored nor unchanged."""
    batch, _ = attach(data, step, **place).on_after_batch_transfer((samples, torch.zeros(len(samples))), 0)
    same = (batch == from_uint8(samples)).flatten(1).all(1)
    mirrored = (batch == from_uint8(samples.flip(-1))).flatten(1).all(1)
    assert torch.equal(same, ~mirrored)
    return mirrored.tolist()


def test_flips_mirror_half_and_depend_only_on_seed_and_step():
    data = Stripes("data", 8, 1, flip=True, seed=3)
    data.setup()
    flips = {step: flipped(data, data.samples, step) for step in range(20)}
    share = np.mean(list(flips.values()))
    assert 0.47 < share < 0.53  # 5120 flips: four standard deviations are 0.028
    assert all(0.3 < np.mean(step_flips) < 0.7 for step_flips in flips.values())
    assert len({tuple(step_flips) for step_flips in flips.values()}) == 20
    torch.manual_seed(99)
    assert flipped(data, data.samples, 7) == flips[7]
    other = Stripes("data", 8, 1, flip=True, seed=4)
    assert flipped(other, data.samples, 7) != flips[7]


def test_flip_false_mirrors_nothing():
    data = Stripes("data", 8, 1)
    data.setup()
    assert not any(flipped(data, data.samples, 7))


@pytest.mark.parametrize("world_size", [2, 4])
def test_ranks_flip_same_samples_as_one_process(world_size):
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


def test_uint8_round_trip_is_exact():
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


def test_with_channels_converts_between_gray_and_rgb():
    colour = torch.tensor([[255, 0, 0], [0, 255, 0], [0, 0, 255], [9, 9, 9]], dtype=torch.uint8)[..., None, None]
    gray = with_channels(colour, 1)
    assert gray.flatten().tolist() == [76, 150, 29, 9]  # 255 times .299, .587 and .114
    assert gray.dtype == torch.uint8
    images = torch.randint(256, (5000, 3, 2, 2), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    pillow = [np.asarray(Image.fromarray(p.permute(1, 2, 0).numpy()).convert("L")) for p in images]
    ours = with_channels(images, 1).squeeze(1).int()
    assert (ours - torch.from_numpy(np.stack(pillow)).int()).abs().max() <= 1
    assert torch.equal(with_channels(gray, 3), gray.repeat(1, 3, 1, 1))
    assert with_channels(gray, 1) is gray
    assert with_channels(colour, 3) is colour


def test_resize_to_rectangle():
    images = torch.zeros(2, 1, 8, 8, dtype=torch.uint8)
    images[..., 4:] = 200
    resized = resize(images, (6, 4))
    assert resized.shape == (2, 1, 6, 4)
    assert resized[0, 0, :, 0].max() < 30
    assert resized[0, 0, :, 3].min() > 170
    assert resize(images, (8, 8)) is images


def test_limit_shortens_data_and_real_selects_by_label():
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


def test_real_is_black_for_class_without_samples():
    digits = Digits("data", limit=1)
    digits.setup()
    label = int(digits.labels[0])
    real = digits.real(3, torch.tensor([label, (label + 1) % 10, label]))
    assert torch.equal(real[[0, 2]], from_uint8(digits.samples[[0, 0]]))
    assert torch.equal(real[1], torch.full_like(real[1], -1))


def test_train_dataloader_uses_step_and_rank_of_trainer():
    data = attach(Stripes("data", 8, 1, batch_size=8), step=3, d_steps=2, rank=1, world_size=2)
    data.setup()
    loader = data.train_dataloader()
    assert (loader.start, loader.stop, loader.rank, loader.world_size) == (3, 100, 1, 2)
    samples, labels = next(iter(loader))
    assert samples.shape == (8, 1, 8, 8)  # two minibatches of 8; this rank gets half
    assert labels.shape == (8,)


# --- included data sets ---------------------------------------------------------------------------------------------


def test_digits_are_classified_by_nearest_class_mean():
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


def test_digits_with_three_channels_and_another_size():
    data = Digits("data", [28, 20], 3, limit=20)
    data.setup()
    assert data.samples.shape == (20, 3, 28, 20)
    assert torch.equal(data.samples[:, 0], data.samples[:, 2])


@pytest.mark.parametrize(
    ("data", "modes", "nearest", "extent"),
    [(GaussianRing(num=20_000), 8, 2 * np.sin(np.pi / 8), 1.0), (GaussianGrid(num=20_000), 25, 2.0, 4.0)],
    ids=["ring", "grid"],
)
def test_points_are_normal_around_distinct_centres(data, modes, nearest, extent):
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
    assert share == pytest.approx(1 - np.exp(-4.5), abs=0.003)  # 98.89 %; one standard deviation of it is 0.0007
    counts = data.labels.bincount(minlength=modes)
    assert (counts - 20_000 / modes).abs().max() < 5 * (20_000 / modes) ** 0.5


def test_points_depend_on_seed():
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
def test_failed_download_error_lists_files_and_target_folder(monkeypatch, tmp_path, kind, folder, file, failure):
    def fail(*_, **__):
        raise failure

    monkeypatch.setattr(kind, "dataset", fail)
    with pytest.raises(UserError) as error:
        kind(tmp_path).setup()
    for part in (str(tmp_path / folder), file, "data.root"):
        assert part in str(error.value)


def test_downloads_of_concurrent_jobs_are_serialized(tmp_path, monkeypatch):
    """The jobs of a sweep and the processes of a run download to the same folder."""
    active, num_active = [], []

    def fetch(*_, **__):
        active.append(1)
        num_active.append(len(active))
        time.sleep(0.05)
        active.pop()

    monkeypatch.setattr(MNIST, "dataset", fetch)
    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(MNIST(tmp_path / "data").fetch, True) for _ in range(4)]:
            done.result()
    assert num_active == [1, 1, 1, 1]


def test_unexpected_download_exception_is_not_caught(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise KeyError("programming error")

    monkeypatch.setattr(MNIST, "dataset", fail)
    with pytest.raises(KeyError):
        MNIST(tmp_path).fetch(True)


# --- real data ------------------------------------------------------------------------------------------------------


def root_of(folder: str) -> Path:
    """Return the root of the real data; skip if the folder is missing, so that unreadable data still fail."""
    root = Path(os.environ.get("GAN_DATA_DIR", "data"))
    if not (root / folder).is_dir():
        pytest.skip(f"no {folder} in {root}; set GAN_DATA_DIR to the data root")
    return root


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "folder", "count"),
    [(MNIST, "MNIST", 60_000), (FashionMNIST, "FashionMNIST", 60_000), (CIFAR10, "cifar-10-batches-py", 50_000)],
)
def test_downloaded_data_have_expected_counts(kind, folder, count):
    data = kind(root_of(folder))
    data.setup()
    assert len(data.samples) == count
    assert data.labels.bincount().tolist() == pytest.approx([count / 10] * 10, rel=0.15)


@pytest.mark.slow
def test_real_celeba_has_shape_and_smiling_share():
    data = CelebA(root_of("celeba"), attribute="Smiling", limit=2000)
    data.setup()
    assert data.samples.shape == (2000, 3, 64, 64)
    assert 0.4 < data.labels.float().mean() < 0.6


# --- Stacked MNIST and held-out samples ------------------------------------------------------------------------------


def test_stacked_mnist_label_is_number_shown_by_channels(monkeypatch, tmp_path):
    """Each fake image has its digit as gray level."""

    def fetch(self, train=True):
        digits = torch.arange(50) % 10
        level = digits if train else digits + 100
        images = level[:, None, None].expand(-1, 28, 28).byte()
        return SimpleNamespace(data=images, targets=digits, classes=[f"{i} - {i}" for i in range(10)])

    monkeypatch.setattr(StackedMNIST, "fetch", fetch)
    data = StackedMNIST(tmp_path, num=500)
    data.setup()
    assert data.samples.shape == (500, 3, 28, 28)
    assert (data.num_classes, data.class_names[7], data.class_names[123]) == (1000, "007", "123")
    shown = (data.samples[:, :, 0, 0].long() * torch.tensor([100, 10, 1])).sum(1)
    assert torch.equal(data.labels, shown)
    assert len(data.labels.unique()) > 300, "digits are not drawn at random"
    again = StackedMNIST(tmp_path, num=500, seed=5)
    again.setup()
    assert torch.equal(again.samples, data.samples), "samples depend on the seed"
    held_out, labels = data.held_out()
    assert held_out.min() >= 100, "held-out samples contain training digits"
    assert torch.equal(((held_out[:, :, 0, 0].long() - 100) * torch.tensor([100, 10, 1])).sum(1), labels)


@pytest.mark.parametrize("kind", [MNIST, FashionMNIST])
def test_mnist_held_out_is_test_set(kind, tmp_path, monkeypatch):
    splits = []

    def dataset(root, train, download):
        splits.append(train)
        images = torch.full((3, 28, 28), 1 if train else 2, dtype=torch.uint8)
        return SimpleNamespace(data=images, targets=torch.tensor([0, 1, 2]), classes=["a", "b", "c"])

    monkeypatch.setattr(kind, "dataset", staticmethod(dataset))
    data = kind(tmp_path, image_size=32)
    data.setup()
    images, labels = data.held_out()
    assert splits == [True, False]
    assert (int(data.samples.max()), int(images.max())) == (1, 2)
    assert images.shape == (3, 1, 32, 32)
    assert labels.tolist() == [0, 1, 2]


def test_gaussian_mixture_has_given_centres_and_std():
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
def test_class_names_of_equal_centres_are_numbered(centres, names):
    data = GaussianMixture(centres, num=30)
    data.setup()
    assert data.class_names == names


# --- validation of what a data set returns ----------------------------------------------------------------------------

IMAGES = torch.randint(0, 256, (40, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
LABELS, NAMES = torch.arange(40) % 4, list("abcd")


class Own(ImageData):
    """A user's data set that returns the given values."""

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
    ("samples", "expected"),
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
def test_samples_that_are_not_images_are_rejected(samples, expected):
    errors = errors_of(samples=samples)
    assert re.search(expected, errors[0])


def test_samples_along_last_axis_are_rejected(monkeypatch):
    """MATLAB files of SVHN have this layout; a limit would cut the wrong axis."""
    monkeypatch.setattr(Own, "read", lambda self, rows: self.returned)
    (error,) = [line for line in errors_of(samples=IMAGES.permute(2, 3, 1, 0)) if "samples have the shape" in line]
    assert "samples.permute(3, 2, 0, 1)" in error


@pytest.mark.parametrize(
    ("labels", "names", "expected"),
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
def test_invalid_labels_and_class_names_are_rejected(labels, names, expected):
    (error,) = errors_of(labels=labels, names=names)
    assert re.search(expected, error)


def test_all_errors_of_data_set_are_reported_together():
    errors = errors_of(samples=IMAGES / 255, labels=LABELS[:30] + 1, names=["a", "a"])
    assert len(errors) == 3
    for expected in ("float32", "40 samples and 30 labels", "more than once"):
        assert any(expected in error for error in errors)


@pytest.mark.parametrize("returned", [(IMAGES, LABELS), IMAGES[:2], None, [IMAGES]])
def test_read_must_return_three_values(monkeypatch, returned):
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
def test_numpy_arrays_lists_and_other_integer_types_are_accepted(samples, labels, names):
    data = Own(samples, labels, names)
    data.setup()
    assert torch.equal(data.samples, torch.as_tensor(np.ascontiguousarray(np.asarray(samples))))
    assert data.labels.dtype == torch.int64
    assert data.labels.tolist() == [int(label) for label in labels]
    assert data.class_names == [str(name) for name in names]


def test_numpy_arrays_of_other_byte_order_are_accepted():
    data = Own(IMAGES.numpy(), LABELS.numpy().astype(">i8"))
    data.setup()
    assert torch.equal(data.labels, LABELS)
    points = OwnPoints(torch.randn(40, 2).numpy().astype(">f4"))
    points.setup()
    assert torch.equal(points.samples, torch.from_numpy(points.returned[0].astype("<f4")))


@pytest.mark.parametrize(
    ("samples", "labels", "expected"),
    [
        (IMAGES, LABELS.numpy().astype(object), r"labels are a NumPy array of objects; .* labels\.astype\(np\.int64\)"),
        (IMAGES.numpy().astype(object), LABELS, r"samples are a NumPy array of objects; .*samples\.astype\("),
        (IMAGES.to_sparse(), LABELS, r"samples are a sparse tensor; .* samples\.to_dense\(\)"),
        (IMAGES, LABELS.to_sparse(), r"labels are a sparse tensor; .* labels\.to_dense\(\)"),
    ],
)
def test_object_arrays_and_sparse_tensors_are_rejected(samples, labels, expected):
    with pytest.raises(UserError, match=f"^Own: {expected}"):
        check_samples("Own", (samples, labels, NAMES), True)


def test_labels_are_optional_without_class_names(caplog):
    data = Own(labels=None, names=None)
    data.setup()
    assert (data.labels.tolist(), data.class_names) == ([0] * 40, [])
    assert caplog.text == ""
    Own(names=[]).setup()
    assert "Own: the labels are ignored, since there are no class names" in caplog.text


def test_classes_without_samples_are_warned_about(caplog):
    Own(names=[*NAMES, "e", "f"]).setup()
    assert "Own: 2 of 6 classes have no samples: 'e', 'f'; leave their names out" in caplog.text


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        (IMAGES // 16, "use only the values 0 to 15 of 0 to 255"),
        (IMAGES % 2, "use only the values 0 to 1 of 0 to 255.*times 255"),
        (IMAGES // 4, "use only the values 0 to 63 of 0 to 255"),
        (torch.cat([IMAGES[:3], IMAGES[3:] // 16]), "use only the values 0 to 15 of 0 to 255"),  # with outliers
        (torch.full_like(IMAGES, 7), "all pixels of nearly all images are 7"),
    ],
)
def test_images_with_small_value_range_are_warned_about(caplog, samples, expected):
    Own(samples).setup()
    assert re.search(f"Own: .*{expected}", caplog.text)
    caplog.clear()
    Own().setup()
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("held_out", "expected"),
    [
        ((IMAGES / 255, LABELS, NAMES), r"Own, test set: samples are float32 in \[0, 1\]"),
        ((IMAGES, LABELS + 1, []), "Own, test set: labels run from 1 to 4"),
        ((IMAGES, LABELS[:-1], NAMES), "Own, test set: there are 40 samples and 39 labels"),
        ((IMAGES, LABELS), "Own, test set: returns a tuple of 2 values"),
    ],
)
def test_held_out_samples_are_validated(held_out, expected):
    data = Own(held_out=held_out)
    data.setup()
    with pytest.raises(UserError, match=expected):
        data.held_out()


class OwnPoints(InMemoryDataModule):
    """A user's data set of points."""

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
    ("samples", "expected"),
    [
        (torch.zeros(40), r"OwnPoints: samples have the shape \(40,\), .*samples\.reshape\(N, -1\)"),
        (torch.zeros(0, 2), "OwnPoints: there are no samples"),
        (torch.tensor([[0.0, torch.inf]] * 40), "OwnPoints: 40 of 40 samples hold values that are NaN or infinite"),
        (torch.zeros(40, 2, dtype=torch.complex64), "OwnPoints: samples are complex64"),
        (torch.zeros(41, 2), "OwnPoints: there are 41 samples and 40 labels"),
    ],
)
def test_points_are_validated(samples, expected):
    with pytest.raises(UserError, match=expected):
        OwnPoints(samples).setup()


def test_image_range_is_validated_without_imagedata():
    """Generators output values in [-1, 1]."""
    images = IMAGES / 255
    for samples, low, high, fix in ((images, "0", "1", "2 * samples - 1"), (IMAGES.float(), "0", "255", "samples / ")):
        expected = rf"OwnPoints: images in \[{low}, {high}\], and should be in \[-1, 1\]: {re.escape(fix)}"
        with pytest.raises(UserError, match=expected):
            OwnPoints(samples).setup()
    data = OwnPoints(2 * images - 1)
    data.setup()
    assert data.shape == IMAGES.shape[1:]


def test_held_out_points_must_have_training_shape():
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
    """A data module written for plain Lightning."""

    batch_size = 8

    def train_dataloader(self):
        return DataLoader(TensorDataset(IMAGES / 127.5 - 1, LABELS), 8)


def test_plain_lightning_data_module_is_rejected_with_one_error(monkeypatch, compose, tmp_path):
    monkeypatch.setattr("gan_lightning.run.build.instantiate", lambda *_, **__: PlainModule())
    with pytest.raises(
        UserError,
        match=r"PlainModule: the class has no scale, real, held_out, stored, verify; derive .*ImageData",
    ) as error:
        train(compose(), tmp_path)
    assert len(error.value.errors) == 1


@pytest.mark.parametrize("limit", [None, 2, 5000])
@pytest.mark.parametrize("kind", [MNIST, FashionMNIST, StackedMNIST])
def test_digits_with_labels_of_other_split_are_rejected(kind, tmp_path, monkeypatch, limit):
    """The counts are compared before a limit applies."""

    def dataset(root, train, download):
        images = torch.randint(0, 256, (6, 28, 28), dtype=torch.uint8)
        return SimpleNamespace(data=images, targets=torch.arange(4), classes=list("0123456789"))

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
    """Return an array in MNIST's IDX format."""
    shape = b"".join(size.to_bytes(4, "big") for size in values.shape)
    return bytes([0, 0, 8, values.ndim]) + shape + values.astype(np.uint8).tobytes()


def mnist_files(folder: Path, train_labels: int = 6) -> Path:
    folder.mkdir(parents=True)
    for name, count, labels in (("train", 6, train_labels), ("t10k", 4, 4)):
        (folder / f"{name}-images-idx3-ubyte").write_bytes(idx(np.full((count, 28, 28), 9) * np.eye(28)))
        (folder / f"{name}-labels-idx1-ubyte").write_bytes(idx(np.arange(labels) % 10))
    return folder


@pytest.mark.parametrize("passed", ["", "MNIST", "MNIST/raw"])
def test_mnist_root_may_be_any_of_its_folders(tmp_path, passed):
    mnist_files(tmp_path / "MNIST" / "raw")
    data = MNIST(tmp_path / passed, limit=5)
    data.setup()
    assert data.labels.tolist() == [0, 1, 2, 3, 4]
    assert len(data.held_out()[0]) == 4


def test_mnist_test_labels_in_training_file_are_rejected(tmp_path):
    mnist_files(tmp_path / "MNIST" / "raw", train_labels=4)
    with pytest.raises(UserError, match="train-labels-idx1-ubyte: there are 6 samples and 4 labels"):
        MNIST(tmp_path, limit=3).setup()


def test_labels_above_nine_are_rejected(tmp_path):
    folder = mnist_files(tmp_path / "FashionMNIST" / "raw")
    (folder / "train-labels-idx1-ubyte").write_bytes(idx(np.arange(6) + 5))
    with pytest.raises(UserError, match=r"data=fashion_mnist .*labels run from 5 to 10, and should run from 0 to 9"):
        FashionMNIST(tmp_path, limit=2).setup()


@pytest.mark.parametrize("content", [b"", b"<html>", bytes(20), idx(np.zeros((6, 28, 28)))[:-9]])
@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "train-labels-idx1-ubyte"])
def test_damaged_mnist_file_is_one_error(tmp_path, name, content):
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
def test_misplaced_files_are_suggested_with_target(tmp_path, monkeypatch, place, target):
    (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / place).write_bytes(b"x")

    def fail(*_, **__):
        raise urllib.error.URLError("no route")

    monkeypatch.setattr(MNIST, "dataset", fail)
    with pytest.raises(UserError) as error:
        MNIST(tmp_path).setup()
    assert f"{tmp_path / place} looks like one of them: move it to {tmp_path / target}" in str(error.value)


def test_search_for_misplaced_files_is_bounded(tmp_path, monkeypatch):
    """With ``data.root=/`` a failed download would search the whole file system."""
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


def test_search_for_misplaced_files_skips_unreadable_folder(tmp_path, monkeypatch):
    (tmp_path / "locked").mkdir()
    (tmp_path / "locked" / "a.gz").touch()
    (tmp_path / "open").mkdir()
    (tmp_path / "open" / "a.gz").touch()
    original = Path.stat

    def deny_stat(path: Path, **options: bool) -> os.stat_result:
        if path.parent.name == "locked":
            raise PermissionError(13, "Permission denied")
        return original(path, **options)

    monkeypatch.setattr(Path, "stat", deny_stat)
    found = misplaced_file_hint(tmp_path, tmp_path / "x", ["a.gz"])
    assert "looks like one of them" in found
    assert find_data_root(tmp_path / "locked", "locked", "a") == tmp_path / "locked"


@pytest.mark.parametrize("limit", [None, 2])
def test_cifar_batches_with_too_few_labels_are_rejected(tmp_path, monkeypatch, limit):
    def dataset(root, train, download):
        images = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), np.uint8)
        return SimpleNamespace(data=images, targets=[0, 1, 2, 3], classes=list("0123456789"))

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
