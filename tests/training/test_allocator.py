"""Freed memory that stays with the process."""

import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from striate.modelfile import ModelCard
from striate.tasks import classification
from striate.training import allocator
from striate.training import device as device_module
from striate.training import estimate as estimate_module
from striate.training import fit as fit_module
from striate.training.allocator import keep_freed_memory
from striate.training.config import TrainingConfig
from striate.training.device import choose_memory, describe

SOURCE = Path(__file__).resolve().parents[2] / "src"
ON_GLIBC = platform.system() == "Linux" and platform.libc_ver()[0] == "glibc"
CPU = torch.device("cpu")

# Two blocks of 40 MB are filled and freed at a time, as activations are. glibc maps blocks above 32 MB anew
# each time; it may come to keep smaller ones by itself.
FAULTS = """
import resource, sys
import torch
from striate.training.device import choose_memory

kept = choose_memory(sys.argv[1] == "keep", torch.device("cpu"))
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
rounds = []
for _ in range(9):
    before = faults()
    blocks = [torch.ones(10 << 20) for _ in range(2)]
    del blocks
    rounds.append(faults() - before)
# The heap may still grow by a block in one of them; what is given back is faulted in again in all.
print(kept, min(rounds[4:]))
"""


def faults(how: str) -> tuple[bool, int]:
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    command = [sys.executable, "-c", FAULTS, how]
    told = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    kept, count = told.split()
    return kept == "True", int(count)


@pytest.mark.skipif(not ON_GLIBC, reason="the C library is not glibc")
def test_a_process_that_keeps_freed_memory_does_not_fault_it_in_again() -> None:
    (kept, few), (dropped, many) = faults("keep"), faults("drop")
    assert (kept, dropped) == (True, False)
    assert few < 20
    # A round of 80 MB: 20,000 pages of 4 KiB, 40 of 2 MiB where the kernel gives huge ones.
    assert many > max(few, 20)


def test_asking_again_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    first = keep_freed_memory()
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda _: pytest.fail("set twice"))
    assert keep_freed_memory() is first is ON_GLIBC


@pytest.mark.parametrize("answer", [None, "musl 1.2", ValueError, OSError, AttributeError])
def test_another_c_library_is_left_alone(answer: object, monkeypatch: pytest.MonkeyPatch) -> None:
    def confstr(_: str) -> object:
        if isinstance(answer, type):
            raise answer
        return answer

    monkeypatch.setattr(allocator.os, "confstr", confstr)
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda _: pytest.fail("touched"))
    assert keep_freed_memory.__wrapped__() is False


def test_only_training_on_a_cpu_keeps_memory_and_only_if_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_module, "keep_freed_memory", lambda: True)
    assert choose_memory(True, CPU)
    assert not choose_memory(False, CPU)
    assert not choose_memory(True, torch.device("cuda"))


@pytest.mark.parametrize("asked", [True, False])
def test_the_setting_reaches_the_loop_and_the_estimate(
    asked: bool, network: Any, loaders: Any, card: ModelCard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []
    for module in (fit_module, estimate_module):
        monkeypatch.setattr(module, "choose_memory", lambda keep, _: seen.append(keep))
    config = TrainingConfig(epochs=1, batch_size=12, workers=0, device="cpu", keep_memory=asked)
    estimate_module.try_steps(network(), loaders(config).train, config)
    assert seen == [asked]
    for _ in fit_module.fit(network(), classification, loaders(config), config, tmp_path, card):
        pass
    assert seen == [asked, asked]


def test_the_plan_says_that_memory_is_kept() -> None:
    assert describe(CPU, torch.float32, 2, keeps_memory=True) == "2 CPU threads, fp32, memory kept"
    assert describe(CPU, torch.float32, 2, keeps_memory=False) == "2 CPU threads, fp32"
