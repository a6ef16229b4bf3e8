"""Colours of the classes, the same in overlays and in mask files."""

from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from striate.structures import IGNORE, Segmentation

__all__ = ["index_image", "linear_light", "palette"]

# Okabe & Ito, "Color Universal Design" (jfly.uni-koeln.de/color): told apart by colour-blind eyes too.
_FIRST = (
    (0, 0, 0),
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
)
_VOID = (224, 224, 224)
_LEVELS = (0, 36, 73, 109, 146, 182, 219, 255)  # of red, green and blue among which the others are chosen


def palette(classes: int) -> NDArray[np.uint8]:
    """The colour of each class id as RGB, uint8 (256, 3): black beyond `classes`, light gray for IGNORE.

    The first eight are Okabe and Ito's; each further one is as far as can be from all before it. A class
    id has the same colour however many classes there are.
    """
    colors = np.zeros((IGNORE + 1, 3), np.uint8)
    colors[:classes] = _colors()[:classes]
    colors[IGNORE] = _VOID
    return colors


@cache
def _colors() -> NDArray[np.uint8]:
    """Colours of the ids 0..254, (255, 3)."""
    grid = np.stack(np.meshgrid(_LEVELS, _LEVELS, _LEVELS, indexing="ij"), -1).reshape(-1, 3)
    chosen = [*_FIRST]
    candidates = _lab(grid)
    nearest = np.full(len(grid), np.inf)
    for color in (_VOID, *_FIRST):
        nearest = np.minimum(nearest, _distance(candidates, _lab(np.array([color]))))
    while len(chosen) < IGNORE:
        best = int(nearest.argmax())
        chosen.append(tuple(grid[best].tolist()))
        nearest = np.minimum(nearest, _distance(candidates, candidates[best : best + 1]))
    return np.array(chosen, np.uint8)


def _distance(colors: NDArray[np.float64], color: NDArray[np.float64]) -> NDArray[np.float64]:
    distance: NDArray[np.float64] = np.square(colors - color).sum(axis=1)
    return distance


def _lab(colors: NDArray[np.int64]) -> NDArray[np.float64]:
    """sRGB (N, 3) 0..255 as CIE L*a*b* (D65), in which distances are about those that are seen."""
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    xyz = linear_light(colors) @ np.array(to_xyz).T / (0.9505, 1.0, 1.089)
    root = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = root.T
    return np.stack((116 * y - 16, 500 * (x - y), 200 * (y - z)), 1)


def linear_light(colors: NDArray[np.int64]) -> NDArray[np.float64]:
    """sRGB (..., 3) 0..255 as shares of light 0..1 (IEC 61966-2-1)."""
    share = colors / 255
    linear: NDArray[np.float64] = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    return linear


def index_image(result: Segmentation) -> PillowImage.Image:
    """The mask as a picture of mode P at its own size: pixel values are class ids, 255 void, with colours."""
    image = PillowImage.fromarray(result.mask)
    image.putpalette(palette(len(result)).tobytes())
    return image
