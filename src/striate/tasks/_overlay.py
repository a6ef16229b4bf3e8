"""A picture tinted by the class of each pixel, with a legend below."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from striate.errors import DataError
from striate.structures import IGNORE, Image, Segmentation
from striate.tasks._caption import fitted, widened
from striate.tasks._legend import color_of, with_legend
from striate.tasks._palette import palette

__all__ = ["overlay"]

_TINT = 0.5  # share of the class's colour
_CONTOUR = 0.25  # what is left of the brightness between two classes


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
        (name, f"{share:.1%}", color_of(colors[result.classes.index(name)]))
        for name, share in result.shares.items()
    ]
    return with_legend(widened(PillowImage.fromarray(tinted)), rows)


def _tinted(pixels: Image, mask: NDArray[np.uint8], colors: NDArray[np.uint8]) -> Image:
    mixed = np.where((mask == IGNORE)[:, :, None], pixels, (1 - _TINT) * pixels + _TINT * colors[mask])
    line = np.zeros(mask.shape, np.bool_)
    line[:, :-1] |= mask[:, :-1] != mask[:, 1:]
    line[:-1] |= mask[:-1] != mask[1:]
    mixed[line] *= _CONTOUR
    return np.rint(mixed).astype(np.uint8)
