"""How often the true class is the likeliest, or among the k likeliest."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from striate.metrics import State, add_counts, check_measured, columns
from striate.structures import Classification

__all__ = ["Accuracy"]


class Accuracy:
    """Top-k accuracy over K classes, for each k asked for; a k above K counts as K, which is always hit.

    Equal probabilities rank by class id, the lowest first, as `Classification.top` lists them: a network
    that says the same for every class is right only where the truth is class 0 (top-1).
    """

    def __init__(self, classes: int, ks: tuple[int, ...] = (1, 5)) -> None:
        self.classes = classes
        self.ks = ks
        self._counts: State = {"hits": np.zeros(len(ks), np.int64), "pictures": np.zeros(1, np.int64)}

    def update(self, results: Sequence[Classification], truths: Sequence[int]) -> None:
        probabilities, ids = columns(results, truths, self.classes)
        rank = _ranks(probabilities, ids)
        hits = np.array([(rank < k).sum() for k in self.ks], np.int64)
        self.merge({"hits": hits, "pictures": np.array([len(ids)], np.int64)})

    def state(self) -> State:
        return {name: array.copy() for name, array in self._counts.items()}

    def merge(self, state: Mapping[str, NDArray[np.int64]]) -> None:
        self._counts = add_counts(self._counts, state)

    def compute(self) -> dict[int, float]:
        """Accuracy 0..1 by k."""
        pictures = int(self._counts["pictures"][0])
        check_measured(pictures)
        return {k: int(hits) / pictures for k, hits in zip(self.ks, self._counts["hits"], strict=True)}


def _ranks(probabilities: NDArray[np.float32], ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many classes are listed before the true one, (N,)."""
    truth = np.take_along_axis(probabilities, ids[:, None], axis=1)
    earlier = np.arange(probabilities.shape[1]) < ids[:, None]
    before = (probabilities > truth) | ((probabilities == truth) & earlier)
    return np.asarray(before.sum(axis=1), np.int64)
