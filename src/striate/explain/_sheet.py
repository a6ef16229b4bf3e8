"""Pictures side by side with what they are called above, below and beside their colours."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFont

from striate.explain.colours import Scale
from striate.structures import Image
from striate.tasks._caption import GROUND, QUIET, shortened

__all__ = ["Tile", "enlarged", "outlined", "resized", "sheet", "shrunk", "visible"]

_GAP = 10  # pixels between tiles and around all
_HEADING, _LABEL = 17, 13  # of letters
_WIDEST = 1180  # of a sheet, unless one tile is wider
_TITLE, _WARNING = (255, 255, 255), (240, 170, 70)
_BAR = (260, 16)  # of the colours of a scale
_OUTLINE = (230, 159, 0)


@dataclass(frozen=True, slots=True)
class Tile:
    """One picture of a sheet."""

    pixels: Image  # RGB
    label: str
    is_marked: bool = False  # something is wrong with it: the label stands out


def sheet(
    tiles: Sequence[Tile],
    heading: Sequence[str],
    scales: Sequence[tuple[str, Scale]] = (),
    columns: int | None = None,
) -> Image:
    """`tiles` in rows of `columns`, `heading` above and a bar of colours below for each (name, scale).

    Gives RGB, uint8 (H, W, 3). Without `columns` as many as make it about as wide as a page.
    """
    width = max(tile.pixels.shape[1] for tile in tiles)
    height = max(tile.pixels.shape[0] for tile in tiles)
    fitting = max(1, (_WIDEST - _GAP) // (width + _GAP))
    columns = min(len(tiles), columns or _even(len(tiles), fitting))
    rows = -(-len(tiles) // columns)
    line, label = _HEADING + 7, _LABEL + 8
    top = _GAP + line * len(heading)
    below = top + rows * (height + label + _GAP)
    total = max(columns * (width + _GAP) + _GAP, _room_for(heading, scales))
    canvas = PillowImage.new("RGB", (total, below + (line + 4) * len(scales) + _GAP // 2), GROUND)
    pen = ImageDraw.Draw(canvas)
    _write_heading(pen, heading, total, line)
    for number, tile in enumerate(tiles):
        row, column = divmod(number, columns)
        place = (_GAP + column * (width + _GAP), top + row * (height + label + _GAP))
        _put(canvas, pen, tile, place, (width, height))
    for number, (name, scale) in enumerate(scales):
        _bar(canvas, pen, name, scale, below + number * (line + 4))
    return np.array(canvas)


def _even(count: int, fitting: int) -> int:
    """Columns of `count` tiles, at most `fitting`, so that the last row is as full as the others can be."""
    rows = -(-count // fitting)
    return -(-count // rows)


def _room_for(heading: Sequence[str], scales: Sequence[tuple[str, Scale]]) -> int:
    """Pixels that the longest line wants, within reason."""
    font = ImageFont.load_default(_HEADING)
    widths = [font.getlength(text) for text in heading]
    widths += [_BAR[0] + 60 + ImageFont.load_default(_LABEL).getlength(_legend(*scale)) for scale in scales]
    return min(_WIDEST, round(max(widths, default=0)) + 2 * _GAP)


def _write_heading(pen: ImageDraw.ImageDraw, heading: Sequence[str], width: int, line: int) -> None:
    font = ImageFont.load_default(_HEADING)
    for number, text in enumerate(heading):
        place = (_GAP, _GAP / 2 + (number + 0.5) * line)
        color = QUIET if number else _TITLE
        pen.text(place, shortened(text, font, width - 2 * _GAP), color, font, anchor="lm")


def _put(
    canvas: PillowImage.Image,
    pen: ImageDraw.ImageDraw,
    tile: Tile,
    place: tuple[int, int],
    room: tuple[int, int],
) -> None:
    """Paste one tile with its label below it."""
    canvas.paste(PillowImage.fromarray(tile.pixels), place)
    font = ImageFont.load_default(_LABEL)
    color = _WARNING if tile.is_marked else QUIET
    text = shortened(tile.label, font, room[0] + _GAP - 2)
    pen.text((place[0], place[1] + tile.pixels.shape[0] + 2), text, color, font, anchor="la")


def _bar(canvas: PillowImage.Image, pen: ImageDraw.ImageDraw, name: str, scale: Scale, top: int) -> None:
    font = ImageFont.load_default(_LABEL)
    ramp = np.broadcast_to(np.linspace(scale.low, scale.high, _BAR[0]), (_BAR[1], _BAR[0]))
    canvas.paste(PillowImage.fromarray(scale(ramp)), (_GAP, top + 3))
    room = canvas.width - _BAR[0] - 3 * _GAP
    text = shortened(_legend(name, scale), font, room)
    pen.text((_GAP + _BAR[0] + _GAP, top + 3 + _BAR[1] / 2), text, QUIET, font, anchor="lm")


def _legend(name: str, scale: Scale) -> str:
    middle = ", white: 0" if scale.is_signed else ""
    return f"{scale.low:.4g} to {scale.high:.4g}{middle}: {name}"


def enlarged(pixels: Image, side: int) -> Image:
    """`pixels` (H, W, 3) with every pixel as a square, as large as fits in `side`; larger ones shrunk to it.

    A strip stays one: its longer side is what fits.
    """
    longest = max(pixels.shape[:2])
    factor = side // longest
    if factor >= 1:
        return pixels.repeat(factor, 0).repeat(factor, 1)
    picture = PillowImage.fromarray(pixels)
    picture.thumbnail((side, side), PillowImage.Resampling.LANCZOS)
    return np.array(picture)


def shrunk(values: NDArray[np.floating], side: int) -> tuple[NDArray[np.floating], int]:
    """`values` (H, W) with sides of at most `side`, and how many of them along an axis became one.

    Of each block the value farthest from 0 stays, so that a peak does.
    """
    block = -(-max(values.shape) // side)
    if block == 1:
        return values, 1
    height, width = (-(-length // block) for length in values.shape)
    margins = [(0, height * block - values.shape[0]), (0, width * block - values.shape[1])]
    blocks = np.pad(values, margins, mode="edge").reshape(height, block, width, block)
    flat = blocks.transpose(0, 2, 1, 3).reshape(height, width, block * block)
    strongest = np.abs(flat).argmax(-1)[..., None]
    return np.take_along_axis(flat, strongest, -1)[..., 0], block


def resized(pixels: Image, size: tuple[int, int]) -> Image:
    """`pixels` (H, W, 3) at `size` (height, width), each as a rectangle."""
    picture = PillowImage.fromarray(pixels)
    return np.array(picture.resize((size[1], size[0]), PillowImage.Resampling.NEAREST))


def visible(image: Image) -> Image:
    """`image` (H, W, 1 or 3) as RGB, fresh."""
    return image.repeat(3, 2) if image.shape[2] == 1 else image.copy()


def outlined(picture: Image, box: Sequence[float]) -> Image:
    """`picture` (H, W, 3) with a line around `box` (y0 x0 y1 x1, ends exclusive), where it lies in it; fresh.

    Orange between two black lines is seen on any ground.
    """
    drawn = PillowImage.fromarray(picture)
    pen = ImageDraw.Draw(drawn)
    top, left, bottom, right = (round(side) for side in box)
    right, bottom = max(right - 1, left), max(bottom - 1, top)
    pen.rectangle((left - 2, top - 2, right + 2, bottom + 2), outline=(0, 0, 0), width=4)
    pen.rectangle((left - 1, top - 1, right + 1, bottom + 1), outline=_OUTLINE, width=2)
    return np.array(drawn)
