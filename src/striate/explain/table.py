"""Rows of text as a table that fits its place: a terminal's width, or a notebook's page."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

__all__ = ["Column", "Table", "laid_out"]

_GAP = 2  # spaces between columns
_SHORTEST = 12  # characters of the first column that stay, however narrow the place


@dataclass(frozen=True, slots=True)
class Column:
    """One column."""

    name: str
    is_number: bool = False  # stands to the right
    drop: int = 0  # the order in which columns make room, 1 first; 0 never


@dataclass(frozen=True, slots=True)
class Table:
    """What is shown, after what did not fit was left out."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    left_out: tuple[str, ...]  # names of columns that found no room
    widths: tuple[int, ...]

    def lines(self) -> Iterator[str]:
        """As plain text: the heading, a rule, then the rows."""
        yield self._line([column.name for column in self.columns])
        yield "-" * (sum(self.widths) + _GAP * (len(self.widths) - 1))
        yield from map(self._line, self.rows)

    def html(self, title: str, legend: Sequence[str]) -> str:
        """For a notebook: one element with its style inside and no script."""
        head = self._html_row("th", [column.name for column in self.columns])
        body = "".join(self._html_row("td", cells) for cells in self.rows)
        below = "".join(f"<div>{escape(line)}</div>" for line in legend)
        return (
            f'<div><strong>{escape(title)}</strong><table style="border-collapse:collapse">'
            f'<thead>{head}</thead><tbody>{body}</tbody></table><div style="opacity:0.75">{below}</div></div>'
        )

    def _line(self, cells: Sequence[str]) -> str:
        padded = (
            text.rjust(width) if column.is_number else text.ljust(width)
            for column, text, width in zip(self.columns, cells, self.widths, strict=True)
        )
        return (" " * _GAP).join(padded).rstrip()

    def _html_row(self, tag: str, cells: Sequence[str]) -> str:
        style = "padding:1px 10px;border:0;white-space:pre;font-variant-numeric:tabular-nums;text-align:"
        made = (
            f'<{tag} style="{style}{"right" if column.is_number else "left"}">{escape(text)}</{tag}>'
            for column, text in zip(self.columns, cells, strict=True)
        )
        return f"<tr>{''.join(made)}</tr>"


def laid_out(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int | None) -> Table:
    """The table in `width` characters: columns drop out in their order, then the first is cut short."""
    places = [place for place in range(len(columns)) if any(row[place] for row in rows)]
    left_out = []
    while width is not None and _total(columns, rows, places) > width:
        droppable = [place for place in places if columns[place].drop]
        if not droppable:
            break
        dropped = min(droppable, key=lambda place: columns[place].drop)
        places.remove(dropped)
        left_out.append(columns[dropped].name)
    widths = _widths(columns, rows, places)
    if width is not None:
        widths[0] = max(_SHORTEST, widths[0] - max(0, _total(columns, rows, places) - width))
    shown = tuple((_cut(row[places[0]], widths[0]), *(row[place] for place in places[1:])) for row in rows)
    return Table(tuple(columns[place] for place in places), shown, tuple(left_out), tuple(widths))


def _widths(columns: Sequence[Column], rows: Sequence[Sequence[str]], places: Sequence[int]) -> list[int]:
    return [max(len(columns[place].name), *(len(row[place]) for row in rows)) for place in places]


def _total(columns: Sequence[Column], rows: Sequence[Sequence[str]], places: Sequence[int]) -> int:
    return sum(_widths(columns, rows, places)) + _GAP * (len(places) - 1)


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"
