"""Where the four pictures of a mosaic lie."""

import numpy as np
import pytest

from striate.data.mosaic import Mosaic, tiles
from striate.data.pixels import Rectangle

FRAME = Rectangle(0, 100, 0, 200)


def test_four_pictures_touch_the_point_from_their_sides_clockwise_from_top_left() -> None:
    # Scale 1, the point in the middle; the second picture is smaller than its quarter.
    places = tiles(Mosaic(0.5, 0.5, 0.5), [(100, 150), (20, 30), (100, 200), (80, 10)], FRAME)
    assert [place.limits for place in places] == [
        (0, 50, 0, 100),
        (0, 50, 100, 200),
        (50, 100, 100, 200),
        (50, 100, 0, 100),
    ]
    assert [place.resized for place in places] == [(100, 150), (20, 30), (100, 200), (80, 10)]
    assert [(place.top, place.left) for place in places] == [(-50, -50), (30, 100), (50, 100), (50, 90)]


@pytest.mark.parametrize(("scale", "height"), [(0.0, 50), (0.5, 100), (0.999999, 150)])
def test_pictures_are_half_to_one_and_a_half_times_as_large(scale: float, height: int) -> None:
    assert tiles(Mosaic(scale, 0, 0), [(100, 100)] * 4, FRAME)[0].resized == (height, height)


def test_the_point_stays_a_fifth_of_the_side_away_from_the_edges() -> None:
    for place, (row, column) in ((0.0, (20, 40)), (0.999999, (80, 160))):
        limits = tiles(Mosaic(0.5, place, place), [(100, 100)] * 4, FRAME)[0].limits
        assert (limits.bottom, limits.right) == (row, column)


def test_every_quarter_of_the_smallest_frame_has_a_pixel() -> None:
    for chance in np.linspace(0, 1, 11, endpoint=False).tolist():
        for place in tiles(Mosaic(chance, chance, chance), [(1, 1)] * 4, Rectangle(3, 5, 3, 5)):
            top, bottom, left, right = place.limits
            assert top < bottom
            assert left < right
            # It touches the point, so that it shows.
            assert place.top < bottom
            assert place.top + place.resized[0] > top
            assert place.left < right
            assert place.left + place.resized[1] > left
