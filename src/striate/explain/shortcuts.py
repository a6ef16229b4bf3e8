"""The shapes of the commonest operations on meta tensors, without torch's own way to them.

For these that way leads through reference code that imports torch's compiler, which takes longer than the
whole summary of a large network. What is not here takes it.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

__all__ = ["shortcut"]


def shortcut(function: Any, arguments: tuple[Any, ...]) -> Any:
    """Empty outputs of `function`, None where there is no shortcut for these arguments."""
    # By its name: only networks that suppress boxes import torchvision.
    found = _kept if function.name() == "torchvision::nms" else _SHORTCUTS.get(function)
    if found is None or not all(tensor.is_meta for tensor in arguments if isinstance(tensor, Tensor)):
        return None
    return found(*arguments)


def _batch_norm(maps: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor] | None:
    *statistics, training, _, _ = rest  # of each channel; then momentum and epsilon
    fits = all(tensor is None or len(tensor) == maps.shape[1] for tensor in statistics)
    if training or not fits:
        return None
    return torch.empty_like(maps), maps.new_empty(0), maps.new_empty(0)


def _value_by_value(one: Tensor, other: Any) -> Tensor | None:
    if not isinstance(other, Tensor):
        return None
    shape = torch.broadcast_shapes(one.shape, other.shape)  # type: ignore[no-untyped-call]
    return torch.empty(shape, dtype=torch.result_type(one, other), device="meta")


def _mean(values: Tensor, *axes: Any) -> Tensor | None:
    return values.sum(*axes) if values.is_floating_point() else None


def _linear(_: Tensor, left: Tensor, right: Tensor) -> Tensor:
    return torch.mm(left, right)  # refuses shapes that do not fit


def _kept(_: Tensor, scores: Tensor, __: float) -> Tensor:
    return scores.new_empty(scores.shape, dtype=torch.int64)  # as many as there may be


_SHORTCUTS: dict[Any, Callable[..., Any]] = {
    torch.ops.aten.native_batch_norm.default: _batch_norm,
    torch.ops.aten.add.Tensor: _value_by_value,
    torch.ops.aten.mul.Tensor: _value_by_value,
    torch.ops.aten.mean.dim: _mean,
    torch.ops.aten.addmm.default: _linear,
}
