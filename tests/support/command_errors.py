"""Error messages of the validation of command lines."""

import re

import pytest

from gan_lightning.errors import UserError
from gan_lightning.run.command_line import check_command_line


def errors(*argv: str) -> list[str]:
    """Return the error messages of an invalid command line; check that they show no internals of other libraries."""
    with pytest.raises(UserError) as caught:
        check_command_line([*argv])
    text = str(caught.value)
    for internal in ("Traceback", "omegaconf", "full_key", "object_type", "hydra."):
        assert internal not in re.sub(r"hydra\.(run\.dir|sweep\.dir|mode)", "", text), text
    return text.splitlines()
