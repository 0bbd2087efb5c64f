"""gan-evaluate: scores of checkpoints, of all runs of a sweep, or of a folder of images, in one table."""

import argparse
import itertools
import json
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gan_lightning.cli.evaluate_request import HELD_OUT, EvaluateRequest, parse_request
from gan_lightning.cli.exit import exit_on_error
from gan_lightning.config.compose import as_list
from gan_lightning.config.constraints import admits
from gan_lightning.config.validation import suggest
from gan_lightning.errors import UserError, escape_control, first_and_count, short_message
from gan_lightning.io.files import atomic_write, file_lock, read_json
from gan_lightning.io.paths import absolute
from gan_lightning.run.run_dir import files_named, find_runs
from gan_lightning.run.summary import relative_path

if TYPE_CHECKING:
    from gan_lightning.evaluation.compare import Row
    from gan_lightning.evaluation.evaluator import Evaluator

UNFINISHED = "unfinished"  # key of a JSON file until all scores are measured
EPILOG = """\
PATH is a checkpoint, the directory of a run or of a sweep, or a .json file that this command has written. With data=...
it can be a folder of images, or held_out: real samples that are not used for training. KEY=VALUE is one of

  protocol=10k_test     number of samples and real samples; or eval.num_generated, eval.num_real, eval.reference,
                        eval.label_distribution
  feature=inception     feature network; feature.weights=FILE
  metric=all            metrics
  data=cifar10          other data than those of the run; data.root=FOLDER
  sort_by=fd            score by which the table is sorted; fid and kid with feature=inception
  which=last            checkpoints of a run directory: last, best or both
  out=NAME              write NAME.json and NAME.csv; by default evaluation, evaluation-2, ...
  allow=[weights]       ignore this field of the protocol cards when comparing
  trust_checkpoint=true instantiate user-supplied classes of the checkpoint, which runs their code

Unspecified settings default to those of the run.
"""

MAX_BYTES = 1 << 26  # of the file of an earlier evaluation; a thousand runs with all scores take half of that
# Types of the fields of such a file: of a row, a score and a protocol card.
ROW_TYPES = {"path": str, "experiment": dict, "seed": int | None, "step": int | None}
SCORE_TYPES = {"metric": str, "value": int | float, "card": dict, "card_hash": str, "direction": int}
CARD_TYPES = {"num_generated": int, "num_real": int, "data": object, "split": object, "feature": object}


def main() -> None:
    """Run the command."""
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("gan-evaluate", description=__doc__, epilog=EPILOG, formatter_class=formatter)
    parser.add_argument("arguments", nargs="+", metavar="PATH or KEY=VALUE")
    arguments = parser.parse_args().arguments
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("gan_lightning").setLevel(logging.INFO)
    with exit_on_error("out=NAME"):
        paths = [argument for argument in arguments if is_path(argument)]
        evaluate([to_path(path) for path in paths], [argument for argument in arguments if argument not in paths])


def is_path(argument: str) -> bool:
    """Return whether an argument is a path rather than a setting."""
    return "=" not in argument or absolute(argument).exists()


def to_path(argument: str) -> Path:
    """Return an argument as a path, relative if that is shorter; ``held_out`` is not the name of a file."""
    return Path(argument) if argument == HELD_OUT else relative_path(absolute(argument))


def evaluate(paths: Sequence[Path], overrides: Sequence[str]) -> None:
    """Evaluate, print the table, and write it with all scores and their cards.

    Raises:
        UserError: Overrides or paths are invalid (all are listed), or the scores cannot be compared.
    """
    request, errors = parse_request(overrides)
    own = request.own
    found, missing = find_sources(paths, own.which)
    measuring = any(kind != "json" for _, kind in found)
    if found and not measuring:
        errors += [
            f"{key}: has no effect on scores that are measured already" for key in (*request.sections, *request.values)
        ]
    if any(text.startswith("which=") for text in overrides) and not any(path.is_dir() for path in paths):
        errors.append(f"which={own.which}: has no effect, since it chooses among the checkpoints of a run directory")
    if errors or missing:
        raise UserError(*missing, *errors)
    rows: list[Row] = []
    failed: dict[str, list[Path]] = {}
    with reserve_output(own.out) as out:
        scores, table = output_files(out)
        try:
            try:
                measure(found, request, out, rows, failed)
                if rows:
                    report(rows, as_list(own.allow), own.sort_by, out)
            except UserError as error:
                failed |= {message: [] for message in error.errors}
            if rows and (measuring or table.exists()):
                write_rows(out, rows)
        finally:
            if rows and measuring and not table.exists():
                print(f"measured scores are saved in {scores}", file=sys.stderr)
    if failed:
        where = {
            message: f" ({first_and_count(dict.fromkeys(paths), 1)})" for message, paths in failed.items() if paths
        }
        raise UserError(*(message + where.get(message, "") * (len(found) > 1) for message in failed))


def measure(
    found: Sequence[tuple[Path, str]],
    request: EvaluateRequest,
    out: Path,
    rows: list["Row"],
    failed: dict[str, list[Path]],
) -> None:
    """Read scores from files, or measure them and write each row at once, since it may have taken hours.

    Args:
        found: Paths with their kinds.
        request: The parsed overrides.
        out: Output path without the suffix.
        rows: Output argument for the scores.
        failed: Output argument for error messages, each with the paths that it concerns.
    """
    from gan_lightning.cli.evaluate_checkpoint import evaluate_one

    evaluators: dict[str, Evaluator] = {}
    for path, kind in found:
        try:
            if kind == "json":  # all files are read before one is written, since it may be one of them
                rows += read_rows(path)
                continue
            rows.append(evaluate_one(path, kind, request, out, evaluators))
        except UserError as error:  # continue with the other paths
            for message in error.errors:
                failed.setdefault(message, []).extend([] if str(path) in message else [path])
            continue
        except OSError:
            raise
        except Exception as error:  # a file of another version, or a manipulated one
            failed[f"{path}: cannot be evaluated ({type(error).__name__}: {short_message(error)})"] = []
            continue
        write_rows(out, rows, unfinished=True)


def write_rows(out: Path, rows: Sequence["Row"], unfinished: bool = False) -> None:
    """Write scores, marked as unfinished until all are measured and compared."""
    with atomic_write(output_files(out)[0], "w") as file:
        json.dump(({UNFINISHED: True} if unfinished else {}) | {"rows": [asdict(row) for row in rows]}, file, indent=1)


@contextmanager
def reserve_output(out: str | None) -> Iterator[Path]:
    """Lock the output path without the suffix: the given one, or the first free one of evaluation, evaluation-2, ...

    An empty or unfinished file that a killed evaluation left under the given name will be replaced; the table beside an
    unfinished one is removed, since that evaluation wrote it.

    Raises:
        UserError: The given name is taken, or another process is writing it.
    """
    default = (f"evaluation-{number}" if number > 1 else "evaluation" for number in itertools.count(1))
    with ExitStack() as held:
        for name in [out] if out else default:
            path = relative_path(absolute(name))
            scores, table = output_files(path)
            try:
                held.enter_context(exclusive(scores))
            except InUseError:
                if out:
                    raise UserError(
                        f"out={out}: another gan-evaluate is writing {scores}; choose another name"
                    ) from None
                continue
            if out and is_unfinished(scores):
                table.unlink(missing_ok=True)
                break
            if not table.exists() and is_empty(scores):
                break
            if out:
                raise UserError(f"out={out}: {scores} or {table} already exists; choose another name")
            held.close()
        yield path


class InUseError(Exception):
    """Another process is writing a file."""


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold a lock on a file to be written, by a lock file beside it that is removed afterwards.

    Raises:
        InUseError: Another process has the lock.
        OSError: The directory is not writable.
    """

    def raise_in_use() -> None:
        raise InUseError

    lock = path.with_name(f".{path.name}.lock")
    lock.parent.mkdir(parents=True, exist_ok=True)
    lock.touch()
    with ExitStack() as held:
        with suppress(OSError):  # some file systems have no locks
            held.enter_context(file_lock(lock, raise_in_use))
        try:
            yield
        finally:
            with suppress(OSError):  # Windows cannot remove an open file
                lock.unlink(missing_ok=True)


def is_empty(path: Path) -> bool:
    """Return whether a file is missing or empty."""
    return not path.exists() or not path.stat().st_size


def is_unfinished(path: Path) -> bool:
    """Return whether a file has the scores of an evaluation that ended before all were measured."""
    with suppress(OSError, ValueError, AttributeError):
        return read_json(path, path.parent, MAX_BYTES).get(UNFINISHED) is True
    return False


def output_files(out: Path) -> tuple[Path, Path]:
    """Return the paths of the JSON file and of the CSV table."""
    return out.with_name(f"{out.name}.json"), out.with_name(f"{out.name}.csv")


def report(rows: Sequence["Row"], allowed: Sequence[str], sort_by: str | None, out: Path) -> None:
    """Print the table and its protocol cards, and write it as CSV beside scores that are marked as unfinished.

    Raises:
        UserError: The scores cannot be compared, or ``sort_by`` was not measured.
    """
    from gan_lightning.evaluation import compare

    compare.check_comparable(rows, allowed)
    lines = [line for row in rows for line in row.scores]
    names = [*dict.fromkeys(line["metric"] for line in lines)]
    directions = {line["metric"]: line["direction"] for line in lines}
    sort_by = sort_by or next(name for name in names if directions[name])
    if sort_by not in names:
        raise UserError(f"sort_by={sort_by}: was not measured{suggest(sort_by, names)}; there are {', '.join(names)}")
    table = compare.summarise(rows, sort_by, directions[sort_by] or -1)
    print()
    compare.print_table(table, [name for name in names if directions[name]])
    card = next(line["card"] for line in lines if line["metric"] == sort_by)
    weights = f"{card['weights']} weights" if "weights" in card else card["origin"]
    generated = f"{card['num_generated']:,} generated against {card['num_real']:,} of {card['data']} ({card['split']})"
    print()
    print(escape_control(f"{generated}, {card['feature']}, {weights}"))
    by_card: dict[str, list[str]] = {}  # all scores of one metric have the same card
    for name in names:
        hashes = dict.fromkeys(line["card_hash"] for line in lines if line["metric"] == name)
        by_card.setdefault(" / ".join(hashes), []).append(name)
    print(escape_control("cards  " + ", ".join(f"{' '.join(members)} {card}" for card, members in by_card.items())))
    for note in dict.fromkeys(note for line in lines for note in line.get("notes", [])):
        print(escape_control(f"note: {note}"))
    write_rows(out, rows, unfinished=True)  # marks the table as unfinished if the process is killed after writing it
    compare.write_csv(output_files(out)[1], rows)
    print(f"all scores with their cards  {out}.json, {out}.csv")


def find_sources(paths: Sequence[Path], which: str) -> tuple[list[tuple[Path, str]], list[str]]:
    """Return the paths to evaluate with their kinds (checkpoint, images, held_out, json or nothing), and errors."""
    # The caller reports an invalid choice.
    names = [f"{name}.ckpt" for name in ("last", "best") if which in (name, "both")] or ["last.ckpt"]
    found, errors = [], []
    for path in paths:
        if path.is_file():
            found.append((path, "json" if path.suffix == ".json" else "checkpoint"))
        elif str(path) == HELD_OUT:
            found.append((path, HELD_OUT))
        elif path.is_dir():
            checkpoints = [file for name in names for file in run_checkpoints(path, name)]
            checkpoints = checkpoints or [file for name in names for file in [path / name] if file.exists()]
            runs = find_runs(path)
            found += [(run, "nothing") for run in runs if not any(file.is_relative_to(run) for file in checkpoints)]
            if not checkpoints and which != "last" and run_checkpoints(path, "last.ckpt"):
                errors.append(f"{path}: no run in it has a best.ckpt, which is saved by evaluation during training")
            found += [(file, "checkpoint") for file in checkpoints]
            found += [] if checkpoints or runs else [(path, "images")]
        else:
            errors.append(f"{path}: there is no such file or folder")
    found = [*{(file.resolve(), kind): (file, kind) for file, kind in found}.values()]
    found.sort(key=lambda entry: entry[1] != "json")  # read before anything is written
    if not paths:
        errors.append("nothing to evaluate: give a checkpoint, a run directory or a folder of images")
    return found, errors


def run_checkpoints(folder: Path, name: str) -> list[Path]:
    """Return the checkpoints with a file name of all runs in a directory."""
    return [file for file in files_named(folder, name) if file.parent.name == "checkpoints"]


def read_rows(path: Path) -> list["Row"]:
    """Return the rows of an earlier evaluation; the file is untrusted, so that its structure is validated.

    Raises:
        UserError: The file cannot be read, is too large, or was not written by gan-evaluate.
    """
    from gan_lightning.evaluation.compare import Row, is_shallow

    file = path.resolve()  # a link given by the user is followed
    try:
        found = read_json(file, file.parent, MAX_BYTES)
        if not is_shallow(found):
            raise ValueError("nested too deeply")
        rows = [Row(**row) for row in found["rows"]]
        valid = bool(rows)
        for row in rows:
            valid &= has_types(vars(row), ROW_TYPES) and bool(row.scores)
            for line in row.scores:
                valid &= has_types(line, SCORE_TYPES) and has_types(line["card"], CARD_TYPES)
                valid &= line["direction"] in (-1, 0, 1) and bool({"weights", "origin"} & line["card"].keys())
                valid &= admits(list[str], line.get("notes", []))
                line["value"] = float(line["value"])  # fails for an integer that is too large
        if not valid:
            raise ValueError("rows or scores of another form")
        return rows
    except OSError as error:
        reason = error.strerror or str(error).removeprefix(f"{file}: ")
        raise UserError(f"{path}: cannot be read ({reason})") from error
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise UserError(f"{path}: was not written by gan-evaluate") from error


def has_types(values: dict[str, Any], types: dict[str, Any]) -> bool:
    """Return whether values have the given types; raise KeyError if one is missing."""
    return all(isinstance(values[key], types[key]) for key in types)


if __name__ == "__main__":
    main()
