"""The confusion matrix of a report: the counts of a measure, and pictures for its cells."""

from collections.abc import Mapping, Sequence
from typing import Any

from striate.reports.evidence import Confusion, Picture

__all__ = ["confusion_of"]


def confusion_of(
    scores: Any, pictures: Sequence[Picture], cells: Mapping[tuple[int, int], Sequence[int]]
) -> Confusion:
    """The matrix of `scores`; `cells` says which of `pictures` are in (truth, said)."""
    return Confusion(
        scores.class_names,
        tuple(tuple(row) for row in scores.confusion.tolist()),
        scores.unit,
        tuple(pictures),
        tuple((truth, said, tuple(places)) for (truth, said), places in cells.items()),
    )
