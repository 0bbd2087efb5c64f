"""Sample images for tests of decoding, image folders, CelebA and streams."""

import io
from pathlib import Path

import numpy as np
import torch
from litdata.streaming.writer import BinaryWriter
from PIL import Image

from gan_lightning.data.decode import decode

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def colours(size=(32, 32), left=RED, right=BLUE) -> Image.Image:
    """Return an image with one colour on the left half and another on the right half."""
    image = Image.new("RGB", size, left)
    image.paste(right, (size[0] // 2, 0, *size))
    return image


def opened(path: Path, attribute: str) -> object:
    """Return an attribute of Pillow's image, to check that a file has the intended mode or format."""
    with Image.open(path) as image:
        return getattr(image, attribute)


def one(path: Path, size=(16, 16), channels=3) -> torch.Tensor:
    """Decode a single image that must not be damaged."""
    decoded = decode([path], size, channels)
    assert decoded.broken == {}
    assert decoded.images.shape == (1, channels, *size)
    return decoded.images[0]


def at(image: torch.Tensor, x: float, y: float) -> tuple[int, ...]:
    """Return the colour at a position relative to width and height."""
    return tuple(image[:, int(y * image.shape[1]), int(x * image.shape[2])].tolist())


def near(colour, expected, tolerance=4) -> bool:
    return all(abs(a - b) <= tolerance for a, b in zip(colour, expected, strict=True))


def noise(folder: Path) -> list[Path]:
    """Write forty images of noise and two files that are no images; return their paths."""
    generator = np.random.default_rng(0)
    folder.mkdir()
    for i in range(41):
        Image.fromarray(generator.integers(0, 256, (20, 24, 3), np.uint8)).save(folder / f"{i:02}.png")
    for i in (7, 41):
        (folder / f"{i:02}.png").write_bytes(b"no image")
    return sorted(folder.iterdir())


def sample(i: int) -> dict[str, object]:
    """Return a sample of a stream: an image whose red value encodes its index, and a label."""
    file = io.BytesIO()
    Image.new("RGB", (12, 16), (4 * i, 0, 0)).save(file, "png")
    return {"image": file.getvalue(), "label": i % 3}


def pack(folder, samples, per_chunk=7) -> str:
    """Write samples in chunks, as litdata's ``optimize`` does; return the folder."""
    writer = BinaryWriter(str(folder), chunk_size=per_chunk)
    for i, sample in enumerate(samples):
        writer.add_item(i, sample)
    writer.done()
    writer.merge()
    return str(folder)
