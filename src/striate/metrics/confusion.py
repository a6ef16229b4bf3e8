"""Which class is taken for which, and the precision, recall and F1 that follow."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from striate.metrics import State, add_counts, columns, ratio
from striate.structures import Classification

__all__ = ["Confusion", "ConfusionScores", "named_pairs", "worst_pairs"]


@dataclass(frozen=True, slots=True)
class ConfusionScores:
    """The matrix and what follows from it, per class and averaged; fractions 0..1."""

    matrix: NDArray[np.int64]  # (K, K): row = truth, column = prediction
    precision: NDArray[np.float64]  # (K,) right among those predicted so; 0 where none was
    recall: NDArray[np.float64]  # (K,) found among those that are so; 0 where none is
    f1: NDArray[np.float64]  # (K,) harmonic mean of the two; 0 where both are 0
    support: NDArray[np.int64]  # (K,) pictures that are so
    macro_precision: float  # means over the classes that some picture is of or was taken for
    macro_recall: float
    macro_f1: float


class Confusion:
    """The (K, K) matrix of true against predicted class; prediction = the likeliest, ties to the lowest id.

    Scores are those of scikit-learn's `precision_recall_fscore_support(zero_division=0)`: the macro
    averages leave out a class that is neither in the truths nor in the predictions.
    """

    def __init__(self, classes: int) -> None:
        self.classes = classes
        self._counts: State = {"matrix": np.zeros((classes, classes), np.int64)}

    def update(self, results: Sequence[Classification], truths: Sequence[int]) -> None:
        probabilities, ids = columns(results, truths, self.classes)
        # In place: a matrix of a thousand classes is too large to be made anew for every batch.
        np.add.at(self._counts["matrix"], (ids, probabilities.argmax(axis=1)), 1)

    def state(self) -> State:
        return {"matrix": self._counts["matrix"].copy()}

    def merge(self, state: Mapping[str, NDArray[np.int64]]) -> None:
        self._counts = add_counts(self._counts, state)

    def compute(self) -> ConfusionScores:
        """The scores; with nothing counted, all are 0."""
        matrix = self._counts["matrix"].copy()
        right, support, predicted = matrix.diagonal(), matrix.sum(axis=1), matrix.sum(axis=0)
        precision, recall = ratio(right, predicted), ratio(right, support)
        f1 = ratio(2 * right, support + predicted)
        seen = support + predicted > 0
        macros = [float(values[seen].mean()) if seen.any() else 0.0 for values in (precision, recall, f1)]
        return ConfusionScores(matrix, precision, recall, f1, support, *macros)


def worst_pairs(matrix: NDArray[np.int64], count: int = 5) -> tuple[tuple[int, int, int], ...]:
    """The most frequent mistakes as (true id, predicted id, pictures), most first; none with 0 pictures.

    Equal counts are listed by true id, then by predicted id.
    """
    mistakes = matrix.copy()
    np.fill_diagonal(mistakes, 0)
    order = np.argsort(-mistakes, axis=None, kind="stable")[:count]
    cells = (divmod(int(cell), len(matrix)) for cell in order)
    pairs = ((truth, predicted, int(mistakes[truth, predicted])) for truth, predicted in cells)
    return tuple(pair for pair in pairs if pair[2])


def named_pairs(
    matrix: NDArray[np.int64], names: tuple[str, ...], count: int
) -> tuple[tuple[str, str, int], ...]:
    """`worst_pairs` with the classes by name: (true class, predicted class, how often), most first."""
    pairs = worst_pairs(matrix, count)
    return tuple((names[truth], names[predicted], often) for truth, predicted, often in pairs)
