"""Operations that make each value of the values at the same place: activations, sums, products."""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from striate.explain.arithmetics._explained import (
    Element,
    Explained,
    Rule,
    Source,
    Unexplained,
    element_of,
    number,
    operand,
)
from striate.explain.nodes import friendly_name

__all__ = ["RULES"]

# By the names of torch's arguments.
_FORMULAS = {
    "abs": "|{self}|",
    "add": "{self} + {other}",
    "addcmul": "{self} + {value} · {tensor1} · {tensor2}",
    "clamp": "min(max({self}, {min}), {max})",
    "clamp_max": "min({self}, {max})",
    "clamp_min": "max({self}, {min})",
    "div": "{self} / {other}",
    "elu": "{self} if above 0, else {alpha} · (exp({self}) - 1)",
    "exp": "exp({self})",
    "gelu": "{self} · share of a normal distribution below {self}",
    "hardsigmoid": "min(max({self} + 3, 0), 6) / 6",
    "hardswish": "{self} · min(max({self} + 3, 0), 6) / 6",
    "hardtanh": "min(max({self}, {min_val}), {max_val})",
    "leaky_relu": "{self} if above 0, else {negative_slope} · {self}",
    "log": "log({self})",
    "maximum": "max({self}, {other})",
    "minimum": "min({self}, {other})",
    "mish": "{self} · tanh(log(1 + exp({self})))",
    "mul": "{self} · {other}",
    "neg": "-{self}",
    "pow": "{self} ^ {exponent}",
    "_prelu_kernel": "{self} if above 0, else {weight} · {self}",
    "reciprocal": "1 / {self}",
    "relu": "max(0, {self})",
    "rsqrt": "1 / sqrt({self})",
    "rsub": "{other} - {self}",
    "sigmoid": "1 / (1 + exp(-{self}))",
    "silu": "{self} / (1 + exp(-{self}))",
    "softplus": "log(1 + exp({beta} · {self})) / {beta}",
    "sqrt": "sqrt({self})",
    "sub": "{self} - {other}",
    "tanh": "tanh({self})",
}

_LETTERS = {"self": "x", "other": "z", "tensor1": "a", "tensor2": "b"}

_NAMES = {
    "hardtanh": "clipping",
    "leaky_relu": "leaky ReLU",
    "relu": "ReLU",
    "silu": "SiLU",
    "mul": "multiplication",
    "sub": "subtraction",
    "div": "division",
    "add": "addition",
}


def _pointwise(element: Element) -> Explained | Unexplained:
    name, given = element.performed.name, element.given
    numbers = {
        key: element_of(value, element.position) if isinstance(value, Tensor) else value
        for key, value in given.items()
    }
    if numbers.get("rounding_mode") is not None:
        return Unexplained("a division that rounds")
    value = _computed(element, numbers)
    template = _template(name, numbers)
    letters = {
        key: _LETTERS.get(key, key) if isinstance(given[key], Tensor) else each
        for key, each in numbers.items()
    }
    return Explained(
        _operation(element),
        value,
        f"y = {_filled(template, letters)}",
        f"{_filled(template, numbers)} = {number(value)}",
        {
            _LETTERS.get(key, key): float(each)
            for key, each in numbers.items()
            if isinstance(each, int | float)
        },
        source=_source(element),
    )


def _computed(element: Element, numbers: dict[str, Any]) -> float:
    """The operation itself, on the single values in float64."""
    arguments = {
        key: torch.tensor(numbers[key], dtype=torch.float64) if isinstance(value, Tensor) else value
        for key, value in element.given.items()
    }
    return float(element.performed.function(**arguments))


def _template(name: str, numbers: dict[str, Any]) -> str:
    if name in ("add", "sub", "rsub") and numbers.get("alpha", 1) != 1:
        return _FORMULAS[name].replace("{other}", "{alpha} · {other}")
    if name == "clamp" and numbers["max"] is None:
        return _FORMULAS["clamp_min"]
    if name == "clamp" and numbers["min"] is None:
        return _FORMULAS["clamp_max"]
    return _FORMULAS[name]


def _filled(template: str, values: Mapping[str, Any]) -> str:
    """`template` with `values` in it; a negative number in brackets where a sign stands beside it."""

    def shown(match: re.Match[str]) -> str:
        value = values[match[1]]
        if not isinstance(value, int | float):
            return str(value)
        beside = template[: match.start()].rstrip()[-1:] + template[match.end() :].lstrip()[:1]
        return operand(value) if set(beside) & set("+-·/^") else number(value)

    return re.sub(r"\{(\w+)\}", shown, template)


def _operation(element: Element) -> str:
    name = element.performed.name
    if name == "add" and _source(element) is None and isinstance(element.given["other"], Tensor):
        return "addition of two maps"
    return _NAMES.get(name, friendly_name(name))


def _source(element: Element) -> Source | None:
    """The value that is turned into another, where only one of those that met has the output's shape."""
    shape = element.performed.step.shape
    full = [value for value in element.given.values() if isinstance(value, Tensor) and value.shape == shape]
    if len({id(tensor) for tensor in full}) != 1:
        return None
    return Source(full[0], element.position)


def _chosen(element: Element) -> Explained:
    """The one or the other value, by a mask."""
    given = element.given
    is_where = element.performed.name == "where"
    mask = bool(element_of(given["condition" if is_where else "mask"], element.position))
    name = ("self" if mask else "other") if is_where else ("value" if mask else "self")
    picked = given[name]
    value = element_of(picked, element.position) if isinstance(picked, Tensor) else float(picked)
    worked = f"the mask says {'yes' if mask else 'no'}: {number(value)}"
    return Explained("choice", value, "y = one or the other value, by a mask", worked)


def _filled_with(element: Element) -> Explained:
    value = float(element.given["value"])
    return Explained("constant", value, "y = a constant", number(value))


RULES: dict[str, Rule] = {
    **dict.fromkeys(_FORMULAS, _pointwise),
    **dict.fromkeys(("where", "masked_fill"), _chosen),
    "fill": _filled_with,
}
