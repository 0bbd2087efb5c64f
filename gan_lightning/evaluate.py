"""gan-evaluate: scores of checkpoints, of all runs of a sweep, or of a folder of pictures, in one table."""

import argparse
import itertools
import json
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from gan_lightning.asked import HELD_OUT, Asked, parse
from gan_lightning.command_line import each
from gan_lightning.config.validation import nearest
from gan_lightning.errors import UserError, abridged, first_line, printable
from gan_lightning.exit import told_plainly
from gan_lightning.files import locked, read_json, whole
from gan_lightning.paths import absolute
from gan_lightning.run import files_named, folders
from gan_lightning.summary import shorter

if TYPE_CHECKING:
    from gan_lightning.comparison import Row
    from gan_lightning.evaluation import Evaluation

UNFINISHED = "unfinished"  # key of a JSON file while its scores are being measured
EPILOG = """\
PATH is a checkpoint, the folder of a run or of a sweep, or a .json that this command has written; together with
data=... it may be a folder of pictures, or held_out: the real samples that training never sees. KEY=VALUE is one of

  protocol=10k_test     how many samples, against which real ones; or eval.num, eval.num_real, eval.split, eval.labels
  feature=inception     what the metrics look through; feature.weights=FILE
  metric=all            which metrics
  data=cifar10          other data than those of the run; data.root=FOLDER
  sort_by=fid           the score that the table is sorted by
  which=last            or best, or both: which checkpoints of a run's folder
  out=NAME              writes NAME.json and NAME.csv; evaluation, evaluation-2, ... where nothing is said
  allow=[weights]       compare in spite of this field of the cards
  trust=true            build classes that are not ours, which runs their code

What is not said is as the run itself had it.
"""

MOST_BYTES = 1 << 26  # of an earlier evaluation; a thousand runs with all scores have half of that


def main() -> None:
    """The command."""
    form = argparse.RawDescriptionHelpFormatter
    take = argparse.ArgumentParser("gan-evaluate", description=__doc__, epilog=EPILOG, formatter_class=form)
    take.add_argument("words", nargs="+", metavar="PATH or KEY=VALUE")
    words = take.parse_args().words
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("gan_lightning").setLevel(logging.INFO)
    with told_plainly("out=NAME"):
        paths = [word for word in words if is_path(word)]
        evaluate([path_of(word) for word in paths], [word for word in words if word not in paths])


def is_path(word: str) -> bool:
    """Whether a word is a path rather than a setting."""
    return "=" not in word or absolute(word).exists()


def path_of(word: str) -> Path:
    """The path that a word is; ``held_out`` stands for itself."""
    return Path(word) if word == HELD_OUT else shorter(absolute(word))


def evaluate(paths: Sequence[Path], typed: Sequence[str]) -> None:
    """Evaluate, print the table, and write it with all scores and their cards.

    Raises:
        UserError: With every fault of what was typed; or the scores cannot be compared.
    """
    asked, faults = parse(typed)
    own = asked.own
    found, missing = sources(paths, own.which)
    measuring = any(kind != "json" for _, kind in found)
    if found and not measuring:
        faults += [
            f"{key}: has no effect on scores that are measured already" for key in (*asked.sections, *asked.values)
        ]
    if any(text.startswith("which=") for text in typed) and not any(path.is_dir() for path in paths):
        faults.append(f"which={own.which}: has no effect, since it chooses among the checkpoints of a run's folder")
    if faults or missing:
        raise UserError(*missing, *faults)
    rows, failed = [], {}
    with claimed(own.out) as out:
        scores, table = files_of(out)
        try:
            try:
                measure(found, asked, out, rows, failed)
                if rows:
                    tell(rows, each(own.allow), own.sort_by, out)
            except UserError as fault:
                failed |= dict.fromkeys(fault.faults, ())
            if rows and (measuring or table.exists()):
                write_rows(out, rows)
        finally:
            if rows and measuring and not table.exists():
                print(f"what was measured is kept in {scores}", file=sys.stderr)
    if failed:
        of = {fault: f" ({abridged(dict.fromkeys(paths), 1)})" for fault, paths in failed.items() if paths}
        raise UserError(*(fault + of.get(fault, "") * (len(found) > 1) for fault in failed))


def measure(
    found: Sequence[tuple[Path, str]], asked: Asked, out: Path, rows: list["Row"], failed: dict[str, list[Path]]
) -> None:
    """Take rows of scores from files, or measure them and write each at once, since it may have taken hours.

    Args:
        found: Paths with their kinds.
        asked: What was typed.
        out: Where to write, without the suffix.
        rows: Where the scores go.
        failed: Where the faults go, each with the paths that it is told of.
    """
    from gan_lightning.judge import evaluate_one

    judges: dict[str, Evaluation] = {}
    for path, kind in found:
        try:
            if kind == "json":  # all files are read before any is written, which may be one of them
                rows += read_rows(path)
                continue
            rows.append(evaluate_one(path, kind, asked, out, judges))
        except UserError as fault:  # the others are worth having
            for line in fault.faults:
                failed.setdefault(line, []).extend([] if str(path) in line else [path])
            continue
        except OSError:
            raise
        except Exception as error:  # a file of another version, or one that was tampered with
            failed[f"{path}: cannot be evaluated ({type(error).__name__}: {first_line(error)})"] = []
            continue
        write_rows(out, rows, unfinished=True)


def write_rows(out: Path, rows: Sequence["Row"], unfinished: bool = False) -> None:
    """Write scores, marked as unfinished until all are there and compared."""
    with whole(files_of(out)[0], "w") as file:
        json.dump(({UNFINISHED: True} if unfinished else {}) | {"rows": [asdict(row) for row in rows]}, file, indent=1)


@contextmanager
def claimed(out: str | None) -> Iterator[Path]:
    """Hold the name under which to write, without the suffix: the one given, or the first one that is free.

    No other process gets it meanwhile. An empty or unfinished file that a killed evaluation has left under the given
    name is going to be replaced; the table beside an unfinished one is removed, since that evaluation wrote it.

    Raises:
        UserError: The name that was given is taken, or in use.
    """
    free = (f"evaluation-{number}" if number > 1 else "evaluation" for number in itertools.count(1))
    with ExitStack() as held:
        for name in [out] if out else free:
            path = shorter(absolute(name))
            scores, table = files_of(path)
            try:
                held.enter_context(alone(scores))
            except InUseError:
                if out:
                    fault = f"another gan-evaluate is writing {scores}"
                    raise UserError(f"out={out}: {fault}; choose another name") from None
                continue
            if out and is_unfinished(scores):
                table.unlink(missing_ok=True)
                break
            if not table.exists() and is_empty(scores):
                break
            if out:
                raise UserError(f"out={out}: {scores} or {table} is there already; choose another name")
            held.close()
        yield path


class InUseError(Exception):
    """Another process is writing a file."""


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Keep other processes from writing a file, by a lock beside it that goes when it is released.

    Raises:
        InUseError: Another process has the lock.
        OSError: The file's folder cannot be written.
    """

    def refuse() -> None:
        raise InUseError

    lock = path.with_name(f".{path.name}.lock")
    lock.parent.mkdir(parents=True, exist_ok=True)
    lock.touch()
    with ExitStack() as held:
        with suppress(OSError):  # there are file systems without locks
            held.enter_context(locked(lock, refuse))
        try:
            yield
        finally:
            with suppress(OSError):  # Windows does not remove an open file
                lock.unlink(missing_ok=True)


def is_empty(path: Path) -> bool:
    """Whether a file is not there, or has no content, as earlier versions left it when they were killed."""
    return not path.exists() or not path.stat().st_size


def is_unfinished(path: Path) -> bool:
    """Whether a file holds the scores of an evaluation that was ended before all were measured."""
    with suppress(OSError, ValueError, AttributeError):
        return read_json(path, path.parent, MOST_BYTES).get(UNFINISHED) is True
    return False


def files_of(out: Path) -> tuple[Path, Path]:
    """The JSON file and the table."""
    return out.with_name(f"{out.name}.json"), out.with_name(f"{out.name}.csv")


def tell(rows: Sequence["Row"], allowed: Sequence[str], sort_by: str | None, out: Path) -> None:
    """Print the table and its cards, and write it as CSV, beside scores that are marked as unfinished.

    Raises:
        UserError: The scores cannot be compared, or what to compare them by was not measured.
    """
    from gan_lightning import comparison

    comparison.refuse_unlike(rows, allowed)
    names = [*dict.fromkeys(line["metric"] for row in rows for line in row.scores)]
    directions = {line["metric"]: line["direction"] for row in rows for line in row.scores}
    sort_by = sort_by or next(name for name in names if directions[name])
    if sort_by not in names:
        raise UserError(f"sort_by={sort_by}: was not measured{nearest(sort_by, names)}; there are {', '.join(names)}")
    table = comparison.summarise(rows, sort_by, directions[sort_by] or -1)
    print()
    comparison.print_table(table, [name for name in names if directions[name]])
    card = next(line["card"] for row in rows for line in row.scores if line["metric"] == sort_by)
    weights = f"{card['weights']} weights" if "weights" in card else card["origin"]
    generated = f"{card['num_generated']:,} generated against {card['num_real']:,} of {card['data']} ({card['split']})"
    print()
    print(printable(f"{generated}, {card['feature']}, {weights}"))
    lines = [line for row in rows for line in row.scores]
    by_card: dict[str, list[str]] = {}  # what one metric has measured has one card
    for name in names:
        hashes = dict.fromkeys(line["card_hash"] for line in lines if line["metric"] == name)
        by_card.setdefault(" / ".join(hashes), []).append(name)
    print(printable("cards  " + ", ".join(f"{' '.join(members)} {card}" for card, members in by_card.items())))
    for note in dict.fromkeys(note for row in rows for line in row.scores for note in line.get("notes", [])):
        print(printable(f"note: {note}"))
    write_rows(out, rows, unfinished=True)  # marks the table as ours if the process is killed after it
    comparison.write_csv(files_of(out)[1], rows)
    print(f"all scores with their cards  {out}.json, {out}.csv")


def sources(paths: Sequence[Path], which: str) -> tuple[list[tuple[Path, str]], list[str]]:
    """What is to be evaluated, each with its kind: checkpoint, pictures, held_out or json; and what is wrong."""
    names = {"last": ["last.ckpt"], "best": ["best.ckpt"], "both": ["last.ckpt", "best.ckpt"]}[which]
    found, faults = [], []
    for path in paths:
        if path.is_file():
            found.append((path, "json" if path.suffix == ".json" else "checkpoint"))
        elif str(path) == HELD_OUT:
            found.append((path, HELD_OUT))
        elif path.is_dir():
            checkpoints = [file for name in names for file in of_runs(path, name)]
            checkpoints = checkpoints or [file for name in names for file in [path / name] if file.exists()]
            runs = folders(path)
            found += [(run, "nothing") for run in runs if not any(file.is_relative_to(run) for file in checkpoints)]
            if not checkpoints and which != "last" and of_runs(path, "last.ckpt"):
                faults.append(f"{path}: no run in there has a best.ckpt, which evaluation in training keeps")
            found += [(file, "checkpoint") for file in checkpoints]
            found += [] if checkpoints or runs else [(path, "pictures")]
        else:
            faults.append(f"{path}: there is no such file or folder")
    found = [*{(file.resolve(), kind): (file, kind) for file, kind in found}.values()]
    found.sort(key=lambda entry: entry[1] != "json")  # read before anything is written
    if not paths:
        faults.append("nothing to evaluate: name a checkpoint, a run's folder or a folder of pictures")
    return found, faults


def of_runs(folder: Path, name: str) -> list[Path]:
    """Return the checkpoints of a name of all runs in a directory."""
    return [file for file in files_named(folder, name) if file.parent.name == "checkpoints"]


def read_rows(path: Path) -> list["Row"]:
    """Rows of an earlier evaluation, whose form is checked: the file is untrusted.

    Raises:
        UserError: It cannot be read, is too large, or was not written by gan-evaluate.
    """
    from gan_lightning.comparison import Row, is_shallow

    file = path.resolve()  # a link that the user has named
    try:
        found = read_json(file, file.parent, MOST_BYTES)
        if not is_shallow(found):
            raise ValueError("nested too deeply")
        rows = [Row(**row) for row in found["rows"]]
        kinds = {"metric": str, "value": int | float, "card": dict, "card_hash": str, "direction": int}
        told = {"num_generated": int, "num_real": int, "data": object, "split": object, "feature": object}
        for line in (line for row in rows for line in row.scores or [{}]):
            right = all(
                isinstance(part[key], of[key]) for part, of in ((line, kinds), (line["card"], told)) for key in of
            )
            notes = line.get("notes", [])
            right &= line.get("direction") in (-1, 0, 1) and isinstance(notes, list)
            if not right or not all(isinstance(note, str) for note in notes):
                raise ValueError("scores of another form")
            if not {"weights", "origin"} & line["card"].keys():
                raise ValueError("scores without weights and origin")
            line["value"] = float(line["value"])  # an integer may be larger than any
        parts = str, dict, int | None, int | None
        of_rows = [(row.path, row.experiment, row.seed, row.step) for row in rows]
        if not rows or not all(all(map(isinstance, of_row, parts)) for of_row in of_rows):
            raise ValueError("no rows, or rows of another form")
        return rows
    except OSError as error:
        reason = error.strerror or str(error).removeprefix(f"{file}: ")
        raise UserError(f"{path}: cannot be read ({reason})") from error
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise UserError(f"{path}: was not written by gan-evaluate") from error


if __name__ == "__main__":
    main()
