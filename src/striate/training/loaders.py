"""The batches that a training run takes from a dataset, as its settings say."""

import os
from dataclasses import dataclass
from functools import partial
from types import ModuleType

import numpy as np

from striate.data.augment import Augmentation, AugmentConfig
from striate.data.cache import CacheConfig, Pictures
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
    task: ModuleType,
    config: TrainingConfig,
    augment: AugmentConfig,
    cache: CacheConfig = _CACHE,
) -> Loaders:
    """Loaders of the train and the val part of `dataset`; with several processes, of this one's share.

    Raises UsageError where `augment` does not fit `preprocess`, DataError without a picture to train on or
    with one that has no label.
    """
    budget, space = cache.budget(), cache.disk_space()
    pictures = Pictures.for_input(dataset, preprocess, budget, space)
    cut = augment.scale is not None
    source = Pictures.for_cutting(dataset, preprocess, budget, space) if cut else pictures
    workers, classes, shard = worker_count(config), len(dataset.classes), _own_shard()
    train, val = dataset.indices("train"), dataset.indices("val")
    labels = dataset.labels()[train]
    counts = np.bincount(labels[labels >= 0], minlength=classes)
    weights = task.balanced_weights(counts) if config.balance else None
    options = task.TargetOptions(classes, config.label_smoothing, weights)
    return Loaders(
        train=TrainLoader(
            source,
            train,
            partial(task.targets, options=options),
            Augmentation(augment, preprocess),
            config.batch_size,
            config.seed,
            workers,
            shard,
        ),
        val=EvalLoader(
            pictures,
            val,
            partial(task.targets, options=task.TargetOptions(classes)),
            config.batch_size,
            workers,
            shard,
        ),
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
