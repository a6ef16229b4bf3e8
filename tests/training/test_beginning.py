"""The pictures that a network's starting weights depend on."""

import numpy as np
import pytest
import torch

from striate.data.dataset import Dataset, Item
from striate.data.storage import ArrayStorage
from striate.structures import Preprocess
from striate.training import beginning
from striate.training.beginning import start_pictures

SPEC = Preprocess(size=(4, 4), fit="stretch", color="gray", mean=(0.5,), std=(0.25,))


def numbered(train: int, val: int) -> Dataset:
    """Gray 4x4 pictures, picture i all of the value i."""
    images = np.arange(train + val, dtype=np.uint8)[:, None, None, None].repeat(4, 1).repeat(4, 2)
    items = tuple(Item(f"p[{i}]", "train" if i < train else "val", 0) for i in range(train + val))
    return Dataset("numbered", "arrays", "classification", ("a", "b"), items, ArrayStorage(images, "p"))


def values(pictures: torch.Tensor) -> list[int]:
    assert pictures.dtype == torch.uint8
    assert pictures.shape[1:] == (1, 4, 4)
    return sorted(pictures[:, 0, 0, 0].tolist())


def test_only_training_pictures_are_taken_each_once() -> None:
    assert values(start_pictures(numbered(20, 10), SPEC, seed=0)) == list(range(20))


def test_the_seed_chooses_among_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beginning, "MOST_PICTURES", 8)
    dataset = numbered(60, 10)
    chosen = [values(start_pictures(dataset, SPEC, seed)) for seed in (0, 0, 1)]
    assert len(chosen[0]) == 8
    assert chosen[0] == chosen[1] != chosen[2]
    assert max(chosen[0] + chosen[2]) < 60
