"""Average precision as PASCAL VOC measures it: at eleven recalls (2007), and as an area (from 2010)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from striate.metrics.box_matching import Judged, best_of_all, judged
from striate.metrics.boxes import Comparison

__all__ = ["VocScores", "area_precision", "eleven_point_precision", "voc_scores"]


@dataclass(frozen=True, slots=True)
class VocScores:
    """Average precision at an IoU of 0.5 of each class, 0..1; NaN where there is no object of it."""

    eleven_point: NDArray[np.float64]  # (K,) of VOC 2007 to 2009
    area: NDArray[np.float64]  # (K,) of VOC 2010 to 2012


def voc_scores(pictures: Sequence[Comparison], classes: int) -> VocScores:
    """The two precisions of each class; difficult objects and crowds are neither hits nor misses."""
    found = judged(pictures, classes, best_of_all)
    rows = [found.of_class(label) for label in range(classes)]
    return VocScores(
        np.array([eleven_point_precision(row) for row in rows]),
        np.array([area_precision(row) for row in rows]),
    )


def eleven_point_precision(row: Judged) -> float:
    """Mean over the recalls 0, 0.1, ..., 1 of the best precision at that recall or above; NaN of nothing.

    Eq. 1 and 2 of Everingham et al. 2010 (doi:10.1007/s11263-009-0275-4), section 4.2.
    """
    objects = int(row.objects.sum())
    if not objects:
        return float("nan")
    hits, best = _best_from_here(row)
    # 10 hits >= step * objects is exact; as fractions, 3 of 10 would miss the recall 0.3.
    places = np.searchsorted(10 * hits, np.arange(11) * objects)
    return float(np.append(best, 0.0)[places].sum() / 11)


def area_precision(row: Judged) -> float:
    """Area below the precision that is best at a recall or above, over recall; NaN of nothing.

    Section 3.4.1 of the VOC 2012 development kit's guide.
    """
    objects = int(row.objects.sum())
    if not objects:
        return float("nan")
    _, best = _best_from_here(row)
    return float(best[row.hits].sum() / objects)


def _best_from_here(row: Judged) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Hits so far (D,), and the best precision at each place or behind it (D,)."""
    hits = row.hits.cumsum()
    precision = hits / np.arange(1, len(hits) + 1)
    return hits, np.maximum.accumulate(precision[::-1])[::-1]
