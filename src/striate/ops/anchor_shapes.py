"""The shapes of anchor boxes that suit given objects."""

import torch
from torch import Tensor

__all__ = ["anchor_shapes", "shape_iou"]

_MOST_ROUNDS = 300
_LEAST = 1e-7


def shape_iou(shapes: Tensor, others: Tensor) -> Tensor:
    """Intersection over union of boxes (N, 2) with others (M, 2), width and height, on one centre: (N, M).

    0..1; leading axes of `shapes` stay: (..., N, 2) gives (..., N, M).
    """
    shared = torch.minimum(shapes[..., :, None, :], others).prod(-1)
    union = shapes.prod(-1)[..., :, None] + others.prod(-1) - shared
    return shared / union.clamp(min=_LEAST)


def anchor_shapes(sides: Tensor, count: int) -> Tensor:
    """`count` widths and heights (count, 2), from the smallest area up, around which `sides` (N, 2) lie.

    k-means with the distance 1 - IoU of boxes on one centre (Redmon and Farhadi 2017, arXiv:1612.08242,
    section 2, "Dimension Clusters"). Starts from shapes evenly spaced in the order of area, so the same
    sides give the same shapes; with N < count some of them are alike. N is at least 1, all sides above 0.
    """
    sides = sides.double()
    ordered = sides[sides.prod(1).argsort(stable=True)]
    places = (torch.arange(count, device=sides.device) + 0.5) * (len(sides) / count)
    shapes = ordered[places.long()]
    for _ in range(_MOST_ROUNDS):
        nearest = shape_iou(sides, shapes).argmax(1)
        members = torch.zeros(count, dtype=sides.dtype, device=sides.device).index_add_(
            0, nearest, torch.ones_like(sides[:, 0])
        )
        means = torch.zeros_like(shapes).index_add_(0, nearest, sides) / members.clamp(min=1)[:, None]
        moved = torch.where(members[:, None] > 0, means, shapes)  # a shape without any side stays
        if torch.equal(moved, shapes):
            break
        shapes = moved
    return shapes[shapes.prod(1).argsort(stable=True)].float()
