"""The largest value, or the mean, of a window of one channel; means and sums over whole axes."""

from math import prod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from striate.explain.arithmetics._explained import (
    Element,
    Explained,
    PoolWindow,
    Position,
    Rule,
    Unexplained,
    number,
    operand,
)
from striate.explain.operations import Window, window_of

__all__ = ["RULES"]

Places = tuple[tuple[int, ...], ...]


def _max_pool(element: Element) -> Explained | Unexplained:
    if element.output:
        return Unexplained("it is the place of the largest value, which is no sum")
    maps: Tensor = element.given["self"]
    window = window_of(element.performed.step)
    assert window is not None
    return _largest(maps, element.position, _places(element.position, window))


def _adaptive_max(element: Element) -> Explained | Unexplained:
    if element.output:
        return Unexplained("it is the place of the largest value, which is no sum")
    maps: Tensor = element.given["self"]
    return _largest(maps, element.position, _shares(element, maps))


def _largest(maps: Tensor, position: Position, places: Places) -> Explained:
    seen = _seen(maps, position, places)
    value = float(np.nanmax(seen))
    winners = tuple(
        tuple(axis[i] for axis, i in zip(places, index, strict=True)) for index in np.argwhere(seen == value)
    )
    at = f"at {_spot(winners[0])}" if winners else "nowhere"
    ties = f", and as large at {len(winners) - 1} more" if len(winners) > 1 else ""
    return Explained(
        "max pooling",
        value,
        "y = the largest value of the window",
        f"the largest of {np.isfinite(seen).sum()} is {at}{ties} = {number(value)}",
        window=PoolWindow(seen, places, winners),
    )


def _average_pool(element: Element) -> Explained:
    given, maps = element.given, element.given["self"]
    window = window_of(element.performed.step)
    assert window is not None
    places = _places(element.position, window)
    lengths = maps.shape[-len(places) :]
    divisor = given.get("divisor_override")
    if divisor is None:
        # A window that begins in the padding and ends behind it counts up to the padding's end alone.
        margins = window.padding if given["count_include_pad"] else (0,) * len(places)
        divisor = prod(
            sum(-margin <= place < length + margin for place in axis)
            for axis, length, margin in zip(places, lengths, margins, strict=True)
        )
    return _mean(maps, element.position, places, divisor)


def _adaptive_average(element: Element) -> Explained:
    maps: Tensor = element.given["self"]
    places = _shares(element, maps)
    return _mean(maps, element.position, places, prod(map(len, places)))


def _mean(maps: Tensor, position: Position, places: Places, divisor: int) -> Explained:
    seen = _seen(maps, position, places)
    total = float(np.nansum(seen))
    value = total / divisor
    return Explained(
        "average pooling",
        value,
        "y = sum of the window / count",
        f"sum {operand(total)} / {divisor} = {number(value)}",
        {"sum": total, "count": divisor},
        PoolWindow(seen, places, divisor=divisor),
        magnitude=float(np.nansum(np.abs(seen))) / abs(divisor),
    )


def _places(position: Position, window: Window) -> Places:
    spot = position[-len(window.kernel) :]
    return tuple(
        tuple(place * stride - padding + tap * dilation for tap in range(size))
        for place, size, stride, padding, dilation in zip(
            spot, window.kernel, window.stride, window.padding, window.dilation, strict=True
        )
    )


def _shares(element: Element, maps: Tensor) -> Places:
    """Of each axis the part that adaptive pooling gives to this place: from floor to ceiling."""
    count = len(element.given["output_size"])
    lengths, outputs = maps.shape[-count:], element.performed.step.shape[-count:]
    return tuple(
        tuple(range(place * length // wanted, -(-(place + 1) * length // wanted)))
        for place, length, wanted in zip(element.position[-count:], lengths, outputs, strict=True)
    )


def _seen(maps: Tensor, position: Position, places: Places) -> NDArray[np.float64]:
    """The values at `places`, NaN outside, in float64."""
    area = maps[position[: maps.ndim - len(places)]].detach()
    seen = np.full([len(axis) for axis in places], np.nan)
    inside = [
        [(i, place) for i, place in enumerate(axis) if 0 <= place < length]
        for axis, length in zip(places, area.shape, strict=True)
    ]
    picked = area
    for axis, pairs in enumerate(inside):
        picked = picked.index_select(axis, torch.tensor([place for _, place in pairs], device=area.device))
    seen[np.ix_(*[[i for i, _ in pairs] for pairs in inside])] = picked.double().cpu().numpy()
    return seen


def _reduced(element: Element) -> Explained:
    """A mean or a sum over axes, or over everything."""
    values: Tensor = element.given["self"]
    rank = values.ndim
    wanted = element.given.get("dim")
    axes = sorted(axis % rank for axis in (wanted if wanted else range(rank)))
    kept = iter(element.position)
    index: list[int | slice] = []
    for axis in range(rank):
        if axis not in axes:
            index.append(next(kept))
        else:
            index.append(slice(None))
            if element.given.get("keepdim"):
                next(kept)
    seen = values[tuple(index)].detach().double()
    count, total = seen.numel(), float(seen.sum())
    is_mean = element.performed.name == "mean"
    value = total / count if is_mean else total
    over = "x".join(str(values.shape[axis]) for axis in axes)
    return Explained(
        "mean" if is_mean else "sum",
        value,
        f"y = sum of {over} values" + (" / count" if is_mean else ""),
        f"sum {operand(total)} / {count} = {number(value)}"
        if is_mean
        else f"sum of {count} = {number(value)}",
        {"sum": total, "count": count},
        magnitude=float(seen.abs().sum()) / (count if is_mean else 1),
    )


def _spot(place: Position) -> str:
    names = ("row", "column") if len(place) == 2 else ("depth", "row", "column")[-len(place) :]
    return ", ".join(f"{name} {index}" for name, index in zip(names, place, strict=True))


RULES: dict[str, Rule] = {
    **{f"max_pool{axes}d_with_indices": _max_pool for axes in (1, 2, 3)},
    **{f"avg_pool{axes}d": _average_pool for axes in (1, 2, 3)},
    **dict.fromkeys(("_adaptive_avg_pool2d", "_adaptive_avg_pool3d"), _adaptive_average),
    **dict.fromkeys(("adaptive_max_pool2d", "adaptive_max_pool3d"), _adaptive_max),
    "mean": _reduced,
    "sum": _reduced,
}
