"""Data sets of the Hugging Face Hub, read by its library (the extra ``datasets``)."""

from collections.abc import Hashable
from pathlib import Path
from typing import Annotated, Any, ClassVar

from annotated_types import doc

from gan_lightning.config.constraints import Channels, ImageSize
from gan_lightning.data.container import Container, Listing
from gan_lightning.data.image_file import MAX_IMAGE_BYTES
from gan_lightning.data.image_folder import ImageFolder
from gan_lightning.data.layout import LeftOut
from gan_lightning.data.table import NO_IMAGE, NUMBER, STRUCT, TEXT, image_column, label_column, listing_of_rows
from gan_lightning.errors import UserError, escape_control, short_message
from gan_lightning.io.files import read_regular
from gan_lightning.io.paths import HUB_ID

FOLDER = "hub"  # below data.root
KINDS = {"Image": STRUCT, "ClassLabel": NUMBER}  # what columns of Hugging Face's types hold


class Rows(Container):
    """The rows of a data set of Hugging Face's library, which maps them from a file on disk.

    Args:
        dataset: The ``datasets.Dataset``.
        name: Its name in messages.
        folder: Directory of downloads; images that are files of their own are only read from it.

    Raises:
        UserError: It has no images.
    """

    def __init__(self, dataset: Any, name: str, folder: Path) -> None:
        from datasets import Image

        features = {name: vars_of(feature) for name, feature in dataset.features.items()}
        kinds = {name: kind_of(feature) for name, feature in features.items()}
        self.root, self.folder = Path(name), folder
        self.image = image_column(self.key, kinds)
        self.label, self.class_names = label_column(self.key, kinds, features)
        columns = [self.image, *([self.label] if self.label else [])]
        self.dataset = dataset.select_columns(columns).cast_column(self.image, Image(decode=False))
        self.version: Hashable = dataset._fingerprint

    @property
    def key(self) -> str:
        """The setting that names the data set, for messages."""
        return f"data.name={self.root.as_posix()}"

    def listing(self, left: LeftOut) -> Listing:
        """Return the images, in the order of their paths if all have one, else of the rows."""
        paths, labels = [], []
        for row in self.dataset:
            paths.append(row[self.image]["path"] if row[self.image] else None)
            labels.append(row[self.label] if self.label else None)
        return listing_of_rows(self, paths, labels, self.class_names)

    def read(self, where: int, limit: int = -1) -> bytes:
        """Return the first bytes of the image of a row.

        Raises:
            OSError: The row has none, or it is a file outside the directory of downloads.
        """
        image = self.dataset[where][self.image] or {}
        content = image.get("bytes")
        if content is None and image.get("path"):
            content = read_regular(Path(image["path"]), self.folder, MAX_IMAGE_BYTES)
        if not content:
            raise OSError(NO_IMAGE)
        return content if limit < 0 else content[:limit]


def vars_of(feature: Any) -> dict[str, Any]:
    """Return a column's type as the metadata of Hugging Face's files have it."""
    kind = {"_type": type(feature).__name__, "dtype": str(getattr(feature, "dtype", ""))}
    return kind | {"names": getattr(feature, "names", None)}


def kind_of(feature: dict[str, Any]) -> str:
    """Return what a column holds, by its type in :func:`vars_of`."""
    kind, dtype = feature["_type"], feature["dtype"]
    return KINDS.get(kind) or (NUMBER if "int" in dtype else TEXT if "string" in dtype else kind)


class Hub(ImageFolder):
    """A data set of images on the Hugging Face Hub.

    Args:
        name: Its name, ``owner/name``.
        root: Directory of the data sets; it is downloaded to ``hub`` in it.
        split: Name of the split.
        image_size: Side, or height and width, in pixels.
        channels: 1 for gray, 3 for colour.
        **data: Further arguments of :class:`~gan_lightning.data.image_folder.ImageFolder`.
    """

    class_folders: ClassVar[str | None] = None

    def __init__(
        self,
        name: Annotated[str, doc("owner/name of a data set on the Hugging Face Hub")],
        root: str | Path = "data",
        split: str = "train",
        image_size: ImageSize = 64,
        channels: Channels = 3,
        **data: Any,
    ) -> None:
        super().__init__(root, image_size, channels, **data)
        self.repository, self.split = name, split

    @property
    def source(self) -> str:
        """Name of the data set in messages."""
        return f"data.name={self.repository}"

    @property
    def place(self) -> str:
        """The source of the images as the log names it."""
        return f"{self.repository}, {self.split}"

    def open_container(self) -> Container:
        """Download the data set, unless it is there already.

        Raises:
            UserError: The name is invalid, the library is missing, or there is no such data set.
        """
        if not HUB_ID.fullmatch(self.repository):
            raise UserError(f"{self.source}: must be the owner/name of a data set on the Hugging Face Hub")
        try:
            import datasets
        except ImportError as error:
            raise UserError("data=hub: needs datasets; pip install 'gan-lightning[datasets]'") from error
        folder = self.root / FOLDER
        try:
            dataset = datasets.load_dataset(self.repository, split=self.split, cache_dir=str(folder))
        except Exception as error:  # of several libraries, for the network, the disk and the name
            reason = escape_control(short_message(error)) or type(error).__name__
            raise UserError(f"{self.source}: cannot be loaded ({reason})") from error
        return Rows(dataset, self.repository, folder)
