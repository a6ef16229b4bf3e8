"""The loaders that the settings ask for."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from torch import Tensor

from striate.data.augment import AugmentConfig
from striate.data.cache import CacheConfig
from striate.data.dataset import Dataset
from striate.data.tree import open_tree
from striate.errors import UsageError
from striate.structures import Batch, Image, Preprocess
from striate.training.config import TrainingConfig
from striate.training.loaders import Loaders, make_loaders, worker_count


def batches_of(made: Loaders, epoch: int) -> list[Batch[Tensor]]:
    return [*made.train.epoch(epoch), *(found.batch for found in made.val)]


def test_train_and_val_hold_their_parts(loaders: Callable[..., Loaders]) -> None:
    made = loaders(TrainingConfig(batch_size=10))
    assert made.train.indices.tolist() == list(range(36))
    assert made.val.indices.tolist() == list(range(36, 48))
    assert (len(made.train), len(made.val)) == (4, 2)


def test_smoothing_is_for_training_only(loaders: Callable[..., Loaders]) -> None:
    made = loaders(TrainingConfig(label_smoothing=0.3, workers=0))
    assert float(next(made.train.epoch(0)).targets.probabilities.max()) == pytest.approx(0.8)
    assert float(next(iter(made.val)).batch.targets.probabilities.max()) == 1.0


def test_balance_gives_each_class_the_same_share_of_the_loss(dataset: Dataset) -> None:
    # 12 dark, 12 middling and 6 light ones to train on.
    few = dataset.only([i for i, item in enumerate(dataset.items) if item.label != 2 or i < 18 or i >= 36])
    config = TrainingConfig(balance="inverse", batch_size=64, workers=0)
    made = make_loaders(few, few_spec(), config, AugmentConfig())
    targets = next(made.train.epoch(0)).targets
    shares = (targets.probabilities * targets.weight[:, None]).sum(0)
    np.testing.assert_allclose(shares, [10, 10, 10], rtol=1e-5)
    assert set(next(iter(made.val)).batch.targets.weight.tolist()) == {1.0}


def few_spec() -> Preprocess:
    return Preprocess(size=(6, 6), fit="stretch", color="gray", mean=(0.5,), std=(0.3,))


@dataclass
class CountingStorage:
    """Pictures each of one shade, its index; counts how often each is read."""

    keys: list[str]
    read: Counter[str] = field(default_factory=Counter)

    def content(self, key: str) -> Image:
        self.read[key] += 1
        return np.full((6, 6, 1), self.keys.index(key), np.uint8)


def test_a_picture_is_decoded_once_for_all_epochs_and_evaluations(dataset: Dataset) -> None:
    storage = CountingStorage([item.key for item in dataset.items])
    counted = replace(dataset, storage=storage)
    made = make_loaders(counted, few_spec(), TrainingConfig(batch_size=10, workers=0), AugmentConfig())
    for epoch in range(3):
        for batch in batches_of(made, epoch):
            assert [f"shade[{int(image[0, 0, 0])}]" for image in batch.images] == list(batch.keys)
    assert storage.read == dict.fromkeys(storage.keys, 1)


def test_random_cuts_are_taken_from_larger_pictures_and_val_is_not_cut(dataset: Dataset) -> None:
    spec = Preprocess(size=(4, 4), fit="stretch", color="gray", mean=(0.5,), std=(0.3,))
    made = make_loaders(dataset, spec, TrainingConfig(workers=0), AugmentConfig(scale=(0.5, 1.0)))
    assert made.train.pictures.one(0)[0].shape == (6, 6, 1)
    assert made.val.pictures.one(0)[0].shape == (4, 4, 1)
    assert made.train.pictures.budget is made.val.pictures.budget


def test_an_augmentation_that_does_not_fit_is_refused(loaders: Callable[..., Loaders]) -> None:
    with pytest.raises(UsageError, match=r"augment\.pad"):
        loaders(TrainingConfig(), AugmentConfig(pad=6))


def test_workers_are_as_many_as_asked_for_else_one_a_core_up_to_eight() -> None:
    assert worker_count(TrainingConfig(workers=0)) == 0
    assert worker_count(TrainingConfig(workers=11)) == 11
    assert 1 <= worker_count(TrainingConfig()) <= 8


@pytest.fixture
def in_files(dataset: Dataset, tmp_path: Path) -> Dataset:
    """The same pictures, but in files."""
    folder = tmp_path / "files"
    folder.mkdir()
    for index, item in enumerate(dataset.items):
        PIL.Image.fromarray(dataset.sample(index).image[:, :, 0]).save(folder / f"{item.key}.png")
    items = tuple(replace(item, key=f"{item.key}.png") for item in dataset.items)
    return replace(dataset, items=items, storage=open_tree(folder))


@pytest.mark.parametrize(
    "augment", [AugmentConfig(pad=1, flip=0.5), AugmentConfig(scale=(0.3, 1.0))], ids=["pad", "cut"]
)
def test_batches_are_bit_by_bit_the_same_whatever_keeps_the_pictures(
    in_files: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, augment: AugmentConfig
) -> None:
    monkeypatch.setenv("STRIATE_CACHE", str(tmp_path / "cache"))
    config = TrainingConfig(batch_size=10, workers=2)
    seen = []
    for mode in ("off", "memory", "disk", "disk"):
        made = make_loaders(in_files, few_spec(), config, augment, CacheConfig(mode=mode))  # type: ignore[arg-type]
        batches = [batch for epoch in range(2) for batch in batches_of(made, epoch)]
        seen.append(torch.cat([batch.images for batch in batches]))
        assert made.notes == ()
        assert (tmp_path / "cache").exists() == (mode == "disk")
    assert all(torch.equal(images, seen[0]) for images in seen)


def test_why_the_cache_on_disk_ended_is_noted_once(
    in_files: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("STRIATE_CACHE", str(tmp_path / "file"))
    augment, disk = AugmentConfig(scale=(0.3, 1.0)), CacheConfig(mode="disk")
    made = make_loaders(in_files, few_spec(), TrainingConfig(), augment, disk)
    assert made.train.pictures.disk is not made.val.pictures.disk
    assert sum(len(batch.keys) for batch in batches_of(made, 0)) == 48
    (note,) = made.notes
    assert "cannot be written to" in note
