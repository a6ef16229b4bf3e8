"""One picture shown to a network several times - in tiles, larger and smaller, mirrored - and one answer.

    merger = Merger(key, image.shape[:2], classes, options)
    for view in views(image, preprocess, options):
        merger.add(view, engine.dense({"images": view.image.transpose(2, 0, 1)[None]})["logits"][0])
    result = merger.result()

Views of equal shape may go through the network together. Neither all views nor, with tiles, the maps of the
whole picture are ever in memory at once.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from striate.data.preprocess import apply
from striate.errors import UsageError
from striate.structures import Geometry, Image, Preprocess

__all__ = ["Span", "View", "ViewOptions", "spans", "views"]

_GRID = 32  # tiles begin at multiples of it, so that the strides of a network fall on the same pixels in all
_RAMP = 16  # pixels, at least, over which one tile hands over to the next where there is room
_SMALLEST_TILE = 48  # of which an eighth on each side leaves room to begin the next
_LARGEST_SCALE = 8.0


@dataclass(frozen=True, slots=True)
class ViewOptions:
    """How often and how a picture is shown. With the defaults once, as its preprocessing says.

    Tiles are cut from the picture at its own size (times the scale): the preprocessing's size does not count
    then. What lies within `context` pixels of a tile's inner edge is left to the neighbouring tile; beyond,
    neighbours fade into each other. A network that looks no further than `context` says the same in tiles as
    of the whole picture; where that is not known, an eighth of the tile is left.
    """

    tile: int | None = None  # side in pixels of the picture; None: the picture in one piece
    context: int = 0  # pixels of the network's input around one that its output hangs on; 0: not known
    scales: tuple[float, ...] = (1.0,)  # the probabilities of all are averaged
    flip: bool = False  # average over each view and its mirror image

    def __post_init__(self) -> None:
        scales = self.scales
        if not scales or len(set(scales)) < len(scales) or not all(0 < s <= _LARGEST_SCALE for s in scales):
            raise UsageError(
                "scales",
                f"{scales} is out of range",
                f"give different numbers above 0, up to {_LARGEST_SCALE:g}",
            )
        if self.context < 0:
            raise UsageError("context", f"{self.context} is below 0", "give at least 0 pixels")
        least = max(2 * self.margin + _GRID, _SMALLEST_TILE)
        if self.tile is not None and self.tile < least:
            raise UsageError(
                "tile",
                f"{self.tile} is too small with {self.margin} pixels on each side left to the neighbours",
                f"give at least {least}",
            )

    @property
    def margin(self) -> int:
        """Pixels of the picture at a tile's inner edge in which the tile is not listened to."""
        if not self.context:
            return (self.tile or 0) // 8
        # Where a tile is resized, its outermost pixels are mixed of fewer than they would be.
        return self.context if self.scales == (1.0,) else math.ceil((self.context + 2) / min(self.scales))

    @property
    def repeats(self) -> int:
        """How often each part of the picture is shown."""
        return len(self.scales) * (2 if self.flip else 1)


@dataclass(frozen=True, slots=True)
class View:
    """A picture or a tile of it, ready for the network."""

    image: Image  # uint8 (h, w, C)
    geometry: Geometry  # between the tile and the input, not mirrored
    row: int  # which tile it is, from the top
    column: int
    is_mirrored: bool


class Span(NamedTuple):
    """Where a tile lies along one axis of the picture."""

    start: int
    stop: int
    weight: NDArray[np.float32]  # (stop - start,) its share in the answer; those of all tiles sum to 1

    @property
    def used(self) -> tuple[int, int]:
        """From where up to where it has a share."""
        there = np.flatnonzero(self.weight)
        return self.start + int(there[0]), self.start + int(there[-1]) + 1


def views(image: Image, preprocess: Preprocess, options: ViewOptions) -> Iterator[View]:
    """All views of `image` (H, W, C) in the order in which `Merger` frees most memory: tile after tile.

    They are prepared one at a time. Raises DataError for a picture that `preprocess` refuses.
    """
    height, width = image.shape[:2]
    unscaled = _of_tiles(preprocess, options)
    for row, high in enumerate(spans(height, options)):
        for column, wide in enumerate(spans(width, options)):
            tile = image[high.start : high.stop, wide.start : wide.stop]
            for scale in options.scales:
                shown, geometry = apply(_scaled(unscaled, tile.shape[:2], scale), tile)
                yield View(shown, geometry, row, column, is_mirrored=False)
                if options.flip:
                    yield View(shown[:, ::-1], geometry, row, column, is_mirrored=True)


def _of_tiles(preprocess: Preprocess, options: ViewOptions) -> Preprocess:
    if options.tile is None:
        return preprocess
    side = options.tile + 2 * preprocess.border
    return replace(preprocess, fit="none", size=(side, side), resize_to=None, max_size=None)


def _scaled(preprocess: Preprocess, tile: tuple[int, ...], scale: float) -> Preprocess:
    """`preprocess` with an input `scale` times as large, for a picture of the size `tile`."""
    if scale == 1:
        return preprocess
    if preprocess.fit == "none":
        side = max(1, round(min(tile) * scale)) + 2 * preprocess.border
        return replace(preprocess, fit="shorter", size=(side, side))
    height, width = (max(1, round(side * scale)) for side in preprocess.size)
    cut, longest = preprocess.resize_to, preprocess.max_size
    return replace(
        preprocess,
        size=(height, width),
        resize_to=None if cut is None else max(height, width, round(cut * scale)),
        max_size=None if longest is None else round(longest * scale),
    )


def spans(length: int, options: ViewOptions) -> tuple[Span, ...]:
    """The tiles along an axis of `length` pixels: all as large but the last, which begins on the grid too."""
    tile, margin = options.tile, options.margin
    if tile is None or length <= tile:
        return (Span(0, length, np.ones(length, np.float32)),)
    step = max((tile - 2 * margin - _RAMP) // _GRID * _GRID, _GRID)
    last = -(-(length - tile) // _GRID) * _GRID
    bounds = [(start, min(start + tile, length)) for start in (*range(0, last, step), last)]
    ramp = tile - 2 * margin - step  # all that neighbours share
    weights = [_rising(start, stop, length, margin, ramp) for start, stop in bounds]
    total = np.zeros(length)
    for (start, stop), weight in zip(bounds, weights, strict=True):
        total[start:stop] += weight
    return tuple(
        Span(start, stop, (weight / total[start:stop]).astype(np.float32))
        for (start, stop), weight in zip(bounds, weights, strict=True)
    )


def _rising(start: int, stop: int, length: int, margin: int, ramp: int) -> NDArray[np.float64]:
    """0 within `margin` of an end that is not the picture's, then rising to 1 over `ramp`."""
    places = np.arange(start, stop)
    from_start = places - start if start else np.full(len(places), length)
    from_stop = stop - 1 - places if stop < length else np.full(len(places), length)
    inside = np.minimum(from_start, from_stop) - margin
    weight: NDArray[np.float64] = np.clip((inside + 1) / (ramp + 1), 0, 1)
    return weight
