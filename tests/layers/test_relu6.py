import pytest
import torch
import torch.nn.functional as F

from striate.layers.relu6 import ReLU6


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_values_and_gradients_are_torchs(kind: torch.dtype) -> None:
    values = torch.tensor([-1.0, 0.0, 1e-3, 3.0, 5.99, 6.0, 7.0, float("inf")], dtype=kind)
    ours, theirs = (values.clone().requires_grad_() for _ in range(2))
    weights = torch.arange(1.0, 9.0, dtype=kind)
    found, expected = ReLU6()(ours * 1), F.relu6(theirs)
    (found * weights).sum().backward()
    (expected * weights).sum().backward()
    assert torch.equal(found, expected)
    assert torch.equal(ours.grad, theirs.grad)


def test_float32_is_overwritten_and_nothing_else_is_kept() -> None:
    maps = torch.tensor([-1.0, 7.0]).requires_grad_() * 1
    clipped = ReLU6()(maps)
    assert clipped.data_ptr() == maps.data_ptr()
    assert [saved.data_ptr() for saved in clipped.grad_fn.saved_tensors] == [clipped.data_ptr()]


def test_bf16_is_left_as_it_came_on_a_cpu() -> None:
    maps = torch.tensor([-1.0, 7.0], dtype=torch.bfloat16).requires_grad_() * 1
    assert ReLU6()(maps).tolist() == [0.0, 6.0]
    assert maps.tolist() == [-1.0, 7.0]


def test_without_gradients_the_result_is_the_same() -> None:
    with torch.inference_mode():
        assert ReLU6()(torch.tensor([-1.0, 2.0, 9.0])).tolist() == [0.0, 2.0, 6.0]


def test_it_is_a_relu6_to_whoever_looks_for_one() -> None:
    assert isinstance(ReLU6(), torch.nn.ReLU6)
    assert repr(ReLU6()) == "ReLU6(inplace=True)"
