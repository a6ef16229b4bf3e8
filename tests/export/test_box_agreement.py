"""Boxes of two runs, the same as sets."""

from typing import Any

import numpy as np
import pytest

from striate.export.box_agreement import find_again, partners, told
from striate.structures import Detections


def found(*rows: tuple[Any, ...]) -> Detections:
    """Rows of x0, y0, x1, y1, score, label."""
    table = np.array(rows, np.float64).reshape(-1, 6)
    return Detections(
        "photo.jpg",
        table[:, :4].astype(np.float32),
        table[:, 4].astype(np.float32),
        table[:, 5].astype(np.int64),
        ("cat", "dog"),
        (100, 100),
        np.arange(len(table)),
    )


def rows(ours: Detections, theirs: Detections) -> tuple[list[int], list[int]]:
    """Which boxes only one side has."""
    outcome = find_again(ours, theirs)
    return outcome.only_ours.tolist(), outcome.only_theirs.tolist()


CAT, DOG = (10, 10, 50, 50, 0.9, 0), (60, 60, 90, 90, 0.7, 1)


def test_the_same_boxes_in_another_order_are_the_same() -> None:
    tie = (60, 60, 90, 90, 0.9, 1)
    outcome = find_again(found(CAT, tie), found(tie, CAT))
    assert outcome[:3] == (2, 0.0, 0.0)
    assert rows(found(CAT, tie), found(tie, CAT)) == ([], [])


def test_the_largest_distance_and_difference_are_told() -> None:
    moved = found((10, 10, 50.0625, 50, 0.90005, 0), (60.03125, 60, 90, 90, 0.7, 1))
    outcome = find_again(found(CAT, DOG), moved)
    assert outcome.pixels == 0.0625  # exact in float32
    assert round(outcome.score, 6) == 0.00005
    assert len(outcome.only_ours) == 0


@pytest.mark.parametrize(
    "other",
    [(10, 10, 50.2, 50, 0.9, 0), (10, 10, 50, 50, 0.9002, 0), (10, 10, 50, 50, 0.9, 1)],
    ids=["side", "score", "class"],
)
def test_another_side_score_or_class_is_another_box(other: tuple[Any, ...]) -> None:
    assert rows(found(CAT, DOG), found(other, DOG)) == ([0], [0])


def test_the_distance_may_be_given() -> None:
    assert len(find_again(found(CAT), found((10, 10, 50.2, 50, 0.9, 0)), pixels=0.5).only_ours) == 0


def test_a_person_calls_boxes_the_same_that_lie_mostly_on_each_other() -> None:
    # 40 x 40 each; 30 columns shared: 1200 / 2000 = 0.6; 20 columns: 800 / 2400.
    near, far = (20, 10, 60, 50, 0.3, 0), (30, 10, 70, 50, 0.3, 0)
    assert find_again(found(CAT), found(near)).similar == 1
    assert find_again(found(CAT), found(far)).similar == 0
    assert find_again(found(CAT), found((*near[:5], 1))).similar == 0


def test_one_box_is_no_partner_of_two() -> None:
    assert rows(found(CAT, CAT), found(CAT)) == ([1], [])
    assert rows(found(CAT), found(CAT, CAT)) == ([], [1])


def test_each_box_gets_the_nearest_partner() -> None:
    a, b = (10, 10, 50, 50, 0.9, 0), (10.0625, 10, 50, 50, 0.9, 0)
    assert partners(found(a, b), found(b, a)).tolist() == [1, 0]


def test_pictures_without_boxes_agree() -> None:
    assert rows(found(), found()) == ([], [])
    assert rows(found(), found(CAT)) == ([], [0])


def test_a_box_is_told_by_class_score_and_place() -> None:
    assert told(found(DOG, CAT), 1) == "cat of score 0.9000 at (10.0, 10.0, 50.0, 50.0)"
