"""Process ids for tests."""

ENDED = 2**22 + 1  # larger than any process id on Linux and macOS, so that no such process runs
