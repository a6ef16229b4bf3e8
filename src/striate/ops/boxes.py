"""Boxes as tensors: their overlaps, and how networks describe one box by another.

A box is x0 y0 x1 y1 in pixels, x1 and y1 exclusive, so it is x1 - x0 wide.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

__all__ = ["BoxCoder", "areas", "centred", "clipped", "cornered", "overlap", "pairwise_iou", "pairwise_share"]

Overlap = Literal["iou", "giou", "diou", "ciou"]

_LEAST = 1e-7  # keeps quotients of boxes without area finite
_MOST_GROWTH = math.log(1000 / 16)  # of a side: what is decoded stays finite, whatever a network says


def areas(boxes: Tensor) -> Tensor:
    """Width times height of boxes (..., 4): (...), 0 where one is inside out."""
    sides = (boxes[..., 2:] - boxes[..., :2]).clamp(min=0)
    return sides[..., 0] * sides[..., 1]


def centred(boxes: Tensor) -> Tensor:
    """Boxes (..., 4) as centre x, centre y, width, height."""
    corner, opposite = boxes[..., :2], boxes[..., 2:]
    return torch.cat(((corner + opposite) / 2, opposite - corner), -1)


def cornered(boxes: Tensor) -> Tensor:
    """Boxes (..., 4) of centre x, centre y, width, height as x0 y0 x1 y1."""
    centre, half = boxes[..., :2], boxes[..., 2:] / 2
    return torch.cat((centre - half, centre + half), -1)


def clipped(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Boxes (..., 4) cut off at the borders of a picture of this height and width."""
    height, width = size
    x, y = boxes[..., 0::2].clamp(0, width), boxes[..., 1::2].clamp(0, height)
    return torch.stack((x[..., 0], y[..., 0], x[..., 1], y[..., 1]), -1)


def pairwise_iou(boxes: Tensor, others: Tensor) -> Tensor:
    """Intersection over union of each of `boxes` (..., N, 4) with each of `others` (..., M, 4): (..., N, M).

    0..1; 0 where neither has an area.
    """
    shared = _pairwise_shared(boxes, others)
    union = areas(boxes)[..., :, None] + areas(others)[..., None, :] - shared
    return torch.where(union > 0, shared / union.clamp(min=_LEAST), 0)


def pairwise_share(boxes: Tensor, others: Tensor) -> Tensor:
    """How much of each of `boxes` (..., N, 4) lies in each of `others` (..., M, 4): (..., N, M) in 0..1.

    0 for a box without area.
    """
    own = areas(boxes)[..., :, None]
    return torch.where(own > 0, _pairwise_shared(boxes, others) / own.clamp(min=_LEAST), 0)


def _pairwise_shared(boxes: Tensor, others: Tensor) -> Tensor:
    """The area that each of `boxes` (..., N, 4) has in common with each of `others` (..., M, 4)."""
    x0, y0, x1, y1 = boxes[..., :, None, :].unbind(-1)
    other_x0, other_y0, other_x1, other_y1 = others[..., None, :, :].unbind(-1)
    # Axis by axis: with hundreds of thousands of anchors, (..., N, M, 4) is what would fill the memory.
    width = (torch.minimum(x1, other_x1) - torch.maximum(x0, other_x0)).clamp(min=0)
    return width * (torch.minimum(y1, other_y1) - torch.maximum(y0, other_y0)).clamp(min=0)


def overlap(boxes: Tensor, others: Tensor, kind: Overlap = "iou") -> Tensor:
    """How far each of `boxes` (..., 4) is the one of `others` (..., 4) in its place: (...), at most 1.

    iou in 0..1; giou in -1..1 subtracts the share of the box around both that neither fills (Rezatofighi et
    al. 2019, arXiv:1902.09630); diou subtracts the squared distance of the centres over the squared diagonal
    around both, ciou a term for unlike aspects as well (Zheng et al. 2020, arXiv:1911.08287, eq. 7 and 10).
    """
    shared = areas(
        torch.cat(
            (torch.maximum(boxes[..., :2], others[..., :2]), torch.minimum(boxes[..., 2:], others[..., 2:])),
            -1,
        )
    )
    union = areas(boxes) + areas(others) - shared
    iou = shared / union.clamp(min=_LEAST)
    if kind == "iou":
        return iou
    around = torch.cat(
        (torch.minimum(boxes[..., :2], others[..., :2]), torch.maximum(boxes[..., 2:], others[..., 2:])), -1
    )
    if kind == "giou":
        hull = areas(around).clamp(min=_LEAST)
        return iou - (hull - union) / hull
    own, other = centred(boxes), centred(others)
    diagonal = (around[..., 2:] - around[..., :2]).square().sum(-1).clamp(min=_LEAST)
    diou = iou - (own[..., :2] - other[..., :2]).square().sum(-1) / diagonal
    return diou if kind == "diou" else diou - _unlike_aspect(own, other, iou)


def _unlike_aspect(own: Tensor, other: Tensor, iou: Tensor) -> Tensor:
    """What ciou subtracts for another ratio of the sides; its weight is not learnt from."""
    angles = (torch.atan2(box[..., 2], box[..., 3].clamp(min=_LEAST)) for box in (own, other))
    first, second = angles
    difference = (4 / math.pi**2) * (first - second).square()
    with torch.no_grad():
        weight = difference / (1 - iou + difference).clamp(min=_LEAST)
    return weight * difference


@dataclass(frozen=True, slots=True)
class BoxCoder:
    """Boxes as four numbers relative to anchors: dx/w, dy/h, log w'/w, log h'/h, each times its weight.

    Girshick et al. 2014 (arXiv:1311.2524), appendix C. SSD's variances .1 and .2 are the weights 10 and 5.
    """

    weights: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)

    def encode(self, boxes: Tensor, anchors: Tensor) -> Tensor:
        """Numbers (..., 4) for `boxes` (..., 4) with an area, relative to `anchors` (..., 4) with one."""
        own, anchor = centred(boxes), centred(anchors)
        shift = (own[..., :2] - anchor[..., :2]) / anchor[..., 2:].clamp(min=_LEAST)
        growth = torch.log(own[..., 2:].clamp(min=_LEAST) / anchor[..., 2:].clamp(min=_LEAST))
        return torch.cat((shift, growth), -1) * shift.new_tensor(self.weights)

    def decode(self, numbers: Tensor, anchors: Tensor) -> Tensor:
        """Boxes (..., 4) that `numbers` (..., 4) mean; a side grows to 62.5 times the anchor's at most."""
        anchor, values = centred(anchors), numbers / numbers.new_tensor(self.weights)
        centre = values[..., :2] * anchor[..., 2:] + anchor[..., :2]
        sides = values[..., 2:].clamp(max=_MOST_GROWTH).exp() * anchor[..., 2:]
        return cornered(torch.cat((centre, sides), -1))
