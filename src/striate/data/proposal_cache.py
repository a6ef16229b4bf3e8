"""Region proposals kept in memory and on disk, so that no picture is searched for them every epoch."""

from threading import Lock

import numpy as np
from numpy.typing import NDArray

from striate.data.cache import Budget
from striate.data.dataset import Dataset
from striate.data.disk_space import DiskSpace
from striate.data.proposals import Proposals

__all__ = ["KeptProposals"]


class KeptProposals:
    """The `count` proposals of each picture of a dataset, by the index of its item; kept while they fit.

    What does not fit `budget` comes from the disk `space`, by the picture's pixels, which are decoded for
    that; where that is None or full they are searched for again. Filled from any number of threads, as they
    are asked for.
    """

    def __init__(self, dataset: Dataset, count: int, budget: Budget, space: DiskSpace | None) -> None:
        self.dataset = dataset
        self.count = count
        self.budget = budget
        self._find = Proposals(space)
        self._kept: dict[int, NDArray[np.float32]] = {}
        self._lock = Lock()

    def __len__(self) -> int:
        """Of how many pictures they are kept so far."""
        return len(self._kept)

    def one(self, index: int) -> NDArray[np.float32]:
        """Those of item `index`, in the order of `proposals`, (count, 4) in the picture's own pixels.

        Unused rows are zeros. Not to be written to; without a count no picture is read. Raises DataError
        naming the file.
        """
        found = self._kept.get(index)
        return self._search(index) if found is None else found

    def _search(self, index: int) -> NDArray[np.float32]:
        if not self.count:
            return np.zeros((0, 4), np.float32)
        found = self._find(self.dataset.image(index), self.count)
        with self._lock:
            if index not in self._kept and self.budget.take(found.nbytes):
                self._kept[index] = found
        return found
