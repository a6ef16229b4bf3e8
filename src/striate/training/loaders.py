"""The batches that a training run takes from a dataset, as its settings say."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from striate import plugins, tasks
from striate.config import Settings
from striate.data import batches
from striate.data.batches import Caches
from striate.data.cache import CacheConfig
from striate.data.dataset import Dataset
from striate.data.loader import EvalLoader, Shard, TrainLoader
from striate.structures import Preprocess
from striate.training.config import TrainingConfig
from striate.training.processes import team

__all__ = ["Loaders", "make_loaders", "worker_count"]

_MOST_WORKERS = 8


@dataclass(frozen=True, slots=True)
class Loaders:
    """What `fit` trains on and measures with; `val` may be empty."""

    train: TrainLoader
    val: EvalLoader
    plain: Callable[[], EvalLoader]  # the train part as it is, whole in every process, to solve for weights

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know of the cache on disk, so far."""
        disks = dict.fromkeys((self.train.pictures.disk, self.val.pictures.disk))
        # Two caches on one disk have the same to say when it is full.
        return tuple(dict.fromkeys(note for disk in disks if disk is not None for note in disk.notes))


_CACHE = CacheConfig()


def make_loaders(
    dataset: Dataset,
    preprocess: Preprocess,
    config: TrainingConfig,
    augment: Settings,
    cache: CacheConfig = _CACHE,
) -> Loaders:
    """Loaders of the train and the val part of `dataset`; with several processes, of this one's share.

    `augment` is an `AugmentConfig` of the dataset's task (`data.batches`). Raises UsageError where it does
    not fit `preprocess`, DataError without a picture to train on or with one that has no label.
    """
    kind, task = plugins.load(batches, dataset.task), plugins.load(tasks, dataset.task)
    caches = Caches(cache.budget(), cache.disk_space())
    train, val = dataset.indices("train"), dataset.indices("val")
    workers, classes, shard = worker_count(config), len(dataset.classes), _own_shard()
    weights = None
    if config.balance != "none":
        own, among = kind.frequencies(dataset, train)
        weights = task.balanced_weights(own, config.balance, among)
    options = task.TargetOptions(classes, config.label_smoothing, weights)
    as_it_is = partial(task.targets, options=task.TargetOptions(classes))

    def measuring(indices: NDArray[np.int64], shard: Shard) -> EvalLoader:
        source = kind.for_measuring(dataset, indices, preprocess, caches)
        return EvalLoader(source, indices, as_it_is, config.batch_size, workers, shard)

    return Loaders(
        train=TrainLoader(
            kind.for_training(dataset, train, preprocess, augment, caches),
            train,
            partial(task.targets, options=options),
            config.batch_size,
            config.seed,
            workers,
            shard,
        ),
        val=measuring(val, shard),
        plain=lambda: measuring(train, Shard()),
    )


def _own_shard() -> Shard:
    members = team()
    return Shard(members.rank, members.count)


def worker_count(config: TrainingConfig) -> int:
    """Threads that prepare pictures: as many as asked for, else one a usable core, up to 8.

    The processes that torchrun starts on one machine share its cores.
    """
    if config.workers is not None:
        return config.workers
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    neighbours = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return max(1, min(usable // neighbours, _MOST_WORKERS))
