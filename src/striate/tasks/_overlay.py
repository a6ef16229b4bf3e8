"""A picture tinted by the class of each pixel, with a legend below."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFont

from striate.errors import DataError
from striate.structures import IGNORE, Image, Segmentation
from striate.tasks._caption import GROUND, QUIET, fitted, shortened, widened
from striate.tasks._palette import palette

__all__ = ["overlay"]

_TINT = 0.5  # share of the class's colour
_CONTOUR = 0.25  # what is left of the brightness between two classes
_LEAST_COLUMN = 150  # pixels of a legend's column that hold a name and a percentage

Color = tuple[int, int, int]


def overlay(image: Image, result: Segmentation) -> Image:
    """`image` (H, W, 1 or 3) in the colours of its classes, and what they are called; uint8 (H', W', 3).

    Classes meet in a dark line; pixels of no known class keep their colour. Small pictures are enlarged by
    whole pixels, large ones shrunk to 768 pixels. Raises DataError where the mask is of another size.
    """
    if image.shape[:2] != result.mask.shape:
        raise DataError(
            result.key,
            f"the picture is {image.shape[:2]} and the mask {result.mask.shape}",
            "draw on the picture that was predicted",
        )
    picture, colors = fitted(image), palette(len(result))
    # At the size it is seen in, so that the lines are one pixel wide there.
    mask = PillowImage.fromarray(result.mask).resize(picture.size, PillowImage.Resampling.NEAREST)
    tinted = _tinted(np.asarray(picture), np.asarray(mask), colors)
    rows = [
        (name, share, _color(colors[result.classes.index(name)])) for name, share in result.shares.items()
    ]
    return _with_legend(widened(PillowImage.fromarray(tinted)), rows)


def _color(row: NDArray[np.uint8]) -> Color:
    red, green, blue = row.tolist()
    return red, green, blue


def _tinted(pixels: Image, mask: NDArray[np.uint8], colors: NDArray[np.uint8]) -> Image:
    mixed = np.where((mask == IGNORE)[:, :, None], pixels, (1 - _TINT) * pixels + _TINT * colors[mask])
    line = np.zeros(mask.shape, np.bool_)
    line[:, :-1] |= mask[:, :-1] != mask[:, 1:]
    line[:-1] |= mask[:-1] != mask[1:]
    mixed[line] *= _CONTOUR
    return np.rint(mixed).astype(np.uint8)


def _with_legend(picture: PillowImage.Image, rows: list[tuple[str, float, Color]]) -> Image:
    columns = min(max(1, picture.width // _LEAST_COLUMN), max(1, len(rows)))
    height = max(20, round(picture.width / 30))  # of one line
    lines = -(-len(rows) // columns)
    canvas = PillowImage.new("RGB", (picture.width, picture.height + height * lines + height // 2), GROUND)
    canvas.paste(picture, (0, 0))
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(round(height * 0.62))
    width, edge = picture.width / columns, height / 4
    for number, (name, share, color) in enumerate(rows):
        line, column = divmod(number, columns)
        left, top = column * width + edge, picture.height + edge + line * height
        middle, side = top + height / 2, height * 0.6
        pen.rectangle((left, middle - side / 2, left + side, middle + side / 2), color, QUIET)
        percent, end = f"{share:.1%}", (column + 1) * width - edge
        pen.text((end, middle), percent, QUIET, font, anchor="rm")
        room = end - font.getlength(percent) - 3 * edge - left - side
        pen.text((left + side + edge, middle), shortened(name, font, room), QUIET, font, anchor="lm")
    return np.array(canvas)
