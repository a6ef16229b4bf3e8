"""Dilation in place of strides: a network whose last maps stay large, with the same weights."""

from collections.abc import Iterable, Iterator

__all__ = ["strides_and_dilations"]


def strides_and_dilations(strides: Iterable[int], output_stride: int) -> Iterator[tuple[int, int]]:
    """Stride and dilation of each convolution in a row of them, so that together they stride no further.

    Once `output_stride` is reached, a stride becomes 1 and dilates every convolution after it, so that
    each still sees the pixels that it was trained on: every n-th value of the dense map is the value of
    the strided network's (Chen et al. 2017, arXiv:1706.05587, section 3.1), but for what averages whole
    maps. The convolution that would have strided keeps the dilation from before.
    """
    reached, dilation = 1, 1
    for stride in strides:
        if reached * stride <= output_stride:
            reached *= stride
            yield stride, dilation
        else:
            yield 1, dilation
            dilation *= stride
