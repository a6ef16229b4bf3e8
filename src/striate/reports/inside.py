"""What one picture becomes in the network: its maps at some depths, and one number worked out."""

import math
from collections.abc import Iterator

from striate.reports.evidence import Grid, Inside, Step, WindowChannel, Worked
from striate.reports.markup import Markup, joined, tag
from striate.reports.pictures import gallery
from striate.reports.tables import caption, data_table, scrolling

__all__ = ["inside_section"]

_DIGITS = 4  # of the largest number of a grid
_SMALLEST = 8  # decimals; what is below them is nothing beside the largest


def inside_section(made: Inside) -> Markup:
    """The picture, its maps, and the sum behind one number."""
    return tag(
        "div",
        gallery(made.picture),
        tag("h3", "Feature maps"),
        tag("p", made.maps_text),
        *(joined((tag("h4", maps.title), gallery(maps))) for maps in made.maps),
        tag("h3", "One number worked out"),
        tag("p", made.worked_text),
        "" if made.worked is None else joined(_worked(made.worked)),
    )


def _worked(made: Worked) -> Iterator[Markup]:
    if made.entering:
        yield tag("h4", "A pixel comes in")
        yield tag("p", made.entering_text)
        yield _steps(made.entering)
    if made.channels:
        yield tag("h4", "Its window")
        yield tag("p", made.window_text)
        for place, channel in enumerate(made.channels):
            yield _channel(channel, is_open=not place)
    if made.sums is not None:
        yield tag("h4", "What adds up")
        yield data_table(made.sums, is_sortable=False)
    yield tag("h4", "The sum, and what is made of it")
    yield _steps(made.steps)


def _channel(made: WindowChannel, is_open: bool) -> Markup:
    title = tag("summary", f"{made.name}: its products add up to {made.sum:.6g}")
    grids = (_grid(grid, f"{made.name}, {grid.name}") for grid in made.grids)
    return tag("details", title, tag("div", *grids, class_="grids"), open=is_open)


def _grid(made: Grid, name: str) -> Markup:
    """Numbers in rows and columns, the padded ones with a mark that is read out too."""
    decimals = _decimals(made)
    # A cell, not a heading: it heads nothing.
    head = tag("tr", tag("td"), *(tag("th", str(column), scope="col") for column in made.columns))
    rows = (
        tag("tr", tag("th", str(row), scope="row"), *_cells(own, marks, decimals))
        for row, own, marks in zip(made.rows, made.values, made.padded, strict=True)
    )
    table = tag("table", caption(made.name), tag("thead", head), tag("tbody", *rows), class_="grid-table")
    return scrolling(table, name)


def _cells(values: tuple[float, ...], padded: tuple[bool, ...], decimals: int) -> Iterator[Markup]:
    for value, is_padded in zip(values, padded, strict=True):
        text = f"{value:.{decimals}f}" if value else "0"
        mark = (" ", tag("abbr", "p", title="padded")) if is_padded else ()
        yield tag("td", text, *mark, class_="padded" if is_padded else None)


def _decimals(grid: Grid) -> int:
    """Digits behind the point that show the largest number with four of them."""
    largest = max((abs(value) for row in grid.values for value in row if math.isfinite(value)), default=0.0)
    if not largest:
        return 0
    return min(_SMALLEST, max(0, _DIGITS - 1 - math.floor(math.log10(largest))))


def _steps(steps: tuple[Step, ...]) -> Markup:
    return tag("ol", *map(_step, steps), class_="steps")


def _step(made: Step) -> Markup:
    verdict = "they agree" if made.agrees else "they differ"
    beside = f"difference {made.difference:.1g} (allowed {made.allowed:.1g}): {verdict}"
    return tag(
        "li",
        tag("strong", made.title),
        tag("code", made.formula),
        tag("code", made.worked),
        tag("span", f"torch: {made.torch:.6g}, {beside}", class_="quiet" if made.agrees else "error"),
    )
