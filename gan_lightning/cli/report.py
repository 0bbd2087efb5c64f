"""gan-report: write a report of a run or a sweep as one self-contained HTML file."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gan_lightning.cli.exit import exit_on_error
from gan_lightning.errors import UserError, escape_control
from gan_lightning.io.paths import absolute, relative_path
from gan_lightning.run.run_dir import find_runs

if TYPE_CHECKING:
    from gan_lightning.evaluation.compare import Row
    from gan_lightning.report.run_record import RunRecord

MAX_RUNS, MAX_BYTES, MAX_OMITTED = 1000, 1 << 28, 100  # in a report, and listed messages on omitted parts


def build_parser() -> argparse.ArgumentParser:
    """Return the argument parser."""
    arguments = argparse.ArgumentParser("gan-report", description="Write a report of a run or sweep in one HTML file.")
    arguments.add_argument("folder", type=absolute, help="a run directory, or a folder that contains several")
    arguments.add_argument("--out", type=absolute, default="report.html", help="the file (default: report.html)")
    arguments.add_argument("--sort-by", help="the score to rank runs by (default: the first)")
    return arguments


def main() -> None:
    """Entry point of the command."""
    with exit_on_error("--out"):
        print(report(build_parser().parse_args()))


def report(args: argparse.Namespace) -> str:
    """Write the report; return a summary.

    Raises:
        UserError: There is no run, or the file does not end in .html.
    """
    folder, out = relative_path(args.folder), relative_path(args.out)
    errors = []
    if out.suffix not in (".html", ".htm"):
        errors.append(f"--out {out}: must end in .html")
    if not folder.is_dir():
        errors.append(f"{folder}: there is no such folder")
    omitted: list[str] = []
    found = find_runs(folder, omitted.append) if not errors else []
    if not found and not errors:
        errors.append(f"{folder}: contains no run; a run directory has a config.yaml")
    if errors:
        raise UserError(*errors)

    from gan_lightning.report.run_record import RunRecord

    runs: list[RunRecord] = []
    num_bytes = 0
    for path in found:
        if len(runs) == MAX_RUNS or num_bytes > MAX_BYTES:
            omitted.append(
                f"{len(found) - len(runs):,} of {len(found):,} runs: a report is limited to {MAX_RUNS:,} runs and "
                f"{MAX_BYTES / 1e6:,.0f} MB; pass a folder with fewer runs"
            )
            break
        runs.append(RunRecord.read(path, folder))
        num_bytes += runs[-1].num_bytes
        omitted += runs[-1].omitted
    shown = omitted[:MAX_OMITTED]
    shown += [f"and {len(omitted) - len(shown):,} more"] * (len(omitted) > len(shown))
    # A file name that is invalid in the file system's encoding is shown with its bytes escaped.
    content = render_page(folder, runs, args.sort_by, shown).encode(errors="backslashreplace")

    from gan_lightning.io.files import atomic_write

    with atomic_write(out) as file:
        file.write(content)
    summary = f"{len(runs)} run{'s' if len(runs) > 1 else ''} in {out}, {len(content) / 1e6:.1f} MB"
    more = f" (and {len(omitted) - 1:,} more, see the report)" if len(omitted) > 1 else ""
    return f"{summary}\nleft out: {escape_control(omitted[0])}{more}" if omitted else summary


def render_page(folder: Path, runs: list["RunRecord"], sort_by: str | None, omitted: Sequence[str]) -> str:
    """Render the report as HTML.

    Args:
        folder: The directory that the user passed.
        runs: Its runs.
        sort_by: The score to rank them by; None for the first.
        omitted: Messages on parts that were not read.

    Raises:
        UserError: Jinja is not installed, or no run has the score ``sort_by``.
    """
    try:
        from jinja2 import Environment, StrictUndefined
    except ImportError as error:
        raise UserError("gan-report needs pip install 'gan-lightning[report]'") from error

    from gan_lightning.config.validation import suggest
    from gan_lightning.io.paths import PACKAGE
    from gan_lightning.io.versions import installed

    rows = [run.row for run in runs if run.row.scores]
    if sort_by and sort_by not in (scores := rankable_scores(rows)):
        raise UserError(
            f"--sort-by {sort_by}: was not measured{suggest(sort_by, scores)}; there are {', '.join(scores)}"
        )
    by_data: dict[str, list[Row]] = {}  # scores on different data sets are never compared
    for row in rows:
        by_data.setdefault(str(row.scores[0]["card"].get("data")), []).append(row)
    rankings = [rank_runs(data, members, sort_by) for data, members in by_data.items() if len(members) > 1]
    # Untrusted names, of files and classes, are escaped by the template's autoescape.
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    template = environment.from_string((PACKAGE / "report" / "page.html").read_text())
    return template.render(
        title=runs[0].title
        if len(runs) == 1
        else escape_control(f"{len(runs)} runs in {folder.name or folder.resolve().name}"),
        made=escape_control(f"gan-report {folder}, gan-lightning {installed('gan-lightning')}"),
        rankings=rankings,
        runs=runs,
        omitted=omitted,
    )


def rank_runs(data: str, rows: list["Row"], sort_by: str | None) -> dict[str, Any]:
    """Return the table of runs on one data set, the best first; or why their scores are not comparable.

    Args:
        data: Name of the data set.
        rows: Scores of the runs.
        sort_by: The score to rank them by; None for the first.
    """
    from gan_lightning.evaluation import compare
    from gan_lightning.report.run_record import directions

    scores = rankable_scores(rows)
    by = sort_by if sort_by in scores else next(iter(scores), "")
    found: dict[str, Any] = {"data": data, "by": by, "table": [], "errors": ()}
    try:
        compare.check_comparable(rows)
    except UserError as error:
        return found | {"errors": error.errors}
    table = compare.table_rows(compare.summarise(rows, by, directions()[by]), scores) if by else []
    return found | {"table": table}


def rankable_scores(rows: list["Row"]) -> list[str]:
    """Return the names of the measured scores whose direction (higher or lower is better) is known."""
    from gan_lightning.report.run_record import directions

    known = directions()
    return [name for name in dict.fromkeys(line["metric"] for row in rows for line in row.scores) if known.get(name)]


if __name__ == "__main__":
    main()
