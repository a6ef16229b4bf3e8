"""Whether a model that says 80 % is right 80 % of the time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from striate.metrics import State, add_counts, check_measured, columns
from striate.structures import Classification

__all__ = ["Calibration", "CalibrationScores", "ReliabilityBin"]

# Sums of confidence are kept as integers in units of 2^-30. A float32 of at least 1/128 is a whole
# number of them, and a sum of 2^33 pictures still fits in 64 bits.
_UNIT = 1 << 30


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """The pictures whose confidence lies in (low, high]: one bar of a reliability diagram."""

    low: float
    high: float
    pictures: int
    accuracy: float  # share of them that is right; 0 where the bin is empty
    confidence: float  # their mean confidence; 0 where the bin is empty

    def to_dict(self) -> dict[str, float]:
        """Plain data for JSON."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class CalibrationScores:
    """The expected calibration error, 0..1, and the bins it was made of."""

    ece: float
    bins: tuple[ReliabilityBin, ...]


class Calibration:
    """Expected calibration error over equal-width bins of confidence ((m - 1) / M, m / M].

    The mean of |accuracy - confidence| over the bins, weighted by their pictures: eq. 3 of Guo et al.
    2017, "On Calibration of Modern Neural Networks" (arXiv:1706.04599), with its M = 15.
    """

    def __init__(self, classes: int, bins: int = 15) -> None:
        self.classes = classes
        self.bins = bins
        self._counts: State = {name: np.zeros(bins, np.int64) for name in ("pictures", "right", "confidence")}

    def update(self, results: Sequence[Classification], truths: Sequence[int]) -> None:
        probabilities, ids = columns(results, truths, self.classes)
        # float32 times a small integer is exact in float64, so an edge falls on its own side.
        confidence = probabilities.max(axis=1, initial=0).astype(np.float64)
        places = np.clip(np.ceil(confidence * self.bins).astype(np.int64) - 1, 0, self.bins - 1)
        added = {name: np.zeros(self.bins, np.int64) for name in self._counts}
        np.add.at(added["pictures"], places, 1)
        np.add.at(added["right"], places, probabilities.argmax(axis=1) == ids)
        np.add.at(added["confidence"], places, np.rint(confidence * _UNIT).astype(np.int64))
        self.merge(added)

    def state(self) -> State:
        return {name: array.copy() for name, array in self._counts.items()}

    def merge(self, state: Mapping[str, NDArray[np.int64]]) -> None:
        self._counts = add_counts(self._counts, state)

    def compute(self) -> CalibrationScores:
        """The error and its bins, lowest confidence first."""
        pictures, right = self._counts["pictures"], self._counts["right"]
        check_measured(int(pictures.sum()))
        confidence = self._counts["confidence"] / _UNIT
        ece = float(np.abs(right - confidence).sum() / pictures.sum())
        divisor = np.maximum(pictures, 1)
        rows = zip(pictures, right / divisor, confidence / divisor, strict=True)
        bins = (
            ReliabilityBin(index / self.bins, (index + 1) / self.bins, int(count), float(share), float(mean))
            for index, (count, share, mean) in enumerate(rows)
        )
        return CalibrationScores(ece, tuple(bins))
