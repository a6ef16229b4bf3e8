"""How many cores a process has: those it may run on, and no more than its container pays for."""

import os
from pathlib import Path

import pytest

from striate.runtime import _cores
from striate.runtime._cores import usable_cores


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine of two packages with two cores of two threads each, without a quota."""
    for number in range(8):
        folder = tmp_path / f"cpu{number}"
        folder.mkdir()
        (folder / "physical_package_id").write_text(f"{number // 4}\n")
        (folder / "core_id").write_text(f"{number % 2}\n")
    monkeypatch.setattr(_cores, "_TOPOLOGY", str(tmp_path / "cpu{}"))
    monkeypatch.setattr(_cores, "_QUOTA", str(tmp_path / "cpu.max"))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    return tmp_path


def test_two_threads_of_a_core_count_once(machine: Path) -> None:
    assert usable_cores() == 4


def test_cores_that_the_process_may_not_use_do_not_count(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 2, 5}, raising=False)
    assert usable_cores() == 2


@pytest.mark.parametrize(
    ("quota", "cores"), [("max 100000", 4), ("250000 100000", 2), ("50000 100000", 1), ("odd", 4)]
)
def test_a_containers_share_of_time_bounds_them(quota: str, cores: int, machine: Path) -> None:
    (machine / "cpu.max").write_text(quota + "\n")
    assert usable_cores() == cores


def test_a_machine_that_tells_nothing_of_cores_counts_its_processors(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(_cores, "_TOPOLOGY", str(tmp_path / "none{}"))
    monkeypatch.setattr(_cores, "_QUOTA", str(tmp_path / "none"))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 4, 9}, raising=False)
    assert usable_cores() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert usable_cores() == 1
