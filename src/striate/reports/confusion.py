"""The confusion matrix: each cell that is not empty opens the pictures behind it."""

import json
from collections.abc import Iterator

from striate.reports.evidence import Confusion, Picture
from striate.reports.markup import Markup, tag
from striate.reports.pictures import image_attributes
from striate.reports.tables import caption, percent, scrolling

__all__ = ["confusion_section"]

_WIDEST = 30  # classes; a larger matrix is no picture any more
_PAIRS = 60  # most frequent mistakes that are listed instead
_LEVELS = 10  # of colour


def confusion_section(made: Confusion) -> Markup:
    """The matrix, or of many classes the most frequent mistakes; and the place where pictures appear."""
    is_wide = len(made.names) > _WIDEST
    shown = _pairs(made) if is_wide else tag("div", _matrix(made), _legend(made))
    if not made.pictures:
        return shown
    panel = tag(
        "div",
        tag("h3", "", tabindex="-1"),
        tag("ul", class_="pictures"),
        id="cell-pictures",
        hidden=True,
    )
    return tag("div", tag("p", _HINT, class_="on-screen"), shown, panel, _store(made))


_HINT = "Choose a number to see the pictures behind it; Esc goes back to it."


def _matrix(made: Confusion) -> Markup:
    name = "Confusion matrix: rows are the truth, columns what the model says"
    counted = f"{name}, in % of the truth" if made.unit == "pixels" else f"{name}, in {made.unit}"
    corner = tag("td", tag("span", "truth ↓ model →", class_="quiet"))
    head = tag("tr", corner, *(tag("th", tag("span", label), scope="col") for label in made.names))
    body = (
        tag("tr", tag("th", label, scope="row"), *_cells(made, truth))
        for truth, label in enumerate(made.names)
    )
    table = tag("table", caption(counted), tag("thead", head), tag("tbody", *body), class_="confusion")
    return scrolling(table, "Confusion matrix")


def _cells(made: Confusion, truth: int) -> Iterator[Markup]:
    row, opened = made.counts[truth], {(true, said) for true, said, _ in made.cells}
    total = sum(row) or 1
    for said, count in enumerate(row):
        if not count:
            yield tag("td", tag("span", "·", class_="quiet"))
            continue
        kind = "right" if said == truth else "wrong"
        level = max(1, round(_LEVELS * count / total))
        text = percent(count / total).removesuffix(" %") if made.unit == "pixels" else f"{count:,}"
        inside: str = _button(made, truth, said, text) if (truth, said) in opened else text
        yield tag("td", inside, class_=f"{kind} level{level}")


def _button(made: Confusion, truth: int, said: int, text: str) -> Markup:
    label = _what(made, truth, said)
    return tag("button", text, type="button", data_cell=f"{truth},{said}", aria_label=label)


def _what(made: Confusion, truth: int, said: int) -> str:
    """A cell in words."""
    count = made.counts[truth][said]
    unit = made.unit.removesuffix("s") if count == 1 else made.unit
    how = "rightly" if truth == said else f"taken for {made.names[said]}"
    return f"{made.names[truth]}, {how}: {count:,} {unit}"


def _legend(made: Confusion) -> Markup:
    steps = [1, 4, 7, 10]
    shares = [f"{100 * step // _LEVELS} %" for step in steps]
    rows = [
        tag(
            "tr",
            tag("th", name, scope="row"),
            *(
                tag("td", share, class_=f"{kind} level{step}")
                for step, share in zip(steps, shares, strict=True)
            ),
        )
        for kind, name in (("right", "right"), ("wrong", "wrong"))
    ]
    title = f"colour: share of the truth's {made.unit}"
    return tag("table", caption(title), tag("tbody", *rows), class_="confusion scale")


def _pairs(made: Confusion) -> Markup:
    """The most frequent mistakes as a list."""
    count = len(made.names)
    found = [
        (made.counts[truth][said], truth, said)
        for truth in range(count)
        for said in range(count)
        if truth != said and made.counts[truth][said]
    ]
    found.sort(key=lambda pair: (-pair[0], pair[1:]))
    opened = {(true, said) for true, said, _ in made.cells}
    items = []
    for often, truth, said in found[:_PAIRS]:
        text = f"{made.names[truth]} taken for {made.names[said]}: {often:,}"
        items.append(tag("li", _button(made, truth, said, text) if (truth, said) in opened else text))
    intro = (
        f"{count:,} classes make no readable matrix: the most frequent of {len(found):,} kinds of mistakes."
    )
    return tag("div", tag("p", intro), tag("ol", *items, class_="pairs"))


def _store(made: Confusion) -> Markup:
    """The pictures of all cells as data, which the page's script makes elements of when asked."""
    data = {
        "cells": {f"{truth},{said}": _cell(made, truth, said, places) for truth, said, places in made.cells},
        "pictures": [_stored(picture) for picture in made.pictures],
    }
    # Within a script element nothing is escaped, and only "<" could end it.
    text = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    return tag("script", Markup(text), type="application/json", id="cells")


def _cell(made: Confusion, truth: int, said: int, places: tuple[int, ...]) -> dict[str, object]:
    some = f", {len(places):,} of them shown" if len(places) < made.counts[truth][said] else ""
    return {"title": _what(made, truth, said) + some, "pictures": places}


def _stored(picture: Picture) -> dict[str, object]:
    images = [image_attributes(image) for image in picture.images]
    return {"key": picture.key, "lines": picture.lines, "images": images}
