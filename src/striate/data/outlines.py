"""The pixels inside outlines as COCO writes them: polygons and run lengths, and masks painted from them.

A pixel is inside a polygon if its centre is, by the even-odd rule. Run lengths go down the columns,
background first; as text they are packed in characters of five bits and a continuation each, from the fourth
on as differences from the one before the last.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from striate.errors import DataError

__all__ = ["Annotation", "OutlineMasks", "Outlined", "inside_polygon", "inside_runs", "unpacked_counts"]

Bools = NDArray[np.bool_]

_FARTHEST = 1_000_000.0  # pixels; larger coordinates are a mistake
_MOST_CELLS = 1 << 22  # rows x edges that are looked at together

_REDRAW = "draw that outline again or remove the annotation"


class Runs(msgspec.Struct, frozen=True):
    """Run lengths of a picture of `size` (height, width)."""

    size: tuple[int, int]
    counts: str | list[int]


class Annotation(NamedTuple):
    """One object, its outline as the JSON has it."""

    id: str
    class_id: int
    outline: bytes  # JSON: polygons [[x, y, x, y, ...], ...] or run lengths
    is_crowd: bool


@dataclass(frozen=True, slots=True)
class Outlined:
    """The objects of one picture."""

    file: str  # that lists them
    height: int
    width: int
    annotations: tuple[Annotation, ...]


class _Region(NamedTuple):
    """Some pixels of a picture, (top, left) being the first of the window `inside`."""

    top: int
    left: int
    inside: Bools


@dataclass(frozen=True, slots=True)
class OutlineMasks:
    """Masks painted from outlines when they are asked for; 0 is the background."""

    pictures: Mapping[str, Outlined]

    def mask(self, key: str) -> NDArray[np.uint8]:
        """The class ids of the picture `key`, (H, W).

        Crowds lie at the bottom; of the others smaller ones lie on larger ones, and of equal ones the later
        on the earlier. Raises DataError naming the file and the annotation whose outline is none.
        """
        picture = self.pictures[key]
        painted = np.zeros((picture.height, picture.width), np.uint8)
        layers = [(annotation, _region(annotation, picture)) for annotation in picture.annotations]
        layers.sort(key=lambda layer: (not layer[0].is_crowd, -int(layer[1].inside.sum())))
        for annotation, (top, left, inside) in layers:
            height, width = inside.shape
            painted[top : top + height, left : left + width][inside] = annotation.class_id
        return painted


def _region(annotation: Annotation, picture: Outlined) -> _Region:
    where = f"{picture.file}: annotation {annotation.id}"
    try:
        outline = msgspec.json.decode(annotation.outline, type=list[list[float]] | Runs)
    except msgspec.DecodeError as error:
        raise DataError(where, f"its segmentation is no outline ({error})", _REDRAW) from None
    size = picture.height, picture.width
    if isinstance(outline, Runs):
        return _cropped(_of_runs(outline, size, where))
    return _of_polygons([_points(ring, where) for ring in outline], size)


def _points(ring: Sequence[float], where: str) -> NDArray[np.float64]:
    """The corners (N, 2), x before y."""
    points = np.array(ring, np.float64)
    if len(points) % 2 or len(points) < 6:
        raise DataError(where, f"a polygon of it has {len(points)} numbers", _REDRAW)
    if not (np.abs(points) <= _FARTHEST).all():
        raise DataError(where, "a polygon of it has corners far outside any picture", _REDRAW)
    return points.reshape(-1, 2)


def _of_polygons(rings: Iterable[NDArray[np.float64]], size: tuple[int, int]) -> _Region:
    """The pixels in any of the rings, in the smallest window around them."""
    rings = list(rings)
    corners = np.concatenate(rings)
    low = np.clip(np.floor(corners.min(axis=0)), 0, size[::-1]).astype(int)
    high = np.clip(np.ceil(corners.max(axis=0)), low, size[::-1]).astype(int)
    (left, top), (width, height) = low.tolist(), (high - low).tolist()
    inside = np.zeros((height, width), np.bool_)
    for ring in rings:
        inside |= inside_polygon(ring - low, height, width)
    return _Region(top, left, inside)


def inside_polygon(points: NDArray[np.float64], height: int, width: int) -> Bools:
    """Whether each pixel's centre is inside the polygon of corners `points` (N, 2), x y; (height, width)."""
    starts, ends = points, np.roll(points, -1, axis=0)
    toggles = np.zeros((height, width + 1), np.uint8)
    step = max(1, _MOST_CELLS // len(points))
    for first in range(0, height, step):
        centres = np.arange(first, min(first + step, height)) + 0.5
        crosses = (starts[:, 1] <= centres[:, None]) != (ends[:, 1] <= centres[:, None])
        rows, edges = np.nonzero(crosses)
        start, end = starts[edges], ends[edges]
        share = (centres[rows] - start[:, 1]) / (end[:, 1] - start[:, 1])
        x = start[:, 0] + share * (end[:, 0] - start[:, 0])
        # From the first centre at or beyond the crossing on, a row is inside, until the next crossing.
        columns = np.clip(np.ceil(x - 0.5), 0, width).astype(int)
        np.bitwise_xor.at(toggles, (first + rows, columns), 1)
    inside: Bools = np.bitwise_xor.accumulate(toggles[:, :width], axis=1).astype(np.bool_)
    return inside


def _of_runs(runs: Runs, size: tuple[int, int], where: str) -> Bools:
    if runs.size != size:
        (own_height, own_width), (height, width) = runs.size, size
        what = f"its run lengths are of {own_width}x{own_height} pixels, the picture is {width}x{height}"
        raise DataError(where, what, _REDRAW)
    try:
        counts = unpacked_counts(runs.counts) if isinstance(runs.counts, str) else runs.counts
        return inside_runs(counts, *size)
    except ValueError as error:
        raise DataError(where, str(error), _REDRAW) from None


def inside_runs(counts: Sequence[int], height: int, width: int) -> Bools:
    """The pixels that run lengths mark, (height, width). Raises ValueError where they do not fill it."""
    if min(counts, default=0) < 0 or sum(counts) != height * width:
        raise ValueError(f"its run lengths come to {sum(counts)} of {height * width} pixels")
    marks = np.arange(len(counts)) % 2 == 1
    return np.repeat(marks, counts).reshape(width, height).T


def unpacked_counts(text: str) -> list[int]:
    """The run lengths that COCO's `text` packs. Raises ValueError where it is cut or no such text."""
    counts: list[int] = []
    value = bits = 0
    for character in text:
        code = ord(character) - 48
        if not 0 <= code < 64 or bits > 60:
            raise ValueError(f"its run lengths are packed with {character!r}")
        value |= (code & 31) << bits
        bits += 5
        if code & 32:
            continue
        if code & 16:  # the sign
            value -= 1 << bits
        counts.append(value + counts[-2] if len(counts) > 2 else value)
        value = bits = 0
    if bits:
        raise ValueError("its run lengths are cut")
    return counts


def _cropped(inside: Bools) -> _Region:
    rows, columns = (np.flatnonzero(inside.any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return _Region(0, 0, inside[:0, :0])
    top, left = int(rows[0]), int(columns[0])
    return _Region(top, left, inside[top : rows[-1] + 1, left : columns[-1] + 1].copy())
