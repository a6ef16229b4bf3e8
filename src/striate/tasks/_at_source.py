"""Maps at the input's size brought to the size of the picture that the input was made of."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from striate.errors import ModelError, NotFiniteError
from striate.structures import IGNORE, Geometry

__all__ = ["Maps", "classes_at_source", "finite", "held_by_input", "largest", "maps_at_source"]

Maps = NDArray[np.float32]
"""One map per class, (K, height, width)."""

_BAND_BYTES = 1 << 19  # of maps at a time: they stay in the cache, and memory does not grow with the picture


class _Taps(NamedTuple):
    """Between which two places of the input each of N places of the source lies, along one axis."""

    near: NDArray[np.int64]  # (N,)
    far: NDArray[np.int64]
    share: NDArray[np.float32]  # of far, 0..1
    is_held: NDArray[np.bool_]  # whether the input has that part of the source

    def between(self, places: slice) -> "_Taps":
        """Those of some of the places."""
        return _Taps(self.near[places], self.far[places], self.share[places], self.is_held[places])

    def shifted(self, offset: int) -> "_Taps":
        """The same of maps whose first `offset` places are cut away."""
        return self._replace(near=self.near - offset, far=self.far - offset)

    def of(self, maps: Maps, axis: int) -> Maps:
        """`maps` at these places of `axis`; a view where that is a mere part of them."""
        if not self.share.any():
            first, count = int(self.near[0]), len(self.near)
            if (self.near == np.arange(first, first + count)).all():
                return maps[:, first : first + count] if axis == 1 else maps[:, :, first : first + count]
        share = self.share[:, None] if axis == 1 else self.share
        taken: Maps = maps.take(self.near, axis, mode="clip")
        if self.share.any():
            taken *= 1 - share
            further = maps.take(self.far, axis, mode="clip")
            further *= share
            taken += further
        return taken


def _taps(count: int, available: int, offset: float, scale: float) -> _Taps:
    """Those of `count` places of the source, of which place x lies at `x * scale + offset` in the input."""
    centers = (np.arange(count) + 0.5) * scale + offset
    held = np.floor(centers + 1e-9)  # as Geometry decides it, for masks
    # What lies beside the picture is padding: the network's word on it is not mixed in.
    first = max(int(np.floor(offset + 1e-9)), 0)
    last = max(min(int(np.ceil(offset + count * scale - 1e-9)), available) - 1, first)
    places = np.clip(centers - 0.5, first, last)
    near = np.floor(places + 1e-9).astype(np.int64)
    share = np.maximum(places - near, 0).astype(np.float32)
    return _Taps(near, np.minimum(near + 1, last), share, (held >= 0) & (held < available))


def _both_taps(geometry: Geometry) -> tuple[_Taps, _Taps]:
    (height, width), (input_height, input_width) = geometry.source, geometry.input
    rows = _taps(height, input_height, geometry.top, geometry.scale_y)
    return rows, _taps(width, input_width, geometry.left, geometry.scale_x)


def maps_at_source(
    maps: Maps, geometry: Geometry, window: tuple[slice, slice] | None = None
) -> Iterator[tuple[slice, Maps]]:
    """`maps` (K, h, w) of an input at its picture's size: rows and their maps (K, rows, width), top first.

    Bilinear between the two nearest pixel centres, as the networks themselves enlarge. What the input did
    not hold repeats its edge: see `held_by_input`. Padding counts for nothing. With a `window`, rows and
    columns of the picture, that part of it alone, rows counted from its first. The maps may be a view.
    """
    if maps.shape[1] < geometry.input[0] or maps.shape[2] < geometry.input[1]:
        raise ModelError(
            "logits",
            f"the maps are {maps.shape[1:]} for an input of {geometry.input}",
            "decode at the input's size",
        )
    rows, columns = _both_taps(geometry)
    if window is not None:
        rows, columns = rows.between(window[0]), columns.between(window[1])
    height, width = len(rows.near), len(columns.near)
    count = max(1, _BAND_BYTES // (4 * len(maps) * width))
    for start in range(0, height, count):
        place = slice(start, min(start + count, height))
        band = rows.between(place)
        first, last = int(band.near[0]), int(band.far[-1])
        # Across first: there are fewer rows yet where the picture is larger than the input.
        across = columns.of(maps[:, first : last + 1], axis=2)
        yield place, band.shifted(first).of(across, axis=1)


def held_by_input(geometry: Geometry) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which rows (H,) and which columns (W,) of the picture the input has: not those cropped away."""
    rows, columns = _both_taps(geometry)
    return rows.is_held, columns.is_held


def classes_at_source(maps: Maps, geometry: Geometry) -> NDArray[np.uint8]:
    """Which of `maps` (K, h, w) is largest at each pixel (H, W) of the picture; IGNORE if cropped away."""
    mask = np.empty(geometry.source, np.uint8)
    for band, part in maps_at_source(maps, geometry):
        mask[band] = largest(part)
    rows, columns = held_by_input(geometry)
    mask[~rows] = IGNORE
    mask[:, ~columns] = IGNORE
    return mask


def largest(maps: Maps) -> NDArray[np.uint8]:
    """Number of the largest of `maps` (K, h, w) at each place, the lowest where several are equal."""
    # Class after class, without a branch: numpy's argmax over the first axis takes six times as long.
    best = maps[0].copy()
    found = np.zeros(best.shape, np.uint8)
    is_larger = np.empty(best.shape, np.bool_)
    for number in range(1, len(maps)):
        np.greater(maps[number], best, out=is_larger)
        np.maximum(best, maps[number], out=best)
        np.maximum(found, is_larger.view(np.uint8) * np.uint8(number), out=found)
    return found


def finite(maps: NDArray[Any], key: str) -> Maps:
    """`maps` in float32. Raises NotFiniteError naming the picture `key` of a NaN or infinity."""
    plain = np.ascontiguousarray(maps, np.float32)
    # NaN is the least and the largest of all that it is among.
    if not (np.isfinite(plain.min()) and np.isfinite(plain.max())):
        raise NotFiniteError(key, "the network gives NaN or infinity for it", "use an intact model")
    return plain
