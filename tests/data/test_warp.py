"""Rotation and elastic deformation."""

import numpy as np
import pytest

from striate.data.warp import places_of, warped

CHANCE = np.random.default_rng(0)
PICTURE = CHANCE.integers(0, 256, (24, 31, 3), np.uint8)
LABELS = CHANCE.integers(0, 5, (24, 31), np.uint8)


@pytest.mark.parametrize("knots", [None, np.zeros((2, 3, 3))])
def test_no_angle_and_no_displacement_change_nothing(knots: np.ndarray | None) -> None:
    image, labels = warped(PICTURE, LABELS, places_of((24, 31), 0, knots))
    np.testing.assert_array_equal(image, PICTURE)
    np.testing.assert_array_equal(labels, LABELS)


def test_a_quarter_turn_is_clockwise() -> None:
    square, labels = PICTURE[:, :24], LABELS[:, :24]
    places = np.clip(places_of((24, 24), 90, None), 0, 23.999)
    image, turned = warped(np.ascontiguousarray(square), labels, places)
    np.testing.assert_array_equal(turned, np.rot90(labels, -1))
    np.testing.assert_array_equal(image, np.rot90(square, -1))


def test_equal_displacements_shift_by_rows_and_columns() -> None:
    knots = np.stack((np.full((3, 3), 2.0), np.full((3, 3), -1.0)))
    places = places_of((20, 20), 0, knots)
    image, labels = warped(PICTURE, LABELS, places[:, :, 1:])
    # A pixel comes from 2 rows below and 1 column to the left.
    np.testing.assert_array_equal(image, PICTURE[2:22, :19])
    np.testing.assert_array_equal(labels, LABELS[2:22, :19])


def test_half_a_pixel_is_the_mean_of_two_and_the_label_of_the_one_it_lies_in() -> None:
    picture = np.array([[[10], [20], [40]]], np.uint8)
    places = np.array([[[0.5, 0.5]], [[1.0, 2.25]]], np.float32)
    image, labels = warped(picture, np.array([[1, 2, 3]], np.uint8), places)
    assert image[0, :, 0].tolist() == [15, 35]
    assert labels.tolist() == [[2, 3]]


def test_displacements_are_the_knots_at_corners_edges_and_centre_and_smooth_between() -> None:
    knots = CHANCE.normal(size=(2, 3, 3))
    moved = places_of((41, 61), 0, knots) - places_of((41, 61), 0, None)
    np.testing.assert_allclose(moved[:, ::20, ::30], knots, atol=1e-5)
    curvature = np.abs(np.diff(moved, 2, axis=2)).max()
    assert curvature < 0.02 * np.abs(knots).max()  # straight lines bend at the knots by 0.07
