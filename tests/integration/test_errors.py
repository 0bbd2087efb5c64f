"""Output of a command to a full disk."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

FULL = """
import sys
from gan_lightning.errors import UserError
from gan_lightning.cli.exit import exit_on_error
with exit_on_error("--out"):
    print("result")
    {end}
"""


MESSAGE = "standard output: cannot be written (No space left on device)\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is always full")
@pytest.mark.parametrize(
    ("end", "message"),
    [
        ("", MESSAGE),
        ("sys.exit()", MESSAGE),
        ("sys.stdout.flush()", MESSAGE),
        ("raise UserError('a: wrong')", "a: wrong\n"),
    ],
)
@pytest.mark.parametrize("both", [False, True])
def test_output_to_full_disk_exits_with_one_line_and_status_2(end, message, both):
    """Python's own flush at exit would print a traceback and return status 120."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    command = [sys.executable, "-c", FULL.format(end=end)]
    with Path("/dev/full").open("w") as full:
        stderr = full if both else subprocess.PIPE
        done = subprocess.run(command, stdout=full, stderr=stderr, text=True, env=environment, check=False)
    assert done.returncode == 2
    assert both or done.stderr == message
