"""Run the code blocks of a Markdown page in the current directory: ``python tests/support/markdown_blocks.py PAGE``."""

import re
import subprocess
import sys
from pathlib import Path

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)


def blocks(page: Path) -> list[tuple[int, str, str]]:
    """Return the number of the first line, the language and the text of each code block."""
    text = page.read_text()
    return [(text[: found.start(2)].count("\n") + 1, found[1], found[2]) for found in BLOCK.finditer(text)]


def run(page: Path) -> None:
    """Run the blocks in order: each Bash block in a new shell, all Python blocks in one namespace.

    Raises:
        SystemExit: A command failed.
        Exception: A Python block failed; the traceback names the page and the line.
    """
    namespace = {"__name__": page.stem}
    for line, language, text in blocks(page):
        if language == "bash":
            done = subprocess.run(["bash", "-euo", "pipefail", "-c", text], check=False)
            if done.returncode:
                sys.exit(f"{page.name}, the block at line {line}: exit status {done.returncode}")
        elif language == "python":
            exec(compile("\n" * (line - 1) + text, str(page), "exec"), namespace)


if __name__ == "__main__":
    run(Path(sys.argv[1]))
