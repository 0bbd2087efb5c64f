"""The one exception that the commands tell without a traceback."""


class UserError(Exception):
    """Something the user can mend: what is wrong, where, and what would be right, one line a fault."""

    def __init__(self, *faults: str) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


class UnavailableError(UserError):
    """Something that was asked for is not to be had here, and a run can do without it."""


def first_line(error: BaseException) -> str:
    """What an error of another library says, short; of Hydra's, what lies behind it."""
    text = str(error.__cause__ or error).strip() or type(error).__name__
    lines = [line.strip() for line in text.splitlines()[:2]]
    return " ".join(line for line in lines if not line.startswith(("full_key:", "object_type=")))
