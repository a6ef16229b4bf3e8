"""U-Net's weight map: pixels that separate cells which nearly touch count more in the loss."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from striate.structures import IGNORE

__all__ = ["border_weight", "cells"]

_NEGLIGIBLE = 1e-3  # a weight that is left out; an ordinary pixel's is 1
_BACKGROUND = 0  # the class id of what lies between cells

Ids = NDArray[np.int32]
Codes = NDArray[np.signedinteger]


def border_weight(labels: NDArray[np.uint8], height: float, sigma: float) -> NDArray[np.float32]:
    """`height * exp(-(d1 + d2)^2 / (2 sigma^2))` of each pixel of the background, 0 elsewhere: (H, W).

    d1 and d2 are the distances in pixels to the two nearest `cells` of `labels` (H, W), from centre to
    centre. Weights below 0.001 are 0. Ronneberger et al. 2015 (arXiv:1505.04597), equation 2, without its
    class weight; there `height` is 10 and `sigma` 5.
    """
    weight = np.zeros(labels.shape, np.float32)
    if height <= _NEGLIGIBLE:
        return weight
    reach = math.floor(sigma * math.sqrt(2 * math.log(height / _NEGLIGIBLE)))
    found = cells(labels)
    rows, columns = np.nonzero((labels == _BACKGROUND) & _sees_two(found, reach))
    nearest, second = _two_nearest(found, rows, columns, reach)
    distance = np.sqrt(nearest) + np.sqrt(second)
    value = height * np.exp(-(distance**2) / (2 * sigma**2))
    weight[rows, columns] = np.where(value >= _NEGLIGIBLE, value, 0)
    return weight


def cells(labels: NDArray[np.uint8]) -> Ids:
    """The number of the cell that each pixel is in, from 1, and 0 outside all: (H, W).

    A cell is what hangs together, by sides, of one class that is neither the background, class 0, nor
    unknown. Corners do not join: a membrane one pixel wide that runs aslant separates.
    """
    inside = (labels != _BACKGROUND) & (labels != IGNORE)
    starts = inside.copy()  # of runs along the rows
    starts[:, 1:] &= labels[:, 1:] != labels[:, :-1]
    runs = np.cumsum(starts, dtype=np.int32).reshape(labels.shape) * inside
    # Where two runs, one above the other, begin to touch: the later of them begins there.
    meets = inside[1:] & (labels[1:] == labels[:-1]) & (starts[1:] | starts[:-1])
    names = _components(int(runs.max(initial=0)) + 1, runs[:-1][meets], runs[1:][meets])
    found: Ids = names[runs]
    return found


def _components(count: int, one: Ids, other: Ids) -> Ids:
    """A number for each of `count` nodes, equal where edges connect them, in the order of their first."""
    parent = np.arange(count)
    while len(one):
        low, high = np.minimum(parent[one], parent[other]), np.maximum(parent[one], parent[other])
        np.minimum.at(parent, high, low)
        while not np.array_equal(above := parent[parent], parent):
            parent = above
        apart = parent[one] != parent[other]
        one, other = one[apart], other[apart]
    return np.unique(parent, return_inverse=True)[1].astype(np.int32)


def _sees_two(found: Ids, reach: int) -> NDArray[np.bool_]:
    """Where two cells are within `reach` rows and columns, (H, W)."""
    nowhere = np.iinfo(found.dtype).max
    low = np.where(found, found, nowhere)
    high = found
    for axis in (0, 1):
        low = _lowest_around(low, reach, axis)
        high = -_lowest_around(-high, reach, axis)
    return low < high


def _lowest_around(values: Ids, reach: int, axis: int) -> Ids:
    """The least of the `2 reach + 1` values around each along `axis`, in steps that double."""
    window = 2 * reach + 1
    around = [(0, 0), (0, 0)]
    around[axis] = (reach, reach)
    least = np.pad(values, around, mode="edge")
    covered = 1
    while covered < window:
        step = min(covered, window - covered)
        least = np.minimum(_sliced(least, axis, 0, -step), _sliced(least, axis, step, None))
        covered += step
    return least


def _sliced(values: Ids, axis: int, first: int, end: int | None) -> Ids:
    part = slice(first, end)
    return values[part] if axis == 0 else values[:, part]


@dataclass(frozen=True, slots=True)
class _Coding:
    """A squared distance and the cell that far away as one number: the lesser is the nearer."""

    bits: int  # of the cell
    kind: type[np.signedinteger]
    nothing: int  # further away than any

    @classmethod
    def for_cells(cls, found: Ids, reach: int) -> "_Coding":
        """For the cells `found` and distances up to `reach` along rows and columns."""
        bits = int(found.max(initial=0)).bit_length()
        if max(found.shape[0], 2 * reach**2 + 1) << bits < 1 << 30:
            return cls(bits, np.int32, 1 << 30)
        return cls(bits, np.int64, 1 << 60)

    def squares(self, codes: Codes) -> Codes:
        """The squared distances."""
        return codes >> self.bits

    def merged(self, first: Codes, second: Codes, codes: Codes) -> tuple[Codes, Codes]:
        """The two nearest cells of three, `first` and `second` being two, and the nearer first."""
        same = (first ^ codes) & (1 << self.bits) - 1 == 0
        second = np.where(same, second, np.minimum(second, np.maximum(first, codes)))
        return np.minimum(first, codes), second


def _two_nearest(
    found: Ids, rows: NDArray[np.int64], columns: NDArray[np.int64], reach: int
) -> tuple[Codes, Codes]:
    """Squared distances of the pixels at `rows`, `columns` to the nearest cell and the next, (N,) each.

    Exact up to `reach`. Only the two nearest cells in each column can be among the two nearest of all: any
    other has two nearer ones in its own column.
    """
    coding, margin = _Coding.for_cells(found, reach), ((0, 0), (reach, reach))
    near, next_ = (
        np.pad(codes, margin, constant_values=coding.nothing).ravel()
        for codes in _nearest_in_columns(found, reach, coding)
    )
    places = rows * (found.shape[1] + 2 * reach) + columns + reach
    first, second = (np.full(len(rows), coding.nothing, coding.kind) for _ in range(2))
    waiting, one, other = np.arange(len(rows)), first, second
    for step in range(reach + 1):
        for aside in (-step, step):
            for codes in (near, next_):
                there = codes.take(places[waiting] + aside) + coding.kind(step**2 << coding.bits)
                one, other = coding.merged(one, other, there)
        first[waiting], second[waiting] = one, other
        # What comes is further away than this step; most pixels have seen nearer ones by now.
        further = (step + 1) ** 2
        nearest = np.minimum(coding.squares(one), further)
        goes_on = (coding.squares(other) > further) & (nearest <= max(0, reach - step - 1) ** 2)
        waiting, one, other = waiting[goes_on], one[goes_on], other[goes_on]
    return coding.squares(first), coding.squares(second)


def _nearest_in_columns(found: Ids, reach: int, coding: _Coding) -> tuple[Codes, Codes]:
    """Of each pixel the two nearest cells in its column, up to `reach` away."""
    first, second = _nearest_above(found, reach, coding)
    for codes in _nearest_above(found[::-1], reach, coding):
        first, second = coding.merged(first, second, codes[::-1])
    return first, second


def _nearest_above(found: Ids, reach: int, coding: _Coding) -> tuple[Codes, Codes]:
    """Of each pixel the nearest cell at or above it in its column, and the next other one there."""
    row = np.arange(len(found), dtype=coding.kind)[:, None]
    # The greatest row with a cell so far is the nearest.
    last = np.maximum.accumulate(np.where(found > 0, row << coding.bits | found, -1), axis=0)
    before = np.full_like(last, -1)
    before[1:] = last[:-1]
    begins = (found > 0) & ((before ^ found) & (1 << coding.bits) - 1 != 0)
    other = np.maximum.accumulate(np.where(begins, before, -1), axis=0)
    return _counted(last, row, reach, coding), _counted(other, row, reach, coding)


def _counted(above: Codes, row: Codes, reach: int, coding: _Coding) -> Codes:
    """The cells at the rows `above`, which is row and cell as one number, by their distance from `row`."""
    away = np.where(above < 0, reach + 1, row - (above >> coding.bits))
    number = above & (1 << coding.bits) - 1
    codes = np.where(away <= reach, away**2 << coding.bits | number, coding.nothing)
    return codes.astype(coding.kind, copy=False)
