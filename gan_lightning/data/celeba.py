"""CelebA (Liu et al., 2015, https://arxiv.org/abs/1411.7766)."""

import csv
import difflib
from pathlib import Path
from typing import ClassVar

from gan_lightning.data.image_folder import ImageFolder
from gan_lightning.data.layout import Left, without_generated
from gan_lightning.data.natural import natural
from gan_lightning.errors import UserError

PICTURES, LISTS = "img_align_celeba", ("list_attr_celeba.csv", "list_attr_celeba.txt")
PAGE = "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html"
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}
# Folders that mirrors wrap the images in, lower case; what the authors share has Img and Anno.
WRAPPERS = {PICTURES, f"{PICTURES}_png", "celeba", "celeba-dataset", "img", "archive"}
NESTED = 4  # of them inside each other


class CelebA(ImageFolder):
    """Faces, from a folder of them: the aligned pictures in any size and format that mirrors ship.

    Args:
        root: Folder of the data sets, in which ``celeba/img_align_celeba`` lies; or of the pictures themselves.
        attribute: One of the 40 attributes; makes two classes, without it (0) and with it (1). None for no labels.
        **data: Further arguments of :class:`~gan_lightning.data.image_folder.ImageFolder`.
    """

    class_folders = None
    provides_labels: ClassVar = {"attribute": "Smiling"}

    def __init__(self, root: str | Path, attribute: str | None = None, **data: object) -> None:
        super().__init__(root, **data)
        self.attribute = attribute

    def find(self) -> tuple[list[Path], list[int], list[str]]:
        """The pictures by name, and whether each has the attribute.

        Raises:
            UserError: The pictures are not there, or the attributes are not.
        """
        places, left = self.places(), Left()
        for folder in places:
            found = (path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.name[0] != ".")
            found = sorted(found, key=lambda path: natural(path.name))
            paths = without_generated(found, self.cache.generated(found), folder, left)
            if paths:
                break
        else:
            zipped = [path for folder in (self.root, *places) for path in sorted(folder.glob(f"{PICTURES}*.zip"))]
            fix = f"Unpack {zipped[0]}" if zipped else f"Take {PICTURES}.zip from {PAGE} and unpack it"
            raise UserError(
                f"data=celeba: there are no pictures in {self.root}. {fix} to {self.root / 'celeba' / PICTURES}, or "
                "say where it is: data.root=FOLDER"
            )
        self.notes += left.notes()
        if self.attribute is None:
            return paths, [0] * len(paths), []
        file = self.list_file(folder)
        attribute, has = attributes(file, self.attribute)
        if missing := [path.name for path in paths if path.stem not in has]:
            raise UserError(f"{len(missing)} of {len(paths)} pictures have no row in {file}: {missing[0]!r}, for one")
        return paths, [has[path.stem] for path in paths], [f"not {attribute}", attribute]

    def places(self) -> list[Path]:
        """Folders that may hold the images: below ``root`` in those that mirrors wrap them in, the innermost first."""
        level, found = [self.root] if self.root.is_dir() else [], []
        for _ in range(NESTED):
            found += level
            inner = (path for folder in level for path in folder.iterdir())
            level = sorted((path for path in inner if path.name.lower() in WRAPPERS and path.is_dir()), key=str)
        named = [path for path in found + level if path.name.lower().startswith((PICTURES, "celeba"))]
        return [path for path in named[::-1] if path != self.root] + found[:1]

    def list_file(self, folder: Path) -> Path:
        """The list of attributes: beside the images, in the folders that wrap them, or in ``Anno`` in one of these.

        Raises:
            UserError: It is not there.
        """
        above = [folder]
        while above[-1].name.lower() in WRAPPERS:
            above.append(above[-1].parent)
        for place in [*above, self.root, *self.places()]:
            for here in (place, place / "Anno", place / "anno"):
                files = here.iterdir() if here.is_dir() else ()
                if found := sorted(path for path in files if path.name.lower() in LISTS and path.is_file()):
                    return found[-1]
        raise UserError(
            f"data.attribute={self.attribute}: {LISTS[1]} or {LISTS[0]} is needed, and not there. Take it from {PAGE} "
            f"and put it into {folder.parent}"
        )


def attributes(file: Path, wanted: str) -> tuple[str, dict[str, int]]:
    """An attribute as the list spells it, and whether each picture, by its name without suffix, has it.

    The list has, after a line with the count that some mirrors leave out, a line of names and a line for each picture
    of its file's name and 1 or -1 (of some mirrors 0) for each attribute. Spaces or commas separate them.

    Raises:
        UserError: It is another list, or has no such attribute.
    """
    text = file.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    titled = any("," in line for line in text[:2])
    if titled:
        rows = [[field.strip() for field in row] for row in csv.reader(text) if row]
    else:
        rows = [line.split() for line in text if line.strip()]
    if rows and len(rows[0]) == 1 and rows[0][0].isdecimal():
        del rows[0]
    names, rows = (rows[0], rows[1:]) if rows else ([], [])
    if titled or names[:1] == ["image_id"]:
        del names[:1]  # the title of the first column
    whole = all(len(row) == len(names) + 1 and {*row[1:]} <= {"1", "0", "-1"} for row in rows)
    if not (names and rows and whole):
        raise UserError(f"{file}: is not the list of attributes it should be; take it anew from {PAGE}")
    plain = [name.casefold() for name in names]
    asked = wanted.casefold().replace(" ", "_").replace("-", "_")
    if asked not in plain:
        near = difflib.get_close_matches(asked, plain, 1)
        nearest = [f"the nearest is {name}; " for name in names if [name.casefold()] == near]
        raise UserError(
            f"data.attribute={wanted}: there is no such attribute; {''.join(nearest)}one of {', '.join(names)}"
        )
    column = plain.index(asked)
    return names[column], {Path(row[0]).stem: int(row[column + 1] == "1") for row in rows}
