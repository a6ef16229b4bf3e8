"""Which part of a picture an input shows."""

import numpy as np
import pytest

from striate.data.box_windows import Windows
from striate.data.draws import Draws
from striate.data.overlaps import centres_inside, pairwise_iou
from striate.data.pixels import Rectangle
from striate.structures import Objects

DRAWS = Draws(3, 1)
SIZE = (200, 400)


def objects(*boxes: list[float], crowd: bool = False) -> Objects:
    """Objects of class 0."""
    rows = np.array(boxes, np.float32).reshape(-1, 4)
    return Objects(rows, np.zeros(len(rows), np.int64), np.full(len(rows), crowd))


def drawn(windows: Windows, found: Objects, count: int = 1000) -> np.ndarray:
    """Windows (count, 4) x0 y0 x1 y1."""
    rows = [windows.draw(DRAWS, index, SIZE, found) for index in range(count)]
    return np.array([[left, top, right, bottom] for top, bottom, left, right in rows])


NOTHING, SMALL = objects(), objects([300, 100, 340, 140])


def test_without_any_change_a_window_is_the_whole_picture() -> None:
    assert not Windows()
    assert Windows().draw(DRAWS, 0, SIZE, SMALL) == Rectangle(0, 200, 0, 400)
    assert Windows().least_side == 1


def test_half_of_the_pictures_are_zoomed_out_with_all_of_them_inside() -> None:
    x0, y0, x1, y1 = drawn(Windows(expand=4), SMALL).T
    ratio = (x1 - x0) / 400
    np.testing.assert_allclose((y1 - y0) / 200, ratio, atol=0.01)
    assert 0.45 < (ratio > 1).mean() < 0.55
    assert ratio.max() <= 4
    assert ratio.max() > 3.9
    assert (x0 <= 0).all()
    assert (y0 <= 0).all()
    assert (x1 >= 400).all()
    assert (y1 >= 200).all()
    # Anywhere inside, up to either end.
    free = ratio > 1.5
    place = -x0[free] / (x1 - x0 - 400)[free]
    assert place.min() < 0.02
    assert place.max() > 0.98


def test_a_cut_holds_the_centre_of_an_object_and_is_of_an_allowed_size_and_aspect() -> None:
    cuts = drawn(Windows(crop=True), SMALL)
    x0, y0, x1, y1 = cuts.T
    assert centres_inside(SMALL.boxes, cuts).all()
    assert (x0 >= 0).all()
    assert (y0 >= 0).all()
    assert (x1 <= 400).all()
    assert (y1 <= 200).all()
    shares = np.stack(((x1 - x0) / 400, (y1 - y0) / 200))
    assert (np.sqrt(shares.prod(0)) > 0.295).all()
    assert (np.abs(np.log(shares[0] / shares[1])) < np.log(2.05)).all()


def test_a_large_overlap_is_asked_for_more_often_than_chance_gives_one() -> None:
    big = objects([60, 30, 340, 170])
    cuts = drawn(Windows(crop=True), big)
    is_whole = (cuts == [0, 0, 400, 200]).all(1)
    # One option of six or seven: 0.9 seldom has a trial that fits.
    assert 1 / 8 < is_whole.mean() < 1 / 4
    overlaps = pairwise_iou(cuts[~is_whole], big.boxes)[:, 0]
    # Of cuts without any condition 7 % overlap by 0.7.
    assert (overlaps >= 0.7).mean() > 0.18


def test_a_small_object_cannot_be_overlapped_by_much_so_those_options_fall_away() -> None:
    cuts = drawn(Windows(crop=True), SMALL)
    is_whole = (cuts == [0, 0, 400, 200]).all(1)
    # At most 0.22 of it, so that 0.3 and more never fit: whole, 0.1 and any are left, 0.1 not always.
    assert 0.3 < is_whole.mean() < 0.55


@pytest.mark.parametrize("found", [NOTHING, objects([10, 10, 300, 150], crowd=True)])
def test_a_picture_without_single_objects_stays_whole(found: Objects) -> None:
    assert (drawn(Windows(crop=True), found, 50) == [0, 0, 400, 200]).all()


def test_each_border_moves_by_at_most_its_share_on_its_own() -> None:
    moves = drawn(Windows(jitter=0.2), SMALL) - np.array([0, 0, 400, 200])
    assert np.abs(moves[:, [0, 2]]).max() == 80
    assert np.abs(moves[:, [1, 3]]).max() == 40
    assert np.abs(np.corrcoef(moves.T) - np.eye(4)).max() < 0.1


def test_zooming_out_and_cutting_are_one_window_on_the_picture() -> None:
    cuts = drawn(Windows(expand=4, crop=True), SMALL)
    assert centres_inside(SMALL.boxes, cuts).all()
    outside = (cuts[:, :2] < 0).any(1) | (cuts[:, 2:] > [400, 200]).any(1)
    assert 0.3 < outside.mean() < 0.55


def test_a_window_of_the_smallest_picture_has_a_pixel() -> None:
    for windows in (Windows(expand=4, crop=True), Windows(jitter=0.49)):
        for index in range(200):
            top, bottom, left, right = windows.draw(DRAWS, index, (1, 1), objects([0, 0, 1, 1]))
            assert top < bottom
            assert left < right


def test_the_least_side_is_that_of_the_narrowest_window() -> None:
    assert Windows(expand=4, crop=True).least_side == 0.3
    assert Windows(jitter=0.2).least_side == pytest.approx(0.6)


def test_another_purpose_gives_another_window_of_the_same_sample() -> None:
    windows = Windows(jitter=0.2)
    assert windows.draw(DRAWS, 0, SIZE, SMALL) != windows.draw(DRAWS, 0, SIZE, SMALL, "behind")
