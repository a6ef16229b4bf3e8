"""PASCAL VOC's two average precisions."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from striate.metrics.average_precision import area_precision, eleven_point_precision, voc_scores
from striate.metrics.box_matching import Judged
from striate.metrics.boxes import BoxRecords

LEFT, RIGHT, FAR = (0, 0, 10, 10), (20, 0, 30, 10), (50, 50, 60, 60)


def ranked(hits: list[bool], objects: int) -> Judged:
    count = len(hits)
    scores = np.linspace(1, 0.1, count, dtype=np.float32)
    return Judged(scores, np.zeros(count, np.int64), np.array(hits, np.bool_), np.array([objects]))


def test_the_precisions_of_a_short_list_are_those_worked_out_by_hand() -> None:
    # Precision 1, 1/2, 2/3, 1/2 at recall 1/4, 1/4, 2/4, 2/4 of four objects.
    row = ranked([True, False, True, False], 4)
    # At the recalls 0, .1, .2 it is 1, at .3, .4, .5 it is 2/3, beyond nothing.
    assert eleven_point_precision(row) == pytest.approx((3 * 1 + 3 * 2 / 3) / 11, abs=1e-15)
    assert area_precision(row) == pytest.approx(1 / 4 * 1 + 1 / 4 * 2 / 3, abs=1e-15)


def test_a_recall_of_three_tenths_is_reached_by_three_of_ten() -> None:
    assert eleven_point_precision(ranked([True] * 3, 10)) == pytest.approx(4 / 11, abs=1e-15)


def test_all_found_and_nothing_else_is_one_and_nothing_found_is_zero() -> None:
    for measure in (eleven_point_precision, area_precision):
        assert measure(ranked([True] * 7, 7)) == pytest.approx(1, abs=1e-15)
        assert measure(ranked([], 3)) == 0
        assert measure(ranked([False, False], 3)) == 0
        assert math.isnan(measure(ranked([False], 0)))


@given(st.lists(st.booleans(), max_size=30), st.integers(1, 40))
def test_both_are_those_of_the_development_kit_step_by_step(hits: list[bool], more: int) -> None:
    objects = sum(hits) + more - 1 or 1
    recalls = [sum(hits[: place + 1]) / objects for place in range(len(hits))]
    precisions = [sum(hits[: place + 1]) / (place + 1) for place in range(len(hits))]
    eleven = 0.0
    for step in range(11):
        reached = [p for p, recall in zip(precisions, recalls, strict=True) if recall >= step / 10 - 1e-12]
        eleven += max(reached, default=0) / 11
    area, before = 0.0, 0.0
    for place, recall in enumerate(recalls):
        area += (recall - before) * max(precisions[place:])
        before = recall
    row = ranked(hits, objects)
    assert eleven_point_precision(row) == pytest.approx(eleven, abs=1e-12)
    assert area_precision(row) == pytest.approx(area, abs=1e-12)


def test_difficult_objects_and_what_lies_on_them_do_not_count(found: Any, truths: Any) -> None:
    records = BoxRecords(2)
    objects = truths([(LEFT, 0), (RIGHT, 0)], difficult=[1])
    records.update([found([(RIGHT, 0.9, 0), (RIGHT, 0.8, 0), (LEFT, 0.7, 0)])], [objects])
    scores = voc_scores(records.pictures, 2)
    assert scores.area[0] == scores.eleven_point[0] == pytest.approx(1)
    assert np.isnan(scores.area[1])
    assert np.isnan(scores.eleven_point[1])


def test_a_second_box_on_an_object_is_a_mistake(found: Any, truths: Any) -> None:
    records = BoxRecords(2)
    records.update([found([(LEFT, 0.9, 0), (LEFT, 0.8, 0), (FAR, 0.7, 0)])], [truths([(LEFT, 0), (FAR, 0)])])
    assert voc_scores(records.pictures, 2).area[0] == pytest.approx(1 / 2 + 1 / 2 * 2 / 3)
