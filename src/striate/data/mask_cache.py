"""Masks kept in memory, so that none is decoded every epoch."""

from threading import Lock

import numpy as np
from numpy.typing import NDArray

from striate.data.cache import Budget
from striate.data.dataset import Dataset
from striate.errors import DataError

__all__ = ["KeptMasks"]


class KeptMasks:
    """The masks of a dataset at their own size, by the index of their item; kept while they fit `budget`.

    What does not fit is read again each time. Filled as masks are asked for, from any number of threads.
    """

    def __init__(self, dataset: Dataset, budget: Budget) -> None:
        self.dataset = dataset
        self.budget = budget
        self._kept: dict[int, NDArray[np.uint8]] = {}
        self._lock = Lock()

    def __len__(self) -> int:
        """How many masks are kept so far."""
        return len(self._kept)

    def one(self, index: int, size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
        """The mask of item `index`, (H, W) uint8, not to be written to.

        Raises DataError naming the file that no mask can be made of, or whose mask is not of `size`, its
        picture's height and width.
        """
        mask = self._kept.get(index)
        if mask is None:
            mask = self._read(index)
        if size is not None and mask.shape != size:
            raise DataError(
                self.dataset.items[index].mask or "mask",
                f"it is {mask.shape[1]}x{mask.shape[0]}, and its picture {self.dataset.items[index].key} is "
                f"{size[1]}x{size[0]}",
                "make them equal in size",
            )
        return mask

    def _read(self, index: int) -> NDArray[np.uint8]:
        mask = self.dataset.mask(index)
        if mask is None:
            key = self.dataset.items[index].key
            raise DataError(key, "it has no mask", "add its mask, or leave it out of this part")
        with self._lock:
            if index not in self._kept and self.budget.take(mask.nbytes):
                self._kept[index] = mask
        return mask
