"""Anchors: boxes of a few sizes and shapes, the same at every cell of a map, that networks measure others by.

All are x0 y0 x1 y1 in pixels, x1 and y1 exclusive.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["centred_anchors", "published_anchors", "spread"]


def published_anchors(
    sizes: Sequence[float], ratios: Sequence[float] = (0.5, 1.0, 2.0), stride: int = 16
) -> Tensor:
    """The first cell's anchors as Faster R-CNN was published with them: (ratios x sizes, 4), ratio by ratio.

    A cell of `stride` pixels a side is given each ratio of height to width at about its area, in whole
    pixels; those times `sizes / stride`, around the cell's centre, are the anchors. The published table (Ren
    et al. 2015, arXiv:1506.01497) counts pixels from 1 and the last ones in: its row -83 -39 100 56 is
    -84 -40 100 56 here.
    """
    rows = []
    for ratio in ratios:
        width = round(math.sqrt(stride**2 / ratio))
        height = round(width * ratio)
        rows += [(width * size / stride / 2, height * size / stride / 2) for size in sizes]
    centre = stride / 2
    return torch.tensor([(centre - x, centre - y, centre + x, centre + y) for x, y in rows])


def centred_anchors(sizes: Sequence[float], ratios: Sequence[float] = (0.5, 1.0, 2.0)) -> Tensor:
    """Anchors around the origin as torchvision has them: (ratios x sizes, 4), ratio by ratio.

    Each has the area size x size and height / width = ratio, before its half sides are rounded.
    """
    rows = [(size / math.sqrt(ratio), size * math.sqrt(ratio)) for ratio in ratios for size in sizes]
    halves = [(round(width / 2), round(height / 2)) for width, height in rows]
    return torch.tensor([(-x, -y, x, y) for x, y in halves], dtype=torch.float32)


def spread(anchors: Tensor, grid: tuple[int, int], steps: tuple[int, int]) -> Tensor:
    """`anchors` (A, 4) of the first cell at every cell of a map: (rows x columns x A, 4), row by row.

    grid: rows and columns of the map; steps: pixels from a row to the next and from a column to the next.
    """
    rows, columns = (
        torch.arange(count, device=anchors.device, dtype=anchors.dtype) * step
        for count, step in zip(grid, steps, strict=True)
    )
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    shifts = torch.stack((x, y, x, y), -1).view(-1, 1, 4)
    return (shifts + anchors).view(-1, 4)
