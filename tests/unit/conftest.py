"""Unit tests must not start processes: a process takes seconds, and its failures are harder to diagnose."""

import sys
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Any

import pytest

PROCESS_EVENTS = {"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.exec", "os.system"}
ALLOWED = {"fc-list", "system_profiler", "uname", "cmd.exe"}  # matplotlib lists fonts, platform.uname() the processor

FOLDER = Path(__file__).parent
running = False
started: list[str] = []


def record_processes(event: str, args: tuple[Any, ...]) -> None:
    if running and event in PROCESS_EVENTS and not (args and PurePath(str(args[0])).name in ALLOWED):
        started.append(f"{event} {args[0] if args else ''}")


sys.addaudithook(record_processes)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    global running
    running = item.path.is_relative_to(FOLDER)  # pytest also calls this for the other tiers
    try:
        return (yield)
    finally:
        running = False


@pytest.fixture(autouse=True)
def _no_process() -> Iterator[None]:
    """Fail a test if it or a fixture of its module has started a process."""
    yield
    found = [*started]
    started.clear()
    assert found == [], "a unit test must not start a process; move it to tests/integration"
