"""Pictures that tests of decoding, folders and CelebA write and look at."""

import io
from pathlib import Path

import numpy as np
import torch
from litdata.streaming.writer import BinaryWriter
from PIL import Image

from gan_lightning.data.decode import decode

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
    assert decoded.broken == {}
    assert decoded.images.shape == (1, channels, *size)
    return decoded.images[0]


def at(picture: torch.Tensor, x: float, y: float) -> tuple[int, ...]:
    """The colour at a place given in shares of width and height."""
    return tuple(picture[:, int(y * picture.shape[1]), int(x * picture.shape[2])].tolist())


def near(colour, wanted, tolerance=4) -> bool:
    return all(abs(a - b) <= tolerance for a, b in zip(colour, wanted, strict=True))


def noise(folder: Path) -> list[Path]:
    """Write forty images of noise and two files that are no images; their paths."""
    generator = np.random.default_rng(0)
    folder.mkdir()
    for i in range(41):
        Image.fromarray(generator.integers(0, 256, (20, 24, 3), np.uint8)).save(folder / f"{i:02}.png")
    for i in (7, 41):
        (folder / f"{i:02}.png").write_bytes(b"no image")
    return sorted(folder.iterdir())


def sample(i: int) -> dict[str, object]:
    """What a stream has: a picture whose colour is its number, and a label."""
    file = io.BytesIO()
    Image.new("RGB", (12, 16), (4 * i, 0, 0)).save(file, "png")
    return {"image": file.getvalue(), "label": i % 3}


def pack(folder, samples, per_chunk=7) -> str:
    """Samples in chunks, as litdata's ``optimize`` writes them."""
    writer = BinaryWriter(str(folder), chunk_size=per_chunk)
    for i, one in enumerate(samples):
        writer.add_item(i, one)
    writer.done()
    writer.merge()
    return str(folder)
