"""Tables that can be sorted, scroll by themselves where they are wide, and say what they are."""

from collections.abc import Sequence

from striate.reports.evidence import Column, Table, Value
from striate.reports.markup import Markup, tag

__all__ = ["caption", "data_table", "described", "percent", "scrolling", "text_of"]


def data_table(table: Table, is_sortable: bool = True) -> Markup:
    """`table` with its caption; the first cell of a row is its heading."""
    head = tag("tr", *(heading(column) for column in table.columns))
    body = (_row(table.columns, row) for row in table.rows)
    made = tag(
        "table",
        caption(table.caption),
        tag("thead", head),
        tag("tbody", *body),
        data_sortable=is_sortable and len(table.rows) > 1,
    )
    return scrolling(made, table.caption)


def scrolling(content: Markup, name: str) -> Markup:
    """`content` in a place of its own that scrolls sideways, by keyboard too."""
    return tag("div", content, class_="scroll", role="region", aria_label=name, tabindex=0)


def caption(text: str) -> Markup:
    """What a table shows; it stays in sight where the table scrolls."""
    return tag("caption", tag("span", text))


def heading(column: Column) -> Markup:
    """The head of a column."""
    return tag("th", column.heading, scope="col", class_="number" if column.is_number else None)


def text_of(value: Value) -> str:
    """A value for people."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return percent(value)
    return f"{value:,}" if isinstance(value, int) else value


def percent(fraction: float) -> str:
    """A fraction 0..1 in percent, with one digit behind the point."""
    return f"{100 * fraction:.1f} %"


def described(rows: Sequence[tuple[str, str]]) -> Markup:
    """Terms with what they mean."""
    return tag("dl", *(tag("div", tag("dt", term), tag("dd", text)) for term, text in rows))


def _row(columns: Sequence[Column], values: Sequence[Value]) -> Markup:
    cells = []
    for place, (column, value) in enumerate(zip(columns, values, strict=True)):
        kind = "number" if column.is_number else None
        order = None if isinstance(value, str) else -1 if value is None else value
        if place == 0:
            cells.append(tag("th", text_of(value), scope="row", class_=kind, data_order=order))
        else:
            cells.append(tag("td", text_of(value), class_=kind, data_order=order))
    return tag("tr", *cells)
