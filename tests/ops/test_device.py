"""The choice of a device, on a machine with and without one, and its exact float32."""

import pytest
import torch

from striate.errors import EnvironmentProblem, UsageError
from striate.ops.device import choose_device, exact_float32


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


def test_exact_float32_ends_autocast_around_it_and_only_within() -> None:
    image, kernel = torch.full((1, 1, 1, 1), 1 + 2**-20), torch.ones(1, 1, 1, 1)
    with torch.autocast("cpu", torch.bfloat16):
        with exact_float32(torch.device("cpu")):
            exact = torch.conv2d(image, kernel)
        rounded = torch.conv2d(image, kernel)
    assert (exact.dtype, rounded.dtype) == (torch.float32, torch.bfloat16)
    assert exact.item() == 1 + 2**-20


def cudnn_switches() -> tuple[bool, ...]:
    cudnn = torch.backends.cudnn
    return cudnn.enabled, cudnn.allow_tf32, cudnn.benchmark, cudnn.deterministic


@pytest.mark.parametrize("is_deterministic", [False, True])
def test_exact_float32_turns_tf32_and_the_clock_off_for_cuda_and_leaves_determinism(
    monkeypatch: pytest.MonkeyPatch, is_deterministic: bool
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", is_deterministic)
    before = cudnn_switches()
    with exact_float32(torch.device("cuda")):
        assert cudnn_switches() == (True, False, False, is_deterministic)
    assert cudnn_switches() == before


def test_exact_float32_on_the_cpu_leaves_cudnn_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    before = cudnn_switches()
    with exact_float32(torch.device("cpu")):
        assert cudnn_switches() == before
