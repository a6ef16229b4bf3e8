"""Which of a training picture's proposals a network is trained on."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from striate.data.overlaps import pairwise_iou, shares_inside
from striate.structures import Objects

__all__ = ["RoiRule", "filled", "rois_of"]

_IN_CROWD = 0.5  # share of a proposal in a crowd from which it is no background


class RoiRule(NamedTuple):
    """How many are drawn, and which."""

    number: int
    foreground: float  # largest share of those that hold an object
    overlap: float  # intersection over union with one from which they do
    background: tuple[float, float]  # from the first to below the second they hold none


def rois_of(
    objects: Objects, proposals: NDArray[np.float32], rule: RoiRule, uniform: NDArray[np.float64]
) -> NDArray[np.float32]:
    """At most `rule.number` of the objects' own boxes and `proposals` (P, 4), by lots: (number, 4).

    Foreground first; rows of zeros where there are too few. A crowd is no object, and what lies in one no
    background. `uniform` in 0..1 has a number for each object and proposal. Girshick 2015 (arXiv:1504.08083),
    section 2.3.
    """
    singles, crowds = objects.boxes[~objects.crowd], objects.boxes[objects.crowd]
    candidates = np.concatenate((singles, proposals))
    most = _most(pairwise_iou(candidates, singles))
    in_crowd = _most(shares_inside(candidates, crowds)) > _IN_CROWD
    least, end = rule.background
    holds = most >= rule.overlap
    is_background = ~holds & ~in_crowd & (most >= least) & (most < end)
    order = np.argsort(uniform[: len(candidates)], kind="stable")
    foreground = order[holds[order]][: int(rule.number * rule.foreground)]
    background = order[is_background[order]][: rule.number - len(foreground)]
    return filled(candidates[np.concatenate((foreground, background))], rule.number)


def filled(boxes: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """The first `count` of `boxes` (N, 4), and rows of zeros where there are fewer: (count, 4)."""
    result = np.zeros((count, 4), np.float32)
    result[: min(len(boxes), count)] = boxes[:count]
    return result


def _most(table: NDArray[np.float64]) -> NDArray[np.float64]:
    """The largest number of each row (N, M), 0 where M is."""
    most: NDArray[np.float64] = table.max(1, initial=0)
    return most
