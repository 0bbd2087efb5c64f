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


TOLD = "standard output: cannot be written (No space left on device)\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is always full")
@pytest.mark.parametrize(
    ("end", "told"),
    [("", TOLD), ("sys.exit()", TOLD), ("sys.stdout.flush()", TOLD), ("raise UserError('a: wrong')", "a: wrong\n")],
)
@pytest.mark.parametrize("both", [False, True])
def test_output_to_a_full_disk_ends_in_one_line_and_a_status(end, told, both):
    """Python's own flush at the end would end in a traceback and status 120."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    command = [sys.executable, "-c", FULL.format(end=end)]
    with Path("/dev/full").open("w") as full:
        stderr = full if both else subprocess.PIPE
        done = subprocess.run(command, stdout=full, stderr=stderr, text=True, env=environment, check=False)
    assert done.returncode == 2
    assert both or done.stderr == told
