"""Batches: in a shuffled order with augmentation for training, in order and whole for evaluation.

Workers are threads: decoding, resizing and copying release Python's lock. What a batch holds depends on
(seed, epoch, sample index) alone, never on how many workers there are or which is first.
"""

from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from striate.data.batches import EvalBatches, MakeTargets, TrainBatches
from striate.data.cache import Pictures
from striate.data.draws import Draws
from striate.errors import DataError
from striate.structures import Batch

__all__ = ["EvalLoader", "Measured", "Shard", "TrainLoader"]

ItemT = TypeVar("ItemT")
MadeT = TypeVar("MadeT")


@dataclass(frozen=True, slots=True)
class Shard:
    """Which process of how many takes its share of every batch."""

    rank: int = 0
    count: int = 1


@dataclass(frozen=True, slots=True)
class TrainLoader:
    """Batches of the items `indices`, every one once an epoch, shuffled and augmented anew each epoch.

    No sample is left out: where the last batch would hold one picture alone, of which batch normalisation
    cannot take statistics, it joins the batch before.

    With a `shard`, a batch is this process's share of what one process would have had: every `count`-th
    picture. Where that would leave one of them with fewer than two, each has the whole batch.
    """

    source: TrainBatches
    indices: NDArray[np.int64]
    targets: MakeTargets
    batch_size: int
    seed: int
    workers: int  # threads that work ahead; 0: none
    shard: Shard = Shard()
    blocks: NDArray[np.int64] | None = field(init=False)  # which pictures of it are best read together

    def __post_init__(self) -> None:
        if not len(self.indices):
            raise DataError(self.pictures.dataset.name, "no picture is left to train on", "give a train part")
        object.__setattr__(self, "blocks", self.pictures.dataset.blocks())

    @property
    def pictures(self) -> Pictures:
        """What its batches are cut from."""
        return self.source.pictures

    def __len__(self) -> int:
        """Batches in an epoch."""
        return len(self._parts(self.indices))

    def epoch(self, epoch: int, skip: int = 0) -> Generator[Batch[Tensor], None, None]:
        """The batches of epoch `epoch`, counted from 0: images (B, C, H, W) uint8, channels last.

        The first `skip` are left out, and none of their pictures is decoded for them; the others are what
        they would have been. Raises DataError naming the file that cannot be decoded. Closing it early
        ends its threads.
        """
        drawn = Draws(self.seed, epoch)
        parts = [self._share(part) for part in self._parts(drawn.order(self.indices, self.blocks))[skip:]]

        def make(part: NDArray[np.int64]) -> Batch[Tensor]:
            return _tensors(self.source.make(drawn, part, self.targets))

        return _in_order(make, parts, self.workers)

    def counts(self, number: int) -> bool:
        """Whether the pictures of batch `number`, from 0, are to be counted here: not where all have them."""
        return self.shard.rank == 0 or self._is_shared_out(self._parts(self.indices)[number])

    def _share(self, part: NDArray[np.int64]) -> NDArray[np.int64]:
        return part[self.shard.rank :: self.shard.count] if self._is_shared_out(part) else part

    def _is_shared_out(self, part: NDArray[np.int64]) -> bool:
        return len(part) >= 2 * self.shard.count

    def _parts(self, order: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        starts = range(0, len(order), self.batch_size)
        if self.batch_size > 1 and len(order) % self.batch_size == 1 and len(starts) > 1:
            starts = starts[:-1]
        return np.split(order, starts[1:])


class Measured(NamedTuple):
    """A batch to measure on."""

    start: int  # where it begins in the loader's indices
    batch: Batch[Tensor]
    truths: Sequence[Any]  # what the metric holds its results against


@dataclass(frozen=True, slots=True)
class EvalLoader:
    """Batches of the items `indices` in that order, each exactly once, the last one as short as it comes.

    With a `shard` every `count`-th batch, the same as one process would have.
    """

    source: EvalBatches
    indices: NDArray[np.int64]
    targets: MakeTargets
    batch_size: int
    workers: int  # threads that work ahead; 0: none
    shard: Shard = Shard()

    @property
    def pictures(self) -> Pictures:
        """Its pictures at the input's size."""
        return self.source.pictures

    def __len__(self) -> int:
        """How many batches there are, those of all processes together."""
        return len(self._starts)

    def __iter__(self) -> Generator[Measured, None, None]:
        return _in_order(self._measured, self._starts[self.shard.rank :: self.shard.count], self.workers)

    @property
    def _starts(self) -> range:
        return range(0, len(self.indices), self.batch_size)

    def _measured(self, start: int) -> Measured:
        part = self.indices[start : start + self.batch_size]
        return Measured(start, _tensors(self.source.make(part, self.targets)), self.source.truths(part))


def _tensors(batch: Batch[Any]) -> Batch[Tensor]:
    return batch.map(torch.from_numpy)


def _in_order(
    make: Callable[[ItemT], MadeT], items: Sequence[ItemT], workers: int
) -> Generator[MadeT, None, None]:
    """`map(make, items)` with `workers` threads, at most two results each ahead."""
    if not workers:
        yield from map(make, items)
        return
    source = iter(items)
    pool = ThreadPoolExecutor(workers, thread_name_prefix="striate-loader")
    try:
        ahead: deque[Future[MadeT]] = deque(pool.submit(make, item) for item in islice(source, 2 * workers))
        while ahead:
            made = ahead.popleft().result()
            ahead.extend(pool.submit(make, item) for item in islice(source, 1))
            yield made
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
