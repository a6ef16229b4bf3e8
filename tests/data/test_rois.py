"""Which proposals are trained on."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from striate.data.rois import RoiRule, filled, rois_of
from striate.structures import Objects

RULE = RoiRule(8, 0.25, 0.5, (0.1, 0.5))
TRUE = [10, 10, 30, 30]
NEAR = [10, 10, 30, 28]  # overlap 0.9
PART = [20, 10, 40, 30]  # 1/3
FAR = [60, 60, 90, 90]  # 0


def objects(*boxes: Sequence[float], crowd: bool = False) -> Objects:
    """Objects of class 0."""
    rows = np.array(boxes, np.float32).reshape(-1, 4)
    return Objects(rows, np.zeros(len(rows), np.int64), np.full(len(rows), crowd))


def drawn(
    found: Objects, *proposals: Sequence[float], rule: RoiRule = RULE, seed: int = 0
) -> NDArray[np.float32]:
    """RoIs of `proposals`."""
    rows = np.array(proposals, np.float32).reshape(-1, 4)
    lots = np.random.default_rng(seed).random(len(found) + len(rows) + 3)
    return rois_of(found, rows, rule, lots)


def test_the_true_box_is_among_them_and_unused_rows_are_zeros() -> None:
    found = drawn(objects(TRUE), PART, FAR)
    # FAR overlaps by less than 0.1, so it is neither.
    assert sorted(found.tolist()) == sorted([TRUE, PART, *[[0, 0, 0, 0]] * 6])
    assert found.dtype == np.float32


def test_at_most_the_share_of_foreground_and_the_rest_background() -> None:
    found = drawn(objects(TRUE), *[NEAR] * 20, *[PART] * 20)
    assert found.shape == (8, 4)
    is_background = (found == PART).all(1)
    assert is_background.tolist() == [False] * 2 + [True] * 6


def test_background_takes_the_place_of_missing_foreground_but_not_the_other_way_round() -> None:
    assert (drawn(objects(), *[FAR] * 20, rule=RoiRule(8, 0.25, 0.5, (0.0, 0.5))) == FAR).all()
    assert (drawn(objects(TRUE), *[NEAR] * 20)[2:] == 0).all()


def test_the_lower_bound_of_background_is_included_and_the_upper_is_not() -> None:
    half = [10, 10, 30, 50]  # overlap exactly 0.5
    third = RoiRule(4, 0.25, 0.6, (0.5, 0.6))
    assert (drawn(objects(TRUE), half, rule=third)[1] == half).all()
    below = RoiRule(4, 0.25, 0.6, (0.0, 0.5))
    assert (drawn(objects(TRUE), half, rule=below)[1] == 0).all()
    assert (drawn(objects(TRUE), half, rule=RoiRule(8, 0.25, 0.5, (0.0, 0.5)))[:2] != 0).any(1).all()


def test_a_crowd_is_no_object_and_nothing_in_it_is_background() -> None:
    rule = RoiRule(8, 0.5, 0.5, (0.0, 0.5))
    found = drawn(objects([50, 50, 100, 100], crowd=True), FAR, TRUE, rule=rule)
    assert found.tolist() == [TRUE, *[[0, 0, 0, 0]] * 7]


def test_a_crowd_that_hides_an_object_is_not_among_them() -> None:
    both = Objects(np.array([TRUE, NEAR], np.float32), np.zeros(2, np.int64), np.array([False, True]))
    assert drawn(both, rule=RoiRule(3, 1.0, 0.5, (0.0, 0.5))).tolist() == [TRUE, [0] * 4, [0] * 4]


def test_what_holds_an_object_is_no_background_however_wide_that_range_is() -> None:
    found = drawn(objects(TRUE), PART, rule=RoiRule(8, 0.125, 0.3, (0.0, 0.5)))
    assert (found[1:] == 0).all()


def test_lots_decide_which() -> None:
    proposals = [[0, 0, side, side] for side in range(1, 30)]
    rule = RoiRule(4, 0.25, 0.5, (0.0, 0.5))
    sets = {tuple(map(tuple, drawn(objects(), *proposals, rule=rule, seed=seed))) for seed in range(10)}
    assert len(sets) == 10
    np.testing.assert_array_equal(
        drawn(objects(), *proposals, rule=rule, seed=3), drawn(objects(), *proposals, rule=rule, seed=3)
    )


def test_filling_cuts_or_adds_zeros() -> None:
    rows = np.ones((2, 4), np.float32)
    assert filled(rows, 3).tolist() == [[1] * 4, [1] * 4, [0] * 4]
    assert filled(rows, 1).tolist() == [[1] * 4]
