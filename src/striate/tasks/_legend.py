"""What the colours in a picture mean, written below it."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFont

from striate.structures import Image
from striate.tasks._caption import GROUND, QUIET, shortened

__all__ = ["Color", "color_of", "with_legend"]

Color = tuple[int, int, int]

_LEAST_COLUMN, _LINES_WIDE = 150, 7  # of a column that holds a name and a number: pixels, and line heights


def color_of(row: NDArray[np.uint8]) -> Color:
    """A row of the palette as Pillow wants it."""
    red, green, blue = row.tolist()
    return red, green, blue


def with_legend(picture: PillowImage.Image, rows: Sequence[tuple[str, str, Color]]) -> Image:
    """`picture` with a line below it per (name, number, colour), in columns; uint8 (H', W', 3)."""
    height = max(20, round(picture.width / 30))  # of one line
    columns = min(max(1, picture.width // max(_LEAST_COLUMN, _LINES_WIDE * height)), max(1, len(rows)))
    lines = -(-len(rows) // columns)
    canvas = PillowImage.new("RGB", (picture.width, picture.height + height * lines + height // 2), GROUND)
    canvas.paste(picture, (0, 0))
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(round(height * 0.62))
    width, edge = picture.width / columns, height / 4
    for place, (name, number, color) in enumerate(rows):
        line, column = divmod(place, columns)
        left, top = column * width + edge, picture.height + edge + line * height
        middle, side = top + height / 2, height * 0.6
        pen.rectangle((left, middle - side / 2, left + side, middle + side / 2), color, QUIET)
        end = (column + 1) * width - edge
        pen.text((end, middle), number, QUIET, font, anchor="rm")
        room = end - font.getlength(number) - 3 * edge - left - side
        pen.text((left + side + edge, middle), shortened(name, font, room), QUIET, font, anchor="lm")
    return np.array(canvas)
