"""Order and flips of the batches, and what each data set holds."""

import logging
import os
import random
import urllib.error
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from gan_lightning import seed as seeds
from gan_lightning.data import base
from gan_lightning.data.base import ImageData, StepLoader, with_channels
from gan_lightning.data.celeba import CelebA
from gan_lightning.data.cifar10 import CIFAR10
from gan_lightning.data.decode import CHUNK, decode
from gan_lightning.data.digits import Digits
from gan_lightning.data.fashion_mnist import FashionMNIST
from gan_lightning.data.gaussian_grid import GaussianGrid
from gan_lightning.data.gaussian_ring import GaussianRing
from gan_lightning.data.image_folder import ImageFolder
from gan_lightning.data.mnist import MNIST
from gan_lightning.errors import UserError
from gan_lightning.image import from_uint8, resize, to_uint8

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
    loader = StepLoader(*numbers(n), minibatch, d_steps, seed=5, stop=steps)
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
        return torch.cat([s for s, _ in StepLoader(*numbers(40), 10, seed=seed, start=start, stop=start + 4)]).tolist()

    assert order(0, 0) != order(0, 4)
    assert order(0, 0) != order(1, 0)
    assert order(0, 0) != list(range(40))
    assert order(0, 4) == order(0, 4)


def test_a_loader_that_starts_later_goes_on_with_the_same_batches():
    whole = [s.tolist() for s, _ in StepLoader(*numbers(10), 4, 2, seed=1, stop=9)]
    for start in (1, 4, 5, 8, 9):
        later = StepLoader(*numbers(10), 4, 2, seed=1, start=start, stop=9)
        assert [s.tolist() for s, _ in later] == whole[start:]
        assert len(later) == 9


@pytest.mark.parametrize("world_size", [1, 2, 4])
@pytest.mark.parametrize("n", [5, 50])
def test_ranks_share_the_same_minibatches(n, world_size):
    minibatch, d_steps, steps = 8, 3, 4
    alone = [s.view(d_steps, minibatch) for s, _ in StepLoader(*numbers(n), minibatch, d_steps, stop=steps)]
    ranks = [
        [s for s, _ in StepLoader(*numbers(n), minibatch, d_steps, stop=steps, rank=rank, world_size=world_size)]
        for rank in range(world_size)
    ]
    for step in range(steps):
        parts = [ranks[rank][step].view(d_steps, minibatch // world_size) for rank in range(world_size)]
        assert torch.equal(torch.cat(parts, dim=1), alone[step])


# --- flips, scale, channels -----------------------------------------------------------------------------------------


class Stripes(ImageData):
    """Pictures whose left half is black and whose right is white, so that a flip shows."""

    def read(self):
        images = torch.zeros(256, 1, 8, 8, dtype=torch.uint8)
        images[..., 4:] = 255
        images[:, 0, 0, 0] = torch.arange(256)
        return images, torch.zeros(256), []


def attach(data, step=0, d_steps=1, rank=0, world_size=1):
    module = SimpleNamespace(d_steps=d_steps, dtype=torch.float32)
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
    share = (distances.min(1).values < 3 * data.deviation).float().mean()
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
    ("kind", "torchvision", "folder", "file"),
    [
        (MNIST, "mnist.datasets.MNIST", "MNIST/raw", "train-images-idx3-ubyte.gz"),
        (FashionMNIST, "fashion_mnist.datasets.FashionMNIST", "FashionMNIST/raw", "t10k-labels-idx1-ubyte.gz"),
        (CIFAR10, "cifar10.datasets.CIFAR10", "cifar-10-batches-py", "data_batch_5"),
    ],
)
def test_a_failed_download_says_which_files_to_put_where(
    monkeypatch, tmp_path, kind, torchvision, folder, file, failure
):
    def fail(*_, **__):
        raise failure

    monkeypatch.setattr(f"gan_lightning.data.{torchvision}", fail)
    with pytest.raises(UserError) as error:
        kind(tmp_path).setup()
    for part in (str(tmp_path / folder), file, "data.root"):
        assert part in str(error.value)


def test_other_faults_of_a_download_are_not_hidden():
    def fail():
        raise KeyError("a fault of ours")

    with pytest.raises(KeyError):
        base.downloaded("mnist", Path("data"), ["file"], fail)


# --- pictures of all kinds ------------------------------------------------------------------------------------------

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def colours(size=(32, 32), left=RED, right=BLUE) -> Image.Image:
    """Left half and right half of one colour each."""
    picture = Image.new("RGB", size, left)
    picture.paste(right, (size[0] // 2, 0, *size))
    return picture


def opened(path: Path, attribute: str) -> object:
    """What Pillow says of a file: the test is about the kind of picture that it means to be about."""
    with Image.open(path) as image:
        return getattr(image, attribute)


def one(path: Path, size=(16, 16), channels=3) -> torch.Tensor:
    """A single picture, decoded."""
    decoded = decode([path], size, channels)
    assert decoded.broken == []
    assert decoded.images.shape == (1, channels, *size)
    return decoded.images[0]


def at(picture: torch.Tensor, x: float, y: float) -> tuple[int, ...]:
    """The colour at a place given in shares of width and height."""
    return tuple(picture[:, int(y * picture.shape[1]), int(x * picture.shape[2])].tolist())


def near(colour, wanted, tolerance=4) -> bool:
    return all(abs(a - b) <= tolerance for a, b in zip(colour, wanted, strict=True))


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "gif", "webp", "ppm", "jpg", "tga", "jp2", "ico"])
def test_formats(tmp_path, suffix):
    path = tmp_path / f"picture.{suffix}"
    colours().save(path, **({"lossless": True} if suffix == "webp" else {}))
    picture = one(path)
    assert near(at(picture, 0.2, 0.5), RED, 6)
    assert near(at(picture, 0.8, 0.5), BLUE, 6)


def test_gray_and_black_and_white(tmp_path):
    ramp = Image.fromarray(np.tile(np.arange(0, 256, 8, dtype=np.uint8), (32, 1)))
    ramp.save(tmp_path / "gray.png")
    picture = one(tmp_path / "gray.png", (32, 32))
    assert torch.equal(picture, torch.arange(0, 256, 8, dtype=torch.uint8).expand(3, 32, 32))
    assert torch.equal(one(tmp_path / "gray.png", (32, 32), channels=1), picture[:1])
    Image.new("1", (32, 32), 1).save(tmp_path / "bits.png")
    assert at(one(tmp_path / "bits.png"), 0.5, 0.5) == (255, 255, 255)


def test_colour_to_gray(tmp_path):
    colours(left=RED, right=GREEN).save(tmp_path / "picture.png")
    picture = one(tmp_path / "picture.png", channels=1)
    assert (at(picture, 0.2, 0.5), at(picture, 0.8, 0.5)) == ((76,), (150,))


def transparent_pictures() -> dict[str, tuple[Image.Image, dict]]:
    """Left half transparent (black or green below), right half opaque blue or black."""
    rgba = Image.new("RGBA", (32, 32), (0, 255, 0, 0))
    rgba.paste((0, 0, 255, 255), (16, 0, 32, 32))
    la = Image.new("LA", (32, 32), (0, 0))
    la.paste((0, 255), (16, 0, 32, 32))
    palette = Image.new("P", (32, 32), 0)
    palette.putpalette([0, 255, 0, 0, 0, 255])
    palette.paste(1, (16, 0, 32, 32))
    return {
        "rgba.png": (rgba, {}),
        "rgba.webp": (rgba, {"lossless": True, "exact": True}),
        "la.png": (la, {}),
        "palette.png": (palette, {"transparency": 0}),
        "palette.gif": (palette, {"transparency": 0}),
        "gray.png": (colours(left=(7, 7, 7), right=(0, 0, 0)).convert("L"), {"transparency": 7}),
        "rgb.png": (colours(left=GREEN, right=BLUE), {"transparency": GREEN}),
    }


@pytest.mark.parametrize("name", transparent_pictures())
def test_transparency_becomes_white(tmp_path, name):
    picture, options = transparent_pictures()[name]
    picture.save(tmp_path / name, **options)
    decoded = one(tmp_path / name)
    assert at(decoded, 0.2, 0.5) == (255, 255, 255)
    assert at(decoded, 0.8, 0.5) == ((0, 0, 0) if name in ("la.png", "gray.png") else BLUE)
    assert at(one(tmp_path / name, channels=1), 0.2, 0.5) == (255,)


def test_half_transparent_is_mixed_with_white(tmp_path):
    Image.new("RGBA", (16, 16), (0, 0, 0, 128)).save(tmp_path / "half.png")
    assert near(at(one(tmp_path / "half.png"), 0.5, 0.5), (127, 127, 127), 1)


def test_opaque_palette(tmp_path):
    colours().quantize(4).save(tmp_path / "palette.png")
    assert near(at(one(tmp_path / "palette.png"), 0.2, 0.5), RED)


@pytest.mark.parametrize("suffix", ["jpg", "tif"])
def test_cmyk(tmp_path, suffix):
    colours(left=RED, right=(255, 255, 255)).convert("CMYK").save(tmp_path / f"print.{suffix}", quality=95)
    assert opened(tmp_path / f"print.{suffix}", "mode") == "CMYK"
    picture = one(tmp_path / f"print.{suffix}")
    assert near(at(picture, 0.2, 0.5), RED, 8)
    assert near(at(picture, 0.8, 0.5), (255, 255, 255), 8)
    assert near(at(one(tmp_path / f"print.{suffix}", channels=1), 0.2, 0.5), (76,), 8)


@pytest.mark.parametrize("name", ["deep.png", "deep.tif", "big_endian.tif", "int32.tif", "deep.pgm"])
def test_16_bits_are_scaled_and_not_clipped(tmp_path, name):
    values = np.zeros((16, 16), dtype=np.uint16)
    values[:, :4], values[:, 4:8], values[:, 8:12], values[:, 12:] = 0, 257, 32896, 49344
    if name == "int32.tif":
        picture = Image.fromarray(values.astype(np.int32))
    elif name == "big_endian.tif":
        picture = Image.frombytes("I;16B", (16, 16), values.astype(">u2").tobytes())
    else:
        picture = Image.fromarray(values)
    picture.save(tmp_path / name)
    assert opened(tmp_path / name, "mode").startswith("I")
    assert one(tmp_path / name)[0, 8, [1, 6, 10, 14]].tolist() == [0, 1, 128, 192]
    assert one(tmp_path / name, channels=1)[0, 8, [1, 6, 10, 14]].tolist() == [0, 1, 128, 192]


@pytest.mark.parametrize(
    "values", [np.float32([0, 0.5, 1]), np.int32([-40000, 0, 40000]), np.int32([0, 10**8, 2 * 10**8])]
)
def test_without_a_fixed_white_the_own_range_counts(tmp_path, values):
    Image.fromarray(np.repeat(np.tile(values, (12, 1)), 4, axis=1)).save(tmp_path / "measured.tif")
    assert one(tmp_path / "measured.tif", (12, 12), 1)[0, 6, [1, 6, 10]].tolist() == pytest.approx(
        [0, 127.5, 255], abs=0.6
    )


def test_a_flat_measurement_and_one_with_holes(tmp_path):
    Image.fromarray(np.full((8, 8), 3.5, dtype=np.float32)).save(tmp_path / "flat.tif")
    assert one(tmp_path / "flat.tif").max() == 0
    Image.fromarray(np.full((8, 8), np.nan, dtype=np.float32)).save(tmp_path / "nan.tif")
    assert "not numbers" in decode([tmp_path / "nan.tif"], (8, 8), 1).broken[0]


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation(tmp_path, suffix, orientation):
    upright = Image.new("RGB", (48, 32), RED)  # red, but for a green corner at the top right and blue below it
    upright.paste(GREEN, (24, 0, 48, 16))
    upright.paste(BLUE, (24, 16, 48, 32))
    method = Image.Transpose  # undoes what a viewer does for this orientation
    undo = [
        None, None, method.FLIP_LEFT_RIGHT, method.ROTATE_180, method.FLIP_TOP_BOTTOM,
        method.TRANSPOSE, method.ROTATE_90, method.TRANSVERSE, method.ROTATE_270,
    ][orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = upright if undo is None else upright.transpose(undo)
    stored.save(tmp_path / f"phone.{suffix}", exif=exif, **({"quality": 95} if suffix in ("jpg", "webp") else {}))
    decoded = decode([tmp_path / f"phone.{suffix}"], (16, 24), 3)
    for place, colour in {(0.2, 0.2): RED, (0.2, 0.8): RED, (0.8, 0.2): GREEN, (0.8, 0.8): BLUE}.items():
        assert near(at(decoded.images[0], *place), colour, 12)
    assert list(decoded.sizes) == [(48, 32)]


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "tif"])
def test_of_an_animation_the_first_frame(tmp_path, suffix):
    frames = [Image.new("RGB", (16, 16), colour) for colour in (RED, GREEN, BLUE)]
    frames[0].save(tmp_path / f"film.{suffix}", save_all=True, append_images=frames[1:])
    assert opened(tmp_path / f"film.{suffix}", "n_frames") == 3
    assert near(at(one(tmp_path / f"film.{suffix}"), 0.5, 0.5), RED)


def test_content_decides_and_not_the_name(tmp_path):
    colours().save(tmp_path / "really_png.jpg", format="PNG")
    assert at(one(tmp_path / "really_png.jpg"), 0.2, 0.5) == RED


def test_postscript_is_not_run(tmp_path):
    (tmp_path / "program.jpg").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"
    )
    assert opened(tmp_path / "program.jpg", "format") == "EPS"
    assert "unknown format" in decode([tmp_path / "program.jpg"], (8, 8), 3).broken[0]


@pytest.mark.parametrize(("stored", "size"), [((60, 20), (20, 20)), ((20, 60), (20, 20)), ((40, 40), (40, 20))])
def test_the_crop_is_central(tmp_path, stored, size):
    """What is cut away is blue on both sides; a green middle stays."""
    picture = Image.new("RGB", stored, BLUE)
    height, width = size
    scale = min(stored[0] / width, stored[1] / height)
    kept = width * scale, height * scale
    box = [int((stored[i] + sign * kept[i]) / 2) for sign in (-1, 1) for i in (0, 1)]
    picture.paste(GREEN, tuple(box))
    picture.save(tmp_path / "picture.png")
    assert (one(tmp_path / "picture.png", size) == torch.tensor(GREEN).view(3, 1, 1)).all()


def test_large_jpegs_keep_their_content(tmp_path):
    """The decoder's shortcut for large pictures moves no detail that the small one can show."""
    noise = np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    large = Image.fromarray(noise).resize((640, 480), Image.Resampling.BICUBIC)
    large.save(tmp_path / "large.jpg", quality=95)
    decoded = decode([tmp_path / "large.jpg"], (32, 32), 3)
    box = large.crop((80, 0, 560, 480)).resize((32, 32), Image.Resampling.BICUBIC)
    wanted = torch.from_numpy(np.array(box)).permute(2, 0, 1).float()
    assert (decoded.images[0].float() - wanted).abs().mean() < 0.5
    assert list(decoded.sizes) == [(640, 480)]


def test_tiny_pictures_are_enlarged(tmp_path):
    Image.new("RGB", (1, 1), GREEN).save(tmp_path / "dot.png")
    assert at(one(tmp_path / "dot.png", (64, 48)), 0.5, 0.5) == GREEN


def test_many_pictures_keep_their_places(tmp_path):
    paths = [tmp_path / f"{i}.png" for i in range(3 * CHUNK + 5)]
    for i, path in enumerate(paths):
        Image.new("L", (4, 4), i).save(path)
    random.Random(0).shuffle(paths)
    broken = [paths[3], paths[CHUNK + 1]]
    for path in broken:
        path.write_bytes(b"x")
    decoded = decode(paths, (4, 4), 1)
    assert decoded.images[:, 0, 0, 0].tolist() == [int(path.stem) for path in paths if path not in broken]
    assert [paths[row] for row in decoded.rows] == [path for path in paths if path not in broken]
    assert len(decoded.broken) == 2


def test_bombs_are_refused_in_every_thread_and_warnings_stay_away(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    for i in range(2 * CHUNK):
        Image.new("L", (10, 10) if i % 2 else (15, 10)).save(tmp_path / f"{i}.png")  # 150: Pillow itself only warns
    Image.new("L", (30, 10)).save(tmp_path / "huge.png")
    paths = sorted(tmp_path.iterdir())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        decoded = decode(paths, (4, 4), 1)
        assert caught == []
        warnings.warn("filters are as they were", stacklevel=1)
        assert len(caught) == 1
    assert len(decoded.rows) == CHUNK
    assert len(decoded.broken) == CHUNK + 1
    assert all("more than 100 pixels" in line for line in decoded.broken)


def test_pictures_that_exceed_memory(tmp_path, monkeypatch):
    def full(*_, **__):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr("gan_lightning.data.decode.torch.empty", full)
    with pytest.raises(UserError, match=r"3,000 such pictures take 38 GB.*data\.limit"):
        decode([tmp_path / "a.png"] * 3000, (2048, 2048), 3)


# --- folders --------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path) -> Path:
    """Three classes, one of them nested, one loose picture, other files, hidden ones and an empty sub-folder."""
    root = tmp_path / "pictures"
    files = {
        "b_green/1.png": GREEN, "b_green/2.JPG": GREEN, "a_red/1.png": RED, "a_red/deep/er/2.png": RED,
        "a_red/3.png": RED, "c blue/x.webp": BLUE, "loose.png": RED, ".hidden.png": RED, ".cache/1.png": RED,
        "a_red/._1.png": RED,
    }  # fmt: skip
    for name, colour in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        colours((20, 12), colour, colour).save(root / name)
    (root / "empty").mkdir()
    (root / "notes.txt").write_text("x")
    (root / "a_red" / "phone.heic").write_text("x")
    (root / "texts").mkdir()
    (root / "texts" / "README").write_text("x")
    return root


def test_sub_folders_become_classes(folder, caplog):
    data = ImageFolder(root=folder, image_size=[8, 16], flip=False)
    with caplog.at_level(logging.INFO):
        data.setup()
    assert data.class_names == ["a_red", "b_green", "c blue"]
    assert data.samples.shape == (6, 3, 8, 16)
    assert data.labels.tolist() == [0, 1, 2, 0, 1, 0]
    for picture, label in zip(data.samples, data.labels, strict=True):
        assert near(at(picture, 0.5, 0.5), [RED, GREEN, BLUE][label])
    report = caplog.text
    assert "6 pictures" in report
    assert "all 20 x 12" in report
    assert "RGB 6" in report
    assert "3 classes: a_red 3, b_green 2, c blue 1" in report
    assert "left out: 1 pictures beside the sub-folders" in report
    assert "left out: 3 other files" in report
    assert ".heic 1" in report


def test_loose_pictures_have_no_labels(folder, caplog):
    with caplog.at_level(logging.INFO):
        data = ImageFolder(root=folder / "a_red" / "deep" / "er")
        data.setup()
    assert data.class_names == []
    assert data.labels.tolist() == [0]
    assert "left out" not in caplog.text
    assert "classes" not in caplog.text


def test_the_report_tells_the_spread_of_sizes(tmp_path, caplog):
    for i, size in enumerate([(30, 20), (8, 9), (30, 20), (100, 50)]):
        Image.new("L" if i else "RGB", size).save(tmp_path / f"{i}.png")
    with caplog.at_level(logging.INFO):
        ImageFolder(root=tmp_path).setup()
    assert "8 x 9 to 100 x 50, most often 30 x 20 (2); modes L 3, RGB 1" in caplog.text


def test_many_classes_are_shortened(tmp_path, caplog):
    for i in range(30):
        (tmp_path / f"kind{i:02}").mkdir()
        Image.new("L", (8, 8)).save(tmp_path / f"kind{i:02}" / "1.png")
    with caplog.at_level(logging.INFO):
        data = ImageFolder(root=tmp_path)
        data.setup()
    assert data.num_classes == 30
    assert "30 classes" in caplog.text
    assert "and 22 more" in caplog.text


def test_limit_comes_before_decoding(folder, monkeypatch, caplog):
    (folder / "a_red" / "deep" / "er" / "2.png").write_bytes(b"broken, and never looked at")
    asked = []
    monkeypatch.setattr(
        "gan_lightning.data.image_folder.decode", lambda paths, *rest: asked.extend(paths) or decode(paths, *rest)
    )
    with caplog.at_level(logging.INFO):
        data = ImageFolder(root=folder, limit=4)
        data.setup()
    assert len(asked) == len(data.samples) == 4
    assert data.labels.tolist() == [0, 1, 2, 0]
    assert "4 pictures of 6" in caplog.text


def test_classes_that_a_limit_leaves_empty_are_dropped(folder, caplog):
    with caplog.at_level(logging.INFO):
        data = ImageFolder(root=folder, limit=2)
        data.setup()
    assert data.class_names == ["a_red", "b_green"]
    assert data.labels.tolist() == [0, 1]
    assert "1 classes of which no picture is left" in caplog.text
    assert data.real(2, torch.tensor([1, 1])).shape == (2, 3, 64, 64)


def spoil(folder: Path) -> list[Path]:
    """Seven broken pictures of different kinds."""
    good = (folder / "b_green" / "2.JPG").read_bytes()
    broken = {
        "b_green/cut.jpg": good[: len(good) // 2], "b_green/empty.png": b"", "b_green/text.png": b"hello",
        "a_red/half.png": (folder / "a_red" / "1.png").read_bytes()[:50], "a_red/zero.gif": bytes(100),
        "c blue/x.webp": b"RIFF", "a_red/tag.tif": b"II*\0" + b"\xff" * 40,
    }  # fmt: skip
    for name, content in broken.items():
        (folder / name).write_bytes(content)
    return [folder / name for name in broken]


def test_broken_pictures_are_all_found_and_told(folder):
    broken = spoil(folder)
    with pytest.raises(UserError) as error:
        ImageFolder(root=folder).setup()
    message = str(error.value)
    assert "7 of 12 pictures cannot be read" in message
    assert sum(repr(str(path)) in message for path in broken) == 5
    assert "and 2 more" in message
    assert "data.skip_broken=true" in message
    assert "truncated" in message or "not a picture" in message
    assert len(error.value.faults) == 1


def test_broken_pictures_can_be_left_out(folder, caplog):
    spoil(folder)
    with caplog.at_level(logging.INFO):
        data = ImageFolder(root=folder, skip_broken=True)
        data.setup()
    assert data.class_names == ["a_red", "b_green"]  # the only blue one is broken
    assert data.labels.tolist() == [0, 1, 0, 1, 0]
    for picture, label in zip(data.samples, data.labels, strict=True):
        assert near(at(picture, 0.5, 0.5), [RED, GREEN][label])
    assert "7 of 12 pictures cannot be read" in caplog.text
    assert "1 classes of which" in caplog.text


def test_nothing_but_broken_pictures(tmp_path):
    (tmp_path / "a.png").write_bytes(b"x")
    with pytest.raises(UserError, match=r"1 of 1 pictures cannot be read.*no picture is left"):
        ImageFolder(root=tmp_path, skip_broken=True).setup()


def test_a_missing_path(tmp_path):
    with pytest.raises(UserError, match=r"data\.root=.*nowhere.*no such folder"):
        ImageFolder(root=tmp_path / "nowhere").setup()
    with pytest.raises(UserError, match="is empty"):
        ImageFolder(root=tmp_path).setup()
    (tmp_path / "a.zip").write_text("x")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b.HEIC").write_text("x")
    with pytest.raises(UserError, match=r"no pictures, only \.zip 1, \.heic 1"):
        ImageFolder(root=tmp_path).setup()
    with pytest.raises(UserError, match="is a file, and should be a folder"):
        ImageFolder(root=tmp_path / "a.zip").setup()


def test_relative_to_the_current_folder(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    data = ImageFolder(root="pictures")
    data.setup()
    assert len(data.samples) == 6


def test_names_cannot_speak_to_the_terminal(tmp_path, caplog):
    evil = "\x1b[2J\x1b]0;owned\x07\u202e"
    (tmp_path / evil).mkdir()
    (tmp_path / "tame").mkdir()
    colours().save(tmp_path / "tame" / "1.png")
    (tmp_path / evil / f"{evil}.png").write_bytes(b"x")
    (tmp_path / f"notes.{evil}").write_text("x")
    with pytest.raises(UserError) as error:
        ImageFolder(root=tmp_path).setup()
    colours().save(tmp_path / evil / "good.png")
    data = ImageFolder(root=tmp_path, skip_broken=True)
    with caplog.at_level(logging.INFO):
        data.setup()
    for text in (str(error.value), caplog.text, *data.class_names):
        assert not any(character in text for character in "\x1b\x07\u202e")
        assert "\\x1b[2J" in text or text == "tame"
    assert "left out" in caplog.text


def test_names_that_are_no_text(tmp_path):
    try:
        os.mkdir(os.fsencode(tmp_path) + b"/caf\xe9")  # noqa: PTH102
    except OSError:
        pytest.skip("this file system takes only UTF-8")
    folder = next(tmp_path.iterdir())
    colours().save(folder / "1.png")
    data = ImageFolder(root=tmp_path)
    data.setup()
    assert [name.encode() for name in data.class_names] == [rb"caf\udce9"]


def test_links_and_pipes(folder, tmp_path):
    (folder / "a_red" / "deep" / "back").symlink_to(folder)
    (folder / "b_green" / "sibling").symlink_to(folder / "c blue")
    os.mkfifo(folder / "b_green" / "pipe.png")
    (folder / "b_green" / "gone.png").symlink_to(tmp_path / "gone.png")
    with pytest.raises(UserError, match=r"1 of 8 pictures cannot be read: .*gone\.png' \(No such file or directory\)"):
        ImageFolder(root=folder).setup()
    (folder / "b_green" / "gone.png").unlink()
    data = ImageFolder(root=folder)
    data.setup()
    assert data.labels.bincount().tolist() == [3, 3, 1]  # the sibling's picture is in both


# --- CelebA ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def celeba(tmp_path) -> Path:
    """Six faces of 89 x 109, the smiling ones green, and a list with a row too many."""
    pictures = tmp_path / "celeba" / "img_align_celeba"
    pictures.mkdir(parents=True)
    rows = []
    for i in range(1, 8):
        rows.append(f"{i:06}.jpg  {1 if i % 2 else -1} -1 {1 if i % 3 == 0 else -1}")
        if i < 7:
            face = Image.new("RGB", (89, 109), BLUE)
            face.paste(GREEN if i % 3 == 0 else RED, (0, 10, 89, 99))
            face.save(pictures / f"{i:06}.jpg", quality=95)
    (tmp_path / "celeba" / "list_attr_celeba.txt").write_text("7\nMale Bald Smiling \n" + "\n".join(rows) + "\n")
    return tmp_path


def test_celeba_without_labels(celeba, caplog):
    (celeba / "celeba" / "list_attr_celeba.txt").unlink()
    data = CelebA(celeba, image_size=32)
    with caplog.at_level(logging.INFO):
        data.setup()
    assert data.samples.shape == (6, 3, 32, 32)
    assert (data.num_classes, data.labels.tolist()) == (0, [0] * 6)
    assert near(at(data.samples[0], 0.5, 0.05), RED, 12)  # the square: blue above and below the face is cut away
    assert near(at(data.samples[2], 0.5, 0.95), GREEN, 12)
    assert "6 pictures" in caplog.text
    assert "all 89 x 109" in caplog.text


def test_celeba_with_an_attribute(celeba):
    data = CelebA(celeba, attribute="Smiling")
    data.setup()
    assert data.class_names == ["not Smiling", "Smiling"]
    assert data.labels.tolist() == [0, 0, 1, 0, 0, 1]
    smiling = data.real(1, torch.tensor([1]))
    assert near(at(to_uint8(smiling)[0], 0.5, 0.5), GREEN, 12)
    male = CelebA(celeba, attribute="Male", limit=3, channels=1, image_size=[48, 32])
    male.setup()
    assert male.labels.tolist() == [1, 0, 1]
    assert male.samples.shape == (3, 1, 48, 32)


@pytest.mark.parametrize("place", ["celeba", "img_align_celeba", "celeba/img_align_celeba/img_align_celeba"])
def test_celeba_from_nothing_but_a_folder(celeba, tmp_path, place):
    other = tmp_path / "other"
    (other / place).parent.mkdir(parents=True, exist_ok=True)
    (celeba / "celeba" / "img_align_celeba").rename(other / place)
    (celeba / "celeba" / "list_attr_celeba.txt").rename(other / place / "list_attr_celeba.txt")
    data = CelebA(other, attribute="Smiling")
    data.setup()
    assert data.labels.tolist() == [0, 0, 1, 0, 0, 1]


def test_celeba_as_png_and_a_list_without_its_count(celeba):
    for path in (celeba / "celeba" / "img_align_celeba").iterdir():
        with Image.open(path) as image:
            image.resize((64, 64)).save(path.with_suffix(".png"))
        path.unlink()
    file = celeba / "celeba" / "list_attr_celeba.txt"
    file.write_text(file.read_text().partition("\n")[2])
    data = CelebA(celeba, attribute="Smiling")
    data.setup()
    assert data.labels.tolist() == [0, 0, 1, 0, 0, 1]


def test_celeba_that_is_not_there(tmp_path):
    for made in (tmp_path, tmp_path / "celeba", tmp_path / "celeba" / "img_align_celeba"):
        made.mkdir(exist_ok=True)
        with pytest.raises(UserError) as error:
            CelebA(tmp_path).setup()
        for part in ("img_align_celeba", str(tmp_path / "celeba"), "mmlab.ie.cuhk.edu.hk", "data.root"):
            assert part in str(error.value)


@pytest.mark.parametrize(("attribute", "nearest"), [("smiling", "Smiling"), ("Smilin", "Smiling"), ("mail", "Male")])
def test_celeba_unknown_attribute(celeba, attribute, nearest):
    with pytest.raises(UserError) as error:
        CelebA(celeba, attribute=attribute).setup()
    assert f"nearest is {nearest};" in str(error.value)
    assert "one of Male, Bald, Smiling" in str(error.value)


def test_celeba_attribute_that_resembles_none(celeba):
    with pytest.raises(UserError, match=r"data\.attribute=Xyzzy: (?!.*nearest).*one of Male, Bald, Smiling"):
        CelebA(celeba, attribute="Xyzzy").setup()


def test_celeba_without_its_list(celeba):
    (celeba / "celeba" / "list_attr_celeba.txt").unlink()
    with pytest.raises(UserError) as error:
        CelebA(celeba, attribute="Smiling").setup()
    assert "list_attr_celeba.txt" in str(error.value)
    assert str(celeba / "celeba") in str(error.value)


def test_celeba_pictures_without_a_row(celeba):
    colours().save(celeba / "celeba" / "img_align_celeba" / "999999.jpg")
    with pytest.raises(UserError, match=r"1 of 7 pictures have no row .*999999\.jpg"):
        CelebA(celeba, attribute="Smiling").setup()
    CelebA(celeba).setup()


@pytest.mark.parametrize(
    "text", ["", "<html>\n<b>Quota exceeded</b>\nx\n", "1\nMale Bald\n000001.jpg 1\n", "1\nA\n1.jpg 7\n"]
)
def test_celeba_with_a_broken_list(celeba, text):
    (celeba / "celeba" / "list_attr_celeba.txt").write_text(text)
    with pytest.raises(UserError, match=r"list_attr_celeba\.txt"):
        CelebA(celeba, attribute="Smiling").setup()


def test_celeba_with_a_broken_picture(celeba):
    (celeba / "celeba" / "img_align_celeba" / "000002.jpg").write_bytes(b"<html>")
    with pytest.raises(UserError, match=r"1 of 6 pictures cannot be read: .*000002\.jpg"):
        CelebA(celeba).setup()
    data = CelebA(celeba, limit=1)  # comes before decoding
    data.setup()
    assert len(data.samples) == 1


# --- real data ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "count"), [(MNIST, 60_000), (FashionMNIST, 60_000), (CIFAR10, 50_000)])
def test_downloaded_data(kind, count):
    data = kind(os.environ.get("GAN_DATA_DIR", "data"))
    try:
        data.setup()
    except UserError as error:
        pytest.skip(str(error))
    assert len(data.samples) == count
    assert data.labels.bincount().tolist() == pytest.approx([count / 10] * 10, rel=0.15)


@pytest.mark.slow
def test_real_celeba():
    data = CelebA(os.environ.get("GAN_DATA_DIR", "data"), attribute="Smiling", limit=2000)
    try:
        data.setup()
    except UserError as error:
        pytest.skip(str(error))
    assert data.samples.shape == (2000, 3, 64, 64)
    assert 0.4 < data.labels.float().mean() < 0.6
