"""A picture put on a canvas."""

import numpy as np
import pytest

from striate.data.pixels import Rectangle
from striate.data.placing import Place, put
from striate.structures import Geometry, Image, Preprocess

SPEC = Preprocess(size=(8, 8), fit="stretch")


def source(height: int, width: int) -> tuple[Image, Geometry]:
    """A picture of noise at its own size."""
    size = (height, width)
    return np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8), Geometry(size, size)


def empty() -> Image:
    """A canvas of 8 x 8 pixels of level 7."""
    return np.full((8, 8, 3), 7, np.uint8)


def test_a_picture_at_its_own_size_is_copied_and_the_rest_of_the_canvas_left_alone() -> None:
    canvas, (image, geometry) = empty(), source(4, 5)
    placed = put(canvas, (image, geometry), Place((4, 5), 2, 1, Rectangle(0, 8, 0, 8)), SPEC)
    assert placed is not None
    assert placed.shows == (2, 6, 1, 6)
    np.testing.assert_array_equal(canvas[2:6, 1:6], image)
    assert (canvas == 7).all(2).sum() == 64 - 20
    assert placed.geometry == Geometry((4, 5), (8, 8), left=1, top=2)


def test_only_what_the_limits_allow_is_written_and_the_geometry_is_that_of_the_whole() -> None:
    canvas, (image, geometry) = empty(), source(6, 6)
    placed = put(canvas, (image, geometry), Place((6, 6), -2, 4, Rectangle(1, 8, 0, 7)), SPEC)
    assert placed is not None
    assert placed.shows == (1, 4, 4, 7)
    np.testing.assert_array_equal(canvas[1:4, 4:7], image[3:6, :3])
    assert (placed.geometry.top, placed.geometry.left) == (-2, 4)


def test_an_enlarged_picture_is_cut_at_whole_pixels_and_its_geometry_says_where() -> None:
    canvas, (image, geometry) = empty(), source(4, 4)
    # 3 times as large from -2 on: its pixels begin at -2, 1, 4, 7, 10. The nearest edges to 0 and 8 are 1, 7.
    spec = Preprocess(size=(8, 8), fit="stretch", interpolation="nearest")
    placed = put(canvas, (image, geometry), Place((12, 12), -2, -2, Rectangle(0, 8, 0, 8)), spec)
    assert placed is not None
    assert placed.shows == (0, 8, 0, 8)
    np.testing.assert_array_equal(canvas, image[1:3, 1:3].repeat(4, 0).repeat(4, 1))
    assert placed.geometry == Geometry((4, 4), (8, 8), 4, 4, left=-4, top=-4)


def test_the_last_part_of_a_much_enlarged_picture_shows_its_last_pixel() -> None:
    canvas, (image, geometry) = empty(), source(1, 2)
    placed = put(canvas, (image, geometry), Place((8, 16), 0, -10, Rectangle(0, 8, 4, 6)), SPEC)
    assert placed is not None
    assert (canvas[:, 4:6] == image[0, 1]).all()
    # Its right half fills these two columns, so that its left edge lies two before them.
    assert placed.geometry == Geometry((1, 2), (8, 8), 2, 8, left=2, top=0)


def test_what_is_done_to_a_picture_is_done_to_what_shows_alone() -> None:
    canvas = empty()
    put(canvas, source(4, 4), Place((4, 4), 6, 6, Rectangle(0, 8, 0, 8)), SPEC, change=np.zeros_like)
    assert (canvas[6:, 6:] == 0).all()
    assert (canvas[:6] == 7).all()
    assert (canvas[:, :6] == 7).all()


@pytest.mark.parametrize(("top", "left"), [(8, 0), (-4, 0), (0, 8), (0, -4)])
def test_a_picture_outside_the_limits_is_not_put_at_all(top: int, left: int) -> None:
    canvas = empty()
    assert put(canvas, source(4, 4), Place((4, 4), top, left, Rectangle(0, 8, 0, 8)), SPEC) is None
    assert (canvas == 7).all()


def test_a_place_is_full_only_if_no_side_of_its_limits_is_free() -> None:
    limits = Rectangle(1, 5, 2, 6)
    assert Place((4, 4), 1, 2, limits).is_full
    assert Place((9, 9), 0, 0, limits).is_full
    assert not any(Place((4, 4), *corner, limits).is_full for corner in ((2, 2), (0, 2), (1, 3), (1, 1)))
