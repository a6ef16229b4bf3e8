"""The sizes of convolutions and poolings, as whole-number arithmetic; no tensor is needed."""

from dataclasses import dataclass
from typing import Literal

from striate.errors import UsageError

__all__ = ["OutputSize", "input_sizes", "output_size", "transposed_size"]


@dataclass(frozen=True, slots=True)
class OutputSize:
    """How many positions a sliding window has along one axis, with each number that leads there."""

    kind: Literal["conv", "pool"]
    size: int  # of the input, in pixels
    kernel: int
    stride: int
    padding: int  # at each of the two ends
    dilation: int
    ceil: bool  # round up: a last window may hang over the padded end
    reach: int  # input pixels that one window spans: dilation * (kernel - 1) + 1
    output: int
    unused: int  # pixels at the far end, padding included, that no window reaches

    @property
    def formula(self) -> str:
        """The formula with its names."""
        rounded = "ceil" if self.ceil else "floor"
        return f"out = {rounded}((in + 2·padding - dilation·(kernel - 1) - 1) / stride) + 1"

    @property
    def worked(self) -> str:
        """The formula with its numbers."""
        rounded = "ceil" if self.ceil else "floor"
        inside = f"({self.size} + 2·{self.padding} - {self.dilation}·({self.kernel} - 1) - 1) / {self.stride}"
        steps = (self.size + 2 * self.padding - self.reach) / self.stride
        return f"{rounded}({inside}) + 1 = {rounded}({steps:g}) + 1 = {self.output}"


def output_size(
    size: int,
    kernel: int,
    *,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    ceil: bool = False,
    kind: Literal["conv", "pool"] = "conv",
) -> OutputSize:
    """The output size along one axis of a convolution or pooling over `size` pixels.

    Equals torch's Conv2d, and MaxPool2d where `kind` is "pool" (with `ceil` for its `ceil_mode`: a
    window that would start in the far padding is dropped). Raises UsageError for numbers that torch
    refuses too.
    """
    _check(kind, size, kernel, stride, padding, dilation, ceil)
    reach = dilation * (kernel - 1) + 1
    room = size + 2 * padding - reach
    output = (-(-room // stride) if ceil else room // stride) + 1
    if ceil and (output - 1) * stride >= size + padding:
        output -= 1
    if output < 1:
        raise UsageError(
            f"calc {kind}",
            f"the kernel spans {reach} pixels and the padded input has {size + 2 * padding}",
            "use a larger input or padding, or a smaller kernel or dilation",
        )
    unused = max(0, room - (output - 1) * stride)
    return OutputSize(kind, size, kernel, stride, padding, dilation, ceil, reach, output, unused)


def input_sizes(output: int, kernel: int, *, stride: int = 1, padding: int = 0, dilation: int = 1) -> range:
    """The input sizes along one axis that give `output` positions: the inverse of `output_size`.

    There are `stride` of them, fewer where the padding alone would do. Raises UsageError where no input
    gives so few positions.
    """
    _check("conv", max(output, 1), kernel, stride, padding, dilation, ceil=False)
    smallest = (output - 1) * stride + dilation * (kernel - 1) + 1 - 2 * padding
    found = range(max(1, smallest), smallest + stride)
    if output < 1 or not found:
        raise UsageError(
            "calc conv",
            f"no input gives {output} positions with kernel {kernel}, padding {padding}, stride {stride}",
            "use a larger output or less padding",
        )
    return found


def transposed_size(
    size: int, kernel: int, *, stride: int = 1, padding: int = 0, output_padding: int = 0, dilation: int = 1
) -> int:
    """The output size along one axis of a transposed convolution, as torch's ConvTranspose2d.

    Of the `stride` inputs that the convolution takes to `size`, the smallest; `output_padding` chooses
    among them. Raises UsageError where nothing is left of the output.
    """
    _check("conv", size, kernel, stride, padding, dilation, ceil=False)
    output = (size - 1) * stride + dilation * (kernel - 1) + 1 - 2 * padding + output_padding
    if output < 1:
        raise UsageError("calc conv", f"padding {padding} leaves nothing of the output", "use less padding")
    return output


def _check(kind: str, size: int, kernel: int, stride: int, padding: int, dilation: int, ceil: bool) -> None:
    for name, value, least in (
        ("in", size, 1),
        ("kernel", kernel, 1),
        ("stride", stride, 1),
        ("padding", padding, 0),
        ("dilation", dilation, 1),
    ):
        if value < least:
            raise UsageError(
                f"calc {kind}", f"--{name} is {value}", f"give a whole number of at least {least}"
            )
    if kind == "pool" and padding > kernel // 2:
        raise UsageError(
            "calc pool", f"--padding {padding} is more than half of the kernel", f"use at most {kernel // 2}"
        )
    if kind == "conv" and ceil:
        raise UsageError("calc conv", "a convolution never rounds up", "leave --ceil out, or use `calc pool`")
