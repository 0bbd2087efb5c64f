"""Image files below a folder, without those that are no data: run directories, generated images, thumbnails."""

import logging
import os
import re
from collections import defaultdict
from collections.abc import Collection, Sequence
from pathlib import Path

from gan_lightning.data.natural import natural
from gan_lightning.data.validate import listed
from gan_lightning.errors import printable
from gan_lightning.files import read_regular

log = logging.getLogger(__name__)

UNEVEN = 100  # times as many images as another class has
LARGEST_CONFIG = 2**20  # bytes of a run's config.yaml
SYSTEM_FILES = {"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"}  # of Windows and macOS
THUMBNAILS = "folders of thumbnails or system files"
MAYBE_CLASSES = "thumbnails", "thumbs", "_thumbs"  # a class may have such a name
SKIPPED_FOLDERS = {  # lower case; hidden folders are skipped without a note
    **dict.fromkeys(("@eadir", "#recycle", "__macosx", "lost+found", *MAYBE_CLASSES), THUMBNAILS),
    **dict.fromkeys(("$recycle.bin", "system volume information", "__pycache__", "@recently-snapshot"), THUMBNAILS),
    **dict.fromkeys(("wandb", "mlruns", "lightning_logs"), "folders of experiment trackers"),
}
SPLIT = re.compile(  # folded names: train, images_test, "training data", train2017, trainA, train-00, split1
    r"((images?|imgs?|photos?|pictures?|data|dataset|ilsvrc\d{4}_img)[\W_]*)?"
    r"(train|training|trainval|val|valid|validation|dev|eval|evaluation|test|testing|unlabell?ed)"
    r"([\W_]*(sets?|splits?|images?|imgs?|photos?|pictures?|data|dataset|[ab]))?"
    r"([\W_]*\d{1,5})?|(split|fold|part)[\W_]*\d{1,5}"
)
ANNOTATIONS = re.compile(
    r"((segmentation|instance|semantic|binary)[\W_]*)?(masks?|labels?|annotations?|annots?|segmentations?|ground[\W_]*truths?"
    r"|gts?|bbox(es)?|depth|trimaps?)([\W_]*(images?|imgs?|maps?))?"
)
IMAGES = re.compile(
    r"(original|raw|input|real|rgb)?[\W_]*(images?|imgs?|photos?|pictures?|inputs?|originals?|jpegimages)"
)


class Left:
    """Files and folders that are left out of a data set, with the reasons."""

    def __init__(self) -> None:
        self.paths: dict[str, list[str]] = defaultdict(list)

    def add(self, why: str, path: str) -> None:
        """Count a file or folder."""
        self.paths[why].append(path)

    def notes(self) -> list[str]:
        """A line for each reason, with the number of files or folders and the first few of them."""
        return [f"{len(paths):,} {why} ({listed(paths)})" for why, paths in self.paths.items()]


def files_below(root: Path, left: Left) -> list[Path]:
    """Files below a folder in natural order of their names.

    Hidden files and folders are skipped, and folders that hold no data. Links are followed, but not in circles.

    Args:
        root: The folder; it is not skipped itself.
        left: Receives the folders that are skipped, except hidden ones.
    """
    found = []
    for folder, below, files in os.walk(root, followlinks=True):
        here = Path(folder)
        above = {parent.resolve() for parent in (here, *here.parents)}
        kept = []
        for name in sorted(below, key=natural):
            if name.startswith(".") or (here / name).resolve() in above:
                continue
            if why := no_data(here / name):
                if here == root and name.casefold() in MAYBE_CLASSES:
                    log.warning(
                        f"data.root={printable(str(root))}: the sub-folder '{printable(name)}' is taken for thumbnails "
                        "and left out; rename it to use its images as a class"
                    )
                left.add(why, (here / name).relative_to(root).as_posix())
            else:
                kept.append(name)
        below[:] = kept
        for name in sorted(files, key=natural):
            path = here / name
            if name.startswith(".") or name.lower() in SYSTEM_FILES:
                continue
            if path.is_file() or (path.is_symlink() and not path.exists()):
                found.append(path)
    return found


def no_data(folder: Path) -> str:
    """Why a folder holds no data; empty where it may."""
    if why := SKIPPED_FOLDERS.get(folder.name.casefold()):
        return why
    if (folder / "pyvenv.cfg").is_file():
        return "virtual environments of Python"
    if is_run(folder):
        return "run directories of gan-lightning"
    return ""


def is_run(folder: Path) -> bool:
    """Whether a folder is a run directory of this package, or a sweep's, by the files that it holds."""
    if (folder / "sweep.csv").is_file() and (folder / "multirun.yaml").is_file():
        return True
    if not any((folder / name).exists() for name in ("checkpoints", "metrics.csv", "result.json", "samples")):
        return False
    try:
        return b"gan_lightning." in read_regular(folder / "config.yaml", folder, LARGEST_CONFIG)
    except OSError:
        return False


def is_split(name: str) -> bool:
    """Return whether a sub-folder's name is that of a split of a data set, and hardly that of a class."""
    return SPLIT.fullmatch(name.casefold()) is not None


def without_generated(paths: Sequence[Path], generated: Sequence[int], root: Path, left: Left) -> list[Path]:
    """Remove the image files that this package wrote: grids of samples, single samples, GIFs.

    Args:
        paths: Image files.
        generated: The rows of ``paths`` to remove.
        root: The data set's folder, which ``left`` names them relative to.
        left: Receives those that are left out.
    """
    for row in generated:
        left.add("images that gan-lightning generated", paths[row].relative_to(root).as_posix())
    removed = set(generated)
    return [path for row, path in enumerate(paths) if row not in removed]


def annotations_among(names: Collection[str]) -> list[str]:
    """Return sub-folders whose images probably annotate those of the others; none where these may be classes too."""
    found = [name for name in names if ANNOTATIONS.fullmatch(name.casefold())]
    others = [name for name in names if name not in found]
    of_images = others and all(is_split(name) or IMAGES.fullmatch(name.casefold()) for name in others)
    return found if of_images else []


def warn_of_layout(root: Path, loose: int, counts: dict[str, int]) -> bool:
    """Log a warning where a folder is probably laid out for something else than classes.

    Args:
        root: The folder.
        loose: Number of images directly in it.
        counts: Number of images in each sub-folder that has some.

    Returns:
        Whether the sub-folders are splits of the data (``train``, ``test``), and not classes.
    """
    where = f"data.root={printable(str(root))}"
    if not counts:
        return False
    splits = [name for name in counts if is_split(name)]
    annotations = annotations_among(counts)
    # A single "train" may be a class of vehicles, but hardly one with most of the images.
    mixed = len(splits) > 1 or any(name != "train" or 2 * counts[name] > sum(counts.values()) for name in splits)
    if annotations:
        images = next(name for name in counts if name not in annotations)
        log.warning(
            f"{where}: its sub-folders {listed(annotations)} look like annotations of other images, not classes; set "
            f"data.root={printable(str(root / images))} to leave them out"
        )
    elif len(splits) == len(counts):
        log.warning(
            f"{where}: its sub-folders {listed(splits)} are splits of a data set, not classes; the images of all are "
            f"used, without labels. Set data.root={printable(str(root / splits[0]))} to use one split and its classes"
        )
    elif mixed:
        log.warning(
            f"{where}: its sub-folders {listed(splits)} look like splits of a data set and are used as classes; set "
            f"data.root={printable(str(root / splits[0]))} to use one split"
        )
    elif len(counts) == 1:
        (only,) = counts
        log.warning(
            f"{where}: {listed([only])} is the only sub-folder with images, so there is a single class; set "
            f"data.root={printable(str(root / only))} to use the sub-folders of that one as classes"
        )
    used = sum(counts.values())
    if loose >= used:
        log.warning(
            f"{where}: {loose:,} images directly in it are left out, and only the {used:,} in its sub-folders are "
            "used; move the loose images into a sub-folder, or the sub-folders to another place"
        )
    most = max(counts.values())
    if few := [name for name, count in counts.items() if UNEVEN * count <= most]:
        log.warning(
            f"{where}: {len(few):,} sub-folders, which are classes, hold a hundredth or less of the {most:,} images of "
            f"the largest: {listed(few)}; move those that are no classes to another place"
        )
    return len(splits) == len(counts)
