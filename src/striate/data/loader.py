"""Batches: in a shuffled order with augmentation for training, in order and whole for evaluation.

Workers are threads: decoding, resizing and copying release Python's lock. What a batch holds depends on
(seed, epoch, sample index) alone, never on how many workers there are or which is first.
"""

from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from striate.data.augment import Augmentation
from striate.data.cache import Pictures
from striate.data.draws import Draws
from striate.data.mixing import mixture, partners
from striate.errors import DataError
from striate.structures import Batch, ClassTargets, Geometry

__all__ = ["EvalLoader", "MakeTargets", "Shard", "TrainLoader"]

Arrays = NDArray[Any]
ItemT = TypeVar("ItemT")
MadeT = TypeVar("MadeT")

MakeTargets = Callable[[NDArray[np.int64]], ClassTargets[NDArray[np.float32]]]
"""From class ids (B,) to targets: `partial(task.targets, options=TargetOptions(...))`."""


@dataclass(frozen=True, slots=True)
class Shard:
    """Which process of how many takes its share of every batch."""

    rank: int = 0
    count: int = 1


@dataclass(frozen=True, slots=True)
class TrainLoader:
    """Batches of the items `indices`, every one once an epoch, shuffled and augmented anew each epoch.

    No sample is left out: where the last batch would hold one picture alone, of which batch normalisation
    cannot take statistics, it joins the batch before. A batch's `geometry` and `keys` are those of its
    own pictures, before mirroring, shifting and mixing.

    With a `shard`, a batch is this process's share of what one process would have had: every `count`-th
    picture. Where that would leave one of them with fewer than two, each has the whole batch.
    """

    pictures: Pictures  # at the input's size; made by `Pictures.for_cutting` where `augmentation` cuts
    indices: NDArray[np.int64]
    targets: MakeTargets
    augmentation: Augmentation
    batch_size: int
    seed: int
    workers: int  # threads that work ahead; 0: none
    shard: Shard = Shard()
    labels: NDArray[np.int64] = field(init=False)  # class ids of the whole dataset
    blocks: NDArray[np.int64] | None = field(init=False)  # which pictures of it are best read together

    def __post_init__(self) -> None:
        if not len(self.indices):
            raise DataError(self.pictures.dataset.name, "no picture is left to train on", "give a train part")
        object.__setattr__(self, "labels", _labels(self.pictures, self.indices))
        object.__setattr__(self, "blocks", self.pictures.dataset.blocks())

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
        return _in_order(lambda part: self._batch(drawn, part), parts, self.workers)

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

    def _batch(self, drawn: Draws, indices: NDArray[np.int64]) -> Batch[Tensor]:
        images, geometry = self._varied(drawn, indices)
        targets = self.targets(self.labels[indices])
        config = self.augmentation.config
        if config.mixup or config.cutmix:
            others = partners(drawn, indices, self.indices, self.blocks)
            mixed = mixture(drawn, indices, images.shape[1:3], (config.mixup, config.cutmix))
            images = mixed.images(images, self._varied(drawn, others)[0])
            targets = mixed.targets(targets, self.targets(self.labels[others]))
        return _tensors(self.pictures, indices, images, geometry, targets)

    def _varied(
        self, drawn: Draws, indices: NDArray[np.int64]
    ) -> tuple[NDArray[np.uint8], tuple[Geometry, ...]]:
        if self.augmentation.config.scale is None:
            images, geometry = self.pictures.batch(indices)
        else:
            images, geometry = self.augmentation.cuts(drawn, indices, self.pictures.one)
        return self.augmentation.vary(drawn, indices, images), geometry


@dataclass(frozen=True, slots=True)
class EvalLoader:
    """Batches of the items `indices` in that order, each exactly once, the last one as short as it comes.

    With a `shard` every `count`-th batch, the same as one process would have.
    """

    pictures: Pictures  # at the input's size, made by `Pictures.for_input`
    indices: NDArray[np.int64]
    targets: MakeTargets
    batch_size: int
    workers: int  # threads that work ahead; 0: none
    shard: Shard = Shard()
    truths: NDArray[np.int64] = field(init=False)  # class ids in the order of the batches

    def __post_init__(self) -> None:
        object.__setattr__(self, "truths", _labels(self.pictures, self.indices)[self.indices])

    def __len__(self) -> int:
        """How many batches there are, those of all processes together."""
        return len(self._all_starts())

    def __iter__(self) -> Generator[Batch[Tensor], None, None]:
        return _in_order(self._batch, self.starts, self.workers)

    @property
    def starts(self) -> range:
        """Where each batch begins in `truths`."""
        return self._all_starts()[self.shard.rank :: self.shard.count]

    def _all_starts(self) -> range:
        return range(0, len(self.indices), self.batch_size)

    def _batch(self, start: int) -> Batch[Tensor]:
        part = slice(start, start + self.batch_size)
        images, geometry = self.pictures.batch(self.indices[part])
        return _tensors(self.pictures, self.indices[part], images, geometry, self.targets(self.truths[part]))


def _labels(pictures: Pictures, indices: NDArray[np.int64]) -> NDArray[np.int64]:
    labels = pictures.dataset.labels()
    unlabelled = indices[labels[indices] < 0]
    if len(unlabelled):
        key = pictures.dataset.items[int(unlabelled[0])].key
        raise DataError(key, "it has no label", "label it, or leave it out of this part")
    return labels


def _tensors(
    pictures: Pictures,
    indices: NDArray[np.int64],
    images: NDArray[np.uint8],
    geometry: tuple[Geometry, ...],
    targets: ClassTargets[NDArray[np.float32]],
) -> Batch[Tensor]:
    keys = tuple(pictures.dataset.items[index].key for index in indices.tolist())
    # (B, H, W, C) in memory seen as (B, C, H, W) is what torch calls channels_last: no copy.
    arrays: Batch[Arrays] = Batch(images.transpose(0, 3, 1, 2), targets, keys, geometry)
    return arrays.map(torch.from_numpy)


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
