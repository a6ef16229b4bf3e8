from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from striate.data.dataset import Dataset, Item


class Drawn:
    """Pictures of 40 x 60 pixels, each of one gray."""

    def content(self, key: str) -> np.ndarray:
        return np.full((40, 60, 3), int(key), np.uint8)


@pytest.fixture
def dataset() -> Callable[..., Dataset]:
    """`dataset(task, count)`: that many pictures of the test part, classes a, b and c."""

    def make(task: Any, count: int, part: Any = "test") -> Dataset:
        items = tuple(Item(str(number), part) for number in range(count))
        return Dataset("drawn", "drawn", task, ("a", "b", "c"), items, Drawn())

    return make


@pytest.fixture
def export() -> Any:
    """A predictor of which nothing is known but its answers."""
    return SimpleNamespace(engine=SimpleNamespace())
