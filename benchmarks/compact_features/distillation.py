"""The training images of the student networks: varied, half of them degraded, each a function of its index alone.

No image is stored: the teacher and the students create image i from the same seed. A prefix of any length has the same
mixture, so that more images can be added later.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from degradations import TRAINING_KINDS, random_degradation, resize, to_pixels
from image_sets import NUM_REFERENCE, load_data

SEED = 2027
# Kind of each of twenty consecutive images.
PLACES = ("cifar10",) * 10 + ("fashion_mnist",) * 3 + ("mnist",) * 3 + ("synthetic",) * 4
SIDES = 48, 64, 80, 96
SYNTHETIC = {"enlarged": 0.2, "crop": 0.15, "collage": 0.15, "blend": 0.1, "leaves": 0.15, "photo": 0.1, "gan": 0.15}
CLASSES = {"cifar10": 0, "fashion_mnist": 10, "mnist": 20}  # number of the first class of each data set
NUM_CLASSES = 30
MIN_SIDE = 32  # gray images are shown at 28 x 28, as the files have them, and at this side


class DistillationImages:
    """The training images by index.

    Args:
        sources: Images (N, C, H, W) of the data sets ``CLASSES``; real images of references are not among them.
        labels: Their classes (N,).
        photos: Photographs (3, H, W), of which crops are taken.
        generated: Sets of generated images (N, C, H, W).
    """

    def __init__(
        self,
        sources: dict[str, np.ndarray],
        labels: dict[str, np.ndarray],
        photos: Sequence[np.ndarray],
        generated: Sequence[np.ndarray],
    ) -> None:
        self.sources, self.labels, self.photos, self.generated = sources, labels, photos, generated

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray, int]:
        """Return image ``index`` (3, H, W), the strengths of its degradations, and its class; -1 for a mixture.

        The strengths (len(TRAINING_KINDS),) are all 0 for every second image of each kind.
        """
        rng = np.random.default_rng([SEED, index])
        block, place = divmod(index, len(PLACES))
        kind, label = PLACES[place], -1
        if kind == "synthetic":
            image = self.synthetic(rng)
        else:
            row = (block * PLACES.count(kind) + place - PLACES.index(kind)) % len(self.sources[kind])
            image, label = self.sources[kind][row], CLASSES[kind] + int(self.labels[kind][row])
            if kind != "cifar10" and rng.random() < 0.5:
                image = resize(image, (MIN_SIDE, MIN_SIDE))
        strengths = np.zeros(len(TRAINING_KINDS), np.float32)
        if (block + place) % 2:
            image, strengths = random_degradation(image, rng)
        return np.broadcast_to(image, (3, *image.shape[1:])), strengths, label

    def synthetic(self, rng: np.random.Generator) -> np.ndarray:
        """Return an image (1 or 3, S, S) of one of the kinds ``SYNTHETIC``, with a side of ``SIDES``."""
        kind, side = rng.choice([*SYNTHETIC], p=[*SYNTHETIC.values()]), int(rng.choice(SIDES))
        if kind == "enlarged":
            return resize(self.any_image(rng), (side, side))
        if kind == "crop":
            return resize(random_crop(self.any_image(rng), int(rng.integers(14, 27)), rng), (side, side))
        if kind == "collage":
            tiles = int(rng.integers(2, 4))
            rows = [np.concatenate([self.colour_image(rng) for _ in range(tiles)], 2) for _ in range(tiles)]
            return resize(np.concatenate(rows, 1), (side, side))
        if kind == "blend":
            weight = rng.uniform(0.3, 0.7)
            one, other = (self.colour_image(rng).astype(np.float32) for _ in range(2))
            return resize(to_pixels(weight * one + (1 - weight) * other), (side, side))
        if kind == "leaves":
            return self.leaves(side, rng)
        if kind == "photo":
            photo = self.photos[rng.integers(len(self.photos))]
            return resize(random_crop(photo, int(rng.integers(64, min(photo.shape[1:]) + 1)), rng), (side, side))
        images = self.generated[rng.integers(len(self.generated))]
        return images[rng.integers(len(images))] if rng.random() < 0.5 else resize(pick(images, rng), (side, side))

    def any_image(self, rng: np.random.Generator) -> np.ndarray:
        """Return an image of a random data set, CIFAR-10 as often as the others together."""
        return pick(self.sources[str(rng.choice([*CLASSES], p=[0.5, 0.3, 0.2]))], rng)

    def colour_image(self, rng: np.random.Generator) -> np.ndarray:
        """Return a random image of CIFAR-10."""
        return pick(self.sources["cifar10"], rng)

    def leaves(self, side: int, rng: np.random.Generator) -> np.ndarray:
        """Return shapes that hide each other, plain or filled with images: the dead leaves model.

        Networks trained on such images learn features that suit natural ones (Baradad et al., 2021,
        https://arxiv.org/abs/2106.05963); here they add edges and detail that enlarged images lack.
        """
        canvas = resize(self.colour_image(rng), (side, side)).copy()
        rows, columns = np.indices((side, side))
        for _ in range(int(rng.integers(8, 40))):
            radius = side * 0.04 / max(rng.random(), 0.08)  # many small ones, and some of half the side
            stretch, angle = rng.uniform(0.5, 2), rng.uniform(0, np.pi)
            down, right = rows - rng.uniform(0, side), columns - rng.uniform(0, side)
            along = (down * np.cos(angle) + right * np.sin(angle)) * stretch
            across = (right * np.cos(angle) - down * np.sin(angle)) / stretch
            square = rng.random() < 0.4
            inside = np.maximum(abs(along), abs(across)) < radius if square else along**2 + across**2 < radius**2
            if rng.random() < 0.5:
                fill = resize(random_crop(self.colour_image(rng), int(rng.integers(8, 33)), rng), (side, side))
                canvas[:, inside] = fill[:, inside]
            else:
                canvas[:, inside] = rng.integers(0, 256, 3)[:, None]
        return canvas


def pick(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a random image (C, H, W) of a set."""
    return images[rng.integers(len(images))]


def random_crop(image: np.ndarray, side: int, rng: np.random.Generator) -> np.ndarray:
    """Return a random square (C, side, side) of an image."""
    top, left = (rng.integers(length - side + 1) for length in image.shape[1:])
    return image[:, top : top + side, left : left + side]


def load_distillation_images(out: Path) -> DistillationImages:
    """Read the data sets, scikit-learn's two photographs and the generated images in ``out/training``.

    Raises:
        SystemExit: There are no generated images.
    """
    from sklearn.datasets import load_sample_images

    sources, labels = {}, {}
    for name in CLASSES:
        size = ("data.image_size=32",) if name == "cifar10" else ("data.image_size=28",)
        data = load_data(name, out, *size)
        sources[name], labels[name] = data.samples[:-NUM_REFERENCE].numpy(), data.labels[:-NUM_REFERENCE].numpy()
    paths = sorted((out / "training").glob("*/*.npy"))
    if not paths:
        raise SystemExit(f"{out / 'training'}: no generated images; run sets.py --only training first")
    photos = [np.ascontiguousarray(photo.transpose(2, 0, 1)) for photo in load_sample_images().images]
    return DistillationImages(sources, labels, photos, [np.load(path) for path in paths])
