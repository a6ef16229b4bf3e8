"""What differs between the tasks: targets, results, metric and drawing, one file per task.

numpy and Pillow only: the same code turns the dense outputs of every engine into results.
"""

from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["Scores"]


class Scores(Protocol):
    """What an evaluation found, whatever the task."""

    columns: ClassVar[tuple[tuple[str, str], ...]]  # keys of a row of `classes` to show, and headings
    unit: ClassVar[str]  # what `confusion` and `worst_pairs` count: "pictures", "objects", "pixels"
    values: dict[str, float]  # by name, fractions 0..1
    class_names: tuple[str, ...]  # of detection with "background" last
    confusion: NDArray[np.int64]  # (K, K) of the class names: row = truth, column = prediction

    @property
    def headline(self) -> tuple[tuple[str, float], ...]:
        """What sums it up, the most telling first: (what to call it, fraction 0..1)."""
        ...

    @property
    def classes(self) -> Sequence[Any]:
        """A row for each class, with a `name`."""
        ...

    def worst_pairs(self, count: int = 5) -> tuple[tuple[str, str, int], ...]:
        """The most frequent mistakes as (true class, predicted class, how often), most first."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """Plain data for `eval --json`."""
        ...
