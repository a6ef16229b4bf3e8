"""Which found box is which object."""

from typing import Any

import numpy as np

from striate.metrics.box_matching import best_free, best_of_all, judged
from striate.metrics.boxes import BoxRecords

LEFT, RIGHT = (0, 0, 10, 10), (20, 0, 30, 10)


def table(*rows: tuple[float, ...]) -> Any:
    return np.array(rows, np.float64)


def excused(*flags: int) -> Any:
    return np.array(flags, np.bool_)


def test_a_second_box_on_an_object_gets_the_next_best_by_one_rule_and_nothing_by_the_other() -> None:
    overlap = table((0.9, 0.6), (0.8, 0.7))
    assert best_free(overlap, excused(0, 0)).tolist() == [0, 1]
    assert best_of_all(overlap, excused(0, 0)).tolist() == [0, -1]


def test_an_overlap_of_one_half_is_enough() -> None:
    overlap = table((0.5,), (0.49999,))
    assert best_free(overlap, excused(0)).tolist() == [0, -1]
    assert best_of_all(overlap, excused(0)).tolist() == [0, -1]


def test_excused_objects_are_never_taken_and_come_last() -> None:
    overlap = table((0.9, 0.6), (0.9, 0.6), (0.9, 0.6))
    assert best_free(overlap, excused(1, 0)).tolist() == [1, 0, 0]
    assert best_of_all(overlap, excused(1, 0)).tolist() == [0, 0, 0]


def test_nothing_to_match_matches_nothing() -> None:
    for rule in (best_free, best_of_all):
        assert rule(np.zeros((0, 3)), excused(0, 0, 0)).tolist() == []
        assert rule(np.zeros((2, 0)), excused()).tolist() == [-1, -1]


def test_boxes_are_judged_within_their_class_and_ranked_over_all_pictures(found: Any, truths: Any) -> None:
    records = BoxRecords(2)
    records.update(
        [
            found([(LEFT, 0.9, 1), (RIGHT, 0.3, 0)], "a"),
            found([(LEFT, 0.8, 0), (RIGHT, 0.6, 1)], "b"),
        ],
        [truths([(LEFT, 0), (RIGHT, 0)]), truths([(LEFT, 0), (RIGHT, 1)], difficult=[1])],
    )
    for rule in (best_free, best_of_all):
        made = judged(records.pictures, 2, rule)
        # 0.6 is on a difficult object: it does not count, and neither does the object.
        assert made.scores.round(1).tolist() == np.array([0.9, 0.8, 0.3], np.float32).tolist()
        assert made.labels.tolist() == [1, 0, 0]
        assert made.hits.tolist() == [False, True, True]
        assert made.objects.tolist() == [3, 0]
        assert made.of_class(0).hits.tolist() == [True, True]
        assert made.of_class(1).objects.tolist() == [0]
