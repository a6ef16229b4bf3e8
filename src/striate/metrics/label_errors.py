"""Which given labels are likely wrong, by what a model that never saw them says of their pictures."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from striate.errors import DataError

__all__ = ["LabelSuspects", "label_suspects"]


@dataclass(frozen=True, slots=True)
class LabelSuspects:
    """The pictures whose label is doubted, the most doubtful first."""

    rows: NDArray[np.int64]  # (S,) of the probabilities
    likelier: NDArray[np.int64]  # (S,) the class that each is counted as
    margins: NDArray[np.float64]  # (S,) probability of the given class less that of the likeliest other one


def label_suspects(probabilities: NDArray[np.float32], labels: NDArray[np.int64]) -> LabelSuspects:
    """The doubted of N pictures, by `probabilities` (N, K) of a model not trained on them and `labels` (N,).

    Confident learning (Northcutt et al. 2021, arXiv:1911.00068, section 3): a picture counts as a class where
    its probability reaches the mean probability of that class among the pictures labelled so; of several such
    classes it is the likeliest. One that counts as another class than its own is doubted, in the order of the
    margin. Raises DataError where the shapes disagree.
    """
    count, classes = probabilities.shape
    if labels.shape != (count,) or (count and not 0 <= labels.min() <= labels.max() < classes):
        raise DataError(
            "labels",
            f"labels {labels.shape} do not fit probabilities {probabilities.shape}",
            "give one class id per row",
        )
    wide = probabilities.astype(np.float64)
    reached = wide >= _thresholds(wide, labels)
    likelier = np.where(reached, wide, -1).argmax(axis=1) if count else np.zeros(0, np.int64)
    doubted = np.flatnonzero(reached.any(axis=1) & (likelier != labels))
    own = wide[doubted, labels[doubted]]
    others = wide[doubted]
    others[np.arange(len(doubted)), labels[doubted]] = -1
    margins = own - others.max(axis=1, initial=-1)
    order = np.argsort(margins, kind="stable")
    return LabelSuspects(doubted[order], likelier[doubted[order]].astype(np.int64), margins[order])


def _thresholds(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """The mean probability of each class among the pictures labelled so, (K,); 2 where there is none."""
    classes = probabilities.shape[1]
    counts = np.bincount(labels, minlength=classes)
    sums = np.bincount(labels, probabilities[np.arange(len(labels)), labels], minlength=classes)
    means: NDArray[np.float64] = np.divide(sums, counts, out=np.full(classes, 2.0), where=counts > 0)
    return means
