"""Dots on lines as SVG: every arm a line, every seed a dot; in light and dark, and without script."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from striate.reports.charts import Axis
from striate.reports.markup import Markup, joined, tag

__all__ = ["Dots", "Panel", "picture"]

WIDTH, ROW, TOP, BOTTOM = 860, 30, 70, 34  # pixels
GAP, RADIUS, LETTER, APART = 40, 4.5, 6.9, 10

# Okabe and Ito's blue and orange, lighter on a dark ground; a ring and a disc are told apart without colour.
STYLE = """
.ground { fill: #fff } text { fill: #333; font: 13px system-ui, sans-serif } .title { font-weight: 600 }
.grid { stroke: #ddd } .frame { fill: none; stroke: #bbb } .range { stroke-width: 2; opacity: .55 }
.end { text-anchor: end } .middle { text-anchor: middle } .tick { font-size: 12px; fill: #555 }
.disc { fill: #0072b2 } .ring { fill: #fff; stroke: #b45000; stroke-width: 2 }
.disc-range { stroke: #0072b2 } .ring-range { stroke: #b45000 }
@media (prefers-color-scheme: dark) {
.ground { fill: #14171c } text { fill: #e8eaee } .tick { fill: #a9b1bf } .grid { stroke: #39404c }
.frame { stroke: #59616f }
.disc { fill: #56b4e9 } .ring { fill: #14171c; stroke: #f0a060 }
.disc-range { stroke: #56b4e9 } .ring-range { stroke: #f0a060 } }
"""


@dataclass(frozen=True)
class Dots:
    """One measure of every arm."""

    title: str
    values: Mapping[str, Sequence[float]]  # of each arm, one a seed


@dataclass(frozen=True)
class Panel:
    """One axis, with one or two measures over it: rings for the first of two, discs for the other."""

    dots: tuple[Dots, ...]
    is_percent: bool = False
    is_log: bool = False


def picture(title: str, panels: Iterable[Panel]) -> str:
    """The SVG file: the arms under each other, the panels side by side."""
    every = list(panels)
    arms = list(every[0].dots[0].values)
    left = LETTER * max(map(len, arms)) + 24
    each = (WIDTH - left - GAP * len(every)) / len(every)
    height = TOP + ROW * len(arms) + BOTTOM
    names = [
        tag("text", arm, x=left - 12, y=middle_of(row) + 4, class_="end") for row, arm in enumerate(arms)
    ]
    drawn = [
        part
        for number, panel in enumerate(every)
        for part in panel_parts(panel, left + number * (each + GAP), each, arms)
    ]
    return (
        tag(
            "svg",
            tag("title", title),
            tag("style", Markup(STYLE)),
            tag("rect", width=WIDTH, height=height, class_="ground"),
            tag("text", title, x=14, y=24, class_="title"),
            *names,
            *drawn,
            xmlns="http://www.w3.org/2000/svg",
            viewBox=f"0 0 {WIDTH} {height}",
            role="img",
        )
        + "\n"
    )


def middle_of(row: int) -> float:
    """The height of the line of arm number `row`."""
    return TOP + ROW * (row + 0.5)


def panel_parts(panel: Panel, left: float, width: float, arms: Sequence[str]) -> Iterator[Markup]:
    """One panel: its measures' names, grid, and the dots of every arm."""
    own = [value for dots in panel.dots for seeds in dots.values.values() for value in seeds]
    if not own:
        return
    axis = axis_of(own, panel, left, left + width)
    bottom = TOP + ROW * len(arms)
    yield tag("rect", x=left, y=TOP, width=round(width, 1), height=bottom - TOP, class_="frame")
    for value in axis.ticks():
        x = axis.at(value)
        yield tag("line", x1=x, x2=x, y1=TOP, y2=bottom, class_="grid")
        text = f"{100 * value:g} %" if panel.is_percent else f"{value:g}"
        yield tag("text", text, x=x, y=bottom + 18, class_="tick middle")
    yield from heading(panel, left)
    for place, dots in enumerate(panel.dots):
        mark = mark_of(panel, place)
        beside = APART * (place - (len(panel.dots) - 1) / 2)  # two measures of an arm hide each other else
        for row, arm in enumerate(arms):
            yield joined(marks(dots.values[arm], axis, middle_of(row) + beside, mark))


def axis_of(values: Sequence[float], panel: Panel, start: float, end: float) -> Axis:
    """An axis around `values`, with a margin."""
    if panel.is_log:
        return Axis(min(values) / 2, max(values) * 2, start, end, is_log=True)
    low, high = min(values), max(values)
    room = 0.08 * (high - low) or 0.1 * abs(high) or 1.0
    return Axis(low - room, high + room, start, end)


def mark_of(panel: Panel, place: int) -> str:
    """The class of the marks of measure number `place`."""
    return "ring" if place < len(panel.dots) - 1 else "disc"


def heading(panel: Panel, left: float) -> Iterator[Markup]:
    """The names of the measures, each behind its mark."""
    x = left
    for place, dots in enumerate(panel.dots):
        yield tag("circle", cx=x + RADIUS, cy=TOP - 17, r=RADIUS, class_=mark_of(panel, place))
        yield tag("text", dots.title, x=x + 16, y=TOP - 13)
        x += 34 + LETTER * len(dots.title)


def marks(values: Sequence[float], axis: Axis, y: float, mark: str) -> Iterator[Markup]:
    """A dot for each seed and a line from the least to the largest."""
    if values:
        ends = axis.at(min(values)), axis.at(max(values))
        yield tag("line", x1=ends[0], x2=ends[1], y1=y, y2=y, class_=f"range {mark}-range")
    for value in values:
        yield tag("circle", cx=axis.at(value), cy=y, r=RADIUS, class_=mark)
