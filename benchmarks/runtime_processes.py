"""Whole processes, one after the other: what each of them takes.

As a program it runs the command on its command line: python runtime_processes.py COMMAND ...
Linux counts the memory of whatever starts a process as that process's own peak, so a small one starts it.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

__all__ = ["Cost", "cost_of", "peak_megabytes", "surroundings"]

LAST = 2000  # characters of what a failed process said


@dataclass(frozen=True)
class Cost:
    """What a process and those that it started took."""

    seconds: float  # wall clock, from start to end
    cpu_seconds: float  # user and system, all threads and processes
    peak_megabytes: float  # resident, of the largest of the processes, in 10**6 bytes; some 12 at least


def cost_of(command: Sequence[str], environment: Mapping[str, str] | None = None) -> Cost:
    """Run `command` to its end. Raises SystemExit with what it said last if it fails.

    environment: what it has beside this process's.
    """
    starter = [sys.executable, "-I", "-S", __file__]
    around = surroundings() | dict(environment or {})
    done = subprocess.run([*starter, *command], capture_output=True, check=False, env=around)
    if done.returncode:
        said = done.stderr.decode(errors="replace")
        raise SystemExit(f"{' '.join(command)}: ended with {done.returncode}\n{said[-LAST:]}")
    return Cost(**json.loads(done.stdout))


def surroundings() -> dict[str, str]:
    """This process's environment, but byte code is kept, as that of everything installed is."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def peak_megabytes(pid: int) -> int | None:
    """The most memory that a process has had resident, in 10**6 bytes; None where nothing tells."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 // 10**6 for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        return None


def main() -> None:
    """Run the command, then print what it took."""
    started = time.perf_counter()
    process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(1)
    # Linux counts ru_maxrss in units of 1024 bytes.
    cost = Cost(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024 / 1e6)
    print(json.dumps(asdict(cost)))


if __name__ == "__main__":
    main()
