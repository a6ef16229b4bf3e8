"""Precision and recall as the least score falls."""

from typing import Any

import numpy as np
import pytest

from striate.metrics.box_matching import Judged
from striate.metrics.boxes import BoxRecords
from striate.metrics.detection_curves import RECALLS, Curve, detection_curves

LEFT, RIGHT, FAR = (0, 0, 10, 10), (20, 0, 30, 10), (50, 50, 60, 60)


def curve(rows: list[tuple[float, bool]], objects: int) -> Curve:
    scores = np.array([score for score, _ in rows], np.float32)
    hits = np.array([hit for _, hit in rows], np.bool_)
    return Curve.of(Judged(scores, np.zeros(len(rows), np.int64), hits, np.array([objects])))


def test_each_score_has_the_precision_and_recall_of_all_from_it_on() -> None:
    made = curve([(0.9, True), (0.7, False), (0.5, True)], 4)
    assert made.scores.tolist() == np.array([0.9, 0.7, 0.5], np.float32).tolist()
    assert made.precision.tolist() == [1, 1 / 2, 2 / 3]
    assert made.recall.tolist() == [1 / 4, 1 / 4, 2 / 4]
    assert made.f1.tolist() == [2 / 5, 2 / 6, 4 / 7]


def test_boxes_of_one_score_come_together_whichever_is_listed_first() -> None:
    for order in ([True, False, False], [False, False, True]):
        made = curve([(0.5, hit) for hit in order], 1)
        assert made.scores.tolist() == [0.5]
        assert made.precision.tolist() == [1 / 3]


def test_the_best_score_is_the_one_with_the_highest_f1_and_of_equal_ones_the_surest() -> None:
    best = curve([(0.9, True), (0.7, False), (0.5, True), (0.25, False)], 4).best
    assert best == (0.5, 2 / 3, 2 / 4, 4 / 7)
    even = curve([(0.75, True), (0.5, False), (0.25, False), (0.125, True)], 2).best
    assert even is not None
    assert (even.score, even.f1) == (0.75, 2 / 3)


def test_where_nothing_is_right_no_score_is_best() -> None:
    assert curve([], 3).best is None
    assert curve([(0.9, False)], 3).best is None
    assert curve([(0.9, False)], 0).best is None


def test_a_sampled_curve_has_the_best_precision_from_each_recall_on_and_zero_beyond() -> None:
    precision, scores = curve([(0.75, True), (0.5, False), (0.25, True)], 4).sampled()
    assert precision[RECALLS <= 0.25].tolist() == [1.0] * 26
    assert precision[(RECALLS > 0.25) & (RECALLS <= 0.5)].tolist() == [2 / 3] * 25
    assert precision[RECALLS > 0.5].tolist() == [0.0] * 50
    assert sorted(set(scores.tolist())) == [0, 0.25, 0.75]


def test_a_recall_of_29_hundredths_is_reached_by_29_of_100() -> None:
    rows = [(0.5 - place / 1000, True) for place in range(29)]
    precision, _ = curve(rows, 100).sampled()
    assert int(np.count_nonzero(precision)) == 30


def test_plain_data_is_a_list_of_four_digits_at_101_recalls() -> None:
    plain = curve([(0.75, True), (0.5, False), (0.25, True)], 4).to_dict()
    assert plain["objects"] == 4
    assert len(plain["precision"]) == len(plain["score"]) == 101
    assert plain["precision"][50] == 0.6667


def test_each_class_has_a_curve_and_all_together_another(found: Any, truths: Any) -> None:
    records = BoxRecords(2)
    results = [found([(LEFT, 0.9, 0), (RIGHT, 0.8, 1), (FAR, 0.7, 1)])]
    records.update(results, [truths([(LEFT, 0), (FAR, 1), (RIGHT, 0)])])
    curves = detection_curves(records.pictures, 2)
    assert [own.objects for own in curves.classes] == [2, 1]
    assert curves.classes[1].precision.tolist() == [0, 1 / 2]
    assert curves.overall.precision.tolist() == [1, 1 / 2, 2 / 3]
    assert curves.overall.recall[-1] == pytest.approx(2 / 3)
