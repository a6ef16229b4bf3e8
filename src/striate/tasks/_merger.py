"""One answer from what a network says of several views of a picture."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from striate.errors import ModelError, UsageError
from striate.structures import IGNORE, Segmentation
from striate.tasks._at_source import Maps, finite, held_by_input, largest, maps_at_source
from striate.tasks._softmax import softmax
from striate.tasks._views import Span, View, ViewOptions, spans

__all__ = ["Merger", "Refine"]

Refine: TypeAlias = Callable[[Maps], Maps]
"""From the probabilities (K, H, W) of a whole picture to better ones."""


class _Piece(NamedTuple):
    """A stretch of one axis in which the same tiles have a share."""

    start: int
    stop: int
    tiles: int

    def within(self, span: Span) -> slice:
        """Where it lies in the tile `span`."""
        return slice(self.start - span.start, self.stop - span.start)


def _pieces(spans: tuple[Span, ...]) -> tuple[_Piece, ...]:
    used = [span.used for span in spans]
    cuts = sorted({end for ends in used for end in ends})
    return tuple(
        _Piece(start, stop, sum(first <= start < last for first, last in used))
        for start, stop in pairwise(cuts)
    )


def _touched(pieces: tuple[_Piece, ...], span: Span) -> list[_Piece]:
    """Those in which the tile `span` has a share."""
    first, last = span.used
    return [piece for piece in pieces if first <= piece.start < last]


class Merger:
    """The mask of one picture from what a network says of its views, added in any order.

    The answer at a pixel is the class of the largest probability, averaged over the views that show it, in
    the proportion of the tiles' shares. It is settled for each part of the picture as soon as its last view
    is in; only the parts that wait for further views hold probabilities. With one view it is what
    `results` gives. `refine` gets and gives probabilities of the whole picture, and so goes without tiles.
    """

    def __init__(
        self,
        key: str,
        size: tuple[int, int],  # height, width of the picture
        classes: tuple[str, ...],
        options: ViewOptions,
        refine: Refine | None = None,
    ) -> None:
        self.key, self.classes, self.options = key, classes, options
        self._rows, self._columns = (spans(length, options) for length in size)
        self._row_pieces, self._column_pieces = _pieces(self._rows), _pieces(self._columns)
        self._refine = refine
        self._mask = np.full(size, IGNORE, np.uint8)
        self._sums: dict[tuple[_Piece, _Piece], Maps] = {}
        self._missing = {
            (row, column): row.tiles * column.tiles * options.repeats
            for row in self._row_pieces
            for column in self._column_pieces
        }
        if refine is not None and len(self._rows) * len(self._columns) > 1:
            raise UsageError("tile", "probabilities of the whole picture are to be refined", "do not tile it")

    def add(self, view: View, logits: NDArray[Any]) -> None:
        """Count `logits` (K, h, w), what the network says of `view`.

        Raises NotFiniteError for a NaN or infinity, ModelError where the shape is not the view's.
        """
        if logits.ndim != 3 or len(logits) != len(self.classes):
            raise ModelError(
                "logits",
                f"the shape is {logits.shape}, expected {(len(self.classes), 'H', 'W')}",
                "run the network that these classes belong to",
            )
        maps = finite(logits, self.key)
        if view.is_mirrored:
            maps = maps[:, :, ::-1]
        high, wide = self._rows[view.row], self._columns[view.column]
        for row in _touched(self._row_pieces, high):
            for column in _touched(self._column_pieces, wide):
                self._add_to((row, column), view, maps)

    def result(self) -> Segmentation:
        """The mask. Raises UsageError where a view is missing."""
        if self._missing:
            raise UsageError("views", f"some of {self.key} are missing", "add each one once")
        return Segmentation(self.key, self._mask, self.classes)

    def _add_to(self, place: tuple[_Piece, _Piece], view: View, maps: Maps) -> None:
        rows, columns = place
        high, wide = self._rows[view.row], self._columns[view.column]
        window = rows.within(high), columns.within(wide)
        held_rows, held_columns = held_by_input(view.geometry)
        if self._refine is None and rows.tiles * columns.tiles * self.options.repeats == 1:
            mask = self._mask[rows.start : rows.stop, columns.start : columns.stop]
            for band, part in maps_at_source(maps, view.geometry, window):
                mask[band] = largest(part)
            mask[~held_rows[window[0]]] = IGNORE
            mask[:, ~held_columns[window[1]]] = IGNORE
        else:
            down = (high.weight * held_rows)[window[0]]
            across = (wide.weight * held_columns)[window[1]]
            sums = self._sums.get(place)
            if sums is None:
                sums = np.zeros((len(maps), len(down), len(across)), np.float32)
                self._sums[place] = sums
            for band, part in maps_at_source(maps, view.geometry, window):
                sums[:, band] += softmax(part, axis=0) * (down[band, None] * across)
        self._missing[place] -= 1
        if not self._missing[place]:
            self._settle(place)

    def _settle(self, place: tuple[_Piece, _Piece]) -> None:
        del self._missing[place]
        sums = self._sums.pop(place, None)
        if sums is None:  # its one view has settled it
            return
        rows, columns = place
        is_seen = sums.any(axis=0)
        if self._refine is not None:
            sums[:, ~is_seen] = 1
            sums = self._refine(sums / sums.sum(axis=0))
        self._mask[rows.start : rows.stop, columns.start : columns.stop] = np.where(
            is_seen, largest(sums), np.uint8(IGNORE)
        )
