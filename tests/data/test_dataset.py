"""What a dataset tells of itself."""

from dataclasses import replace

import numpy as np

from striate.data.dataset import Dataset, Item
from striate.data.storage import ArrayStorage
from striate.structures import Objects


def make(parts: tuple[str, ...]) -> Dataset:
    storage = ArrayStorage(np.zeros((len(parts), 2, 2, 1), np.uint8), "p")
    items = tuple(
        Item(key, part, label=0)  # type: ignore[arg-type]
        for key, part in zip(storage.keys(), parts, strict=True)
    )
    return Dataset("p", "arrays", "classification", ("a", "b"), items, storage)


def test_it_is_shown_by_counts_and_not_by_its_items() -> None:
    shown = repr(make(("train", "train", "test")))
    assert shown == "Dataset(p: arrays, 3 pictures (train 2, test 1), 2 classes)"
    assert repr(make(("", ""))) == "Dataset(p: arrays, 2 pictures, 2 classes)"


def test_indices_are_those_of_a_part_and_only_keeps_an_order() -> None:
    dataset = make(("train", "test", "train"))
    assert dataset.indices("train").tolist() == [0, 2]
    assert [item.key for item in dataset.only([2, 1]).items] == ["p[2]", "p[1]"]


def test_a_picture_without_a_label_counts_as_minus_one() -> None:
    unlabelled = replace(make(("train",)), items=(Item("p[0]"),))
    assert unlabelled.labels().tolist() == [-1]
    assert unlabelled.sample(0).label is None


def test_the_truth_is_what_the_task_asks_for() -> None:
    objects = Objects(np.zeros((1, 4), np.float32), np.zeros(1, np.int64), np.zeros(1, np.bool_))
    dataset = replace(make(("train",)), items=(Item("p[0]", label=1, objects=objects, ids=("object 1",)),))
    assert dataset.truth(0) == 1
    assert replace(dataset, task="detection").truth(0) is objects
    assert replace(dataset, task="segmentation").truth(0) is None
