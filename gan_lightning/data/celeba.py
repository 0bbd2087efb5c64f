"""CelebA (Liu et al., 2015, https://arxiv.org/abs/1411.7766)."""

import difflib
from pathlib import Path

from gan_lightning.data.image_folder import ImageFolder
from gan_lightning.errors import UserError

PICTURES, LIST = "img_align_celeba", "list_attr_celeba.txt"
PAGE = "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html"


class CelebA(ImageFolder):
    """Faces, from a folder of them: the aligned pictures in any size and format that mirrors ship.

    Args:
        root: Folder of the data sets, in which ``celeba/img_align_celeba`` lies; or of the pictures themselves.
        attribute: One of the 40 attributes; makes two classes, without it (0) and with it (1). None for no labels.
        **data: Further arguments of :class:`~gan_lightning.data.image_folder.ImageFolder`.
    """

    def __init__(self, root: str | Path, attribute: str | None = None, **data: object) -> None:
        super().__init__(root, **data)
        self.attribute = attribute

    def find(self) -> tuple[list[Path], list[int], list[str]]:
        """The pictures by name, and whether each has the attribute.

        Raises:
            UserError: The pictures are not there, or the attributes are not.
        """
        base = self.root / "celeba"
        places = [base / PICTURES / PICTURES, base / PICTURES, self.root / PICTURES, base, self.root]
        for folder in places:
            paths = sorted(path for suffix in ("jpg", "png") for path in folder.glob(f"[!.]*.{suffix}"))
            if paths:
                break
        else:
            raise UserError(
                f"data=celeba: there are no pictures. Take {PICTURES}.zip from {PAGE} and unpack it "
                f"to {base / PICTURES}, or say where it is: data.root=FOLDER"
            )
        if self.attribute is None:
            return paths, [0] * len(paths), []
        has = self.attributes([folder, folder.parent, base, self.root])
        if missing := [path.name for path in paths if path.stem not in has]:
            raise UserError(f"{len(missing)} of {len(paths)} pictures have no row in {LIST}: {missing[0]!r}, for one")
        return paths, [has[path.stem] for path in paths], [f"not {self.attribute}", self.attribute]

    def attributes(self, places: list[Path]) -> dict[str, int]:
        """Whether each picture, by its name without suffix, has the attribute.

        The list has, after a line with the count that some mirrors leave out, a line of names and a line for each
        picture of its file's name and 1 or -1 for each attribute.
        """
        file = next((place / LIST for place in places if (place / LIST).is_file()), None)
        if file is None:
            raise UserError(
                f"data.attribute={self.attribute}: {LIST} is needed, and not there. Take it from {PAGE} and put it "
                f"into {self.root / 'celeba'}"
            )
        lines = [line.split() for line in file.read_text(errors="replace").splitlines() if line.strip()]
        lines = lines[1:] if lines and len(lines[0]) == 1 and lines[0][0].isdecimal() else lines
        names, rows = (lines[0], lines[1:]) if lines else ([], [])
        whole = all(len(row) == len(names) + 1 and {*row[1:]} <= {"1", "-1"} for row in rows)
        if not (names and rows and whole):
            raise UserError(f"{file}: is not the list of attributes it should be; take it anew from {PAGE}")
        if self.attribute not in names:
            near = difflib.get_close_matches(self.attribute.lower(), [name.lower() for name in names], 1)
            nearest = [f"the nearest is {name}; " for name in names if [name.lower()] == near]
            raise UserError(
                f"data.attribute={self.attribute}: there is no such attribute; {''.join(nearest)}"
                f"one of {', '.join(names)}"
            )
        column = names.index(self.attribute) + 1
        return {Path(row[0]).stem: int(row[column] == "1") for row in rows}
