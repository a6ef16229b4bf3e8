"""Boxes found and true, made in a line each."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import pytest

from striate.structures import Detections, Objects

Box = tuple[float, float, float, float]


class MakeFound(Protocol):
    def __call__(
        self, rows: Sequence[tuple[Box, float, int]], key: str = "a.jpg", classes: int = 2
    ) -> Detections: ...


class MakeTruths(Protocol):
    def __call__(
        self, rows: Sequence[tuple[Box, int]], crowd: Sequence[int] = (), difficult: Sequence[int] = ()
    ) -> Objects: ...


@pytest.fixture
def found() -> MakeFound:
    """Detections of rows (box, score, label), in that order."""

    def make(rows: Sequence[tuple[Box, float, int]], key: str = "a.jpg", classes: int = 2) -> Detections:
        return Detections(
            key,
            np.array([box for box, _, _ in rows], np.float32).reshape(-1, 4),
            np.array([score for _, score, _ in rows], np.float32),
            np.array([label for _, _, label in rows], np.int64),
            tuple("abcdefghij"[:classes]),
            (100, 100),
            np.arange(len(rows)),
        )

    return make


@pytest.fixture
def truths() -> MakeTruths:
    """Objects of rows (box, label); numbers of those that are crowds, and of those that are difficult."""

    def make(
        rows: Sequence[tuple[Box, int]], crowd: Sequence[int] = (), difficult: Sequence[int] = ()
    ) -> Objects:
        numbers = np.arange(len(rows))
        return Objects(
            np.array([box for box, _ in rows], np.float32).reshape(-1, 4),
            np.array([label for _, label in rows], np.int64),
            np.isin(numbers, crowd),
            np.isin(numbers, difficult),
        )

    return make
