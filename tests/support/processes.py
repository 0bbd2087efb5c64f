"""Numbers of processes."""

ENDED = 2**22 + 1  # above the largest number of a process on Linux and macOS: as of one that has ended
