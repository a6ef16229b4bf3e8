"""Which found box is which true object, by one rule or another, and what that makes of each of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from striate.metrics.boxes import Comparison

__all__ = ["LEAST_IOU", "NONE", "Judged", "Rule", "best_free", "best_of_all", "judged"]

LEAST_IOU = 0.5  # from which a found box is on an object
NONE = -1  # of a found box that is on no object

Rule: TypeAlias = Callable[[NDArray[np.float64], NDArray[np.bool_]], NDArray[np.int64]]
"""From overlaps (N, T), the surest box first, and which truths are excused (T,): each box's truth (N,)."""


def best_free(overlap: NDArray[np.float64], excused: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The truth of each box (N,): of those that no surer box took the one it is most on; excused, or NONE.

    An excused truth comes after all others and is never taken. This is COCO's rule at one overlap.
    """
    found = np.full(len(overlap), NONE, np.int64)
    counted, ignored = np.where(excused, 0, overlap), np.where(excused, overlap, 0)
    for row in np.flatnonzero((overlap >= LEAST_IOU).any(axis=1)).tolist():
        best = int(counted[row].argmax())
        if counted[row, best] >= LEAST_IOU:
            counted[:, best] = 0  # taken
            found[row] = best
        elif ignored[row].max() >= LEAST_IOU:
            found[row] = ignored[row].argmax()
    return found


def best_of_all(overlap: NDArray[np.float64], excused: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The truth that each box is most on, (N,), or NONE where a surer box took it: VOC's rule.

    It is that of the devkit (section 4.4 of Everingham et al. 2010, doi:10.1007/s11263-009-0275-4): a second
    box on an object is a false one, even where another object lies below it too.
    """
    if not overlap.size:
        return np.full(len(overlap), NONE, np.int64)
    best = overlap.argmax(axis=1)
    is_on = overlap[np.arange(len(best)), best] >= LEAST_IOU
    first = np.zeros(len(best), np.bool_)
    rows = np.flatnonzero(is_on)
    first[rows[np.unique(best[rows], return_index=True)[1]]] = True
    found: NDArray[np.int64] = np.where(is_on & (first | excused[best]), best, NONE)
    return found


@dataclass(frozen=True, slots=True)
class Judged:
    """All found boxes of all pictures that count, the surest first, and how many objects there are."""

    scores: NDArray[np.float32]  # (D,) not increasing
    labels: NDArray[np.int64]  # (D,)
    hits: NDArray[np.bool_]  # (D,) whether each is on an object of its class
    objects: NDArray[np.int64]  # (K,) of each class that should be found

    def of_class(self, label: int) -> "Judged":
        """Those of one class."""
        own = self.labels == label
        return Judged(self.scores[own], self.labels[own], self.hits[own], self.objects[label : label + 1])


def judged(pictures: Sequence[Comparison], classes: int, rule: Rule) -> Judged:
    """What `rule` makes of the boxes and objects of each class; boxes on excused truths are left out."""
    scores, labels, hits = [np.empty(0, np.float32)], [np.empty(0, np.int64)], [np.empty(0, np.bool_)]
    objects = np.zeros(classes, np.int64)
    for picture in pictures:
        excused = picture.excused
        found = rule(np.where(picture.same_class, picture.overlaps, 0), excused)
        is_hit = found != NONE
        counts = ~is_hit
        counts[is_hit] = ~excused[found[is_hit]]
        scores.append(picture.scores[counts])
        labels.append(picture.labels[counts])
        hits.append(is_hit[counts])
        objects += np.bincount(picture.truths.labels[~excused], minlength=classes)
    joined = np.concatenate(scores)
    order = np.argsort(-joined, kind="stable")
    return Judged(joined[order], np.concatenate(labels)[order], np.concatenate(hits)[order], objects)
