"""Data module of the images of a map-style ``Dataset``, or of any sequence, that was constructed in Python."""

import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
import torch
from annotated_types import Len
from PIL import Image, ImageOps
from torch import Tensor

from gan_lightning.config.constraints import Channels, ImageSize, PositiveInt, Seed
from gan_lightning.data.datamodule import ImageData
from gan_lightning.data.decode import WHITE, Fit, fitted, to_8_bit
from gan_lightning.data.validate import length
from gan_lightning.errors import UserError
from gan_lightning.io.memory import check_fits_in_memory
from gan_lightning.io.progress import progress_bar
from gan_lightning.model.minibatch import describe_value

MAX_LISTED = 5  # items in an error message
PROBED = 100  # items whose range of values is computed for an error message
RANGES = (0, 1), (-1, 1), (0, 255)  # of black and white, as libraries return them
NOT_BYTES = ", and should be uint8 in 0 to 255"
ROUNDING = 1e-3  # by which floats may exceed value_range, relative to its width

ValueRange = Annotated[Sequence[float], Len(2, 2)]


class DatasetImages(ImageData):
    """Images of a data set that was constructed in Python; see :func:`from_dataset`, whose arguments it has."""

    how_to_hold_out = "pass a data set of held-out images to from_dataset: test=DATASET"

    def __init__(
        self,
        dataset: Any,
        image_size: ImageSize,
        channels: Channels | None = None,
        batch_size: PositiveInt = 64,
        flip: bool = False,
        value_range: ValueRange | None = None,
        class_names: Sequence[str] | None = None,
        fit: Fit = "crop",
        test: Any = None,
        seed: Seed = 0,
    ) -> None:
        super().__init__("", image_size, 3 if channels is None else channels, flip, None, batch_size, seed)
        if value_range is not None and not value_range[0] < value_range[1]:
            raise ValueError(f"value_range={value_range}: must be the values of black and of white, in this order")
        self.dataset, self.test_dataset, self.value_range, self.fit = dataset, test, value_range, fit
        self.given_channels, self.given_names = channels, class_names

    @property
    def source(self) -> str:
        """Name of the data set in messages."""
        return f"from_dataset({type(self.dataset).__name__})"

    def read(self, rows: slice) -> tuple[Tensor, Tensor, list[str]]:
        """Read and resize all images; return the given slice of them, their labels and the class names.

        Raises:
            UserError: Items are no images of 8 bits, or labels are missing.
        """
        images, labels = self.read_items(self.dataset, self.source)
        names = self.names_of(labels)
        labels = torch.zeros(len(images), dtype=torch.long) if labels is None else labels
        return images[rows], labels[rows], names

    def test(self) -> tuple[Tensor, Tensor, list[str]] | None:
        """Read and resize the images of the data set that was passed as ``test``; None without one.

        Raises:
            UserError: As by :meth:`read`; or the classes of the training set have no labels here.
        """
        if self.test_dataset is None:
            return None
        images, labels = self.read_items(self.test_dataset, f"{self.source}, test set")
        if labels is None and self.class_names:
            raise UserError(f"{self.source}, test set: the items have no labels, unlike those of the training set")
        return images, torch.zeros(len(images), dtype=torch.long) if labels is None else labels, []

    def read_all(self) -> tuple[Tensor, Tensor, list[str]]:
        """Return all images, which have been read."""
        return self.samples, self.labels, self.class_names

    def names_of(self, labels: Tensor | None) -> list[str]:
        """Return the given class names, those of torchvision's ``classes``, or the numbers; empty without labels."""
        if labels is None:
            if self.given_names:
                raise UserError(f"{self.source}: there are class_names, and the items have no labels")
            return []
        if self.given_names is not None:
            return [*self.given_names]
        inner = self.dataset
        while not hasattr(inner, "classes") and hasattr(inner, "dataset"):  # torch.utils.data.Subset
            inner = inner.dataset
        if (names := getattr(inner, "classes", None)) is not None:
            return [*map(str, names)]
        return [str(label) for label in range(max(int(labels.max()), 0) + 1)]

    def read_items(self, dataset: Any, source: str) -> tuple[Tensor, Tensor | None]:
        """Return the images (n, C, H, W) of a data set as uint8, and its labels (n,), None if it has none."""
        num = length(dataset)
        if num is None or not hasattr(dataset, "__getitem__"):
            raise UserError(f"{source}: has no length and no index; pass a map-style data set or a list: list(dataset)")
        if num == 0:
            raise UserError(f"{source}: there are no images")
        images, labels = torch.empty(0, dtype=torch.uint8), []
        errors: dict[str, list[int]] = {}  # items by message
        with progress_bar(range(num), what="reading images") as rows:
            for row in rows:
                image, label = split_item(dataset[row])
                labels.append(label)
                try:
                    pixels = self.to_pil(image)
                except ValueError as error:
                    errors.setdefault(str(error), []).append(row)
                    if sum(map(len, errors.values())) == MAX_LISTED:
                        break
                    continue
                if not len(images):
                    images = self.allocate(num, pixels)
                images[row] = self.to_tensor(pixels)
        if errors:
            raise UserError(*(self.item_error(source, dataset, error, at) for error, at in errors.items()))
        has_labels = labels[0] is not None
        if unlike := [row for row, label in enumerate(labels) if (label is not None) != has_labels]:
            has = "no label" if has_labels else "a label"
            raise UserError(f"{source}: item {unlike[0]} has {has}, unlike item 0; return the same for all items")
        return images, to_labels(labels, source) if has_labels else None

    def allocate(self, num: int, first: Image.Image) -> Tensor:
        """Return memory for the images; their channels are those of the first one unless they were given."""
        if self.given_channels is None:
            self.given_channels = 1 if first.mode in ("1", "L", "LA", "La") else 3
        self.channels = self.given_channels
        shape = num, self.channels, *self.image_size
        check_fits_in_memory(f"image_size: {num:,} images of this size", math.prod(shape), "use a smaller image_size")
        return torch.empty(shape, dtype=torch.uint8)

    def to_tensor(self, image: Image.Image) -> Tensor:
        """Return an image as uint8 (C, H, W), resized as images in a folder are."""
        flat, _, _ = to_8_bit(image, WHITE)
        flat = flat.convert("L" if self.channels == 1 else "RGB")
        pixels = torch.from_numpy(np.array(fitted(flat, self.image_size, self.fit)))
        return pixels[None] if self.channels == 1 else pixels.permute(2, 0, 1)

    def to_pil(self, image: Any) -> Image.Image:
        """Convert an image of any supported type to a Pillow image.

        Raises:
            ValueError: It has another type, shape or range.
        """
        if isinstance(image, Image.Image):
            if image.mode.startswith("I") or image.mode == "F":
                raise ValueError(f"a Pillow image of mode {image.mode}; convert it to 8 bits: mode L or RGB")
            return ImageOps.exif_transpose(image)
        if not isinstance(image, Tensor | np.ndarray):
            raise ValueError(
                f"{describe_value(image)}; return a Pillow image, a tensor (C, H, W) or an array (H, W, C)"
            )
        array = np.asarray(image.detach().cpu() if isinstance(image, Tensor) else image)
        array = self.to_bytes(to_channels_last(array, isinstance(image, Tensor)))
        return Image.fromarray(np.ascontiguousarray(array[..., 0] if array.shape[2] == 1 else array))

    def to_bytes(self, array: np.ndarray) -> np.ndarray:
        """Convert an array to uint8, floats by ``value_range``."""
        if array.dtype == np.uint8:
            return array
        if self.value_range is None or array.dtype.kind not in "fiu":
            raise ValueError(f"{array.dtype}{NOT_BYTES}")
        low, high = self.value_range
        levels = (array.astype(np.float64) - low) / (high - low)
        if not (levels.min() >= -ROUNDING and levels.max() <= 1 + ROUNDING):  # also for NaN
            found = f"{array.dtype} in [{array.min():.4g}, {array.max():.4g}]"
            raise ValueError(f"{found}, and should be in value_range=({low:g}, {high:g})")
        return (levels * 255).round().clip(0, 255).astype(np.uint8)

    def item_error(self, source: str, dataset: Any, error: str, rows: list[int]) -> str:
        """Return the message of an error of some items, with the ``value_range`` that the first items seem to have."""
        items = f"item{'s' * (len(rows) > 1)} {', '.join(map(str, rows))}"
        images = [split_item(dataset[row])[0] for row in range(min(len(dataset), PROBED))]
        arrays = [np.asarray(image) for image in images if isinstance(image, Tensor | np.ndarray)]
        arrays = [array for array in arrays if array.dtype.kind in "fiu" and array.size]
        if not (error.endswith(NOT_BYTES) and arrays):
            return f"{source}: {items}: {error}"
        low, high = float(min(array.min() for array in arrays)), float(max(array.max() for array in arrays))
        fits = (f"({black}, {white})" for black, white in RANGES if black <= low and high <= white)
        fix = f"pass value_range={next(fits, '(BLACK, WHITE)')} to from_dataset"
        return f"{source}: {items}: {error}; the values are in [{low:.4g}, {high:.4g}], {fix}"


def from_dataset(
    dataset: Any,
    image_size: int | Sequence[int],
    *,
    channels: Literal[1, 3] | None = None,
    batch_size: int = 64,
    flip: bool = False,
    value_range: Sequence[float] | None = None,
    class_names: Sequence[str] | None = None,
    fit: Fit = "crop",
    test: Any = None,
    seed: int = 0,
) -> DatasetImages:
    """Return the data module of a data set's images: read once, resized, kept in memory as uint8.

    >>> data = from_dataset(torchvision.datasets.CIFAR10("data", download=True), image_size=32, batch_size=64)
    >>> trainer.fit(model, data)

    The order of the images is a function of the seed and the step, so that runs resume exactly. An item is read once,
    so random augmentations of the data set would be frozen; use ``flip`` or ``augment`` of the model instead.

    Args:
        dataset: Has a length and an index, such as ``torch.utils.data.Dataset`` or a list. Its items are images, or
            pairs of an image and its class number. An image is a Pillow image of 8 bits, a uint8 tensor (C, H, W) or
            (H, W), a uint8 array (H, W, C) or (H, W), or one of floats with ``value_range``; C is 1 or 3. Images of
            other sizes are resized as those of a folder.
        image_size: Side, or height and width, in pixels.
        channels: 1 for gray, 3 for colour; None for those of the first image.
        batch_size: Images per discriminator update, over all devices.
        flip: Flip each image horizontally with probability 0.5, drawn again at each use.
        value_range: The values of black and white in images that are not uint8: (0, 1) after torchvision's
            ``ToTensor``, (-1, 1) after ``Normalize(0.5, 0.5)``.
        class_names: Names of the classes in the order of their numbers; None for the data set's attribute ``classes``,
            or else the numbers. Data without labels have no classes.
        fit: How an image of another aspect ratio is fitted: ``crop``, ``pad`` or ``stretch``.
        test: Data set of images that are not trained on, for ``reference="test"`` and the metric ``memorization``.
        seed: Seed of the order and of the flips.

    Raises:
        ValueError: An argument is out of range.
        UserError: By ``setup``, which training calls: an image or a label is invalid; up to five are listed.
    """
    return DatasetImages(
        dataset,
        image_size,
        channels,
        batch_size,
        flip,
        value_range,
        class_names,
        fit,
        test,
        seed,  # type: ignore[arg-type]
    )


def split_item(item: Any) -> tuple[Any, Any]:
    """Return the image and the label of an item; the label is None if it has none."""
    if isinstance(item, tuple | list) and 1 <= len(item) <= 2:
        return item[0], item[1] if len(item) == 2 else None
    return item, None


def to_channels_last(array: np.ndarray, first: bool) -> np.ndarray:
    """Return an image as (H, W, 1 or 3).

    Args:
        array: An image (H, W), or (C, H, W) if ``first``, else (H, W, C).
        first: Whether the channels are the first axis, as in tensors.

    Raises:
        ValueError: It has another shape.
    """
    expected, shape = "(C, H, W)" if first else "(H, W, C)", tuple(array.shape)
    problem = f"has the shape {shape}, and should have {expected} with 1 or 3 channels"
    if array.ndim == 2:
        array = array[..., None]
    elif array.ndim != 3:
        raise ValueError(problem)
    elif first:
        array = array.transpose(1, 2, 0)
    if array.size == 0 or array.shape[2] not in (1, 3):
        fix = ""
        if array.ndim == 3 and len(shape) == 3 and shape[2 if first else 0] in (1, 3):
            fix = "; channels are last: image.permute(2, 0, 1)"
            fix = fix if first else "; channels are first: image.transpose(1, 2, 0)"
        elif array.shape[2] == 4:
            fix = f"; drop the alpha channel: {'image[:3]' if first else 'image[..., :3]'}"
        raise ValueError(problem + fix)
    return array


def to_labels(labels: Sequence[Any], source: str) -> Tensor:
    """Return labels (n,), which :func:`~gan_lightning.data.validate.checked_labels` validates further.

    Raises:
        UserError: A label is not one number.
    """
    numbers = []
    for row, label in enumerate(labels):
        number = np.asarray(label.detach().cpu() if isinstance(label, Tensor) else label)
        if number.size != 1 or number.dtype.kind not in "biuf":
            what = f"{number.size} values" if number.size != 1 else f"{label!r:.40}"
            fix = ": label.argmax()" if number.size > 1 else ""
            raise UserError(f"{source}: item {row}: its label is {what}, and should be the number of a class{fix}")
        numbers.append(number.reshape(()))
    return torch.as_tensor(np.asarray(numbers))
