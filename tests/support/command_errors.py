"""Error messages of the command line's validation."""

import re

import pytest

from gan_lightning.errors import UserError
from gan_lightning.run.command_line import check_command_line


def faults(*argv: str) -> list[str]:
    """Validate a command line that must fail; its error messages, without names of other libraries' internals."""
    with pytest.raises(UserError) as caught:
        check_command_line([*argv])
    text = str(caught.value)
    for inside in ("Traceback", "omegaconf", "full_key", "object_type", "hydra."):
        assert inside not in re.sub(r"hydra\.(run\.dir|sweep\.dir|mode)", "", text), text
    return text.splitlines()
