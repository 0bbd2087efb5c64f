"""gan-report: a run or a sweep as one HTML file that needs nothing beside it."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gan_lightning.errors import UserError, printable
from gan_lightning.exit import told_plainly
from gan_lightning.paths import absolute, shorter
from gan_lightning.run import folders

if TYPE_CHECKING:
    from gan_lightning.comparison import Row
    from gan_lightning.record import Record

MOST_RUNS, MOST_BYTES, MOST_OMITTED = 1000, 1 << 28, 100  # in one page, and of sentences on what it lacks


def parser() -> argparse.ArgumentParser:
    """What gan-report takes."""
    take = argparse.ArgumentParser("gan-report", description="Tell a run or a sweep in one HTML file.")
    take.add_argument("folder", type=absolute, help="a run's folder, or one with several runs in it")
    take.add_argument("--out", type=absolute, default=absolute("report.html"), help="the file (default: report.html)")
    take.add_argument("--sort-by", help="the score that runs are ranked by (default: the first)")
    return take


def main() -> None:
    """The command."""
    with told_plainly("--out"):
        print(report(parser().parse_args()))


def report(args: argparse.Namespace) -> str:
    """Write the file; return a sentence on it.

    Raises:
        UserError: There is no run, or the file's name is none of HTML.
    """
    folder, out = shorter(args.folder), shorter(args.out)
    faults = []
    if out.suffix not in (".html", ".htm"):
        faults.append(f"--out {out}: must end in .html")
    if not folder.is_dir():
        faults.append(f"{folder}: there is no such folder")
    omitted: list[str] = []
    found = folders(folder, omitted.append) if not faults else []
    if not found and not faults:
        faults.append(f"{folder}: holds no run; a run's folder has a config.yaml")
    if faults:
        raise UserError(*faults)

    from gan_lightning.record import Record

    runs, num_bytes = [], 0
    for path in found:
        if len(runs) == MOST_RUNS or num_bytes > MOST_BYTES:
            omitted.append(
                f"{len(found) - len(runs):,} of {len(found):,} runs: a report takes {MOST_RUNS:,} runs and "
                f"{MOST_BYTES / 1e6:,.0f} MB; pass a folder with fewer"
            )
            break
        runs.append(Record.read(path, folder))
        num_bytes += runs[-1].num_bytes
        omitted += runs[-1].omitted
    shown = omitted[:MOST_OMITTED]
    shown += [f"and {len(omitted) - len(shown):,} more"] * (len(omitted) > len(shown))
    # A name that is no text to the file system's encoding is shown by its bytes.
    content = page(folder, runs, args.sort_by, shown).encode(errors="backslashreplace")

    from gan_lightning.files import whole

    with whole(out) as file:
        file.write(content)
    done = f"{len(runs)} run{'s' if len(runs) > 1 else ''} in {out}, {len(content) / 1e6:.1f} MB"
    more = f" (and {len(omitted) - 1:,} more, see the report)" if len(omitted) > 1 else ""
    return f"{done}\nleft out: {printable(omitted[0])}{more}" if omitted else done


def page(folder: Path, runs: list["Record"], sort_by: str | None, omitted: Sequence[str]) -> str:
    """The HTML.

    Args:
        folder: The folder that was asked for.
        runs: Its runs.
        sort_by: The score that they are ranked by.
        omitted: What was not read, a sentence each.
    """
    try:
        from jinja2 import Environment, StrictUndefined
    except ImportError as error:
        raise UserError("gan-report needs pip install 'gan-lightning[report]'") from error

    from gan_lightning.card import installed
    from gan_lightning.config.validation import nearest
    from gan_lightning.paths import PACKAGE

    rows = [run.row for run in runs if run.row.scores]
    if sort_by and sort_by not in (there := rankable(rows)):
        raise UserError(f"--sort-by {sort_by}: was not measured{nearest(sort_by, there)}; there are {', '.join(there)}")
    by_data: dict[str, list[Row]] = {}  # scores against different pictures are apart from the start
    for row in rows:
        by_data.setdefault(str(row.scores[0]["card"].get("data")), []).append(row)
    rankings = [ranking(data, members, sort_by) for data, members in by_data.items() if len(members) > 1]
    # What strangers may have named, in files and labels, is escaped by the template's autoescape.
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    template = environment.from_string((PACKAGE / "report.html").read_text())
    return template.render(
        title=runs[0].title
        if len(runs) == 1
        else printable(f"{len(runs)} runs in {folder.name or folder.resolve().name}"),
        made=printable(f"gan-report {folder}, gan-lightning {installed('gan-lightning')}"),
        rankings=rankings,
        runs=runs,
        omitted=omitted,
    )


def ranking(data: str, rows: list["Row"], sort_by: str | None) -> dict[str, Any]:
    """Runs on one data set, the best first; what keeps their scores from being compared where they cannot be."""
    from gan_lightning import comparison
    from gan_lightning.record import directions

    scores = rankable(rows)
    by = sort_by if sort_by in scores else next(iter(scores), "")
    found: dict[str, Any] = {"data": data, "by": by, "table": [], "refused": ()}
    try:
        comparison.refuse_unlike(rows)
    except UserError as error:
        return found | {"refused": error.faults}
    table = comparison.cells(comparison.summarise(rows, by, directions()[by]), scores) if by else []
    return found | {"table": table}


def rankable(rows: list["Row"]) -> list[str]:
    """Scores that were measured and of which it is known whether more is better."""
    from gan_lightning.record import directions

    known = directions()
    return [name for name in dict.fromkeys(line["metric"] for row in rows for line in row.scores) if known.get(name)]


if __name__ == "__main__":
    main()
