"""Masks kept in memory."""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import pytest
from numpy.typing import NDArray

from striate.data.cache import Budget
from striate.data.dataset import Dataset, Item
from striate.data.mask_cache import KeptMasks
from striate.data.storage import ArrayStorage
from striate.errors import DataError


@dataclass
class CountingMasks:
    """Masks of 4x6 pixels filled with the digit in their key; counts how often each is read."""

    read: Counter[str] = field(default_factory=Counter)

    def mask(self, key: str) -> NDArray[np.uint8]:
        self.read[key] += 1
        return np.full((4, 6), int(key[-1]), np.uint8)


def dataset_of(masks: CountingMasks) -> Dataset:
    """Three pictures with a mask, m0 to m2, and one without."""
    storage = ArrayStorage(np.zeros((4, 4, 6, 3), np.uint8), "p")
    items = tuple(
        Item(key, "train", mask=None if index == 3 else f"m{index}")
        for index, key in enumerate(storage.keys())
    )
    return Dataset("test", "drawn", "segmentation", ("a", "b", "c"), items, storage, masks=masks)


def test_a_mask_is_read_once_while_it_fits_and_each_time_beyond_that() -> None:
    source, budget = CountingMasks(), Budget(2 * 24 + 23)
    masks = KeptMasks(dataset_of(source), budget)
    for _ in range(3):
        for index in range(3):
            assert (masks.one(index) == index).all()
    assert source.read == {"m0": 1, "m1": 1, "m2": 3}
    assert (len(masks), budget.used) == (2, 48)


def test_a_mask_of_another_size_than_its_picture_is_refused_by_name_each_time() -> None:
    masks = KeptMasks(dataset_of(CountingMasks()), Budget(1 << 10))
    for _ in range(2):
        with pytest.raises(DataError, match=r"m1: it is 6x4, and its picture p\[1\] is 5x4"):
            masks.one(1, (4, 5))
    assert masks.one(1, (4, 6)).shape == (4, 6)


def test_a_picture_without_a_mask_is_refused_by_name() -> None:
    with pytest.raises(DataError, match=r"p\[3\]: it has no mask"):
        KeptMasks(dataset_of(CountingMasks()), Budget(0)).one(3)
