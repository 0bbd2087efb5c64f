"""CelebA (Liu et al., 2015, https://arxiv.org/abs/1411.7766)."""

import csv
from pathlib import Path
from typing import Any, ClassVar

from gan_lightning.data.image_file import ImageFile
from gan_lightning.data.image_folder import ImageFolder
from gan_lightning.data.layout import LeftOut, without_generated
from gan_lightning.errors import UserError
from gan_lightning.io.class_names import closest
from gan_lightning.io.natural import natural

IMAGES, LISTS = "img_align_celeba", ("list_attr_celeba.csv", "list_attr_celeba.txt")
PAGE = "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html"
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}
# Lower-case names of directories that contain the images in mirrors; the authors' release has Img and Anno.
WRAPPERS = {IMAGES, f"{IMAGES}_png", "celeba", "celeba-dataset", "img", "archive"}
MAX_NESTING = 4  # of these directories


class CelebA(ImageFolder):
    """Faces: the aligned images, from a directory, in any size and format that mirrors distribute.

    Args:
        root: Directory of the data sets, which contains ``celeba/img_align_celeba``; or the directory of the images.
        attribute: One of the 40 attributes, for two classes: without it (0) and with it (1). None for no labels.
        **data: Further arguments of :class:`~gan_lightning.data.image_folder.ImageFolder`.
    """

    class_folders = None
    provides_labels: ClassVar = {"attribute": "Smiling"}

    def __init__(self, root: str | Path, attribute: str | None = None, **data: Any) -> None:
        super().__init__(root, **data)
        self.attribute = attribute

    def find(self) -> tuple[list[ImageFile], list[int], list[str]]:
        """Return the paths of the images in natural order, their labels and the class names.

        Raises:
            UserError: The images or the attributes are missing.
        """
        candidates, left = self.candidates(), LeftOut()
        for folder in candidates:
            found = (path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.name[0] != ".")
            found = sorted(found, key=lambda path: natural(path.name))
            paths = without_generated(found, self.cache.generated(found), folder, left)
            if paths:
                break
        else:
            zipped = [path for folder in (self.root, *candidates) for path in sorted(folder.glob(f"{IMAGES}*.zip"))]
            fix = f"Unpack {zipped[0]}" if zipped else f"Download {IMAGES}.zip from {PAGE} and unpack it"
            raise UserError(
                f"data=celeba: there are no images in {self.root}. {fix} to {self.root / 'celeba' / IMAGES}, or set "
                "data.root=FOLDER to the folder that contains them"
            )
        self.notes += left.notes()
        if self.attribute is None:
            return [*paths], [0] * len(paths), []
        file = self.list_file(folder)
        attribute, has = attributes(file, self.attribute)
        if missing := [path.name for path in paths if path.stem not in has]:
            raise UserError(f"{len(missing)} of {len(paths)} images have no row in {file}, for example {missing[0]!r}")
        return [*paths], [has[path.stem] for path in paths], [f"not {attribute}", attribute]

    def candidates(self) -> list[Path]:
        """Return directories that may contain the images: below ``root``, in ``WRAPPERS``, the deepest first."""
        level, found = [self.root] if self.root.is_dir() else [], []
        for _ in range(MAX_NESTING):
            found += level
            inner = (path for folder in level for path in folder.iterdir())
            level = sorted((path for path in inner if path.name.lower() in WRAPPERS and path.is_dir()), key=str)
        named = [path for path in found + level if path.name.lower().startswith((IMAGES, "celeba"))]
        return [path for path in named[::-1] if path != self.root] + found[:1]

    def list_file(self, images: Path) -> Path:
        """Return the file of the attributes, which is beside the images, in a directory above them or in its ``Anno``.

        Raises:
            UserError: It is missing.
        """
        above = [images]
        while above[-1].name.lower() in WRAPPERS:
            above.append(above[-1].parent)
        for parent in [*above, self.root, *self.candidates()]:
            for folder in (parent, parent / "Anno", parent / "anno"):
                files = folder.iterdir() if folder.is_dir() else ()
                if found := sorted(path for path in files if path.name.lower() in LISTS and path.is_file()):
                    return found[-1]
        raise UserError(
            f"data.attribute={self.attribute}: {LISTS[1]} or {LISTS[0]} is missing; download it from {PAGE} and put it "
            f"into {images.parent}"
        )


def attributes(file: Path, wanted: str) -> tuple[str, dict[str, int]]:
    """Return an attribute in the spelling of the file, and its value (0 or 1) by the images' names without suffix.

    The file has a line with the number of images, which some mirrors omit, a line with the names of the attributes, and
    a line for each image: its file name, and 1 or -1 (0 in some mirrors) for each attribute. The separators are spaces
    or commas.

    Args:
        file: The file.
        wanted: Name of the attribute as the user typed it: in any case, with ``_``, ``-`` or spaces.

    Raises:
        UserError: The file is invalid, or has no such attribute.
    """
    text = file.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    is_csv = any("," in line for line in text[:2])
    if is_csv:
        rows = [[field.strip() for field in row] for row in csv.reader(text) if row]
    else:
        rows = [line.split() for line in text if line.strip()]
    if rows and len(rows[0]) == 1 and rows[0][0].isdecimal():
        del rows[0]
    names, rows = (rows[0], rows[1:]) if rows else ([], [])
    if is_csv or names[:1] == ["image_id"]:
        del names[:1]  # the title of the first column
    valid = all(len(row) == len(names) + 1 and {*row[1:]} <= {"1", "0", "-1"} for row in rows)
    if not (names and rows and valid):
        raise UserError(f"{file}: is not a valid list of attributes; download it again from {PAGE}")
    plain = [name.casefold() for name in names]
    normalized = wanted.casefold().replace(" ", "_").replace("-", "_")
    if normalized not in plain:
        near = closest(normalized, names)
        hint = f" (did you mean {near}?)" if near else ""
        raise UserError(f"data.attribute={wanted}: there is no such attribute{hint}; one of {', '.join(names)}")
    column = plain.index(normalized)
    return names[column], {Path(row[0]).stem: int(row[column + 1] == "1") for row in rows}
