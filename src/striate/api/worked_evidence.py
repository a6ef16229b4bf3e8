"""One number of a network worked out for a report: a pixel, its window, the sum, and what is made of it."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from striate.reports.evidence import Column, Grid, Step, Table, WindowChannel, Worked

if TYPE_CHECKING:
    from striate.explain.arithmetic import Arithmetic, Checked
    from striate.explain.arithmetics._explained import ChannelSum, WindowSum
    from striate.explain.recording import Recording

__all__ = ["ENTRY", "Number", "one_number"]

ENTRY = "normalize"
"""The first layer of every network: pixels go in, and what the others look at comes out."""

_TABLES = 3  # channels whose cells are shown
_CELLS = 256  # of a channel's window, at most

# torch's operations that look at values in another shape and leave their order as it is.
_IN_ORDER = {"_reshape_alias", "_unsafe_view", "clone", "view"}


@dataclass(frozen=True, slots=True)
class Number:
    """A number with how it is made, or without."""

    text: str  # which it is, or why there is none
    worked: Worked | None = None
    box: tuple[int, int, int, int] | None = None  # x0 y0 x1 y1 of its window in the network's input


def one_number(recording: "Recording", call: str, name: str) -> Number:
    """The largest number that `call` gave in a pass that kept its values; `name` is what people call it."""
    from striate.explain.arithmetic import arithmetic

    output = recording[call].output
    assert output is not None  # the recording was asked to keep it
    largest = np.unravel_index(int(output[0].argmax()), tuple(output.shape[1:]))
    found = arithmetic(recording, call, *map(int, largest))
    which = f"The largest number that {name} gives for this picture: {next(found.lines())}"
    if not found.steps:
        return Number(f"{which}. It is not worked out: {found.not_explained}.")
    window = found.window
    if window is None:
        return Number(f"{which}.", Worked("", (), "", (), None, _steps(found)))
    pixel, entering = _entering(recording, found, window)
    worked = Worked(
        pixel, entering, _window_text(window), tuple(_channels(window)), _sums(window), _steps(found)
    )
    return Number(f"{which}.", worked, _box(recording, found, window))


def _steps(found: "Arithmetic") -> tuple[Step, ...]:
    return tuple(map(_step, (*found.steps, *found.following)))


def _step(checked: "Checked") -> Step:
    explained = checked.explained
    return Step(
        f"{checked.call}: {explained.operation}",
        explained.formula,
        explained.worked,
        checked.torch_value,
        checked.difference,
        checked.tolerance,
        checked.ok,
    )


def _entering(
    recording: "Recording", found: "Arithmetic", window: "WindowSum"
) -> tuple[str, tuple[Step, ...]]:
    """The pixel of the largest product, and how it becomes what the network reckons with."""
    from striate.explain.arithmetic import arithmetic

    if _lies_on_pixels(recording, found, window):
        pixel, which = _under_kernel(window), "Of those in the window the one"
    else:
        pixel, which = _behind_feature(recording, found, window), "The one"
    if pixel is None:
        return "", ()
    channel, row, column = pixel
    text = f"{which} with the largest product in size: channel {channel}, row {row}, column {column}."
    return text, _steps(arithmetic(recording, ENTRY, *pixel))


def _under_kernel(window: "WindowSum") -> tuple[int, int, int] | None:
    """Channel, row and column of the largest product; None where all cells are padded."""
    if window.is_padded.all():
        return None
    sizes = np.stack([np.abs(channel.products) for channel in window.channels])
    place, *spot = np.unravel_index(int(np.where(window.is_padded, -1, sizes).argmax()), sizes.shape)
    row, column = (axis[cell] for axis, cell in zip(window.places, spot, strict=True))
    return window.channels[place].channel, row, column


def _behind_feature(
    recording: "Recording", found: "Arithmetic", window: "WindowSum"
) -> tuple[int, int, int] | None:
    """Channel, row and column of the feature of the largest product, where pixels stand in one row."""
    if window.places or len(found.sources) != 1:
        return None
    laid = next((call for call in recording.calls if call.name == found.sources[0]), None)
    if laid is None or laid.sources != (ENTRY,) or not set(laid.operations) <= _IN_ORDER:
        return None
    entered = recording[ENTRY].output_shape
    if entered is None or len(entered) != 4 or laid.output_shape != (1, prod(entered)):
        return None
    channel, row, column = np.unravel_index(window.channels[0].channel, entered[1:])
    return int(channel), int(row), int(column)


def _lies_on_pixels(recording: "Recording", found: "Arithmetic", window: "WindowSum") -> bool:
    """Whether its window is one of the network's own input, normalised."""
    if found.sources != (ENTRY,) or len(window.places) != 2 or window.slides is None:
        return False
    if not all(window.places):  # of a transposed convolution no cell may reach the number
        return False
    return window.slides.shape[-2:] == recording.images.shape[-2:]


def _box(
    recording: "Recording", found: "Arithmetic", window: "WindowSum"
) -> tuple[int, int, int, int] | None:
    if not _lies_on_pixels(recording, found, window):
        return None
    rows, columns = window.places
    return columns[0], rows[0], columns[-1] + 1, rows[-1] + 1


def _window_text(window: "WindowSum") -> str:
    from striate.explain.arithmetic_text import padding_text

    text = "The headings are rows and columns: those of its input, and of the kernel its own."
    if window.is_padded.any():
        text += f" A p marks cells outside the input, which are padded: {padding_text(window)}."
    shown = min(window.count, _TABLES)
    return text + (
        f" Of {window.count} channels the {shown} with the largest sums in size."
        if shown < window.count
        else ""
    )


def _has_cells(window: "WindowSum") -> bool:
    """Whether its cells are shown: several, in rows and columns, and not too many."""
    size = window.channels[0].values.size if window.channels else 0
    return len(window.places) in (1, 2) and 1 < size <= _CELLS


def _channels(window: "WindowSum") -> Iterator[WindowChannel]:
    if not _has_cells(window):
        return
    padded = np.atleast_2d(window.is_padded)
    places, taps = _headings(window.places), _headings(window.taps)
    for each in window.channels[:_TABLES]:
        grids = (
            _grid("input", places, each.values, padded),
            _grid("kernel", taps, each.kernel, np.zeros_like(padded)),
            _grid("products", places, each.products, padded),
        )
        yield WindowChannel(f"channel {each.channel}", each.sum, grids)


def _headings(axes: tuple[tuple[int, ...], ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Of rows and columns; what has one axis is one row."""
    return ((0,), axes[0]) if len(axes) == 1 else (axes[0], axes[1])


def _grid(
    name: str,
    headings: tuple[tuple[int, ...], tuple[int, ...]],
    values: NDArray[np.float64],
    padded: NDArray[np.bool_],
) -> Grid:
    cells = tuple(map(tuple, np.atleast_2d(values).tolist()))
    return Grid(name, *headings, cells, tuple(map(tuple, padded.tolist())))


def _sums(window: "WindowSum") -> Table | None:
    """What each channel adds; with the value and the weight where that is one product."""
    if window.count < 2:
        return None
    is_single = window.channels[0].values.size == 1
    headings = ("value", "weight", "product") if is_single else ("sum of products",)
    rows = [(str(each.channel), *_terms(each, is_single)) for each in window.channels]
    if window.rest_count:
        rows.append((f"{window.rest_count} more", *("",) * (len(headings) - 1), f"{window.rest:+.6g}"))
    caption = (
        f"The {len(window.channels)} largest of {window.count} {window.noun}s"
        if window.rest_count
        else f"All {window.count} {window.noun}s"
    )
    columns = (Column(window.noun, is_number=False), *map(Column, headings))
    return Table(f"{caption}, by the size of what they add", columns, tuple(rows))


def _terms(each: "ChannelSum", is_single: bool) -> tuple[str, ...]:
    total = f"{each.sum:+.6g}"
    return (f"{each.values.item():.6g}", f"{each.kernel.item():.6g}", total) if is_single else (total,)
