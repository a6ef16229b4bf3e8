"""The boxes that two runs of one network find in a picture: which are the same, and which only one has."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from striate.metrics.boxes import pairwise_iou
from striate.structures import Detections

__all__ = ["BOX", "SCORE", "FoundAgain", "find_again", "partners", "told"]

BOX = 0.1
"""Pixels by which a side of a box may be elsewhere."""

SCORE = 1e-4
"""By which the score of a box may differ."""

_SIMILAR = 0.5  # IoU from which a person calls two boxes the same
_ALONE = -1  # the partner of a box that has none


class FoundAgain(NamedTuple):
    """How the boxes of one picture are found again."""

    similar: int  # boxes of the one that lie mostly on one of their class in the other
    pixels: float  # largest distance of a side among those that are the same
    score: float  # largest difference of their scores
    only_ours: NDArray[np.int64]  # rows that are not the same as any
    only_theirs: NDArray[np.int64]


def find_again(ours: Detections, theirs: Detections, pixels: float = BOX) -> FoundAgain:
    """How `theirs` has the boxes of `ours`, as sets: the order of equal scores is nobody's.

    Two are the same whose classes are, whose sides are at most `pixels` and whose scores SCORE apart.
    """
    partner = partners(ours, theirs, pixels)
    rows = np.flatnonzero(partner != _ALONE)
    others = partner[rows]
    return FoundAgain(
        _similar(ours, theirs),
        float(np.abs(ours.boxes[rows] - theirs.boxes[others]).max(initial=0)),
        float(np.abs(ours.scores[rows] - theirs.scores[others]).max(initial=0)),
        np.flatnonzero(partner == _ALONE),
        np.setdiff1d(np.arange(len(theirs)), others),
    )


def partners(ours: Detections, theirs: Detections, pixels: float = BOX) -> NDArray[np.int64]:
    """The row in `theirs` that is the same as each box of `ours`, the nearest that is free; -1 without."""
    apart = np.abs(ours.boxes[:, None] - theirs.boxes).max(axis=2, initial=0)
    same = (ours.labels[:, None] == theirs.labels) & (apart <= pixels)
    same &= np.abs(ours.scores[:, None] - theirs.scores) <= SCORE
    apart = np.where(same, apart, np.inf)
    partner = np.full(len(ours), _ALONE, np.int64)
    for row in np.flatnonzero(same.any(axis=1)).tolist():
        nearest = int(apart[row].argmin())
        if np.isfinite(apart[row, nearest]):
            partner[row] = nearest
            apart[:, nearest] = np.inf  # taken
    return partner


def told(found: Detections, row: int) -> str:
    """Box `row` in words: "cat of score 0.9000 at (10.0, 10.0, 50.0, 50.0)"."""
    place = ", ".join(f"{side:.1f}" for side in found.boxes[row].tolist())
    return f"{found.classes[found.labels[row]]} of score {found.scores[row]:.4f} at ({place})"


def _similar(ours: Detections, theirs: Detections) -> int:
    """How many of our boxes have one of their class over there that lies mostly on them."""
    overlap = pairwise_iou(ours.boxes, theirs.boxes)
    same = (ours.labels[:, None] == theirs.labels) & (overlap >= _SIMILAR)
    return int(same.any(axis=1).sum())
