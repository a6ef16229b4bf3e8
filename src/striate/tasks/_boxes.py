"""A picture with boxes around what was found in it, a tag on each, and a legend below."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFont

from striate.errors import DataError
from striate.metrics.boxes import shared_areas
from striate.structures import IGNORE, Detections, Image
from striate.tasks._caption import Font, fitted, shortened, widened
from striate.tasks._legend import Color, color_of, with_legend
from striate.tasks._palette import linear_light, palette

__all__ = ["boxed"]

_LONGEST = 1280  # longest side in pixels: a large picture may hold many small things
_MOST_HIDDEN = 0.15  # share of a tag that may lie on other tags
_WIDEST_TAG = 0.5  # of the picture
_BLACK, _WHITE = (0, 0, 0), (255, 255, 255)


class _Tag(NamedTuple):
    """A text on a filled ground."""

    text: str
    place: tuple[float, float, float, float]
    color: Color


def boxed(image: Image, result: Detections) -> Image:
    """`image` (H, W, 1 or 3) with a box and a tag for each object, and below how often each class is there.

    Gives uint8 (H', W', 3). Colours are those of the classes in every picture. A tag that would hide others
    is shortened to its score or left out, the least sure first: the legend has its colour. Small pictures
    are enlarged by whole pixels, large ones shrunk to 1280 pixels. Raises DataError where the boxes are of a
    picture of another size.
    """
    if image.shape[:2] != result.size:
        raise DataError(
            result.key,
            f"the picture is {image.shape[:2]} and the boxes are of one of {result.size}",
            "draw on the picture that was predicted",
        )
    picture = fitted(image, _LONGEST)
    canvas = widened(picture)
    left = (canvas.width - picture.width) // 2
    scale = np.array((picture.width / image.shape[1], picture.height / image.shape[0]) * 2)
    places = result.boxes * scale + (left, 0, left, 0)
    # Black, the first of the palette, is a background's.
    table = palette(IGNORE)[1:IGNORE]
    colors = [color_of(table[label % len(table)]) for label in range(len(result.classes))]
    pen = ImageDraw.Draw(canvas)
    _outline(pen, places, [colors[label] for label in result.labels.tolist()], canvas)
    for tag in reversed(_tags(result, places, colors, canvas)):
        _write(pen, tag, _font(canvas))
    rows = [(name, f"{count:,}", colors[result.classes.index(name)]) for name, count in result.counts.items()]
    return with_legend(canvas, rows) if rows else np.array(canvas)


def _font(canvas: PillowImage.Image) -> Font:
    return ImageFont.load_default(round(10 + canvas.width / 160))


def _outline(
    pen: ImageDraw.ImageDraw, places: NDArray[np.float64], colors: list[Color], canvas: PillowImage.Image
) -> None:
    """Draw the boxes, the largest first, each line between two thin ones that tell it from any ground."""
    usual = max(2, round(min(canvas.size) / 240))
    sides = places[:, 2:] - places[:, :2]
    for row in np.argsort(-sides.prod(axis=1), kind="stable").tolist():
        x0, y0, x1, y1 = places[row].tolist()
        # A small thing is not hidden by its own box.
        width = max(1, min(usual, round(sides[row].min() / 8)))
        outer = (x0 - 1, y0 - 1, max(x1, x0), max(y1, y0))
        pen.rectangle(outer, outline=_on(colors[row]), width=width + 2)
        pen.rectangle((x0, y0, max(x1 - 1, x0), max(y1 - 1, y0)), outline=colors[row], width=width)


def _on(color: Color) -> Color:
    """Black or white, whichever is read better on `color` (WCAG 2.2, relative luminance)."""
    luminance = float(linear_light(np.array(color)) @ (0.2126, 0.7152, 0.0722))
    # The contrast with black, (L + 0.05) / 0.05, is above that with white, 1.05 / (L + 0.05).
    return _BLACK if (luminance + 0.05) ** 2 > 0.05 * 1.05 else _WHITE


def _tags(
    result: Detections, places: NDArray[np.float64], colors: list[Color], canvas: PillowImage.Image
) -> list[_Tag]:
    """The tags of as many boxes as can be read, the surest first."""
    font, tags = _font(canvas), list[_Tag]()
    taken = np.empty((0, 4))
    for place, score, label in zip(places, result.scores.tolist(), result.labels.tolist(), strict=True):
        percent = f"{score:.0%}"
        room = _WIDEST_TAG * canvas.width - font.getlength(f" {percent}")
        for text in (f"{shortened(result.classes[label], font, room)} {percent}", percent):
            size = (font.getlength(text) + 6, _height(font))
            spots = _spots(place, size, canvas.size)
            hidden = shared_areas(spots, taken).sum(axis=1) / (size[0] * size[1])
            best = int(hidden.argmin())
            if hidden[best] <= _MOST_HIDDEN:
                x0, y0, x1, y1 = spots[best].tolist()
                tags.append(_Tag(text, (x0, y0, x1, y1), colors[label]))
                taken = np.concatenate((taken, spots[best : best + 1]))
                break
    return tags


def _height(font: Font) -> float:
    """Of a tag of one line, whatever its letters."""
    _, top, _, bottom = font.getbbox("Ag")
    return bottom - top + 4


def _spots(
    place: NDArray[np.float64], size: tuple[float, float], limits: tuple[int, int]
) -> NDArray[np.float64]:
    """Where a tag of `size` (width, height) may lie on a box, the best first, inside the picture: (8, 4)."""
    (x0, y0, x1, y1), (width, height) = place.tolist(), size
    corners = [(x, y) for y in (y0 - height, y1, y0, y1 - height) for x in (x0, x1 - width)]
    low = np.clip(corners, 0, np.maximum(np.array(limits) - size, 0))
    return np.concatenate((low, low + size), axis=1)


def _write(pen: ImageDraw.ImageDraw, tag: _Tag, font: Font) -> None:
    x0, y0, x1, y1 = tag.place
    pen.rectangle((x0, y0, x1 - 1, y1 - 1), tag.color)
    pen.text((x0 + 3, (y0 + y1) / 2), tag.text, _on(tag.color), font, anchor="lm")
