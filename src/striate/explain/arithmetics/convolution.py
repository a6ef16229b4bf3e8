"""A kernel over a window of every input channel, the products added up; and the transposed form."""

from collections.abc import Sequence

import torch
from torch import Tensor

from striate.explain.arithmetics._explained import (
    Element,
    Explained,
    Rule,
    Unexplained,
    WindowSum,
    number,
    operand,
)
from striate.explain.operations import Window, window_of

__all__ = ["RULES"]


def _convolution(element: Element) -> Explained | Unexplained:
    window = window_of(element.performed.step)
    assert window is not None
    if window.kind == "transposed":
        return _explained("transposed convolution", _transposed(element, window))
    return _explained("convolution", _windowed(element, window))


def _explained(operation: str, found: WindowSum) -> Explained:
    bias = 0.0 if found.bias is None else found.bias
    end = "" if found.bias is None else f" + bias {operand(bias)}"
    value = found.sum + bias
    return Explained(
        operation,
        value,
        "y = sum of input x kernel over the window and the channels" + (" + bias" if end else ""),
        f"sum {number(found.sum)}{end} = {number(value)}" if end else f"sum = {number(value)}, no bias",
        {"sum": found.sum, "bias": bias},
        found,
        magnitude=found.magnitude,
    )


def _windowed(element: Element, window: Window) -> WindowSum:
    inputs, weight, bias = _tensors(element)
    batch, channel, *spot = element.position
    lengths = inputs.shape[2:]
    places = tuple(
        tuple(place * stride - padding + tap * dilation for tap in range(size))
        for place, size, stride, padding, dilation in zip(
            spot, window.kernel, window.stride, window.padding, window.dilation, strict=True
        )
    )
    per_group = weight.shape[1]
    first = channel // (weight.shape[0] // window.groups) * per_group
    return WindowSum.of(
        _gathered(inputs[batch, first : first + per_group], places),
        weight[channel].detach().double(),
        first,
        None if bias is None else float(bias[channel]),
        places=places,
        origins=tuple(
            tuple(place if 0 <= place < length else None for place in axis)
            for axis, length in zip(places, lengths, strict=True)
        ),
        taps=tuple(tuple(range(size)) for size in window.kernel),
        slides=inputs,
    )


def _transposed(element: Element, window: Window) -> WindowSum:
    """Input i adds kernel value k to output i · stride - padding + k · dilation."""
    inputs, weight, bias = _tensors(element)
    batch, channel, *spot = element.position
    reaching = [
        _reaching(place, window, axis, length)
        for axis, (place, length) in enumerate(zip(spot, inputs.shape[2:], strict=True))
    ]
    places = tuple(tuple(place for place, _ in axis) for axis in reaching)
    taps = tuple(tuple(tap for _, tap in axis) for axis in reaching)
    out_per_group, per_group = weight.shape[1], inputs.shape[1] // window.groups
    first = channel // out_per_group * per_group
    kernel = weight[first : first + per_group, channel % out_per_group]
    for axis, wanted in enumerate(taps):
        kernel = kernel.index_select(axis + 1, torch.tensor(wanted, dtype=torch.long, device=kernel.device))
    return WindowSum.of(
        _gathered(inputs[batch, first : first + per_group], places),
        kernel.detach().double(),
        first,
        None if bias is None else float(bias[channel]),
        places=places,
        origins=places,
        taps=taps,
        slides=inputs,
    )


def _reaching(place: int, window: Window, axis: int, length: int) -> list[tuple[int, int]]:
    """Each input place that adds to output `place` along `axis`, with the kernel's cell that carries it."""
    found = []
    for tap in range(window.kernel[axis]):
        start, left = divmod(place + window.padding[axis] - tap * window.dilation[axis], window.stride[axis])
        if not left and 0 <= start < length:
            found.append((start, tap))
    return sorted(found)


def _tensors(element: Element) -> tuple[Tensor, Tensor, Tensor | None]:
    given = element.given
    return given["input"], given["weight"], given["bias"]


def _gathered(maps: Tensor, places: Sequence[Sequence[int]]) -> Tensor:
    """`maps` (C, ...) at `places` of each axis, float64, 0 outside."""
    for axis, wanted in enumerate(places, 1):
        index = torch.tensor(wanted, dtype=torch.long, device=maps.device)
        inside = (index >= 0) & (index < maps.shape[axis])
        picked = maps.index_select(axis, index.clamp(0, maps.shape[axis] - 1))
        shape = [-1 if each == axis else 1 for each in range(maps.ndim)]
        maps = torch.where(inside.view(shape), picked, torch.zeros((), dtype=maps.dtype, device=maps.device))
    return maps.detach().double()


RULES: dict[str, Rule] = {"convolution": _convolution, "_convolution": _convolution}
