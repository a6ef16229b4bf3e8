"""Splits: exact stratified counts, seeded, the same for any order of files, duplicates together."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from striate.config import Layer, resolve
from striate.data.dataset import Dataset, Item, Part
from striate.data.split import SplitConfig, complete
from striate.data.storage import ArrayStorage
from striate.errors import UsageError
from striate.structures import Objects

STORAGE = ArrayStorage(np.zeros((1, 1, 1, 1), np.uint8), "none")


def dataset(counts: dict[int, int], part: Part = "") -> Dataset:
    """`counts[label]` pictures of each class, keys like "1/17"."""
    items = [Item(f"{label}/{i}", part, label) for label, count in counts.items() for i in range(count)]
    classes = tuple(map(str, range(max(counts) + 1)))
    return Dataset("made", "made", "classification", classes, tuple(items), STORAGE)


def joined(*datasets: Dataset) -> Dataset:
    items = [
        replace(item, key=f"{number}:{item.key}")
        for number, part in enumerate(datasets)
        for item in part.items
    ]
    return replace(datasets[0], items=tuple(items))


def parts(done: Dataset) -> dict[str, Part]:
    return {item.key: item.part for item in done.items}


def counts(done: Dataset) -> dict[str, Counter[int | None]]:
    return {
        part: Counter(item.label for item in done.items if item.part == part)
        for part in ("train", "val", "test")
    }


def test_without_parts_all_three_are_made_class_by_class() -> None:
    done = complete(dataset({0: 100, 1: 50}), SplitConfig(val_fraction=0.2))
    assert counts(done) == {"train": {0: 70, 1: 35}, "val": {0: 20, 1: 10}, "test": {0: 10, 1: 5}}
    assert done.notes == (
        "no parts found: split into train (105 pictures), 20 % val (30 pictures), 10 % test (15 pictures), "
        "stratified by class, seed 0",
    )


def test_missing_validation_is_taken_from_train_and_the_rest_stays() -> None:
    given_parts = joined(dataset({0: 60, 1: 40}, "train"), dataset({0: 10}, "test"))
    done = complete(given_parts, SplitConfig(seed=7))
    assert counts(done) == {"train": {0: 54, 1: 36}, "val": {0: 6, 1: 4}, "test": {0: 10}}
    assert done.notes == (
        "no validation part found: took 10 % val (10 pictures) from train, stratified by class, seed 7",
    )


def test_missing_test_is_taken_from_train_and_validation_stays() -> None:
    done = complete(joined(dataset({0: 20}, "train"), dataset({0: 3}, "val")), SplitConfig())
    assert counts(done) == {"train": {0: 18}, "val": {0: 3}, "test": {0: 2}}
    assert done.notes[0].startswith("no test part found: took 10 % test (2 pictures)")


def test_all_parts_given_changes_nothing() -> None:
    whole = joined(dataset({0: 9}, "train"), dataset({0: 3}, "val"), dataset({0: 2}, "test"))
    assert complete(whole, SplitConfig()) == whole


def test_pictures_without_a_part_beside_stated_ones_are_for_training() -> None:
    done = complete(joined(dataset({0: 20}), dataset({0: 5}, "test"), dataset({0: 5}, "val")), SplitConfig())
    assert counts(done) == {"train": {0: 20}, "val": {0: 5}, "test": {0: 5}}
    assert done.notes == ("pictures without a stated part belong to train",)


@pytest.mark.parametrize("part", ["test", "val"])
def test_nothing_is_taken_from_a_test_or_validation_part(part: Part) -> None:
    done = complete(dataset({0: 50}, part), SplitConfig())
    assert {item.part for item in done.items} == {part}
    assert done.notes[0].endswith("nothing to train on")


def test_fraction_of_zero_makes_no_part() -> None:
    done = complete(dataset({0: 50}), SplitConfig(val_fraction=0, test_fraction=0.2))
    assert counts(done) == {"train": {0: 40}, "val": {}, "test": {0: 10}}
    done = complete(dataset({0: 50}), SplitConfig(val_fraction=0, test_fraction=0))
    assert {item.part for item in done.items} == {"train"}


def test_many_small_classes_still_give_the_right_total() -> None:
    done = complete(dataset(dict.fromkeys(range(100), 4), "train"), SplitConfig(test_fraction=0))
    val = counts(done)["val"]
    assert val.total() == 40
    assert set(val.values()) == {1}


def test_every_class_keeps_a_picture_to_train_on() -> None:
    done = complete(dataset({0: 1, 1: 2, 2: 100}), SplitConfig(val_fraction=0.4, test_fraction=0.4))
    assert counts(done)["train"] >= Counter({0: 1, 1: 1, 2: 1})
    assert counts(done)["val"].total() == counts(done)["test"].total() == 41


def test_a_handful_of_pictures_gives_at_least_one_to_each_part() -> None:
    assert counts(complete(dataset({0: 2, 1: 2}), SplitConfig()))["val"].total() == 1
    assert counts(complete(dataset({0: 1}), SplitConfig()))["train"] == {0: 1}


def test_nothing_to_take_is_said() -> None:
    done = complete(dataset({0: 1, 1: 1}, "train"), SplitConfig(test_fraction=0))
    assert counts(done)["train"] == {0: 1, 1: 1}
    assert "took 10 % val (0 pictures)" in done.notes[0]


def test_order_of_the_files_does_not_matter() -> None:
    forward = dataset({0: 37, 1: 18, 2: 5})
    backward = replace(forward, items=forward.items[::-1])
    assert parts(complete(forward, SplitConfig())) == parts(complete(backward, SplitConfig()))


def test_seed_decides() -> None:
    whole = dataset({0: 100})
    assert parts(complete(whole, SplitConfig(seed=1))) == parts(complete(whole, SplitConfig(seed=1)))
    assert parts(complete(whole, SplitConfig(seed=1))) != parts(complete(whole, SplitConfig(seed=2)))


def test_split_is_the_same_on_every_machine() -> None:
    done = complete(dataset({0: 10, 1: 10}), SplitConfig())
    assert [key for key, part in parts(done).items() if part == "test"] == ["0/3", "1/2"]
    assert [key for key, part in parts(done).items() if part == "val"] == ["0/7", "1/5"]


def test_one_more_picture_moves_few_others() -> None:
    before = parts(complete(dataset({0: 200, 1: 200}), SplitConfig()))
    after = parts(complete(dataset({0: 205, 1: 200}), SplitConfig()))
    assert sum(before[key] != after[key] for key in before) <= 6


def test_test_part_does_not_depend_on_the_size_of_validation() -> None:
    few = complete(dataset({0: 80, 1: 40}), SplitConfig(val_fraction=0.1))
    many = complete(dataset({0: 80, 1: 40}), SplitConfig(val_fraction=0.3))
    assert [k for k, p in parts(few).items() if p == "test"] == [
        k for k, p in parts(many).items() if p == "test"
    ]


def test_equal_content_stays_together_and_counts_stay_exact() -> None:
    whole = dataset({0: 60, 1: 60})
    groups = np.full(120, -1, np.int64)
    groups[:40] = np.arange(40) // 4  # ten groups of four in class 0
    done = complete(whole, SplitConfig(val_fraction=0.25, test_fraction=0.25), groups)
    for group in range(10):
        assert len({done.items[i].part for i in np.flatnonzero(groups == group)}) == 1
    assert counts(done)["val"] == counts(done)["test"] == {0: 15, 1: 15}
    assert "40 pictures of repeated content kept together" in done.notes[0]


def test_equal_content_with_different_labels_is_never_measured_on() -> None:
    whole = dataset({0: 20, 1: 20})
    groups = np.full(40, -1, np.int64)
    groups[[0, 20]] = 5
    for seed in range(20):
        done = complete(whole, SplitConfig(val_fraction=0.4, test_fraction=0.4, seed=seed), groups)
        assert done.items[0].part == done.items[20].part == "train"


def test_class_of_one_repeated_picture_stays_in_train() -> None:
    groups: NDArray[np.int64] = np.array([3] * 10 + [-1] * 10)
    done = complete(dataset({0: 10, 1: 10}), SplitConfig(), groups)
    assert counts(done)["train"][0] == 10


def test_groups_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match="3 groups for 10 items"):
        complete(dataset({0: 10}), SplitConfig(), np.zeros(3, np.int64))


def boxed(*shown: tuple[list[int] | None, int]) -> Dataset:
    """For each (labels, count), so many pictures with boxes of these classes; None: nothing is known."""
    items = [
        Item(f"{number}/{i}", objects=None if labels is None else objects(labels))
        for number, (labels, count) in enumerate(shown)
        for i in range(count)
    ]
    return Dataset("made", "made", "detection", ("common", "usual", "rare"), tuple(items), STORAGE)


def objects(labels: list[int]) -> Objects:
    boxes = np.tile(np.array([0, 0, 1, 1], np.float32), (len(labels), 1))
    return Objects(boxes, np.array(labels, np.int64), np.zeros(len(labels), np.bool_))


def test_pictures_with_boxes_are_split_by_the_rarest_class_that_each_shows() -> None:
    done = complete(boxed(([0], 70), ([0, 1, 0], 20), ([1, 0, 2], 10)), SplitConfig(test_fraction=0.2))
    taken = Counter((key[0], part) for key, part in parts(done).items())
    assert {group: taken[group, "test"] for group in "012"} == {"0": 14, "1": 4, "2": 2}
    assert {group: taken[group, "val"] for group in "012"} == {"0": 7, "1": 2, "2": 1}
    assert done.notes[0].endswith("stratified by the rarest class of each picture, seed 0")


def test_rare_is_what_few_pictures_show_not_what_has_few_boxes() -> None:
    # Class 1 has more boxes and fewer pictures than class 0, so its pictures go by it.
    done = complete(boxed(([0], 20), ([0] + [1] * 9, 10)), SplitConfig(test_fraction=0))
    assert Counter(key[0] for key, part in parts(done).items() if part == "val") == {"0": 2, "1": 1}


def test_pictures_without_boxes_are_shared_out_too() -> None:
    done = complete(boxed(([0], 60), ([], 30), (None, 10)), SplitConfig(test_fraction=0))
    assert Counter(key[0] for key, part in parts(done).items() if part == "val") == {"0": 6, "1": 3, "2": 1}
    bare = complete(boxed((None, 20)), SplitConfig())
    assert "at random" in bare.notes[0]


def test_boxes_of_pictures_with_labels_do_not_count_in_their_split() -> None:
    whole = dataset({0: 100, 1: 50})
    drawn = replace(whole, items=tuple(replace(item, objects=objects([2])) for item in whole.items))
    assert parts(complete(drawn, SplitConfig())) == parts(complete(whole, SplitConfig()))


@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=6),
    fractions=st.tuples(st.floats(0.01, 0.45), st.floats(0.01, 0.45)),
    seed=st.integers(-3, 3),
    grouping=st.integers(1, 50),
)
def test_what_always_holds(
    sizes: list[int], fractions: tuple[float, float], seed: int, grouping: int
) -> None:
    whole = dataset(dict(enumerate(sizes)))
    groups = np.arange(len(whole)) % grouping - 1
    config = SplitConfig(val_fraction=fractions[0], test_fraction=fractions[1], seed=seed)
    done = complete(whole, config, groups)
    assert [item.key for item in done.items] == [item.key for item in whole.items]
    assert all(item.part in ("train", "val", "test") for item in done.items)
    assert all(counts(done)["train"][label] >= 1 for label in range(len(sizes)))
    for group in set(groups[groups >= 0].tolist()):
        assert len({done.items[i].part for i in np.flatnonzero(groups == group)}) == 1


@pytest.mark.parametrize(
    "values",
    [{"val_fraction": -0.1}, {"val_fraction": 1.0}, {"test_fraction": float("nan")}, {"val_fraction": 0.95}],
)
def test_impossible_fractions_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="split"):
        SplitConfig(**values)
    with pytest.raises(UsageError, match="split"):
        resolve(SplitConfig, [Layer("test", values)])
