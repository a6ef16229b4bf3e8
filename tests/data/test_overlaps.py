"""How boxes lie to each other."""

import numpy as np

from striate.data.overlaps import areas, centres_inside, pairwise_iou, shares_inside

UNIT = np.array([[0, 0, 2, 2]], np.float32)
NONE = np.empty((0, 4), np.float32)


def test_overlaps_are_those_counted_by_hand() -> None:
    # Shared 1 of 4 + 4 - 1; all of it; beside it; a quarter of the larger one.
    others = np.array([[1, 1, 3, 3], [0, 0, 2, 2], [2, 0, 4, 2], [0, 0, 4, 4]], np.float32)
    np.testing.assert_allclose(pairwise_iou(UNIT, others), [[1 / 7, 1, 0, 4 / 16]])
    np.testing.assert_allclose(shares_inside(UNIT, others), [[1 / 4, 1, 0, 1]])
    np.testing.assert_allclose(shares_inside(others, UNIT)[:, 0], [1 / 4, 1, 0, 1 / 4])


def test_boxes_without_area_overlap_nothing() -> None:
    flat = np.array([[1, 1, 1, 2], [2, 2, 1, 1]], np.float32)
    assert areas(flat).tolist() == [0, 0]
    assert pairwise_iou(flat, flat).tolist() == [[0, 0], [0, 0]]
    assert shares_inside(flat, UNIT).tolist() == [[0], [0]]
    assert pairwise_iou(UNIT, NONE).shape == (1, 0)
    assert centres_inside(NONE, UNIT).shape == (0, 1)


def test_a_centre_on_the_left_edge_is_inside_and_one_on_the_right_edge_is_not() -> None:
    boxes = np.array([[-1, 0, 1, 1], [1, 0, 3, 1], [0, 0, 1, 4]], np.float32)  # centres x 0, 2, 0.5; y 2
    assert centres_inside(boxes, UNIT)[:, 0].tolist() == [True, False, False]
