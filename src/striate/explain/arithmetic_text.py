"""One number's arithmetic as lines of text: window, kernel and products, sums by channel, the total."""

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from striate.explain.arithmetics._explained import ChannelSum, PoolWindow, WindowSum, number
from striate.explain.rows import times

if TYPE_CHECKING:
    from striate.explain.arithmetic import Arithmetic, Checked

__all__ = ["lines_of", "padding_text"]

_CELL = 8  # characters of a number in a table, the mark of padding and a space included
_LEAST_CELL = 6
_MOST_ROWS = 8  # of a pooled window
_LABEL = 9
_BAR = 12


def lines_of(found: "Arithmetic", width: int) -> Iterator[str]:
    """Lines of at most `width` characters where the numbers allow."""
    return (line.rstrip() for line in _lines(found, width))


def _lines(found: "Arithmetic", width: int) -> Iterator[str]:
    yield f"{found.call}, {_where(found.position)} of {times(found.shape)} ({found.kind})"
    if not found.steps:
        yield f"{'':{_LABEL}}not explained: {found.not_explained}"
        yield f"{'torch':{_LABEL}}{number(found.torch_value)}"
        return
    if found.sources:
        yield f"{'from':{_LABEL}}{' and '.join(found.sources)}"
    for step in found.steps:
        yield from _step(step, width)
    for step in found.following:
        yield ""
        yield f"then {step.call}: {step.explained.operation}"
        yield from _worked(step)


def _step(step: "Checked", width: int) -> Iterator[str]:
    window = step.explained.window
    if isinstance(window, WindowSum):
        yield from _sum_window(window, width)
        yield f"{'total':{_LABEL}}{step.explained.worked}"
        yield _agreement(step)
        return
    yield f"{'':{_LABEL}}{step.explained.operation}"
    if isinstance(window, PoolWindow):
        yield from _pool_window(window, width)
    yield from _worked(step)


def _worked(step: "Checked") -> Iterator[str]:
    yield f"{'':{_LABEL}}{step.explained.formula}"
    yield f"{'':{_LABEL}}{step.explained.worked}"
    yield _agreement(step)


def _agreement(step: "Checked") -> str:
    verdict = "agrees" if step.ok else "DIFFERS"
    return (
        f"{'torch':{_LABEL}}{number(step.torch_value)}, difference {step.difference:.1g}"
        f" (allowed {step.tolerance:.1g}): {verdict}"
    )


def _sum_window(window: WindowSum, width: int) -> Iterator[str]:
    is_map = bool(window.places)
    if is_map:
        yield f"{'window':{_LABEL}}{_axes(window)}"
        if window.is_padded.any():
            yield f"{'':{_LABEL}}· marks the padded cells: {padding_text(window)}"
    if window.channels and is_map and window.channels[0].values.size > 1:
        yield from _tables(window, window.channels[0], width)
    yield from _sums(window, is_map)


def _axes(window: WindowSum | PoolWindow) -> str:
    names = (
        ("rows", "columns")
        if len(window.places) == 2
        else ("depths", "rows", "columns")[-len(window.places) :]
    )
    parts = [f"{name} {_listed(places)}" for name, places in zip(names, window.places, strict=True)]
    return ", ".join(parts) + " of the input"


def _listed(places: Sequence[int]) -> str:
    if not places:
        return "none"
    shown = [str(place) for place in places]
    return " ".join(shown) if len(shown) <= 7 else f"{shown[0]} {shown[1]} ... {shown[-1]}"


def padding_text(window: WindowSum) -> str:
    """What stands in the padded cells of `window`."""
    words = {
        "zeros": "zeros",
        "reflect": "the input mirrored at its border",
        "replicate": "the value at the border again",
        "circular": "the values of the other side",
    }
    return words.get(window.padding, f"a {window.padding}")


def _tables(window: WindowSum, channel: ChannelSum, width: int) -> Iterator[str]:
    """Input, kernel and products of one channel: beside each other where there is room."""
    parts = {"input": channel.values, "kernel": channel.kernel, "products": channel.products}
    grids = {name: np.atleast_2d(values) for name, values in parts.items()}
    columns = grids["input"].shape[-1]
    yield ""
    title = f"channel {channel.channel}"
    if window.count > 1:
        title += f", the largest sum in size of {window.count}"
    cell = _cell(columns, width)
    if grids["input"].ndim > 2 or cell is None:
        yield f"{'':{_LABEL}}{title}: {channel.values.size} products, too wide to show"
        return
    yield f"{'':{_LABEL}}{title}"
    padded = np.broadcast_to(window.is_padded, channel.values.shape).reshape(-1, columns)
    plain = np.zeros_like(padded)
    texts = {}
    for name, grid in grids.items():
        factor = _factor(grid, cell)
        label = f"{name} x {factor:g}" if factor > 1 else name
        texts[label] = _cells(factor * grid, plain if name == "kernel" else padded, cell)
    if 3 * columns * cell + _LABEL + 6 <= width:
        yield _beside(list(texts), columns * cell)
        yield from (_beside(line, columns * cell) for line in zip(*texts.values(), strict=True))
        return
    for name, lines in texts.items():
        yield f"{'':{_LABEL}}{name}"
        yield from (f"{'':{_LABEL}}{line}" for line in lines)


def _cell(columns: int, width: int) -> int | None:
    """Characters of a number in a table of so many columns, its mark and a space included; None: no room."""
    room = (width - _LABEL) // max(1, columns)
    return min(_CELL, room) if room >= _LEAST_CELL else None


def _factor(grid: NDArray[np.float64], cell: int) -> float:
    """A power of ten that brings small numbers into sight where a table has little room for digits."""
    largest = float(np.abs(grid).max())
    if not 0 < largest < (0.5 if cell < _CELL else 0.005):
        return 1.0
    return 10.0 ** (1 - math.floor(math.log10(largest)))


def _beside(texts: Sequence[str], wide: int) -> str:
    return f"{'':{_LABEL}}" + "   ".join(f"{text:<{wide}}" for text in texts)


def _cells(grid: NDArray[np.float64], marked: NDArray[np.bool_], cell: int) -> list[str]:
    return [
        "".join(
            f"{('·' if mark else '') + _short(value, cell - 2):>{cell - 1}} "
            for value, mark in zip(row, marks, strict=True)
        )
        for row, marks in zip(grid, marked, strict=True)
    ]


def _short(value: float, room: int) -> str:
    """`value` in `room` characters where that can be."""
    if np.isnan(value) or not value:
        return "-" if np.isnan(value) else "0"
    texts = [f"{value:.{digits}f}" for digits in (3, 2, 1, 0) if abs(value) >= 0.5 * 10**-digits]
    return next((text for text in (*texts, f"{value:.0e}") if len(text) <= room), f"{value:.0e}")


def _sums(window: WindowSum, is_map: bool) -> Iterator[str]:
    yield ""
    largest = max((abs(channel.sum) for channel in window.channels), default=0.0)
    every = window.count
    if every == 1:
        return
    noun = window.noun
    shown = f"the {len(window.channels)} largest of {every}" if window.rest_count else f"all {every}"
    yield f"{'sums':{_LABEL}}by {noun}, {shown}"
    for channel in window.channels:
        bar = "#" * (round(_BAR * abs(channel.sum) / largest) if largest else 0)
        product = "" if is_map and channel.values.size > 1 else _single(channel)
        yield f"{'':{_LABEL}}{channel.channel:>6}  {channel.sum:>+12.6g}  {product}{bar}"
    if window.rest_count:
        yield f"{'':{_LABEL}}and {window.rest_count} more {noun}s: {window.rest:+.6g}"


def _single(channel: ChannelSum) -> str:
    value, weight = float(channel.values.reshape(-1)[0]), float(channel.kernel.reshape(-1)[0])
    return f"{f'{number(value)} · {number(weight)}':<28}"


def _pool_window(window: PoolWindow, width: int) -> Iterator[str]:
    yield f"{'window':{_LABEL}}{_axes(window)}"
    grid = np.atleast_2d(window.values)
    cell = _cell(grid.shape[1], width)
    if grid.ndim == 2 and cell is not None and len(grid) <= _MOST_ROWS:
        yield from (f"{'':{_LABEL}}{line}" for line in _cells(grid, np.isnan(grid), cell))


def _where(position: Sequence[int]) -> str:
    names = {1: ("channel",), 2: ("channel", "place"), 3: ("channel", "row", "column")}.get(len(position))
    if names is None:
        return f"position ({', '.join(map(str, position))})"
    return ", ".join(f"{name} {place}" for name, place in zip(names, position, strict=True))
