"""Four pictures around a point, as one: where each of them lies."""

from typing import NamedTuple

from striate.data.pixels import Rectangle
from striate.data.placing import Place

__all__ = ["LARGEST_SCALE", "Mosaic", "tiles"]

LARGEST_SCALE = 1.5
_LEAST_SCALE = 0.5
_MARGIN = 0.2  # share of the side between the point and an edge, so that all four show


class Mosaic(NamedTuple):
    """What is drawn for one, numbers in 0..1."""

    scale: float
    row: float  # of the point
    column: float


def tiles(layout: Mosaic, fitted: list[tuple[int, int]], frame: Rectangle) -> list[Place]:
    """Where four pictures go in `frame` that would fit it at the sizes `fitted`, clockwise from top left.

    A corner of each is at the point; all are made 0.5 to 1.5 times as large, which varies the size of objects
    without another resizing. Bochkovskiy et al. 2020 (arXiv:2004.10934), section 3.3; the scale is that of Ge
    et al. 2021 (arXiv:2107.08430) for small networks.
    """
    scale = _LEAST_SCALE + layout.scale * (LARGEST_SCALE - _LEAST_SCALE)
    row, column = _point(frame.top, frame.bottom, layout.row), _point(frame.left, frame.right, layout.column)
    places = []
    for number, sides in enumerate(fitted):
        height, width = (max(1, round(scale * side)) for side in sides)
        is_below, is_right = number in (2, 3), number in (1, 2)
        limits = Rectangle(
            row if is_below else frame.top,
            frame.bottom if is_below else row,
            column if is_right else frame.left,
            frame.right if is_right else column,
        )
        top, left = row - height * (not is_below), column - width * (not is_right)
        places.append(Place((height, width), top, left, limits))
    return places


def _point(start: int, end: int, place: float) -> int:
    """Between `start` and `end`, neither of them."""
    side = end - start
    return start + min(max(round((_MARGIN + place * (1 - 2 * _MARGIN)) * side), 1), side - 1)
