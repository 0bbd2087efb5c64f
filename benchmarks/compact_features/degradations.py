"""Degradations of images, and selections of rows: pure functions of their arguments, for real and training images.

Images are uint8 arrays (N, C, H, W); results are too, rounded and clipped.
"""

import io
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

Array = np.ndarray


def to_pixels(values: Array) -> Array:
    """Round and clip floats in 0 to 255 to uint8."""
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def blur(images: Array, share: float) -> Array:
    """Blur by a Gaussian whose standard deviation is ``share`` of the height."""
    sigma = share * images.shape[-2]
    return to_pixels(gaussian_filter(images.astype(np.float32), (0, 0, sigma, sigma), mode="reflect"))


def noise(images: Array, std: float, rng: np.random.Generator) -> Array:
    """Add Gaussian noise, independent for each value, with a standard deviation in 0 to 255."""
    return to_pixels(images + std * rng.standard_normal(images.shape, dtype=np.float32))


def jpeg(images: Array, quality: int) -> Array:
    """Encode and decode each image as JPEG, with Pillow's default chroma subsampling."""
    return np.stack([to_array(through_jpeg(to_image(image), quality)) for image in images])


def through_jpeg(image: Image.Image, quality: int) -> Image.Image:
    """Encode and decode an image as JPEG."""
    content = io.BytesIO()
    image.save(content, format="jpeg", quality=quality)
    content.seek(0)
    decoded = Image.open(content)
    decoded.load()
    return decoded


def colour(images: Array, gain: float) -> Array:
    """Multiply red by 1 + gain and blue by 1 - gain; a negative gain shifts towards blue."""
    return to_pixels(images * np.float32([1 + gain, 1, 1 - gain])[:, None, None])


def checkerboard(images: Array, amplitude: float) -> Array:
    """Add and subtract an amplitude in 0 to 255 at alternating pixels, as a transposed convolution may."""
    rows, columns = np.indices(images.shape[-2:])
    return to_pixels(images + np.float32(amplitude) * (1 - 2 * ((rows + columns) % 2)))


def cutout(images: Array, share: float, rng: np.random.Generator) -> Array:
    """Fill a square of each image, with a side of ``share`` of the height, with gray; it may reach over the border."""
    height, width = images.shape[-2:]
    side = max(1, round(share * height))
    images = images.copy()
    for image in images:
        top, left = rng.integers(1 - side, height), rng.integers(1 - side, width)
        image[:, max(top, 0) : top + side, max(left, 0) : left + side] = 128
    return images


def rescale(images: Array, factor: float) -> Array:
    """Reduce images to ``factor`` of their size and enlarge them again, bicubic with antialiasing."""
    height, width = images.shape[-2:]
    small = max(2, round(factor * height)), max(2, round(factor * width))
    return np.stack([resize(resize(image, small), (height, width)) for image in images])


def resize(image: Array, size: tuple[int, int]) -> Array:
    """Resize one image (C, H, W) to (C, *size), bicubic with antialiasing."""
    if image.shape[1:] == size:
        return image
    return to_array(to_image(image).resize(size[::-1], Image.Resampling.BICUBIC))


def to_image(image: Array) -> Image.Image:
    """Convert an array (1 or 3, H, W) to an image of Pillow."""
    return Image.fromarray(image[0] if len(image) == 1 else np.ascontiguousarray(image.transpose(1, 2, 0)))


def to_array(image: Image.Image) -> Array:
    """Convert an image of Pillow to an array (1 or 3, H, W)."""
    pixels = np.asarray(image)
    return pixels[None] if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


# Arguments of the degradations of whole image sets, from just visible to strong.
SEVERITIES: dict[str, tuple[float, float, float]] = {
    "blur": (1 / 64, 1 / 32, 1 / 16),
    "noise": (6, 15, 35),
    "jpeg": (70, 35, 12),
    "colour": (0.08, 0.2, 0.45),
    "checkerboard": (4, 10, 24),
    "lost_modes": (0.75, 0.55, 0.4),  # share of the images whose clusters are kept
    "lost_classes": (0.75, 0.5, 0.25),  # share of the classes that are kept
    "repeated": (1 / 4, 1 / 20, 1 / 100),  # share of distinct images
}
SELECTIONS = "lost_modes", "lost_classes", "repeated"
GRAY_KINDS = "blur", "noise", "lost_classes"
CLUSTERS = 20


def degrade(images: Array, kind: str, value: float, rng: np.random.Generator) -> Array:
    """Apply a degradation of ``SEVERITIES`` that changes pixels."""
    if kind == "noise":
        return noise(images, value, rng)
    if kind == "jpeg":
        return jpeg(images, int(value))
    functions: dict[str, Callable[[Array, float], Array]] = {
        "blur": blur,
        "colour": colour,
        "checkerboard": checkerboard,
    }
    return functions[kind](images, value)


def select(pool: Array, labels: Array, kind: str, value: float, num: int, rng: np.random.Generator) -> Array:
    """Return the rows (num,) of a pool of real images that a degradation of ``SELECTIONS`` keeps, in random order.

    Args:
        pool: Images (n, C, H, W).
        labels: Their classes (n,).
        kind: The degradation.
        value: Its severity.
        num: Number of rows.
        rng: Random numbers.

    Raises:
        ValueError: The pool has too few images.
    """
    if kind == "repeated":
        distinct = rng.permutation(len(pool))[: max(1, round(value * num))]
        return rng.permutation(np.resize(distinct, num))
    if kind == "lost_classes":
        keep = np.isin(labels, kept_classes(labels, value))
    else:
        numbers = clusters(pool)
        keep = np.isin(numbers, kept_clusters(numbers, value))
    rows = np.flatnonzero(keep)
    if len(rows) < num:
        raise ValueError(f"{kind}: {len(rows):,} images are left, and {num:,} are needed")
    return rng.permutation(rows)[:num]


def kept_classes(labels: Array, share: float) -> list[int]:
    """Return the largest classes, a share of all of them, rounded up; those of equal size in the order of numbers."""
    counts = np.bincount(labels)
    order = np.argsort(-counts, kind="stable")
    order = order[counts[order] > 0]
    return order[: int(np.ceil(share * len(order)))].tolist()


def kept_clusters(numbers: Array, share: float) -> list[int]:
    """Return the first clusters that together have at least a share of the images."""
    cumulated = np.cumsum(np.bincount(numbers)) / len(numbers)
    return list(range(int(np.searchsorted(cumulated, share - 1e-9)) + 1))


def clusters(images: Array, num: int = CLUSTERS) -> Array:
    """Return the cluster (N,) of each image by k-means of its 8 x 8 pixels, which no feature network has a part in."""
    from sklearn.cluster import KMeans

    small = np.stack([resize(image, (8, 8)) for image in images]).reshape(len(images), -1)
    num = min(num, len(images))
    return KMeans(num, n_init=1, random_state=0).fit_predict(small.astype(np.float32))


# Degradations of training images: name, and the argument at strength 0 and at strength 1.
TRAINING_KINDS: dict[str, tuple[float, float]] = {
    "blur": (0.006, 0.08),
    "noise": (2, 45),
    "jpeg": (90, 5),
    "colour": (0.03, 0.5),
    "checkerboard": (2, 32),
    "cutout": (0.1, 0.6),
    "rescale": (0.9, 0.2),
}


def random_degradation(image: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """Apply one or two random degradations to an image (C, H, W).

    Returns:
        The image, and the strength of each degradation of ``TRAINING_KINDS``: 0 for none, else above 0 up to 1.
    """
    names: Sequence[str] = [kind for kind in TRAINING_KINDS if kind != "colour" or len(image) == 3]
    strengths = np.zeros(len(TRAINING_KINDS), np.float32)
    batch = image[None]
    for name in rng.permutation(names)[: rng.integers(1, 3)]:
        strength = 1 - rng.random()
        low, high = TRAINING_KINDS[name]
        value = low + strength * (high - low)
        if name == "cutout":
            batch = cutout(batch, value, rng)
        elif name == "rescale":
            batch = rescale(batch, value)
        elif name == "colour":
            batch = colour(batch, value * rng.choice((-1, 1)))
        else:
            batch = degrade(batch, str(name), value, rng)
        strengths[[*TRAINING_KINDS].index(name)] = strength
    return batch[0], strengths
