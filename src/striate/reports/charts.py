"""Charts as plain SVG: lines, a reliability diagram, cost against quality. The page has the colours."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from striate.reports.evidence import Bin, Chart, Point, Series
from striate.reports.markup import Markup, tag
from striate.reports.tables import percent

__all__ = ["Axis", "cost_chart", "line_chart", "reliability_chart"]

_WIDTH, _HEIGHT = 440, 270
_LEFT, _RIGHT, _TOP, _BOTTOM = 54, 24, 12, 42
_MOST_DOTS = 40  # points of a line that are marked one by one
_COLORS = 8  # of lines that the page tells apart


@dataclass(frozen=True, slots=True)
class Axis:
    """Numbers onto pixels, and the round ones among them."""

    low: float
    high: float
    start: float  # pixel of `low`
    end: float
    is_log: bool = False
    least_step: float = 0.0  # between two ticks

    def at(self, value: float) -> float:
        """The pixel of `value`."""
        low, high, place = (
            (math.log10(number) if self.is_log else number) for number in (self.low, self.high, value)
        )
        return round(self.start + (place - low) / (high - low) * (self.end - self.start), 1)

    def ticks(self) -> Iterator[float]:
        """Round numbers within it, ascending."""
        if self.is_log:
            yield from _log_ticks(self.low, self.high)
            return
        step = max(_step(self.high - self.low), self.least_step)
        first = math.ceil(self.low / step - 1e-9)
        for count in range(first, math.floor(self.high / step + 1e-9) + 1):
            yield float(f"{count * step:.10g}")


def line_chart(chart: Chart) -> Markup:
    """`chart` as a figure: its lines, told apart by colour and dash, and a legend."""
    x_axis, y_axis = _axes(chart)
    lines = [_line(series, place, x_axis, y_axis) for place, series in enumerate(chart.series)]
    drawn = _svg(chart.title, _told(chart), *_frame(x_axis, y_axis, chart), *lines)
    legend = tag("ul", *map(_legend_entry, enumerate(chart.series)), class_="legend")
    return tag("figure", tag("figcaption", chart.title), drawn, legend, class_="chart")


def reliability_chart(bins: Sequence[Bin]) -> Markup:
    """How often the model is right at each confidence: bars, and a mark where each should end."""
    x_axis, y_axis = _unit_axes()
    chart = Chart("Reliability", "confidence", "share that is right", (), is_percent=True, is_unit=True)
    diagonal = tag("line", x1=x_axis.at(0), y1=y_axis.at(0), x2=x_axis.at(1), y2=y_axis.at(1), class_="ideal")
    filled = [each for each in bins if each.pictures]
    bars = [part for each in filled for part in _bar(each, x_axis, y_axis)]
    told = "; ".join(
        f"confidence {percent(each.confidence)}: {percent(each.accuracy)} of {each.pictures:,} right"
        for each in filled
    )
    return tag(
        "figure",
        tag("figcaption", chart.title),
        _svg(chart.title, told, *_frame(x_axis, y_axis, chart), *bars, diagonal),
        tag(
            "ul",
            tag("li", _sample(tag("rect", width=22, height=10, y=1, class_="bar")), "share that is right"),
            tag("li", _sample(tag("line", x1=0, x2=22, y1=6, y2=6, class_="target")), "mean confidence"),
            tag("li", _sample(tag("line", x1=0, x2=22, y1=6, y2=6, class_="ideal")), "as it should be"),
            class_="legend",
        ),
        class_="chart",
    )


def cost_chart(title: str, x_label: str, y_label: str, points: Sequence[Point]) -> Markup:
    """Quality over cost, the cost in powers of ten; a bar through a point is the interval of its quality."""
    costs = [point.cost for point in points]
    levels = [value for p in points for value in (p.quality, p.low, p.high) if value is not None]
    x_axis = Axis(min(costs) / 1.6, max(costs) * 1.6, _LEFT, _WIDTH - _RIGHT, is_log=True)
    low, high = _widened(min(levels), max(levels))
    y_axis = Axis(max(0.0, low), min(1.0, high), _HEIGHT - _BOTTOM, _TOP)
    chart = Chart(title, x_label, y_label, (), is_percent=True)
    marks = [part for place, point in enumerate(points) for part in _mark(place, point, x_axis, y_axis)]
    told = "; ".join(f"{p.name}: {_short(p.cost)}, {percent(p.quality)}" for p in points)
    legend = (
        tag("li", _sample(_dot(place, 11, 6)), f"{place + 1} {point.name}")
        for place, point in enumerate(points)
    )
    return tag(
        "figure",
        tag("figcaption", title),
        _svg(title, told, *_frame(x_axis, y_axis, chart), *marks),
        tag("ul", *legend, class_="legend"),
        class_="chart",
    )


def _axes(chart: Chart) -> tuple[Axis, Axis]:
    if chart.is_unit:
        return _unit_axes()
    xs = [x for series in chart.series for x in series.xs]
    ys = [y for series in chart.series for y in series.ys]
    y_axis = _log_axis(ys) if chart.is_log else _plain_axis(ys, chart.is_percent)
    left = min(xs) if len(set(xs)) > 1 else min(xs) - 1
    whole = 1.0 if chart.is_whole and max(xs) - left >= 1 else 0.0
    return Axis(left, max(xs), _LEFT, _WIDTH - _RIGHT, least_step=whole), y_axis


def _log_axis(values: Sequence[float]) -> Axis:
    return Axis(min(values) / 1.3, max(values) * 1.3, _HEIGHT - _BOTTOM, _TOP, is_log=True)


def _plain_axis(values: Sequence[float], is_percent: bool) -> Axis:
    low, high = min(values), max(values)
    if 0 <= low < 0.6 * high:
        low = 0.0  # what begins near nothing is best seen from there
    low, high = _widened(low, high) if low else (low, high * 1.04 or 1.0)
    high = min(high, 1.0) if is_percent and low < 1 else high
    return Axis(low, high, _HEIGHT - _BOTTOM, _TOP)


def _unit_axes() -> tuple[Axis, Axis]:
    return Axis(0, 1, _LEFT, _WIDTH - _RIGHT), Axis(0, 1, _HEIGHT - _BOTTOM, _TOP)


def _widened(low: float, high: float) -> tuple[float, float]:
    room = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
    return low - room, high + room


def _step(span: float) -> float:
    """A round distance of ticks that gives about five of them."""
    rough = span / 5
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * (1 - 1e-9))


def _log_ticks(low: float, high: float) -> Iterator[float]:
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors = (1, 2, 5) if len(powers) < 4 else (1,)
    for power in powers:
        for factor in factors:
            value = float(f"{factor}e{power}")
            if low <= value <= high:
                yield value


def _frame(x_axis: Axis, y_axis: Axis, chart: Chart) -> Iterator[Markup]:
    """Grid, ticks and the names of the axes."""
    for value in y_axis.ticks():
        y = y_axis.at(value)
        yield tag("line", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=y, y2=y, class_="grid")
        text = f"{100 * value:g} %" if chart.is_percent else _short(value)
        yield tag("text", text, x=_LEFT - 7, y=y + 4, class_="tick end")
    bottom = _HEIGHT - _BOTTOM
    for value in x_axis.ticks():
        x = x_axis.at(value)
        yield tag("line", x1=x, x2=x, y1=bottom, y2=bottom + 4, class_="axis")
        text = f"{100 * value:g} %" if chart.is_unit else _short(value)
        yield tag("text", text, x=x, y=bottom + 17, class_="tick middle")
    yield tag("line", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=bottom, y2=bottom, class_="axis")
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    yield tag("text", chart.x_label, x=middle, y=_HEIGHT - 6, class_="label middle")


def _line(series: Series, place: int, x_axis: Axis, y_axis: Axis) -> Markup:
    points = [(x_axis.at(x), y_axis.at(y)) for x, y in zip(series.xs, series.ys, strict=True)]
    drawn = [
        tag("polyline", points=" ".join(f"{x:g},{y:g}" for x, y in points), class_=f"line s{place % _COLORS}")
    ]
    if len(points) <= _MOST_DOTS:
        drawn += [_dot(place, x, y) for x, y in points]
    return tag("g", *drawn)


def _dot(place: int, x: float, y: float) -> Markup:
    return tag("circle", cx=x, cy=y, r=3.5, class_=f"dot d{place % _COLORS}")


def _mark(place: int, point: Point, x_axis: Axis, y_axis: Axis) -> Iterator[Markup]:
    x, y = x_axis.at(point.cost), y_axis.at(point.quality)
    if point.low is not None and point.high is not None:
        yield tag(
            "line",
            x1=x,
            x2=x,
            y1=y_axis.at(point.low),
            y2=y_axis.at(point.high),
            class_=f"spread s{place % _COLORS}",
        )
    yield _dot(place, x, y)
    yield tag("text", str(place + 1), x=x + 8, y=y + 4, class_="tick")


def _bar(each: Bin, x_axis: Axis, y_axis: Axis) -> Iterator[Markup]:
    left, right, top, bottom = (
        x_axis.at(each.low),
        x_axis.at(each.high),
        y_axis.at(each.accuracy),
        y_axis.at(0),
    )
    yield tag(
        "rect",
        x=left + 1,
        y=top,
        width=round(right - left - 2, 1),
        height=round(bottom - top, 1),
        class_="bar",
    )
    y = y_axis.at(each.confidence)
    yield tag("line", x1=left + 1, x2=right - 1, y1=y, y2=y, class_="target")


def _legend_entry(entry: tuple[int, Series]) -> Markup:
    place, series = entry
    line = tag("line", x1=0, x2=22, y1=6, y2=6, class_=f"line s{place % _COLORS}")
    return tag("li", _sample(line), series.name)


def _sample(content: Markup) -> Markup:
    return tag("svg", content, width=22, height=12, viewBox="0 0 22 12", aria_hidden="true")


def _svg(title: str, told: str, *content: Markup) -> Markup:
    label = f"{title}. {told}" if told else title
    return tag("svg", *content, viewBox=f"0 0 {_WIDTH} {_HEIGHT}", role="img", aria_label=label)


def _told(chart: Chart) -> str:
    """What the lines do, in words."""
    shown = percent if chart.is_percent else _short
    return "; ".join(
        f"{series.name}: from {shown(series.ys[0])} to {shown(series.ys[-1])}, "
        f"lowest {shown(min(series.ys))}, highest {shown(max(series.ys))}"
        for series in chart.series
    )


def _short(value: float) -> str:
    for size, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.3g}"
