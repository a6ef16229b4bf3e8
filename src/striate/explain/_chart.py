"""Lines over numbers as SVG: no script, no font or file from elsewhere."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

__all__ = ["Line", "line_chart"]

_WIDTH, _HEIGHT = 640, 300  # without the legend
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 20, 40, 46
_LEGEND = 20  # height of one line of it
# Okabe and Ito's, those that are read on white; dashes and marks tell them apart in gray.
_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_DASHES = ("", "7 4", "2 3", "9 3 2 3")


@dataclass(frozen=True, slots=True)
class Line:
    """One curve."""

    name: str
    values: Sequence[float]  # 0..1


def line_chart(title: str, axis: str, places: Sequence[int], lines: Sequence[Line]) -> str:
    """`lines` over `places`, from 0 to 1 upwards, with a legend below."""
    height = _HEIGHT + _LEGEND * len(lines) + 8
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" '
        f'height="{height}" role="img" font-family="sans-serif" font-size="12">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{_WIDTH}" height="{height}" fill="#fff"/>',
        f'<text x="{_LEFT}" y="24" font-size="14" fill="#222">{escape(title)}</text>',
        *_axes(axis, places),
    ]
    for number, line in enumerate(lines):
        parts += _curve(number, line, places)
    return "\n".join((*parts, "</svg>\n"))


def _x(place: float, places: Sequence[int]) -> float:
    low, high = min(places), max(places)
    share = (place - low) / (high - low) if high > low else 0.5
    return round(_LEFT + share * (_WIDTH - _LEFT - _RIGHT), 1)


def _y(value: float) -> float:
    return round(_TOP + (1 - value) * (_HEIGHT - _TOP - _BOTTOM), 1)


def _axes(axis: str, places: Sequence[int]) -> Iterator[str]:
    base, end = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        yield f'<path d="M{_LEFT} {_y(share)}H{end}" stroke="#e0e0e0"/>'
        yield f'<text x="{_LEFT - 8}" y="{_y(share) + 4}" text-anchor="end" fill="#444">{share:g}</text>'
    every = -(-len(places) // 17)
    for place in list(places)[::every]:
        x = _x(place, places)
        yield f'<path d="M{x} {base}v5" stroke="#888"/>'
        yield f'<text x="{x}" y="{base + 18}" text-anchor="middle" fill="#444">{place}</text>'
    middle = (_LEFT + end) // 2
    yield f'<text x="{middle}" y="{base + 38}" text-anchor="middle" fill="#444">{escape(axis)}</text>'


def _curve(number: int, line: Line, places: Sequence[int]) -> Iterator[str]:
    color, dash = _COLORS[number % len(_COLORS)], _DASHES[number % len(_DASHES)]
    style = f'stroke="{color}" stroke-width="2.5"' + (f' stroke-dasharray="{dash}"' if dash else "")
    points = [(_x(place, places), _y(value)) for place, value in zip(places, line.values, strict=True)]
    path = "L".join(f"{x} {y}" for x, y in points)
    yield f'<path d="M{path}" fill="none" {style}/>'
    for x, y in points:
        yield f'<circle cx="{x}" cy="{y}" r="2.5" fill="{color}"/>'
    legend = _HEIGHT + _LEGEND * number + 8
    yield f'<path d="M{_LEFT} {legend}h28" {style}/>'
    yield f'<text x="{_LEFT + 36}" y="{legend + 4}" fill="#222">{escape(line.name)}</text>'
