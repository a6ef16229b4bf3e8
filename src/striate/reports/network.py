"""The network as a table that folds."""

from striate.reports.evidence import Network
from striate.reports.markup import Markup, tag
from striate.reports.tables import caption, described, heading, scrolling

__all__ = ["network_section"]


def network_section(made: Network) -> Markup:
    """Its rows, each below the one that it lies in, and what the columns mean."""
    head = tag("tr", *map(heading, made.columns))
    rows = []
    for place, layer in enumerate(made.layers):
        follows = made.layers[place + 1 : place + 2]
        is_opened = bool(follows) and follows[0].depth > layer.depth
        first, *others = layer.cells
        depth = min(layer.depth, 5)
        cells = [tag("th", first, scope="row", class_=f"depth{depth}")]
        for column, cell in zip(made.columns[1:], others, strict=True):
            cells.append(tag("td", cell, class_="number" if column.is_number else None))
        rows.append(tag("tr", *cells, data_depth=layer.depth, data_opens=is_opened))
    title = f"Layers of {made.title}"
    table = tag("table", caption(title), tag("thead", head), tag("tbody", *rows), class_="network")
    return tag("div", scrolling(table, title), described(made.legend))
