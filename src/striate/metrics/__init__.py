"""Measures of a task, one per file; numpy only.

The order of the pictures and the way they were shared out between processes cannot change the last digit of
a score: a metric counts in integers, or it keeps what it was given and puts that in order at the end.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from striate.errors import DataError, UsageError
from striate.structures import Classification

__all__ = ["Metric", "State", "add_counts", "check_measured", "columns", "ratio"]

State = dict[str, NDArray[np.int64]]
"""What a metric that counts has counted, by name."""

ResultT = TypeVar("ResultT", contravariant=True)
TruthT = TypeVar("TruthT", contravariant=True)
ScoresT = TypeVar("ScoresT", covariant=True)


class Metric(Protocol[ResultT, TruthT, ScoresT]):
    """The contract of every metric: any number of updates and merges in any order, then `compute`."""

    def update(self, results: Sequence[ResultT], truths: Sequence[TruthT]) -> None:
        """Count `results` against the truths. Raises DataError where they do not fit."""
        ...

    def state(self) -> Mapping[str, NDArray[Any]]:
        """A copy of what was counted or kept so far: plain arrays that another process can be sent."""
        ...

    def merge(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Count what another metric of the same kind counted, as if it had been seen here."""
        ...

    def compute(self) -> ScoresT:
        """The scores of everything counted. Raises DataError where nothing was and that has no score."""
        ...


def columns(
    results: Sequence[Classification], truths: Sequence[int], classes: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Probabilities (N, K) and true ids (N,) of `results`. Raises DataError naming a picture that misfits."""
    if len(results) != len(truths):
        raise DataError(
            "metric", f"{len(results)} results and {len(truths)} truths", "give one true class id per result"
        )
    for result, truth in zip(results, truths, strict=True):
        if len(result) != classes or not 0 <= truth < classes:
            raise DataError(
                result.key,
                f"true class id {truth} and {len(result)} probabilities do not fit {classes} classes",
                "map the data's classes to the model's first",
            )
    if not results:
        return np.empty((0, classes), np.float32), np.empty(0, np.int64)
    return np.stack([result.probabilities for result in results]), np.array(truths, np.int64)


def add_counts(counts: State, other: Mapping[str, NDArray[np.int64]]) -> State:
    """The sum of two states, array by array. Raises UsageError where they come from unlike metrics."""
    shapes = {name: array.shape for name, array in counts.items()}
    other_shapes = {name: array.shape for name, array in other.items()}
    if shapes != other_shapes:
        raise UsageError(
            "metric", f"a state of {other_shapes} cannot be added to {shapes}", "merge metrics made alike"
        )
    return {name: array + other[name] for name, array in counts.items()}


def check_measured(pictures: int) -> None:
    """Raise DataError where `pictures` is 0: a score of nothing would be a made-up number."""
    if not pictures:
        raise DataError("metric", "no picture was measured", "give pictures that have a label")


def ratio(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    """`part / whole`, 0 where whole is 0."""
    return np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)
