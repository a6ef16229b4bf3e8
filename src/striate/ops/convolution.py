"""Convolution and pooling spelt out: windows of the input, times a kernel, summed.

Written to be read, and equal to torch's own: `cross_correlate` is `conv2d`, `transposed` is
`conv_transpose2d`, `max_pool` and `average_pool` are theirs. Maps are (B, C, H, W), kernels
(C_out, C / groups, kernel height, kernel width). Numbers for both axes may be given as one. Sizes come
from `striate.ops.sizes`.

What deep learning calls convolution is cross-correlation. Convolution proper turns the kernel by half a
turn first; a learned kernel does not mind. Source: Dumoulin and Visin 2016, arXiv:1603.07285.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from striate.errors import UsageError
from striate.ops.sizes import output_size, transposed_size

__all__ = [
    "ReceptiveField",
    "average_pool",
    "convolve",
    "cross_correlate",
    "flip",
    "margins",
    "max_pool",
    "pad",
    "receptive_field",
    "spread",
    "transposed",
    "windows",
]

Pair = int | tuple[int, int]
Margins = tuple[int, int, int, int]
"""Cells added at the top, bottom, left and right."""

Border = Literal["zeros", "reflect", "circular", "replicate"]


def cross_correlate(
    maps: Tensor,
    kernels: Tensor,
    bias: Tensor | None = None,
    *,
    stride: Pair = 1,
    padding: Pair | Literal["valid", "same", "full"] = 0,
    dilation: Pair = 1,
    groups: int = 1,
    border: Border = "zeros",
) -> Tensor:
    """Each kernel laid on each window of `maps`, products summed, plus bias: (B, C_out, H_out, W_out).

    padding: cells a side, or "valid" (none), "same" (the size stays, stride 1 only), "full" (every
    overlap of kernel and maps counts). `border` says what stands in those cells. `groups` cuts the
    channels into as many parts that do not see each other. Raises UsageError where shapes do not fit.
    """
    _check_channels(maps, kernels.shape[1] * groups, kernels.shape[0], groups)
    kernel = _size(kernels)
    padded = pad(maps, margins(kernel, padding, dilation, stride), border)
    seen = windows(padded, kernel, stride, dilation)
    grouped_windows = torch.unflatten(seen, 1, (groups, -1))  # (B, groups, C / groups, H_out, W_out, kh, kw)
    grouped_kernels = torch.unflatten(kernels, 0, (groups, -1))  # (groups, C_out / groups, C / groups, ...)
    sums = torch.einsum("bgcyxij,gocij->bgoyx", grouped_windows, grouped_kernels).flatten(1, 2)
    return sums if bias is None else sums + bias.view(1, -1, 1, 1)


def convolve(maps: Tensor, kernels: Tensor, padding: Pair | Literal["valid", "same", "full"] = 0) -> Tensor:
    """Convolution proper: cross-correlation with the flipped kernel.

    With "full" padding it is the product of polynomials whose coefficients the maps and the kernel are,
    so that it does not matter which of the two is called the kernel.
    """
    return cross_correlate(maps, flip(kernels), padding=padding)


def transposed(
    maps: Tensor,
    kernels: Tensor,
    bias: Tensor | None = None,
    *,
    stride: Pair = 1,
    padding: Pair = 0,
    output_padding: Pair = 0,
    dilation: Pair = 1,
    groups: int = 1,
) -> Tensor:
    """The transposed convolution, as `conv_transpose2d`: kernels (C, C_out / groups, kh, kw).

    Each input value lays its multiple of the kernel on the output, `stride` cells apart. The same as
    cross-correlation of the input, spread with `stride - 1` zeros, with the flipped kernel, its two
    channel axes exchanged.
    """
    _check_channels(maps, kernels.shape[0], kernels.shape[0], groups)
    exchanged = torch.unflatten(flip(kernels), 0, (groups, -1)).transpose(1, 2).flatten(0, 1)
    spaced = spread(maps, stride)
    sizes = []
    for axis, (kernel, step, cut, extra, gap) in enumerate(
        zip(_size(kernels), *map(_pair, (stride, padding, output_padding, dilation)), strict=True)
    ):
        size = maps.shape[2 + axis]
        reach = gap * (kernel - 1)
        wanted = transposed_size(size, kernel, stride=step, padding=cut, output_padding=extra, dilation=gap)
        # Before it `reach - cut` cells, after it what the wanted size still needs.
        sizes += [reach - cut, wanted + reach - (spaced.shape[2 + axis] + reach - cut)]
    top, bottom, left, right = sizes
    padded = pad(spaced, (top, bottom, left, right))
    return cross_correlate(padded, exchanged, bias, dilation=dilation, groups=groups)


def max_pool(
    maps: Tensor,
    kernel: Pair,
    *,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil: bool = False,
) -> Tensor:
    """The largest value of each window, (B, C, H_out, W_out); padding never wins, as it is minus infinity."""
    around, far = _pool_margins(maps, kernel, stride, padding, dilation, ceil)
    padded = pad(pad(maps, around, value=-torch.inf), far, value=-torch.inf)
    return windows(padded, kernel, kernel if stride is None else stride, dilation).amax((-2, -1))


def average_pool(
    maps: Tensor,
    kernel: Pair,
    *,
    stride: Pair | None = None,
    padding: Pair = 0,
    ceil: bool = False,
    count_padding: bool = True,
) -> Tensor:
    """The mean of each window, (B, C, H_out, W_out).

    `count_padding`: zeros of the padding count as values; what hangs over the padding with `ceil` never
    does.
    """
    around, far = _pool_margins(maps, kernel, stride, padding, 1, ceil)
    step = kernel if stride is None else stride
    sums = windows(pad(pad(maps, around), far), kernel, step).sum((-2, -1))
    counted = pad(torch.ones_like(maps), around, value=float(count_padding))
    return sums / windows(pad(counted, far), kernel, step).sum((-2, -1))


def windows(maps: Tensor, kernel: Pair, stride: Pair = 1, dilation: Pair = 1) -> Tensor:
    """All windows of `maps`, (B, C, H_out, W_out, kernel height, kernel width): a view, nothing is copied."""
    view = maps
    for axis, (taps, step, gap) in enumerate(
        zip(_pair(kernel), _pair(stride), _pair(dilation), strict=True), start=2
    ):
        output_size(maps.shape[axis], taps, stride=step, dilation=gap)  # raises where no window fits
        view = view.unfold(axis, gap * (taps - 1) + 1, step)[..., ::gap]
    return view


def pad(maps: Tensor, around: Margins, border: Border = "zeros", *, value: float = 0.0) -> Tensor:
    """`maps` with cells added at the top, bottom, left and right; a negative number cuts cells off.

    border: "zeros" (or rather `value`), "reflect" (mirrored, the edge itself not repeated), "circular"
    (the other end goes on here) or "replicate" (the edge repeated). Raises UsageError where the mirror or
    the circle would need more cells than there are.
    """
    for axis, (before, after) in ((2, around[:2]), (3, around[2:])):
        size = maps.shape[axis]
        room = {"reflect": size - 1, "circular": size}.get(border)
        if room is not None and max(before, after) > room:
            raise UsageError(
                "padding",
                f"{border} padding of {max(before, after)} needs more than {size} cells",
                "pad less",
            )
        places = torch.arange(-before, size + after, device=maps.device)
        padded = maps.index_select(axis, _source(places, size, border))
        outside = ((places < 0) | (places >= size)).view(-1, *[1] * (3 - axis))
        maps = padded.masked_fill(outside, value) if border == "zeros" else padded
    return maps


def _source(places: Tensor, size: int, border: Border) -> Tensor:
    """The cell 0..size - 1 that stands at each of `places`, which may lie outside."""
    if border == "circular":
        return places % size
    if border == "reflect":
        return (size - 1) - ((size - 1) - places.abs()).abs()
    return places.clamp(0, size - 1)


def margins(
    kernel: Pair, padding: Pair | Literal["valid", "same", "full"], dilation: Pair = 1, stride: Pair = 1
) -> Margins:
    """The cells to add at the top, bottom, left and right for a padding in words or numbers.

    Where "same" needs an odd number of cells, the odd one stands at the bottom and right, as in torch.
    """
    reach = [gap * (taps - 1) for taps, gap in zip(_pair(kernel), _pair(dilation), strict=True)]
    if padding == "full":
        return reach[0], reach[0], reach[1], reach[1]
    if padding == "same":
        if _pair(stride) != (1, 1):
            raise UsageError("padding", f"'same' has no meaning with stride {stride}", "give it in cells")
        return reach[0] // 2, reach[0] - reach[0] // 2, reach[1] // 2, reach[1] - reach[1] // 2
    vertical, horizontal = _pair(0 if padding == "valid" else padding)
    return vertical, vertical, horizontal, horizontal


def flip(kernels: Tensor) -> Tensor:
    """The kernels turned by half a turn."""
    return kernels.flip((-2, -1))


def spread(maps: Tensor, step: Pair) -> Tensor:
    """`maps` with `step - 1` zeros between neighbours along both axes.

    A dilated convolution is one with the spread kernel: `spread(kernels, dilation)`.
    """
    vertical, horizontal = _pair(step)
    height, width = _size(maps)
    sparse = maps.new_zeros(*maps.shape[:2], (height - 1) * vertical + 1, (width - 1) * horizontal + 1)
    sparse[:, :, ::vertical, ::horizontal] = maps
    return sparse


@dataclass(frozen=True, slots=True)
class ReceptiveField:
    """What one value of a map sees of the input along one axis, in input pixels.

    The value at position i sees the pixels from `start + i * jump` on, `size` of them; a negative
    pixel lies in the padding. Source: Araujo, Norris and Sim 2019, doi:10.23915/distill.00021.
    """

    size: float = 1
    jump: float = 1
    start: float = 0

    def through(self, kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1) -> "ReceptiveField":
        """The field behind one more sliding window."""
        return ReceptiveField(
            size=self.size + dilation * (kernel - 1) * self.jump,
            jump=self.jump * stride,
            start=self.start - padding * self.jump,
        )


def receptive_field(layers: Iterable[tuple[int, int, int, int]]) -> ReceptiveField:
    """The field behind layers one after another, each (kernel, stride, padding, dilation)."""
    field = ReceptiveField()
    for layer in layers:
        field = field.through(*layer)
    return field


def _pool_margins(
    maps: Tensor, kernel: Pair, stride: Pair | None, padding: Pair, dilation: Pair, ceil: bool
) -> tuple[Margins, Margins]:
    """The padding, and the cells beyond it that a last window hangs over with `ceil`."""
    steps = kernel if stride is None else stride
    far = []
    for axis, (taps, step, cells, gap) in enumerate(
        zip(*map(_pair, (kernel, steps, padding, dilation)), strict=True), start=2
    ):
        size = maps.shape[axis]
        found = output_size(size, taps, stride=step, padding=cells, dilation=gap, ceil=ceil, kind="pool")
        far.append(max(0, (found.output - 1) * step + found.reach - size - 2 * cells))
    return margins(kernel, padding), (0, far[0], 0, far[1])


def _check_channels(maps: Tensor, needed: int, cut: int, groups: int) -> None:
    if maps.ndim != 4 or maps.shape[1] != needed or needed % groups or cut % groups:
        raise UsageError(
            "maps",
            f"shape {tuple(maps.shape)} does not fit kernels for {needed} channels in {groups} groups",
            "give maps (B, C, H, W), and channels that the groups divide",
        )


def _size(maps: Tensor) -> tuple[int, int]:
    return maps.shape[-2], maps.shape[-1]


def _pair(value: Pair) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value
