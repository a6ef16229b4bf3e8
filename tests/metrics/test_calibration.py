"""The calibration error against eq. 3 of Guo et al. worked by hand and by a second road."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from striate.errors import DataError
from striate.metrics.calibration import Calibration
from striate.structures import Classification


def counted(confidences: list[float] | NDArray[np.float32], right: list[bool]) -> Calibration:
    """A metric of two classes where class 0 has the given confidence and is right or not."""
    metric = Calibration(2)
    rows = [np.array([c, 1 - c], np.float32) for c in confidences]
    rows = [row if row[0] >= row[1] else row[::-1] for row in rows]
    results = [Classification(str(i), row, ("a", "b")) for i, row in enumerate(rows)]
    metric.update(results, [0 if hit else 1 for hit in right])
    return metric


def test_error_worked_by_hand() -> None:
    # bin (12/15, 13/15]: 4 pictures of 0.85, 3 right; bin (14/15, 1]: 1 picture of 1.0, wrong
    scores = counted([0.85, 0.85, 0.85, 0.85, 1.0], [True, True, True, False, False]).compute()
    assert scores.ece == pytest.approx((4 * 0.10 + 1 * 1.0) / 5, abs=1e-7)
    filled = {index: row.pictures for index, row in enumerate(scores.bins) if row.pictures}
    assert filled == {12: 4, 14: 1}
    assert scores.bins[12].accuracy == 0.75
    assert scores.bins[12].confidence == pytest.approx(0.85, abs=1e-7)
    assert (scores.bins[12].low, scores.bins[12].high) == (12 / 15, 13 / 15)


def test_always_right_at_full_confidence_is_no_error() -> None:
    assert counted([1.0] * 3, [True] * 3).compute().ece == 0


def test_over_and_under_confidence_in_different_bins_do_not_cancel() -> None:
    scores = counted([0.75, 0.95], [False, True]).compute()
    assert scores.ece == pytest.approx((0.75 + 0.05) / 2, abs=1e-7)


@pytest.mark.parametrize(("confidence", "place"), [(0.5, 7), (1.0, 14), (2 / 3, 10), (0.6, 9)])
def test_bins_are_open_below_and_closed_above(confidence: float, place: int) -> None:
    # float32(2/3) and float32(0.6) lie just above their edges 10/15 and 9/15.
    assert Fraction(float(np.float32(confidence))) * 15 > place
    assert counted([confidence], [True]).compute().bins[place].pictures == 1


def test_an_edge_that_float32_can_hold_belongs_to_the_bin_below() -> None:
    metric = Calibration(2, bins=4)
    metric.update([Classification("", np.array([0.75, 0.25], np.float32), ("a", "b"))], [0])
    assert [row.pictures for row in metric.compute().bins] == [0, 0, 1, 0]


@given(st.integers(1, 40), st.integers(1, 6), st.integers(0, 2**31))
def test_equals_the_formula_in_float64(count: int, classes: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    rows = random.dirichlet(np.ones(classes), count).astype(np.float32)
    truths = random.integers(0, classes, count)
    names = tuple(map(str, range(classes)))
    metric = Calibration(classes)
    metric.update([Classification(str(i), row, names) for i, row in enumerate(rows)], truths.tolist())
    confidence, right = rows.max(1).astype(np.float64), rows.argmax(1) == truths
    expected = 0.0
    for index in range(15):
        inside = (confidence * 15 > index) & (confidence * 15 <= index + 1)
        if index == 14:
            inside |= confidence > 1  # a rounded softmax
        if inside.any():
            expected += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert metric.compute().ece == pytest.approx(expected, abs=1e-9)


def test_any_order_and_any_division_gives_the_same_last_digit() -> None:
    random = np.random.default_rng(3)
    confidences, right = random.uniform(0.5, 1, 1000).astype(np.float32), random.random(1000) < 0.8
    whole = counted(confidences, right.tolist()).compute()
    order = random.permutation(1000)
    first = counted(confidences[order[:313]], right[order[:313]].tolist())
    first.merge(counted(confidences[order[313:]], right[order[313:]].tolist()).state())
    assert first.compute() == whole


def test_nothing_measured_is_refused() -> None:
    metric = Calibration(2)
    metric.update([], [])
    with pytest.raises(DataError, match="no picture was measured"):
        metric.compute()


def test_a_bin_as_plain_data() -> None:
    row = counted([0.75], [True]).compute().bins[11]
    assert row.to_dict() == {"low": 11 / 15, "high": 0.8, "pictures": 1, "accuracy": 1.0, "confidence": 0.75}
