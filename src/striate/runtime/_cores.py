"""How many cores this process may compute on."""

import os
from contextlib import suppress
from pathlib import Path

__all__ = ["usable_cores"]

_TOPOLOGY = "/sys/devices/system/cpu/cpu{}/topology"
_QUOTA = "/sys/fs/cgroup/cpu.max"


def usable_cores() -> int:
    """Physical cores that this process may run on, bound by a container's share of time; at least 1.

    Two threads of one core share its arithmetic, so they are one here.
    """
    if hasattr(os, "sched_getaffinity"):
        cores = len({_core(number) for number in os.sched_getaffinity(0)})
    else:
        cores = os.cpu_count() or 1
    return max(1, min(cores, _quota() or cores))


def _core(number: int) -> tuple[str, ...]:
    """What tells the core of a logical processor from others; itself where the machine does not say."""
    with suppress(OSError):
        folder = Path(_TOPOLOGY.format(number))
        return tuple((folder / name).read_text().strip() for name in ("physical_package_id", "core_id"))
    return (str(number),)


def _quota() -> int | None:
    """Cores' worth of time that the control group leaves, rounded down; None where it leaves all."""
    with suppress(OSError, ValueError):
        time, period = Path(_QUOTA).read_text().split()
        return None if time == "max" else max(1, int(time) // int(period))
    return None
