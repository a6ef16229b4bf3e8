"""How boxes (N, 4) x0 y0 x1 y1 lie to each other, in numpy."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["areas", "centres_inside", "pairwise_iou", "shares_inside"]

Boxes = NDArray[np.floating]


def areas(boxes: Boxes) -> NDArray[np.float64]:
    """Width times height, (N,); 0 where a box is inside out."""
    sides = np.maximum(boxes[:, 2:].astype(np.float64) - boxes[:, :2], 0)
    product: NDArray[np.float64] = sides.prod(1)
    return product


def pairwise_iou(boxes: Boxes, others: Boxes) -> NDArray[np.float64]:
    """Intersection over union of each of `boxes` (N, 4) with each of `others` (M, 4): (N, M) in 0..1.

    0 where neither has an area.
    """
    shared = _shared(boxes, others)
    union = areas(boxes)[:, None] + areas(others) - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def shares_inside(boxes: Boxes, others: Boxes) -> NDArray[np.float64]:
    """The share of its own area that each of `boxes` (N, 4) has in each of `others` (M, 4): (N, M) in 0..1.

    0 where it has no area.
    """
    shared = _shared(boxes, others)
    own = np.broadcast_to(areas(boxes)[:, None], shared.shape)
    return np.divide(shared, own, out=np.zeros_like(shared), where=own > 0)


def centres_inside(boxes: Boxes, others: Boxes) -> NDArray[np.bool_]:
    """Whether the centre of each of `boxes` (N, 4) is in each of `others` (M, 4): (N, M)."""
    centres = (boxes[:, None, :2] + boxes[:, None, 2:]) / 2
    inside = (centres >= others[:, :2]) & (centres < others[:, 2:])  # (N, M, 2)
    both: NDArray[np.bool_] = inside[..., 0] & inside[..., 1]
    return both


def _shared(boxes: Boxes, others: Boxes) -> NDArray[np.float64]:
    """Area that each of `boxes` has in common with each of `others`."""
    corner = np.maximum(boxes[:, None, :2], others[:, :2])
    opposite = np.minimum(boxes[:, None, 2:], others[:, 2:])
    sides = np.maximum(opposite.astype(np.float64) - corner, 0)
    product: NDArray[np.float64] = sides.prod(2)
    return product
