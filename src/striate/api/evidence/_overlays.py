"""Boxes and masks drawn into pictures of a report: colours that colour-blind eyes tell apart, and dashes."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import ImageDraw

from striate.api.thumbnails import LARGE, LOSSLESS, SMALL, fitted, thumbnail
from striate.data.dataset import Dataset
from striate.reports.evidence import Shown
from striate.structures import IGNORE, Image, Objects
from striate.tasks.segmentation import palette

__all__ = ["Stroke", "as_large", "enlarged", "hex_of", "legend_of", "masked", "outlined", "sample_image"]

_TINT = 0.55  # share of a class's colour
_DASH = 5  # pixels
_MOST_NAMED = 24  # classes that a legend has room for

Color = tuple[int, int, int]


class Stroke(NamedTuple):
    """A box to be drawn."""

    box: NDArray[np.float32]  # (4,) x0 y0 x1 y1 in pixels of the picture
    color: Color
    is_dashed: bool = False


def sample_image(dataset: Dataset, index: int) -> Shown:
    """Item `index` with its boxes or its mask drawn in it."""
    image, truth = dataset.image(index), dataset.truth(index)
    if isinstance(truth, Objects):
        strokes = [
            Stroke(box, _box_color(label)) for box, label in zip(truth.boxes, truth.labels, strict=True)
        ]
        return thumbnail(outlined(image, strokes), f"{len(truth)} marked objects", LARGE)
    if isinstance(truth, np.ndarray):
        return thumbnail(masked(image, truth), "its mask drawn over it", LARGE)
    return thumbnail(image, "nothing is marked", LARGE)


def legend_of(dataset: Dataset) -> tuple[tuple[str, str], ...]:
    """What the colours of boxes or masks mean; nothing where there are none, or too many."""
    if dataset.task == "classification" or len(dataset.classes) > _MOST_NAMED:
        return ()
    if dataset.task == "detection":
        return tuple((name, hex_of(_box_color(label))) for label, name in enumerate(dataset.classes))
    colors = palette(len(dataset.classes)).tolist()
    return tuple((name, hex_of(tuple(colors[label]))) for label, name in enumerate(dataset.classes))


def hex_of(color: Sequence[int]) -> str:
    """`color` (red, green, blue) as a page has it: "#e69f00"."""
    return "#" + "".join(f"{channel:02x}" for channel in color)


def outlined(image: Image, strokes: Sequence[Stroke], side: int = LARGE) -> Image:
    """`image` at about `side` pixels with `strokes` in it, each line between dark ones; uint8 (H', W', 3)."""
    picture = enlarged(image, side)
    scale = np.array((picture.width / image.shape[1], picture.height / image.shape[0]) * 2)
    pen = ImageDraw.Draw(picture)
    for stroke in strokes:
        x0, y0, x1, y1 = (stroke.box * scale).tolist()
        for width, color in ((4, (0, 0, 0)), (2, stroke.color)):
            for line in _sides((x0, y0, max(x1 - 1, x0), max(y1 - 1, y0)), stroke.is_dashed):
                pen.line(line, fill=color, width=width)
    return np.array(picture)


def masked(image: Image, mask: NDArray[np.uint8], side: int = LARGE) -> Image:
    """`image` at about `side` pixels in the colours of the classes of `mask` (H, W); void keeps its own."""
    picture = enlarged(image, side)
    shown = np.asarray(PillowImage.fromarray(mask).resize(picture.size, PillowImage.Resampling.NEAREST))
    pixels = np.asarray(picture)
    colors = palette(IGNORE)[shown]
    mixed = np.where((shown == IGNORE)[:, :, None], pixels, (1 - _TINT) * pixels + _TINT * colors)
    return np.rint(mixed).astype(np.uint8)


def enlarged(image: Image, side: int) -> PillowImage.Image:
    """`image` as RGB, enlarged by whole pixels or shrunk so that it nearly has `side`."""
    factor = side // max(image.shape[:2])
    if factor < 2:
        return fitted(image, side)
    picture = fitted(image, side)
    return picture.resize((picture.width * factor, picture.height * factor), PillowImage.Resampling.NEAREST)


def as_large(pixels: Image) -> Image:
    """`pixels` (H, W, 3) at a thumbnail's size; the smallest, which the page enlarges, stay as they are."""
    longest = max(pixels.shape[:2])
    if longest <= LOSSLESS or longest >= SMALL:
        return pixels
    height, width = (round(side * SMALL / longest) for side in pixels.shape[:2])
    return np.asarray(PillowImage.fromarray(pixels).resize((width, height), PillowImage.Resampling.BILINEAR))


def _box_color(label: int) -> Color:
    # Black, the first of the palette, is a background's.
    table = palette(IGNORE)[1:IGNORE]
    red, green, blue = table[label % len(table)].tolist()
    return red, green, blue


def _sides(
    box: tuple[float, float, float, float], is_dashed: bool
) -> Iterator[tuple[float, float, float, float]]:
    """The four lines of a box, or the pieces of them."""
    x0, y0, x1, y1 = box
    for line in ((x0, y0, x1, y0), (x1, y0, x1, y1), (x1, y1, x0, y1), (x0, y1, x0, y0)):
        if not is_dashed:
            yield line
            continue
        ax, ay, bx, by = line
        length = max(abs(bx - ax), abs(by - ay)) or 1.0
        for start in np.arange(0, length, 2 * _DASH).tolist():
            end = min(start + _DASH, length)
            yield (
                ax + (bx - ax) * start / length,
                ay + (by - ay) * start / length,
                ax + (bx - ax) * end / length,
                ay + (by - ay) * end / length,
            )
