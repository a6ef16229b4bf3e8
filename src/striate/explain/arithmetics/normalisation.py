"""Normalisations: a value less a mean, over a deviation, times a weight, plus a bias; softmax."""

from math import sqrt

from torch import Tensor

from striate.explain.arithmetics._explained import (
    Element,
    Explained,
    Rule,
    Source,
    Unexplained,
    number,
    operand,
)

__all__ = ["RULES"]

_FORMULA = "y = (x - mean) / sqrt(variance + eps) · weight + bias"


def _batch_norm(element: Element) -> Explained | Unexplained:
    given = element.given
    values: Tensor = given["input"]
    channel = element.position[1]
    mean, variance = given["running_mean"], given["running_var"]
    if mean is not None and given.get("training"):
        return Unexplained("batch normalisation in training mode uses the statistics of the whole batch")
    if mean is not None:
        return _normalised("batch norm", element, (float(mean[channel]), float(variance[channel])), channel)
    own = values.transpose(0, 1)[channel]
    return _normalised("batch norm of the values' own statistics", element, _statistics(own), channel)


def _layer_norm(element: Element) -> Explained | Unexplained:
    if element.output:
        return _statistic()
    values: Tensor = element.given["input"]
    count = len(element.given["normalized_shape"])
    seen = values[element.position[: values.ndim - count]]
    return _normalised("layer norm", element, _statistics(seen), element.position[-count:])


def _group_norm(element: Element) -> Explained | Unexplained:
    if element.output:
        return _statistic()
    values: Tensor = element.given["input"]
    batch, channel = element.position[:2]
    size = values.shape[1] // element.given["group"]
    first = channel // size * size
    statistics = _statistics(values[batch, first : first + size])
    return _normalised("group norm", element, statistics, channel)


def _normalised(
    operation: str, element: Element, statistics: tuple[float, float], own: int | tuple[int, ...]
) -> Explained:
    """`own` is where its weight and bias lie."""
    given, (mean, variance) = element.given, statistics
    source: Tensor = given["input"]
    value = float(source[element.position])
    weight = 1.0 if given["weight"] is None else float(given["weight"][own])
    bias = 0.0 if given["bias"] is None else float(given["bias"][own])
    scale = weight / sqrt(variance + given["eps"])
    result = (value - mean) * scale + bias
    return Explained(
        operation,
        result,
        _FORMULA,
        f"({number(value)} - {operand(mean)}) / sqrt({number(variance)} + {given['eps']:g})"
        f" · {operand(weight)} + {operand(bias)} = {number(result)}",
        {"x": value, "mean": mean, "variance": variance, "eps": given["eps"], "weight": weight, "bias": bias},
        source=Source(source, element.position),
        magnitude=abs(value * scale) + abs(mean * scale) + abs(bias),
    )


def _statistics(values: Tensor) -> tuple[float, float]:
    """Mean and variance, both over all of `values`."""
    wide = values.detach().double()
    return float(wide.mean()), float(wide.var(correction=0))


def _statistic() -> Unexplained:
    return Unexplained("it is a statistic that only training reads")


def _softmax(element: Element) -> Explained:
    values: Tensor = element.given["self"]
    axis = element.given["dim"] % values.ndim
    index = tuple(slice(None) if i == axis else place for i, place in enumerate(element.position))
    line = values[index].detach().double()
    highest = float(line.max())
    total, own = float((line - highest).exp().sum()), float(line[element.position[axis]])
    share = float((line[element.position[axis]] - highest).exp()) / total
    return Explained(
        "softmax",
        share,
        "y = exp(x - largest) / sum of exp(x - largest)",
        f"exp({number(own)} - {operand(highest)}) / {number(total)} = {number(share)}",
        {"x": own, "largest": highest, "sum": total},
    )


RULES: dict[str, Rule] = {
    **dict.fromkeys(
        (
            "native_batch_norm",
            "_native_batch_norm_legit_no_training",
            "cudnn_batch_norm",
            "_batch_norm_with_update",
        ),
        _batch_norm,
    ),
    "native_layer_norm": _layer_norm,
    "native_group_norm": _group_norm,
    "_softmax": _softmax,
}
