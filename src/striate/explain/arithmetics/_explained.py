"""How one number is made: what every rule takes and gives."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from striate.explain.recorded_call import Performed

__all__ = [
    "ChannelSum",
    "Element",
    "Explained",
    "PoolWindow",
    "Position",
    "Rule",
    "Source",
    "Unexplained",
    "WindowSum",
    "number",
    "operand",
]

Position = tuple[int, ...]
"""An index for each axis, the batch axis included."""

_MOST_CHANNELS = 16


@dataclass(frozen=True, slots=True, eq=False)
class Element:
    """One number of what an operation gave."""

    performed: Performed
    position: Position
    output: int = 0  # which of its outputs

    @property
    def given(self) -> dict[str, Any]:
        """The operation's arguments by name, with their values then."""
        return self.performed.step.arguments


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """The one number that another is made of."""

    tensor: Tensor
    position: Position


@dataclass(frozen=True, slots=True, eq=False)
class ChannelSum:
    """What one input channel, or one feature, adds."""

    channel: int
    values: NDArray[np.float64]  # in the window, padded cells included; of the kernel's shape
    kernel: NDArray[np.float64]

    @property
    def products(self) -> NDArray[np.float64]:
        """Value times kernel, cell by cell."""
        return self.values * self.kernel

    @property
    def sum(self) -> float:
        """The sum of the products."""
        return float(self.products.sum())

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        parts = {"values": self.values, "kernel": self.kernel, "products": self.products}
        return {"channel": self.channel, **{k: v.tolist() for k, v in parts.items()}, "sum": self.sum}


@dataclass(frozen=True, slots=True, eq=False)
class WindowSum:
    """The products under a kernel, added up channel by channel; a linear layer has a kernel of one value.

    places: for each axis that the kernel slides along, the row or column of the input under each of its
    cells; below 0 or beyond the input's end where it is padded. origins: the row or column whose value stands
    there, None where the padding puts a constant.
    """

    channels: tuple[ChannelSum, ...]  # those of the largest sums, the largest first
    rest: float  # what the other channels add
    rest_count: int
    bias: float | None
    places: tuple[tuple[int, ...], ...] = ()
    origins: tuple[tuple[int | None, ...], ...] = ()
    taps: tuple[tuple[int, ...], ...] = ()  # the rows and columns of the kernel that are used
    padding: str = "zeros"
    noun: str = "channel"
    slides: Tensor | None = None  # the tensor that the window lies on
    magnitude: float = 0.0  # of all products and the bias, without signs

    @property
    def sum(self) -> float:
        """Of all products, without the bias."""
        return sum(channel.sum for channel in self.channels) + self.rest

    @property
    def count(self) -> int:
        """How many channels or features are added."""
        return len(self.channels) + self.rest_count

    @property
    def is_padded(self) -> NDArray[np.bool_]:
        """Which cells of the window lie outside the input; of the kernel's shape."""
        found = np.zeros((), bool)
        for places, origins in zip(self.places, self.origins, strict=True):
            outside = [place != origin for place, origin in zip(places, origins, strict=True)]
            found = np.logical_or.outer(found, np.array(outside, bool))
        return found

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "places": [list(axis) for axis in self.places],
            "origins": [list(axis) for axis in self.origins],
            "kernel_cells": [list(axis) for axis in self.taps],
            "padded": self.is_padded.tolist(),
            "padding": self.padding,
            "channels": [channel.to_dict() for channel in self.channels],
            "rest": self.rest,
            "rest_count": self.rest_count,
            "bias": self.bias,
            "sum": self.sum,
        }

    @classmethod
    def of(cls, values: Tensor, kernel: Tensor, first: int, bias: float | None, **more: Any) -> "WindowSum":
        """Of `values` and `kernel` (channels, ...), float64, whose first channel is number `first`."""
        products = (values * kernel).reshape(len(values), -1)
        sums = products.sum(1)
        order = sums.abs().argsort(descending=True, stable=True)[:_MOST_CHANNELS].tolist()
        channels = tuple(
            ChannelSum(first + index, values[index].cpu().numpy(), kernel[index].cpu().numpy())
            for index in order
        )
        rest = float(sums.sum()) - sum(channel.sum for channel in channels)
        count = len(sums) - len(channels)
        magnitude = float(products.abs().sum()) + abs(bias or 0.0)
        return cls(channels, rest if count else 0.0, count, bias, magnitude=magnitude, **more)


@dataclass(frozen=True, slots=True, eq=False)
class PoolWindow:
    """The values that a pooling takes the largest, or the mean, of."""

    values: NDArray[np.float64]  # of the window's shape; NaN in cells outside the input
    places: tuple[tuple[int, ...], ...]  # row or column of the input under each cell
    winners: tuple[Position, ...] = ()  # places of the largest; several where they tie
    divisor: int = 0  # of the mean

    def to_dict(self) -> dict[str, Any]:
        """Plain data; None stands for a cell outside the input."""
        values = self.values.astype(object)
        values[np.isnan(self.values)] = None
        return {
            "places": [list(axis) for axis in self.places],
            "values": values.tolist(),
            "winners": [list(place) for place in self.winners],
            "divisor": self.divisor,
        }


@dataclass(frozen=True, slots=True, eq=False)
class Explained:
    """How a number is made, recomputed in float64 from what went in."""

    operation: str  # for people: "convolution", "batch norm"
    value: float
    formula: str  # in words and signs: "max(0, x)"
    worked: str  # with its numbers: "max(0, -0.31) = 0"
    numbers: Mapping[str, float] = field(default_factory=dict)
    window: WindowSum | PoolWindow | None = None
    source: Source | None = None  # the one number that it is made of, if there is one
    magnitude: float = 0.0  # what is added up, without signs: float32 rounds in proportion to it

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "operation": self.operation,
            "value": self.value,
            "formula": self.formula,
            "worked": self.worked,
            "numbers": dict(self.numbers),
            "window": None if self.window is None else self.window.to_dict(),
        }


@dataclass(frozen=True, slots=True)
class Unexplained:
    """Why a number is not explained."""

    reason: str


Rule = Callable[[Element], Explained | Unexplained]


def number(value: float) -> str:
    """A number for people, with six digits."""
    return f"{value:.6g}"


def operand(value: float) -> str:
    """A number inside a sum or product: a negative one in brackets."""
    return f"({number(value)})" if value < 0 else number(value)


def element_of(tensor: Tensor, position: Sequence[int]) -> float:
    """The number of `tensor` that meets `position` of what it is broadcast to."""
    own = position[len(position) - tensor.ndim :]
    index = tuple(0 if length == 1 else place for place, length in zip(own, tensor.shape, strict=True))
    return float(tensor[index])
