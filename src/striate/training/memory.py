"""The most memory that a piece of work takes."""

import ctypes
import sys
from pathlib import Path

import torch

__all__ = ["MemoryGauge"]

_RESET_PEAK = "5"  # what the kernel's clear_refs takes for it


class MemoryGauge:
    """Bytes that were taken since it was made, at their peak: of a CUDA device, else of this process.

    It begins by giving back to the system what the process keeps for later, or that would hide the first
    gigabytes of what is measured.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            self._before = torch.cuda.memory_allocated(device)
        else:
            _give_back()
            _reset_peak()
            self._before = _status("VmRSS") or 0

    def peak(self) -> int | None:
        """So far; None where the system does not tell."""
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device) - self._before
        peak = _status("VmHWM")
        return None if peak is None else max(0, peak - self._before)


def _give_back() -> None:
    # Of glibc alone, and of no use elsewhere: what cannot be measured is not to be cleaned for it.
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


def _reset_peak() -> None:
    try:
        Path("/proc/self/clear_refs").write_text(_RESET_PEAK)
    except OSError:
        return  # the peak is then that of the whole process so far: too high rather than too low


def _status(name: str) -> int | None:
    """Bytes that Linux says of this process under `name`; None on another system."""
    try:
        lines = Path("/proc/self/status").read_text("ascii", "replace").splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))
    except (OSError, StopIteration):
        return None
