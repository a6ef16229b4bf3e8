"""The precision, and how it is told."""

import pytest
import torch

from striate.errors import EnvironmentProblem
from striate.models import create
from striate.training import device as module
from striate.training.device import autocast, choose_precision, choose_threads, describe, threads

CPU = torch.device("cpu")


@pytest.mark.parametrize(("amx", "expected"), [(True, torch.bfloat16), (False, torch.float32)])
def test_auto_is_bf16_on_a_cpu_that_multiplies_it(
    amx: bool, expected: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    assert choose_precision("auto", CPU) == expected
    assert choose_precision("fp32", CPU) == torch.float32
    assert choose_precision("bf16", CPU) == torch.bfloat16


def test_a_torch_without_the_amx_question_counts_as_without_amx(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "_is_amx_tile_supported")
    assert choose_precision("auto", CPU) == torch.float32


def test_bf16_is_refused_where_the_device_has_none() -> None:
    assert choose_precision("auto", torch.device("mps")) == torch.float32
    with pytest.raises(EnvironmentProblem, match="mps has no bf16"):
        choose_precision("bf16", torch.device("mps"))


def test_the_description_names_cores_precision_and_amx(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_has_amx", lambda: True)
    assert describe(CPU, torch.bfloat16, 2) == "2 CPU threads, bf16 (AMX)"
    assert describe(CPU, torch.float32, 1) == "1 CPU thread, fp32"
    assert describe(torch.device("mps"), torch.float32, 1) == "Apple GPU, fp32"


def test_autocast_changes_products_in_bf16_only() -> None:
    matrix = torch.ones(2, 2)
    with autocast(CPU, torch.bfloat16):
        assert (matrix @ matrix).dtype == torch.bfloat16
    with autocast(CPU, torch.float32):
        assert (matrix @ matrix).dtype == torch.float32


def test_a_tiny_step_gets_one_thread_and_a_large_one_all_unless_told() -> None:
    tiny = create("mlp", 10, preprocess={"size": [8, 8]})
    with threads(2):
        assert choose_threads(None, tiny, 64) == 1
        assert choose_threads(None, tiny, 64_000) == 2
        assert choose_threads(2, tiny, 64) == 2


def test_large_maps_make_a_step_large_even_with_few_products() -> None:
    lenet = create("lenet5", 10)  # 0.1 billion multiply-adds and 4.3 million values at 256 pictures
    with threads(2):
        assert choose_threads(None, lenet, 64) == 1
        assert choose_threads(None, lenet, 256) == 2


def test_the_threads_of_before_come_back_even_after_an_error() -> None:
    before = torch.get_num_threads()

    def fail() -> None:
        with threads(before + 1):
            assert torch.get_num_threads() == before + 1
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert torch.get_num_threads() == before
