"""The benchmark of memory over a long job, as long as a test can afford."""

import json
import subprocess
import sys
from pathlib import Path

BENCHMARK = Path(__file__).resolve().parents[1] / "benchmarks" / "memory.py"


def test_memory_does_not_grow_with_the_number_of_pictures(tmp_path: Path) -> None:
    out = tmp_path / "found.json"
    # How far the search for a batch size goes is a matter of time: its buffers would be measured.
    command = [sys.executable, str(BENCHMARK), "12000", "--batch-size", "32", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    # One picture of 32 x 32 kept out of each would be 30 MB. The buffers of the second lane, 3 MB once, come
    # when two batches first meet in the network: in the middle of the job they tilt the line by 5 at most.
    assert json.loads(out.read_text())["mb_per_10000_pictures"] < 10
