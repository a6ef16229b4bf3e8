"""How long `striate --help` takes, against `python -c pass` in the same run.

Usage: python benchmarks/startup.py [--runs 15] [--out benchmarks/results/startup.json]

The commands take turns, so that a busy moment of the machine hits all of them. A ratio is the median over
the rounds of command / `python -c pass`.
"""

import argparse
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

from runtime_processes import surroundings

BASE = "python -c pass"
COMMANDS = {
    BASE: [sys.executable, "-c", "pass"],
    "python -c 'import click'": [sys.executable, "-c", "import click"],
    "striate --help": [sys.executable, "-m", "striate", "--help"],
    "striate calc conv": [sys.executable, "-m", "striate", "calc", "conv", "--in", "224", "-k", "7"],
    "python -c 'import striate'": [sys.executable, "-c", "import striate"],
    "python -c 'import torch'": [sys.executable, "-c", "import torch"],
}


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "startup.json")
    options = parser.parse_args()
    present = dict(COMMANDS)
    if importlib.util.find_spec("torch") is None:
        del present["python -c 'import torch'"]
    for command in present.values():  # one round that does not count: byte code is written, files are cached
        seconds(command)
    rounds = [{name: seconds(command) for name, command in present.items()} for _ in range(options.runs)]
    result = {
        "what": __doc__.splitlines()[0],
        "machine": machine(),
        "runs": options.runs,
        "commands": rows(rounds),
    }
    options.out.parent.mkdir(exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result["commands"], indent=1))


def seconds(command: list[str]) -> float:
    """Wall clock of one process, output thrown away."""
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=surroundings())
    return time.perf_counter() - started


def rows(rounds: list[dict[str, float]]) -> dict[str, dict[str, float]]:
    """Milliseconds (minimum, median, maximum) and the ratio to the base, for each command."""
    found = {}
    for name in rounds[0]:
        times = [1000 * row[name] for row in rounds]
        ratios = [row[name] / row[BASE] for row in rounds]
        found[name] = {
            "ms_min": round(min(times), 1),
            "ms_median": round(statistics.median(times), 1),
            "ms_max": round(max(times), 1),
            "ratio_median": round(statistics.median(ratios), 2),
        }
    return found


def machine() -> dict[str, object]:
    """Where the figures were taken."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [
            line.partition(":")[2].strip()
            for line in cpuinfo.read_text().splitlines()
            if "model name" in line
        ]
        model = names[0] if names else model
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("striate", "click", "msgspec")},
    }


if __name__ == "__main__":
    main()
