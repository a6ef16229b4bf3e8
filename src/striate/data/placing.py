"""A picture resized and put somewhere on a canvas: only what shows of it is resized, and that once."""

from dataclasses import replace
from typing import NamedTuple

from striate.data.pixels import Change, Rectangle, moved
from striate.data.preprocess import Resize, apply
from striate.structures import Geometry, Image, Preprocess

__all__ = ["Place", "Placed", "put"]


class Place(NamedTuple):
    """Where a picture lies on a canvas, in the canvas's pixels."""

    resized: tuple[int, int]  # height and width of the whole picture there
    top: int  # where its first row is, even outside the canvas
    left: int
    limits: Rectangle  # what it may cover

    @property
    def is_full(self) -> bool:
        """Whether it covers all that it may."""
        height, width = self.resized
        ends = self.top + height >= self.limits.bottom and self.left + width >= self.limits.right
        return ends and self.top <= self.limits.top and self.left <= self.limits.left


class Placed(NamedTuple):
    """What has been put on a canvas."""

    geometry: Geometry  # from the picture's own pixels to the canvas's
    shows: Rectangle  # the part of the canvas that it covers


class _Span(NamedTuple):
    """Along one side: pixels first..end of the picture become start..stop of the canvas."""

    first: int
    end: int
    start: int
    stop: int


def put(
    canvas: Image,
    picture: tuple[Image, Geometry],
    place: Place,
    spec: Preprocess,
    resize: Resize | None = None,
    change: Change | None = None,
) -> Placed | None:
    """Write `picture`, an image and where its pixels came from, on `canvas` (H, W, C); None: nothing shows.

    `spec` and `resize` say how pixels are turned to its colour and interpolated, as for `preprocess.apply`;
    `change` is done to what shows. Whole pixels of the image are cut, so that the geometry is exact: it is
    off from `place` by half of one at most.
    """
    image, geometry = picture
    top, bottom, left, right = place.limits
    rows = _span(image.shape[0], place.resized[0], place.top, (top, bottom))
    columns = _span(image.shape[1], place.resized[1], place.left, (left, right))
    if rows is None or columns is None:
        return None
    shows = Rectangle(rows.start, rows.stop, columns.start, columns.stop)
    cut = Rectangle(rows.first, rows.end, columns.first, columns.end)
    size = rows.stop - rows.start, columns.stop - columns.start
    flat = replace(spec, fit="stretch", size=size, border=0, resize_to=None, max_size=None, pad_to=1)
    shown, inside = apply(flat, image[cut.top : cut.bottom, cut.left : cut.right], resize)
    canvas[shows.top : shows.bottom, shows.left : shows.right] = change(shown) if change else shown
    inside = replace(inside, input=canvas.shape[:2], top=shows.top, left=shows.left)
    return Placed(moved(geometry, cut, inside), shows)


def _span(kept: int, resized: int, origin: int, limits: tuple[int, int]) -> _Span | None:
    """What shows within `limits` of a side of `kept` pixels that is brought to `resized` from `origin` on."""
    start, stop = max(limits[0], origin), min(limits[1], origin + resized)
    if start >= stop:
        return None
    # The nearest edges between kept pixels: what is cut is whole ones.
    first, end = ((2 * (place - origin) * kept + resized) // (2 * resized) for place in (start, stop))
    first = min(first, kept - 1)
    return _Span(first, max(end, first + 1), start, stop)
