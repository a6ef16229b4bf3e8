"""The choice of a device, on a machine with and without one."""

import pytest
import torch

from striate.errors import EnvironmentProblem, UsageError
from striate.ops.device import choose_device


def give(monkeypatch: pytest.MonkeyPatch, cuda: int, mps: bool) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)


@pytest.mark.parametrize(
    ("cuda", "mps", "best"), [(2, True, "cuda"), (0, True, "mps"), (0, False, "cpu"), (1, False, "cuda")]
)
def test_auto_takes_cuda_then_mps_then_the_cpu(
    monkeypatch: pytest.MonkeyPatch, cuda: int, mps: bool, best: str
) -> None:
    give(monkeypatch, cuda, mps)
    assert choose_device("auto") == torch.device(best)


def test_a_device_that_exists_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    give(monkeypatch, cuda=2, mps=True)
    assert [str(choose_device(name)) for name in ("cpu", "cuda", "cuda:1", "mps")] == [
        "cpu",
        "cuda",
        "cuda:1",
        "mps",
    ]


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "mps"])
def test_an_absent_device_is_a_problem_of_the_machine(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    give(monkeypatch, cuda=0, mps=False)
    with pytest.raises(EnvironmentProblem, match=rf"device '{name}': .* sees no .* fix: use auto or cpu"):
        choose_device(name)


def test_a_number_too_high_names_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    give(monkeypatch, cuda=2, mps=False)
    with pytest.raises(EnvironmentProblem, match=r"sees 2 cuda devices .* use a number below 2"):
        choose_device("cuda:2")


@pytest.mark.parametrize(
    "name", ["gpu", "", "cuda:", "cuda:x", "cuda:-1", "cpu:0", "mps:0", "cuda:1:2", "CPU"]
)
def test_an_unknown_device_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="use auto, cpu, cuda, cuda:1 or mps"):
        choose_device(name)
