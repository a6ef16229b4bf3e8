"""The benchmark of memory over a long job, as long as a test can afford."""

import json
import subprocess
import sys
from pathlib import Path

BENCHMARK = Path(__file__).resolve().parents[1] / "benchmarks" / "memory.py"


def test_memory_does_not_grow_with_the_number_of_pictures(tmp_path: Path) -> None:
    out = tmp_path / "found.json"
    # How far the search for a batch size goes is a matter of time: its buffers would be measured.
    command = [sys.executable, str(BENCHMARK), "3000", "--batch-size", "32", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    # One picture of 32 x 32 kept out of each would be 30 MB; buffers that find their size are a few.
    assert json.loads(out.read_text())["mb_per_10000_pictures"] < 15
