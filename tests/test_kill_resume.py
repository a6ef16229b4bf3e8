"""The benchmark that kills training again and again, with as many kills as a test can afford."""

import json
import subprocess
import sys
from pathlib import Path

BENCHMARK = Path(__file__).resolve().parents[1] / "benchmarks" / "kill_resume.py"


def test_training_killed_at_twenty_random_moments_ends_with_the_hash_of_an_undisturbed_run(
    tmp_path: Path,
) -> None:
    out = tmp_path / "found.json"
    command = [
        sys.executable,
        str(BENCHMARK),
        "--kills",
        "20",
        "--epochs",
        "8",
        "--seed",
        "1",
        "--out",
        str(out),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(out.read_text())
    assert found["kills"] == 20
    assert found["kills_by_moment"]["inside a save"] >= 2
    assert (found["runs_that_differ"], found["failures"]) == (0, [])
