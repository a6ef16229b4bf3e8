"""Batches for training and for evaluation."""

import threading
from collections.abc import Iterator
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from striate.data.augment import AugmentConfig
from striate.data.batches import Caches
from striate.data.batches.classification import for_measuring, for_training
from striate.data.cache import Budget
from striate.data.dataset import Dataset, Item
from striate.data.loader import EvalLoader, TrainLoader
from striate.data.storage import ArrayStorage
from striate.errors import DataError
from striate.structures import Batch, Preprocess
from striate.tasks import classification

SPEC = Preprocess(size=(12, 12), fit="stretch")
TARGETS = partial(classification.targets, options=classification.TargetOptions(3))
EVERYTHING = AugmentConfig(scale=(0.3, 1.0), flip=0.5, jitter=0.3, erase=0.5, mixup=0.4, cutmix=1.0)


def dataset_of(count: int, labels: list[int | None] | None = None) -> Dataset:
    """`count` random 16x16 pictures of three classes; picture i is `p[i]`."""
    images = np.random.default_rng(0).integers(0, 256, (count, 16, 16, 3), np.uint8)
    storage = ArrayStorage(images, "p")
    ids = labels or [index % 3 for index in range(count)]
    items = tuple(Item(key, "train", label) for key, label in zip(storage.keys(), ids, strict=True))
    return Dataset("test", "drawn", "classification", ("a", "b", "c"), items, storage)


def train_loader(
    count: int = 20,
    augment: AugmentConfig | None = None,
    *,
    indices: NDArray[np.int64] | None = None,
    dataset: Dataset | None = None,
    batch_size: int = 6,
    seed: int = 0,
    workers: int = 0,
) -> TrainLoader:
    dataset = dataset or dataset_of(count)
    indices = np.arange(len(dataset)) if indices is None else indices
    source = for_training(dataset, indices, SPEC, augment or AugmentConfig(), Caches(Budget(1 << 24)))
    return TrainLoader(source, indices, TARGETS, batch_size, seed, workers)


def eval_loader(dataset: Dataset, indices: NDArray[np.int64], workers: int = 0) -> EvalLoader:
    source = for_measuring(dataset, indices, SPEC, Caches(Budget(1 << 24)))
    return EvalLoader(source, indices, TARGETS, 6, workers)


def flat(batches: Iterator[Batch[Tensor]]) -> dict[str, tuple[Any, ...]]:
    """Picture and target of each key, as plain bytes."""
    return {
        key: (
            batch.images[row].numpy().tobytes(),
            batch.targets.probabilities[row].numpy().tobytes(),
            float(batch.targets.weight[row]),
        )
        for batch in batches
        for row, key in enumerate(batch.keys)
    }


def keys_of(loader: TrainLoader, epoch: int) -> list[tuple[str, ...]]:
    return [batch.keys for batch in loader.epoch(epoch)]


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_begun_late_gives_the_batches_that_were_left(workers: int) -> None:
    loader = train_loader(augment=EVERYTHING, workers=workers)
    whole = list(loader.epoch(3))
    for skip in range(len(whole) + 1):
        rest = list(loader.epoch(3, skip))
        assert [batch.keys for batch in rest] == [batch.keys for batch in whole[skip:]]
        assert flat(iter(rest)) == flat(iter(whole[skip:]))


def test_pictures_that_are_skipped_are_not_decoded() -> None:
    loader = train_loader()
    rest = [key for batch in loader.epoch(0, skip=2) for key in batch.keys]
    assert 0 < len(rest) < 20
    assert len(loader.pictures) == len(rest)


def test_batches_are_uint8_channels_last_tensors() -> None:
    batch = next(train_loader(augment=EVERYTHING).epoch(0))
    assert batch.images.dtype == torch.uint8
    assert batch.images.shape == (6, 3, 12, 12)
    assert batch.images.is_contiguous(memory_format=torch.channels_last)
    assert batch.targets.probabilities.shape == (6, 3)
    assert len(batch.geometry) == len(batch.keys) == 6


def test_every_sample_comes_once_an_epoch_in_an_order_of_its_own() -> None:
    loader = train_loader(20)
    first, second = keys_of(loader, 0), keys_of(loader, 1)
    assert sorted(sum(first, ())) == sorted(sum(second, ())) == sorted(f"p[{i}]" for i in range(20))
    assert first != second
    assert [len(keys) for keys in first] == [6, 6, 6, 2]
    assert keys_of(train_loader(20), 0) == first
    assert keys_of(train_loader(20, seed=1), 0) != first


@pytest.mark.parametrize(
    ("count", "batch_size", "sizes"),
    [(13, 6, [6, 7]), (12, 6, [6, 6]), (7, 6, [7]), (1, 6, [1]), (3, 1, [1, 1, 1]), (14, 6, [6, 6, 2])],
)
def test_a_last_picture_on_its_own_joins_the_batch_before(
    count: int, batch_size: int, sizes: list[int]
) -> None:
    loader = train_loader(count, batch_size=batch_size)
    assert [len(keys) for keys in keys_of(loader, 0)] == sizes
    assert len(loader) == len(sizes)


@pytest.mark.parametrize("workers", [2, 4])
@pytest.mark.parametrize("augment", [AugmentConfig(pad=2, flip=0.5), EVERYTHING], ids=["light", "everything"])
def test_workers_change_neither_order_nor_pixels_nor_targets(augment: AugmentConfig, workers: int) -> None:
    for epoch in (0, 1):
        alone = list(train_loader(40, augment).epoch(epoch))
        threaded = list(train_loader(40, augment, workers=workers).epoch(epoch))
        assert [batch.keys for batch in alone] == [batch.keys for batch in threaded]
        assert flat(iter(alone)) == flat(iter(threaded))


def test_a_sample_is_varied_alike_whatever_the_batch_size() -> None:
    small, large = (train_loader(40, EVERYTHING, batch_size=size) for size in (4, 40))
    assert flat(small.epoch(3)) == flat(large.epoch(3))


def test_a_second_pass_from_the_cache_gives_the_same_batches() -> None:
    loader = train_loader(20, EVERYTHING)
    assert flat(loader.epoch(2)) == flat(loader.epoch(2))


def test_epochs_vary_the_same_sample_differently() -> None:
    loader = train_loader(20, AugmentConfig(flip=0.5, pad=2))
    first, second = flat(loader.epoch(0)), flat(loader.epoch(1))
    assert sum(first[key] != second[key] for key in first) > 15


def test_mixed_targets_belong_to_the_mixed_picture() -> None:
    images = np.zeros((2, 12, 12, 3), np.uint8)
    images[1] = 255
    storage = ArrayStorage(images, "p")
    items = tuple(Item(key, "train", index) for index, key in enumerate(storage.keys()))
    dataset = Dataset("test", "drawn", "classification", ("a", "b", "c"), items, storage)
    for augment in (AugmentConfig(mixup=1.0), AugmentConfig(cutmix=1.0)):
        loader = train_loader(augment=augment, dataset=dataset, batch_size=2)
        for batch in (batch for epoch in range(10) for batch in loader.epoch(epoch)):
            # White is class 1: its share of the light is its probability.
            light = batch.images.float().mean((1, 2, 3)) / 255
            np.testing.assert_allclose(light, batch.targets.probabilities[:, 1], atol=0.003)
            np.testing.assert_allclose(batch.targets.probabilities.sum(1), 1, atol=1e-6)


def test_partners_come_from_the_loaders_own_part_only() -> None:
    dataset = dataset_of(12, labels=[0] * 6 + [2] * 6)
    loader = train_loader(
        augment=AugmentConfig(mixup=1.0), dataset=dataset, indices=np.arange(6, dtype=np.int64)
    )
    for batch in loader.epoch(0):
        np.testing.assert_allclose(batch.targets.probabilities[:, 0], 1, atol=1e-6)


def test_evaluation_gives_each_sample_once_in_order_with_a_short_last_batch() -> None:
    dataset = dataset_of(20)
    indices = np.array([5, 3, 8, 0, 1, 2, 19], np.int64)
    for workers in (0, 2):
        loader = eval_loader(dataset, indices, workers)
        measured = list(loader)
        batches = [batch for _, batch, _ in measured]
        assert [start for start, _, _ in measured] == [0, 6]
        assert [key for batch in batches for key in batch.keys] == [f"p[{index}]" for index in indices]
        assert [len(batch) for batch in batches] == [6, 1] == [6] * (len(loader) - 1) + [1]
        assert [truth for _, _, truths in measured for truth in truths] == [2, 0, 2, 0, 1, 2, 1]
        images = torch.cat([batch.images for batch in batches]).permute(0, 2, 3, 1).numpy()
        np.testing.assert_array_equal(images, loader.pictures.batch(indices)[0])


def test_an_empty_part_gives_no_batch() -> None:
    loader = eval_loader(dataset_of(3), np.array([], np.int64))
    assert len(loader) == 0
    assert list(loader) == []


def test_training_on_nothing_is_refused() -> None:
    with pytest.raises(DataError, match="no picture is left"):
        train_loader(3, indices=np.array([], np.int64))


def test_a_sample_without_a_label_is_refused_by_name() -> None:
    dataset = dataset_of(4, labels=[0, 1, None, 2])
    with pytest.raises(DataError, match=r"p\[2\]: it has no label"):
        train_loader(dataset=dataset)
    with pytest.raises(DataError, match=r"p\[2\]: it has no label"):
        eval_loader(dataset, np.arange(4, dtype=np.int64))
    assert len(train_loader(dataset=dataset, indices=np.array([0, 1, 3], np.int64))) == 1


class BrokenStorage:
    """Gives pictures of one pixel, but one is no picture."""

    def content(self, key: str) -> Any:
        return b"this is text" if key == "k7" else np.zeros((1, 1, 3), np.uint8)


@pytest.mark.parametrize("workers", [0, 3])
def test_a_file_that_cannot_be_decoded_is_named(workers: int) -> None:
    items = tuple(Item(f"k{index}", "train", 0) for index in range(20))
    dataset = Dataset("test", "files", "classification", ("a", "b", "c"), items, BrokenStorage())
    before = threading.active_count()
    with pytest.raises(DataError, match=r"^k7:"):
        list(train_loader(dataset=dataset, batch_size=2, workers=workers).epoch(0))
    assert threading.active_count() == before


def loader_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("striate-loader")]


def test_an_iterator_closed_early_leaves_no_thread() -> None:
    batches = train_loader(200, workers=3).epoch(0)
    next(batches)
    assert loader_threads()
    batches.close()
    assert not loader_threads()


def test_an_iterator_that_is_dropped_or_done_leaves_no_thread() -> None:
    next(train_loader(200, workers=3).epoch(0))
    assert not loader_threads()
    assert len(list(train_loader(20, workers=3).epoch(0))) == 4
    assert not loader_threads()


def test_workers_stay_a_bounded_number_of_batches_ahead() -> None:
    made: list[int] = []

    def counting(labels: NDArray[np.int64]) -> Any:
        made.append(len(labels))
        return TARGETS(labels)

    source = for_training(dataset_of(200), np.arange(200), SPEC, AugmentConfig(), Caches(Budget(1 << 24)))
    loader = TrainLoader(source, np.arange(200), counting, 2, seed=0, workers=2)
    batches = loader.epoch(0)
    list(islice(batches, 10))
    batches.close()
    assert len(made) <= 10 + 2 * 2
