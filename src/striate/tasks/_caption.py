"""A picture with a bar below it that says in words and lengths what was found."""

import unicodedata
from collections.abc import Sequence

import numpy as np
from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFont

from striate.structures import Image

__all__ = ["GROUND", "QUIET", "Font", "captioned", "fitted", "shortened", "widened"]

_SHORTEST, _LONGEST = 256, 768  # width in pixels that text fits in; longest side worth putting in a report
GROUND = (24, 26, 31)  # behind the text
_FIRST, _OTHER = (36, 99, 176), (62, 68, 80)  # length of the first row and of the rest
_TEXT, QUIET = (255, 255, 255), (214, 218, 225)

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def captioned(image: Image, rows: Sequence[tuple[str, float]]) -> Image:
    """`image` (H, W, 1 or 3) as RGB with one row per (name, share 0..1) below it; uint8 (H', W', 3).

    Small pictures are enlarged by whole pixels so that text fits, large ones shrunk to 768 pixels.
    """
    picture = widened(fitted(image))
    height = max(23, round(picture.width / 15))  # of one row
    canvas = PillowImage.new(
        "RGB", (picture.width, picture.height + height * len(rows) + height // 2), GROUND
    )
    canvas.paste(picture, (0, 0))
    pen = ImageDraw.Draw(canvas)
    for rank, row in enumerate(rows):
        top = picture.height + height // 4 + rank * height
        _row(pen, row, (height // 4, top, picture.width - height // 4, top + height), is_first=rank == 0)
    return np.array(canvas)


def fitted(image: Image, longest: int = _LONGEST) -> PillowImage.Image:
    """`image` (H, W, 1 or 3) as RGB, enlarged by whole pixels so that text fits, or shrunk to `longest`."""
    picture = PillowImage.fromarray(image.squeeze(2) if image.shape[2] == 1 else image).convert("RGB")
    factor = -(-_SHORTEST // picture.width)
    if factor > 1 and factor * max(picture.size) <= 2 * _LONGEST:
        return picture.resize(
            (picture.width * factor, picture.height * factor), PillowImage.Resampling.NEAREST
        )
    if max(picture.size) > longest:
        picture.thumbnail((longest, longest), PillowImage.Resampling.LANCZOS)
    return picture


def widened(picture: PillowImage.Image) -> PillowImage.Image:
    """`picture` itself; on a wider ground where it is a strip too narrow for a word."""
    if picture.width >= _SHORTEST:
        return picture
    ground = PillowImage.new("RGB", (_SHORTEST, picture.height), GROUND)
    ground.paste(picture, ((_SHORTEST - picture.width) // 2, 0))
    return ground


def _row(
    pen: ImageDraw.ImageDraw, row: tuple[str, float], box: tuple[int, int, int, int], is_first: bool
) -> None:
    (name, share), (left, top, right, bottom) = row, box
    height = bottom - top
    font = ImageFont.load_default(round(height * 0.62))
    middle, edge = (top + bottom) / 2, height * 0.3
    length = max(round((right - left) * share), 1)
    pen.rectangle((left, top + 1, left + length, bottom - 2), fill=_FIRST if is_first else _OTHER)
    percent, color = f"{share:.1%}", _TEXT if is_first else QUIET
    pen.text((right - edge, middle), percent, color, font, anchor="rm")
    room = right - left - 3 * edge - font.getlength(percent)
    pen.text((left + edge, middle), shortened(name, font, room), color, font, anchor="lm")


def shortened(name: str, font: Font, room: float) -> str:
    """`name` on one line, cut with dots where it is wider than `room` pixels."""
    # Pillow's built-in font has ASCII only: an accent is dropped, other scripts show as boxes.
    bare = "".join(c for c in unicodedata.normalize("NFKD", name) if not unicodedata.combining(c))
    line = " ".join(bare.split())
    if font.getlength(line) <= room:
        return line
    while line and font.getlength(f"{line}...") > room:
        line = line[:-1]
    return f"{line.rstrip()}..."
