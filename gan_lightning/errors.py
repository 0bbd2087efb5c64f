"""The one exception that the commands tell without a traceback."""


class UserError(Exception):
    """Something the user can mend: what is wrong, where, and what would be right, one line a fault."""

    def __init__(self, *faults: str) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


class UnavailableError(UserError):
    """Something that was asked for is not to be had here, and a run can do without it."""
