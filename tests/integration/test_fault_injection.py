"""Fault injection: a few faults of every kind; ``make faults`` injects hundreds."""

import subprocess
import sys
from pathlib import Path

FAULTS = Path(__file__).parents[1] / "support" / "fault_injection.py"


def test_runs_survive_kills_full_disks_damage_and_signals():
    done = subprocess.run([sys.executable, str(FAULTS), "--short"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WRONG" not in done.stdout
    kinds = "kill in a", "truncated checkpoint", "full disk", "folder removed", "SIGTERM", "SIGHUP", "file dates"
    for kind in (*kinds, "moments of", "broken image"):
        assert kind in done.stdout
    for kind in (
        "archive unpacked",
        "without a reader",
        "sweep killed",
        "half written",
        "jobs fail",
        "gan-sample killed",
    ):
        assert kind in done.stdout
