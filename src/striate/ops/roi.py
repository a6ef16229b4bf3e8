"""Regions of interest cut out of maps, each resampled to the same few cells."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from striate.ops import kernels
from striate.ops.boxes import areas

__all__ = ["aligned", "max_pooled", "pyramid_aligned", "pyramid_levels"]

_SAMPLES = 2  # a side of each cell
_CANONICAL = 224  # pixels a side of a region that is read on the level of this stride:
_CANONICAL_STRIDE = 16
_MARGIN = 1e-6  # a region of exactly that side lies on the level that begins with it


def max_pooled(maps: Tensor, boxes: Tensor, grid: int, stride: int) -> Tensor:
    """The largest value in each of `grid` x `grid` cells of each box: (B x P, C, grid, grid).

    maps (B, C, H, W), `stride` pixels a cell; boxes (B, P, 4) in pixels. Fast R-CNN's RoI pooling (Girshick
    2015, arXiv:1504.08083, section 2.1) as it was published: the first and the last pixel of a box are
    rounded to cells of the map, and a box has at least one. An empty cell gives 0.
    """
    # The kernel takes the last pixel, not the one behind it.
    rows = _with_pictures(boxes - boxes.new_tensor([0.0, 0.0, 1.0, 1.0]))
    return kernels.roi_pool(maps.float(), rows, grid, 1 / stride).to(maps.dtype)


def aligned(maps: Tensor, boxes: Tensor, grid: int, stride: int) -> Tensor:
    """The mean of 2 x 2 interpolated values in each of `grid` x `grid` cells of each box.

    Shapes as in `max_pooled`; nothing is rounded. He et al. 2017 (arXiv:1703.06870), section 3, without its
    later half-pixel shift, as torchvision's detectors are trained.
    """
    rows = _with_pictures(boxes)
    return kernels.roi_align(maps.float(), rows, grid, 1 / stride, _SAMPLES).to(maps.dtype)


def pyramid_levels(boxes: Tensor, strides: Sequence[int]) -> Tensor:
    """Which of the maps of `strides`, finest first, each of `boxes` (..., 4) is read on: (...) int64.

    One of 224 x 224 pixels on the map of stride 16, of half the side on the one of stride 8, and so on: Lin
    et al. 2017 (arXiv:1612.03144), equation 1.
    """
    doublings = torch.log2(areas(boxes).sqrt() / _CANONICAL) + math.log2(_CANONICAL_STRIDE / strides[0])
    return torch.floor(doublings + _MARGIN).clamp(0, len(strides) - 1).long()


def pyramid_aligned(maps: Sequence[Tensor], boxes: Tensor, grid: int, strides: Sequence[int]) -> Tensor:
    """`aligned` on the map of each box's own level: (B x P, C, grid, grid).

    maps, finest first, each twice as coarse as the one before. Every box is cut out of every map: that has a
    shape which no value decides, and takes little beside the layers that read what is cut out.
    """
    levels = pyramid_levels(boxes, strides).flatten()[:, None, None, None]
    chosen = aligned(maps[0], boxes, grid, strides[0])
    for level in range(1, len(maps)):
        chosen = torch.where(levels == level, aligned(maps[level], boxes, grid, strides[level]), chosen)
    return chosen


def _with_pictures(boxes: Tensor) -> Tensor:
    """Boxes (B, P, 4) as rows of the picture's number and the box: (B x P, 5)."""
    pictures = torch.arange(boxes.shape[0], device=boxes.device, dtype=boxes.dtype)
    numbers = pictures[:, None, None].expand(-1, boxes.shape[1], 1)
    return torch.cat((numbers, boxes), 2).flatten(0, 1)
