"""One tensor operation as torch carries it out: what went in, what came out, and what it costs."""

import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from striate.ops.sizes import OutputSize, output_size

__all__ = ["RECURRENCES", "Step", "Window", "macs_of", "window_of"]

Shape = tuple[int, ...]

# Each product of matrices: the arguments that hold the two, with rows and columns in their last axes.
_MATRIX_PRODUCTS = {
    "mm": ("self", "mat2"),
    "addmm": ("mat1", "mat2"),
    "bmm": ("self", "mat2"),
    "baddbmm": ("batch1", "batch2"),
    "mv": ("self", "vec"),
    "addmv": ("mat", "vec"),
    "dot": ("self", "tensor"),
}

RECURRENCES = ("gru", "lstm", "rnn_relu", "rnn_tanh")
"""Layers that read a sequence step by step, taken as one operation each."""


@dataclass(frozen=True, slots=True)
class Step:
    """An operation of torch's core set, named as there: "convolution", "add", "max_pool2d_with_indices"."""

    name: str  # without the mark of the in-place forms
    arguments: dict[str, Any]  # by the names of torch's schema, defaults included
    output_shapes: tuple[Shape, ...]
    is_pointwise: bool

    @property
    def tensors(self) -> list[Tensor]:
        """The tensors among its arguments, those in lists too, in order."""
        found = []
        for value in self.arguments.values():
            items = value if isinstance(value, list | tuple) else (value,)
            found += [item for item in items if isinstance(item, Tensor)]
        return found

    @property
    def shape(self) -> Shape:
        """Shape of its first output."""
        return self.output_shapes[0] if self.output_shapes else ()

    @property
    def source_shape(self) -> Shape:
        """Shape of its first tensor."""
        return tuple(self.tensors[0].shape)


@dataclass(frozen=True, slots=True)
class Window:
    """The window that an operation slides over its input; one number for each axis that it slides along."""

    kind: str  # "conv", "pool" or "transposed"
    kernel: Shape
    stride: Shape
    padding: Shape
    dilation: Shape
    groups: int = 1
    ceil: bool = False
    output_padding: Shape = ()

    def describe(self) -> str:
        """In short: "3x3 /2 p1 d2 g32"; steps of one, no padding and one group go without saying."""
        parts = [_times(self.kernel, always=True)]
        parts += [f"/{_times(self.stride)}"] if set(self.stride) != {1} else []
        parts += [f"p{_times(self.padding)}"] if any(self.padding) else []
        parts += [f"d{_times(self.dilation)}"] if set(self.dilation) != {1} else []
        parts += [f"g{self.groups}"] if self.groups > 1 else []
        return " ".join(parts)

    def size(self, axis: int, length: int) -> OutputSize:
        """The output size along the window's `axis` over `length` positions, worked out."""
        return output_size(
            length,
            self.kernel[axis],
            stride=self.stride[axis],
            padding=self.padding[axis],
            dilation=self.dilation[axis],
            ceil=self.ceil,
            kind="pool" if self.kind == "pool" else "conv",
        )


def macs_of(step: Step) -> int:
    """Multiply-adds of a convolution or matrix product; 0 of anything else.

    A bias, a normalisation, an activation and a pooling are not counted: they cost little beside.
    """
    if step.name in ("convolution", "_convolution"):
        # Each input value of a transposed convolution, else each output value, meets one kernel.
        values = step.source_shape if step.arguments["transposed"] else step.shape
        return math.prod(values) * math.prod(_shape(step.arguments["weight"])[1:])
    if step.name in _MATRIX_PRODUCTS:
        left, right = (_shape(step.arguments[name]) for name in _MATRIX_PRODUCTS[step.name])
        return math.prod(left) * (right[-1] if len(right) > 1 else 1)
    if step.name in RECURRENCES:
        # Each matrix, of the input and of the state, meets each position once.
        weights = [tensor for tensor in step.arguments["params"] if tensor.ndim == 2]
        return math.prod(step.source_shape[:-1]) * sum(math.prod(_shape(weight)) for weight in weights)
    if step.name.startswith("_scaled_dot_product"):
        query, value = _shape(step.arguments["query"]), _shape(step.arguments["value"])
        # Each query meets each key, then each weight meets each value.
        return math.prod(query[:-1]) * value[-2] * (query[-1] + value[-1])
    return 0


def _shape(tensor: Tensor) -> Shape:
    return tuple(tensor.shape)


def window_of(step: Step) -> Window | None:
    """The window that `step` slides, None if it slides none."""
    given = step.arguments
    if step.name in ("convolution", "_convolution"):
        kernel = tuple(given["weight"].shape[2:])
        axes = len(kernel)
        stride, padding, dilation, output_padding = (
            _each(given[name], axes) for name in ("stride", "padding", "dilation", "output_padding")
        )
        kind = "transposed" if given["transposed"] else "conv"
        extra = output_padding if given["transposed"] else ()
        return Window(kind, kernel, stride, padding, dilation, given["groups"], output_padding=extra)
    if "pool" in step.name and "kernel_size" in given and "stride" in given:
        axes = _pooled_axes(step.name)
        kernel = _each(given["kernel_size"], axes)
        return Window(
            "pool",
            kernel,
            _each(given["stride"], axes) or kernel,
            _each(given["padding"], axes),
            _each(given.get("dilation", 1), axes),
            ceil=bool(given["ceil_mode"]),
        )
    return None


def _pooled_axes(name: str) -> int:
    return next(axes for axes in (1, 2, 3) if f"{axes}d" in name)


def _each(value: Any, axes: int) -> Shape:
    """One number for each axis; torch also takes one for all."""
    numbers = tuple(value) if isinstance(value, list | tuple) else (value,)
    return numbers * axes if len(numbers) == 1 else numbers


def _times(numbers: Shape, always: bool = False) -> str:
    return str(numbers[0]) if len(set(numbers)) == 1 and not always else "x".join(map(str, numbers))
