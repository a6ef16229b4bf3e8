"""What became of each found box and each true object, and which class is taken for which."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from striate.metrics.box_matching import NONE, best_free
from striate.metrics.boxes import Comparison

__all__ = ["BACKGROUND", "Outcome", "detection_confusion", "outcome"]

BACKGROUND = "background"
"""Name of what is no object, behind the classes."""

Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of the boxes of at least some score in one picture, and of its objects, at an IoU of 0.5.

    Each such box is in one of `hits`, `confused`, `false` and `excused`; each object that should be found in
    one of `hits`, `confused` and `missed`. Numbers of boxes count the surest as 0.
    """

    hits: Rows  # (h, 2) box and truth
    confused: Rows  # (c, 2) box, and the truth of another class that it is on
    false: Rows  # (f,) boxes on nothing, or on what a surer one found
    excused: Rows  # (e,) boxes on crowds or on objects that are hard to see
    missed: Rows  # (m,) truths


def outcome(picture: Comparison, score: float) -> Outcome:
    """What became of the boxes of at least `score`.

    First each gets an object of its own class, the surest box first; then those left over get what other
    objects are left.
    """
    count = int((picture.scores >= score).sum())
    overlap, same, excused = picture.overlaps[:count], picture.same_class[:count], picture.excused
    found = best_free(np.where(same, overlap, 0), excused)
    is_on = found != NONE
    is_excused = is_on.copy()
    is_excused[is_on] = excused[found[is_on]]
    hits = np.flatnonzero(is_on & ~is_excused)
    boxes, truths = np.flatnonzero(~is_on), _without(np.flatnonzero(~excused), found[hits])
    other = best_free(overlap[np.ix_(boxes, truths)], np.zeros(len(truths), np.bool_))
    is_other = other != NONE
    mistaken = truths[other[is_other]]
    return Outcome(
        np.stack((hits, found[hits]), 1),
        np.stack((boxes[is_other], mistaken), 1),
        boxes[~is_other],
        np.flatnonzero(is_excused),
        _without(truths, mistaken),
    )


def _without(rows: Rows, others: Rows) -> Rows:
    return rows[~np.isin(rows, others)]


def detection_confusion(pictures: Sequence[Comparison], classes: int, score: float) -> NDArray[np.int64]:
    """How often an object of one class was found as another, (K + 1, K + 1): row = truth, column = found.

    The last row is of boxes that are on nothing, the last column of objects that were not found. Only boxes
    of at least `score` count; boxes on crowds and on objects that are hard to see do not.
    """
    matrix = np.zeros((classes + 1, classes + 1), np.int64)
    for picture in pictures:
        what = outcome(picture, score)
        both = np.concatenate((what.hits, what.confused))
        true = picture.truths.labels
        np.add.at(matrix, (true[both[:, 1]], picture.labels[both[:, 0]]), 1)
        np.add.at(matrix[classes], picture.labels[what.false], 1)
        np.add.at(matrix[:, classes], true[what.missed], 1)
    return matrix
