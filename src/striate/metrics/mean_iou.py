"""Which class each pixel is taken for, and the overlaps and shares that follow."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from striate.errors import DataError
from striate.metrics import State, add_counts, ratio
from striate.structures import IGNORE, Segmentation

__all__ = ["MeanIou", "OverlapScores"]

_CHUNK = 1 << 20  # pixels counted at a time: numpy makes 8 bytes of each


@dataclass(frozen=True, slots=True)
class OverlapScores:
    """The matrix and what follows from it, per class and averaged; fractions 0..1."""

    matrix: NDArray[np.int64]  # (K, K) pixels: row = truth, column = prediction
    unseen: NDArray[np.int64]  # (K,) pixels of each class that the network was not shown
    pixels: NDArray[np.int64]  # (K,) that are of the class
    iou: NDArray[np.float64]  # (K,) right among those that are so or were said to be; 0 where there is none
    accuracy: NDArray[np.float64]  # (K,) found among those that are so; 0 where none is
    precision: NDArray[np.float64]  # (K,) right among those said to be so; 0 where none was
    dice: NDArray[np.float64]  # (K,) harmonic mean of accuracy and precision; 0 where both are 0
    mean_iou: float
    pixel_accuracy: float
    class_accuracy: float
    mean_dice: float
    frequency_iou: float


class MeanIou:
    """The matrix of true against predicted class over the pixels of all pictures together.

    Pixels whose truth is IGNORE do not count; a prediction of IGNORE is wrong for whatever class the pixel
    has. `pixel_accuracy`, `class_accuracy`, `mean_iou` and `frequency_iou` (IoU weighted by pixels) are those
    of Long et al. 2015 (arXiv:1411.4038), section 5. The means of IoU and Dice are over the classes that some
    pixel is of or was taken for, that of accuracy over the classes that some pixel is of: scikit-learn's
    `jaccard_score`, `f1_score` (macro) and `balanced_accuracy_score`.
    """

    def __init__(self, classes: int) -> None:
        self.classes = classes
        self._counts: State = {"matrix": np.zeros((classes, classes + 1), np.int64)}

    def update(self, results: Sequence[Segmentation], truths: Sequence[NDArray[np.uint8]]) -> None:
        """Count the pixels of `results` against masks (H, W) of true class ids, IGNORE where none is known.

        Raises DataError naming a picture whose truth has another size or an unknown class.
        """
        if len(results) != len(truths):
            raise DataError(
                "metric", f"{len(results)} results and {len(truths)} truths", "give one true mask per result"
            )
        for result, truth in zip(results, truths, strict=True):
            self._check(result, truth)
            predicted, true = result.mask.reshape(-1), truth.reshape(-1)
            for start in range(0, len(true), _CHUNK):
                self._count(predicted[start : start + _CHUNK], true[start : start + _CHUNK])

    def _check(self, result: Segmentation, truth: NDArray[np.uint8]) -> None:
        if len(result) != self.classes or result.mask.shape != truth.shape:
            raise DataError(
                result.key,
                f"its mask of {len(result)} classes is {result.mask.shape}, the true of {self.classes} is "
                f"{truth.shape}",
                "compare masks of the same picture at its own size, with the model's classes",
            )
        outside = truth[(truth >= self.classes) & (truth != IGNORE)]
        if outside.size:
            raise DataError(
                result.key,
                f"its true mask has class id {outside[0]}, and there are {self.classes} classes",
                "map the data's classes to the model's first",
            )

    def _count(self, predicted: NDArray[np.uint8], true: NDArray[np.uint8]) -> None:
        known = true != IGNORE
        # At most 254 * 256 + 255; the last column is for what was not seen.
        cells = true[known].astype(np.uint16) * np.uint16(self.classes + 1)
        cells += np.minimum(predicted[known], self.classes)
        counts = np.bincount(cells, minlength=self.classes * (self.classes + 1))
        self._counts["matrix"] += counts.reshape(self.classes, self.classes + 1)

    def state(self) -> State:
        return {"matrix": self._counts["matrix"].copy()}

    def merge(self, state: Mapping[str, NDArray[np.int64]]) -> None:
        self._counts = add_counts(self._counts, state)

    def compute(self) -> OverlapScores:
        """The scores. Raises DataError where no pixel of a known class was counted."""
        counts = self._counts["matrix"].copy()
        matrix, unseen = counts[:, :-1], counts[:, -1]
        right, pixels, predicted = matrix.diagonal(), counts.sum(axis=1), matrix.sum(axis=0)
        total = int(pixels.sum())
        if not total:
            raise DataError("metric", "no pixel of a known class was measured", "give pictures with masks")
        either = pixels + predicted
        iou, accuracy = ratio(right, either - right), ratio(right, pixels)
        dice = ratio(2 * right, either)
        return OverlapScores(
            matrix,
            unseen,
            pixels,
            iou,
            accuracy,
            ratio(right, predicted),
            dice,
            mean_iou=float(iou[either > 0].mean()),
            pixel_accuracy=int(right.sum()) / total,
            class_accuracy=float(accuracy[pixels > 0].mean()),
            mean_dice=float(dice[either > 0].mean()),
            frequency_iou=float((pixels / total * iou).sum()),
        )
