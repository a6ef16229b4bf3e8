"""The curve of a learning-rate range test, drawn in characters and as a picture."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

__all__ = ["RateChart"]

_GUTTER = 8  # columns for the numbers of the loss
_HEADROOM = 0.15  # of the span of the curve, above where it begins: what rises higher leaves the chart
_ROWS = 9
# Braille: bit of each dot of a cell, by row and column.
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
# Okabe and Ito's blue and vermilion, apart for every eye.
_CURVE, _PROPOSAL = "#0072b2", "#d55e00"


@dataclass(frozen=True, slots=True)
class RateChart:
    """Losses over the logarithm of the rate."""

    rates: Sequence[float]
    losses: Sequence[float]
    smoothed: Sequence[float]
    proposal: float | None

    def lines(self, width: int, encoding: str = "utf-8") -> list[str]:
        """The smoothed curve in at most `width` columns: loss upwards, rate to the right, the proposal below.

        In braille dots, or stars where `encoding` cannot hold them. Empty for fewer than two points.
        """
        if len(self.rates) < 2:
            return []
        columns, is_unicode = max(16, width - _GUTTER), encoding.lower().startswith("utf")
        drawn = self._braille(columns) if is_unicode else self._stars(columns)
        bar, corner, dash, tick, arrow = "│└─┴▲" if is_unicode else "|+-+^"
        low, high = self._span()
        numbers = {0: f"{high:.3g}", _ROWS - 1: f"{low:.3g}"}
        rows = [f"{numbers.get(row, ''):>{_GUTTER - 2}} {bar}{line}" for row, line in enumerate(drawn)]
        ticks = dict(self._ticks(columns))
        axis = "".join(tick if column in ticks else dash for column in range(columns))
        found = [*rows, f"{'':>{_GUTTER - 1}}{corner}{axis}", _placed(ticks, columns)]
        if self.proposal is not None:
            at = self._column(self.proposal, columns)
            found.append(_placed({at: f"{arrow} {self.proposal:g}"}, columns))
        return [line.rstrip() for line in found]

    def svg(self, title: str) -> str:
        """A picture 640 x 360: single losses as dots, the smoothed curve, the proposal."""
        return _Svg(self).draw(title)

    def _span(self) -> tuple[float, float]:
        """Lowest and highest loss that is shown."""
        lowest = min(self.smoothed)
        highest = max(self.smoothed[: self.smoothed.index(lowest) + 1])
        return lowest, highest + (_HEADROOM * (highest - lowest) or 1.0)

    def _share(self, rate: float) -> float:
        """Where `rate` stands from left to right, 0..1."""
        low, high = math.log(self.rates[0]), math.log(self.rates[-1])
        return (math.log(rate) - low) / (high - low)

    def _column(self, rate: float, columns: int) -> int:
        return min(columns - 1, max(0, round(self._share(rate) * (columns - 1))))

    def _decades(self) -> Iterator[float]:
        first, last = math.log10(self.rates[0]), math.log10(self.rates[-1])
        for power in range(math.ceil(first - 1e-9), math.floor(last + 1e-9) + 1):
            yield float(f"1e{power}")

    def _ticks(self, columns: int) -> Iterator[tuple[int, str]]:
        for rate in self._decades():
            yield self._column(rate, columns), _short(rate)

    def _heights(self, columns: int, rows: int) -> list[int]:
        """The row of the curve in each column, counted from the top; negative above the chart."""
        low, high = self._span()
        found, place = [], 0
        shares = [self._share(rate) for rate in self.rates]
        for column in range(columns):
            share = column / (columns - 1)
            while place < len(shares) - 2 and shares[place + 1] < share:
                place += 1
            part = (share - shares[place]) / (shares[place + 1] - shares[place])
            loss = self.smoothed[place] + part * (self.smoothed[place + 1] - self.smoothed[place])
            found.append(round((high - loss) / (high - low) * (rows - 1)))
        return found

    def _dots(self, columns: int, rows: int) -> set[tuple[int, int]]:
        """Column and row of each dot of the curve, without gaps."""
        found, heights = set(), self._heights(columns, rows)
        for column, height in enumerate(heights):
            before = heights[max(0, column - 1)]
            step = 1 if height >= before else -1
            found |= {(column, row) for row in range(before + step, height, step)} | {(column, height)}
        return {(column, row) for column, row in found if row >= 0}

    def _braille(self, columns: int) -> list[str]:
        cells = [[0] * columns for _ in range(_ROWS)]
        for column, row in self._dots(2 * columns, 4 * _ROWS):
            cells[row // 4][column // 2] |= _DOTS[row % 4][column % 2]
        return ["".join(chr(0x2800 + bits) if bits else " " for bits in row) for row in cells]

    def _stars(self, columns: int) -> list[str]:
        dots = self._dots(columns, _ROWS)
        return [
            "".join("*" if (column, row) in dots else " " for column in range(columns))
            for row in range(_ROWS)
        ]


def _short(rate: float) -> str:
    return f"{rate:g}".replace("e-0", "e-")


def _placed(texts: dict[int, str], columns: int) -> str:
    """A line with each text centred below its column, those left out that would touch the one before."""
    line = ""
    for column, text in sorted(texts.items()):
        start = min(max(0, column - (len(text) - 1) // 2), columns - len(text))
        if text[0] in "▲^":  # its first character is the mark itself
            start = column if column + len(text) <= columns else columns - len(text)
        if start >= len(line) + bool(line):
            line = f"{line:<{start}}{text}"
    return " " * _GUTTER + line


class _Svg:
    width, height = 640, 360
    left, right, top, bottom = 64, 24, 40, 48

    def __init__(self, chart: RateChart) -> None:
        self.chart = chart

    def draw(self, title: str) -> str:
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" '
            f'width="{self.width}" height="{self.height}" role="img" '
            'font-family="sans-serif" font-size="12">',
            f"<title>{escape(title)}</title>",
            f'<rect width="{self.width}" height="{self.height}" fill="#fff"/>',
            f'<text x="{self.left}" y="22" font-size="14" fill="#222">{escape(title)}</text>',
        ]
        if len(self.chart.rates) > 1:
            parts += [*self._axes(), *self._curve(), *self._proposal()]
        return "\n".join((*parts, "</svg>\n"))

    def _x(self, rate: float) -> float:
        return round(self.left + self.chart._share(rate) * (self.width - self.left - self.right), 1)

    def _y(self, loss: float) -> float:
        low, high = self.chart._span()
        room = self.height - self.top - self.bottom
        return round(self.top + (high - min(loss, high)) / (high - low) * room, 1)

    def _axes(self) -> Iterator[str]:
        base, end = self.height - self.bottom, self.width - self.right
        for rate in self.chart._decades():
            x = self._x(rate)
            yield f'<path d="M{x} {self.top}V{base}" stroke="#e5e5e5"/>'
            yield f'<text x="{x}" y="{base + 18}" text-anchor="middle" fill="#444">{_short(rate)}</text>'
        low, high = self.chart._span()
        for share in (0.0, 0.25, 0.5, 0.75, 1.0):
            loss = low + share * (high - low)
            yield f'<path d="M{self.left} {self._y(loss)}H{end}" stroke="#e5e5e5"/>'
            yield (
                f'<text x="{self.left - 8}" y="{self._y(loss) + 4}" text-anchor="end" fill="#444">'
                f"{loss:.3g}</text>"
            )
        middle = (self.left + end) // 2
        yield f'<text x="{middle}" y="{base + 38}" text-anchor="middle" fill="#444">learning rate</text>'
        yield f'<text x="{self.left - 8}" y="{self.top - 10}" text-anchor="end" fill="#444">loss</text>'

    def _curve(self) -> Iterator[str]:
        chart, (low, high) = self.chart, self.chart._span()
        for rate, loss in zip(chart.rates, chart.losses, strict=True):
            if low <= loss <= high:
                yield f'<circle cx="{self._x(rate)}" cy="{self._y(loss)}" r="2" fill="#999"/>'
        path, verb = "", "M"
        for rate, loss in zip(chart.rates, chart.smoothed, strict=True):
            path += f"{verb}{self._x(rate)} {self._y(loss)}" if loss <= high else ""
            verb = "L" if loss <= high else "M"  # the pen is lifted where the curve leaves the chart
        yield f'<path d="{path}" fill="none" stroke="{_CURVE}" stroke-width="2.5"/>'

    def _proposal(self) -> Iterator[str]:
        if self.chart.proposal is None:
            return
        x, base = self._x(self.chart.proposal), self.height - self.bottom
        yield (
            f'<path d="M{x} {self.top}V{base}" stroke="{_PROPOSAL}" stroke-width="2" stroke-dasharray="6 4"/>'
        )
        is_far_right = x > self.width - 100
        yield (
            f'<text x="{x - 6 if is_far_right else x + 6}" y="{self.top + 14}" fill="{_PROPOSAL}" '
            f'text-anchor="{"end" if is_far_right else "start"}" font-weight="bold">'
            f"{self.chart.proposal:g}</text>"
        )
