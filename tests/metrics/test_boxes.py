"""Boxes found beside those that are there, and how far boxes overlap."""

from typing import Any

import numpy as np
import pytest

from striate.errors import DataError, UsageError
from striate.metrics.boxes import BoxRecords, Comparison, overlaps, pairwise_iou
from striate.structures import Objects

LEFT, RIGHT, BOTH = (0, 0, 10, 10), (10, 0, 20, 10), (0, 0, 20, 10)


def array(*boxes: tuple[float, ...]) -> Any:
    return np.array(boxes, np.float32).reshape(-1, 4)


def test_overlap_is_the_shared_area_over_the_area_of_both() -> None:
    assert pairwise_iou(array(LEFT, BOTH), array(LEFT, RIGHT, BOTH)).tolist() == [[1, 0, 0.5], [0.5, 0.5, 1]]
    assert pairwise_iou(array((0, 0, 4, 4)), array((2, 2, 6, 6))).tolist() == [[np.float32(4 / 28)]]


def test_boxes_smaller_than_a_pixel_overlap_too() -> None:
    assert pairwise_iou(array((0, 0, 0.5, 0.5)), array((0, 0, 0.5, 0.25))).tolist() == [[0.5]]


def test_a_box_without_area_overlaps_nothing_not_even_itself() -> None:
    assert pairwise_iou(array((5, 5, 5, 9)), array((5, 5, 5, 9), LEFT)).tolist() == [[0, 0]]


def test_a_box_within_a_crowd_overlaps_it_wholly() -> None:
    quarter = array((0, 0, 5, 5), (5, 0, 15, 10))
    assert overlaps(quarter, array(LEFT, LEFT), np.array([True, False])).tolist() == [
        [1, 0.25],
        [0.5, 50 / 150],
    ]


def test_no_boxes_and_no_truths_give_an_empty_table() -> None:
    assert overlaps(array(), array(LEFT), np.zeros(1, np.bool_)).shape == (0, 1)
    assert overlaps(array(LEFT), array(), np.zeros(0, np.bool_)).shape == (1, 0)


def rows(picture: Comparison) -> list[Any]:
    truths = picture.truths
    columns = (picture.boxes, picture.scores, picture.labels)
    true = (truths.boxes, truths.labels, truths.crowd, truths.difficult)
    return [picture.key, *(column.tolist() for column in (*columns, *true))]


def test_records_are_the_same_whoever_saw_which_picture_in_what_order(found: Any, truths: Any) -> None:
    pictures = [
        (found([(LEFT, 0.9, 0), (RIGHT, 0.4, 1)], "c"), truths([(LEFT, 0)], difficult=[0])),
        (found([], "a"), truths([])),
        (found([(BOTH, 0.7, 1)], "schön \udcff"), truths([(LEFT, 1), (BOTH, 0)], crowd=[1])),
        (found([], "b"), truths([(RIGHT, 1)])),
    ]
    whole, first, second = BoxRecords(2), BoxRecords(2), BoxRecords(2)
    whole.update(*zip(*pictures, strict=True))
    for number in (3, 0):
        first.update([pictures[number][0]], [pictures[number][1]])
    second.update(*zip(*(pictures[number] for number in (2, 1)), strict=True))
    second.merge(first.state())
    assert [picture.key for picture in second.pictures] == ["a", "b", "c", "schön \udcff"]
    assert list(map(rows, second.pictures)) == list(map(rows, whole.pictures))


def test_records_of_nothing_merge() -> None:
    records = BoxRecords(2)
    records.merge(BoxRecords(2).state())
    assert records.pictures == ()


def test_a_state_of_another_metric_is_refused() -> None:
    with pytest.raises(UsageError, match="made alike"):
        BoxRecords(2).merge({"matrix": np.zeros((2, 2), np.int64)})


def test_the_surest_box_comes_first_whatever_the_order(found: Any, truths: Any) -> None:
    records = BoxRecords(2)
    records.update([found([(LEFT, 0.2, 0), (RIGHT, 0.8, 1), (BOTH, 0.8, 0)])], [truths([])])
    (picture,) = records.pictures
    assert picture.boxes.tolist() == [list(RIGHT), list(BOTH), list(LEFT)]
    assert picture.labels.tolist() == [1, 0, 0]


def test_what_does_not_fit_is_refused_by_the_pictures_name(found: Any, truths: Any) -> None:
    with pytest.raises(DataError, match=r"x\.jpg: a true class id is 2, and there are 2 classes"):
        BoxRecords(2).update([found([], "x.jpg")], [truths([(LEFT, 2)])])
    with pytest.raises(DataError, match=r"x\.jpg: it has 3, and there are 2 classes"):
        BoxRecords(2).update([found([], "x.jpg", classes=3)], [truths([])])
    with pytest.raises(DataError, match="1 results and 0 truths"):
        BoxRecords(2).update([found([])], list[Objects]())
