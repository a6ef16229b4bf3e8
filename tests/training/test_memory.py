"""Measuring memory."""

import sys

import pytest
import torch

from striate.training.allocator import keep_freed_memory
from striate.training.memory import MemoryGauge

CPU = torch.device("cpu")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process's memory")


def test_the_peak_counts_what_is_freed_again() -> None:
    gauge = MemoryGauge(CPU)
    assert 0 <= (gauge.peak() or 0) < 50e6
    block = torch.ones(50_000_000)
    del block
    assert 190e6 < (gauge.peak() or 0) < 260e6


def test_memory_that_the_process_keeps_for_later_does_not_hide_the_next_peak() -> None:
    keep_freed_memory()
    block = torch.ones(50_000_000)
    del block
    gauge = MemoryGauge(CPU)
    torch.ones(30_000_000)
    assert 110e6 < (gauge.peak() or 0) < 180e6


def test_where_the_system_does_not_tell_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    from striate.training import memory

    monkeypatch.setattr(memory, "_status", lambda _: None)
    assert MemoryGauge(CPU).peak() is None
