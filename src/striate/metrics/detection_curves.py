"""What is found and what is right as the least score falls, and the score at which both are best."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from striate.metrics.box_matching import Judged, best_free, judged
from striate.metrics.boxes import Comparison

__all__ = ["RECALLS", "Curve", "DetectionCurves", "OperatingPoint", "detection_curves"]

RECALLS = np.arange(101) / 100
"""At which a curve is sampled."""


class OperatingPoint(NamedTuple):
    """How a detector does that keeps what has at least a score; fractions 0..1."""

    score: float
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True, slots=True)
class Curve:
    """Precision and recall at each score that was given, at an IoU of 0.5."""

    scores: NDArray[np.float64]  # (S,) different ones, falling
    precision: NDArray[np.float64]  # (S,) right among those of at least the score
    recall: NDArray[np.float64]  # (S,) found among the objects; 0 where there are none
    f1: NDArray[np.float64]  # (S,) harmonic mean of the two
    objects: int

    @classmethod
    def of(cls, row: Judged) -> "Curve":
        """The curve of the boxes of `row`. Boxes of equal score come together or not at all."""
        objects = int(row.objects.sum())
        last = np.flatnonzero(
            np.append(row.scores[1:] != row.scores[:-1], np.ones(len(row.scores[:1]), bool))
        )
        hits = row.hits.cumsum()[last]
        return cls(
            row.scores[last].astype(np.float64),
            hits / (last + 1),
            hits / max(objects, 1),
            2 * hits / (last + 1 + objects),
            objects,
        )

    @property
    def best(self) -> OperatingPoint | None:
        """The highest F1, the surest where several are equal; None where nothing is right."""
        if not self.f1.any():
            return None
        place = int(self.f1.argmax())
        columns = (self.scores, self.precision, self.recall, self.f1)
        return OperatingPoint(*(float(column[place]) for column in columns))

    def sampled(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """At each of RECALLS the best precision at that recall or above, and the score there; 0 beyond."""
        best = np.maximum.accumulate(self.precision[::-1])[::-1]
        # Both sides are whole numbers divided once, so equal fractions are equal floats.
        places = np.searchsorted(self.recall, RECALLS)
        return np.append(best, 0.0)[places], np.append(self.scores, 0.0)[places]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON: precision and score at the recalls 0, 0.01, ..., 1, to four digits."""
        precision, scores = self.sampled()
        return {
            "objects": self.objects,
            "precision": precision.round(4).tolist(),
            "score": scores.round(4).tolist(),
        }


class DetectionCurves(NamedTuple):
    """The curves of each class, and of all boxes together."""

    classes: tuple[Curve, ...]
    overall: Curve


def detection_curves(pictures: Sequence[Comparison], classes: int) -> DetectionCurves:
    """The curves of `pictures`; difficult objects and crowds are neither hits nor misses."""
    found = judged(pictures, classes, best_free)
    own = tuple(Curve.of(found.of_class(label)) for label in range(classes))
    return DetectionCurves(own, Curve.of(found))
