"""Random changes of a training picture's colours: SSD's four, and YOLO's in hue, saturation and exposure.

Each is a table from level to level, of RGB or of HSV, both with 256 levels. Tables are applied in the order
of the papers' code and every one clips, as that does. They are Pillow's work, which releases Python's lock.
"""

from functools import reduce
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from striate.data.draws import Draws
from striate.data.pixels import rounded
from striate.structures import Image

__all__ = ["Recolouring", "Step", "photometric", "recolour", "yolo_colours"]

_BRIGHTNESS = 32.0  # levels added, either way
_STRENGTH = 0.5  # contrast and saturation are multiplied by 1 - this .. 1 + this
_HUE = 0.1  # of the circle, either way: 18 of the 180 that an 8-bit hue has in the paper's code

_LEVELS = np.arange(256, dtype=np.float64)

Table: TypeAlias = NDArray[np.uint8]


class Step(NamedTuple):
    """New levels for all channels of RGB together (256,), or for hue, saturation and value (3, 256)."""

    space: Literal["rgb", "hsv"]
    table: Table


Recolouring: TypeAlias = tuple[Step, ...]
"""What is done to the colours of one picture, in this order."""


def photometric(drawn: Draws, indices: NDArray[np.int64], probability: float) -> list[Recolouring]:
    """SSD's changes for each sample, each of the four with this probability.

    Brightness, contrast, saturation and hue, contrast as often last as second: Liu et al. 2016
    (arXiv:1512.02325), section 2.2, after Howard 2013 (arXiv:1312.5402); ranges and order are of their code.
    """
    uniform = drawn.uniform(indices, "photometric", 9)
    return [_photometric(row[:4] < probability, 2 * row[4:8] - 1, row[8] < 0.5) for row in uniform]


def _photometric(
    does: NDArray[np.bool_], strength: NDArray[np.float64], contrast_is_last: bool
) -> Recolouring:
    """`does` and `strength` in -1..1 are those of brightness, contrast, saturation and hue."""
    brightness, contrast, saturation, hue = strength.tolist()
    steps: list[Step] = []
    if does[0]:
        steps.append(Step("rgb", rounded(_LEVELS + _BRIGHTNESS * brightness)))
    if does[2] or does[3]:
        factor = 1 + _STRENGTH * saturation if does[2] else 1.0
        steps.append(_hsv(_HUE * hue if does[3] else 0.0, factor, 1.0))
    if does[1]:
        step = Step("rgb", rounded(_LEVELS * (1 + _STRENGTH * contrast)))
        steps.insert(len(steps) if contrast_is_last else int(does[0]), step)
    return tuple(steps)


def yolo_colours(
    drawn: Draws, indices: NDArray[np.int64], hue: float, saturation: float, exposure: float
) -> list[Recolouring]:
    """YOLO's changes for each sample: hue moved by at most `hue` of the circle, saturation and value scaled.

    Both by 1 .. `saturation` and 1 .. `exposure`, or as often by one over that. Redmon et al. 2016
    (arXiv:1506.02640), section 2.2; which half is of their code.
    """
    uniform = drawn.uniform(indices, "hsv", 5)
    factors = 1 + uniform[:, 1:3] * (np.array([saturation, exposure]) - 1)
    factors = np.where(uniform[:, 3:] < 0.5, factors, 1 / factors)
    moves = hue * (2 * uniform[:, 0] - 1)
    return [(_hsv(move, *pair),) for move, pair in zip(moves.tolist(), factors.tolist(), strict=True)]


def _hsv(move: float, saturation: float, value: float) -> Step:
    moved = np.rint(_LEVELS + 256 * move).astype(np.int64) % 256
    tables = moved.astype(np.uint8), rounded(_LEVELS * saturation), rounded(_LEVELS * value)
    return Step("hsv", np.stack(tables))


def recolour(recolouring: Recolouring, image: Image) -> Image:
    """`image` (H, W, C), gray or RGB, in its new colours; gray has neither hue nor saturation to change."""
    if image.shape[2] == 1:
        return reduce(_gray, recolouring, image)
    result = PIL.Image.fromarray(image)
    for space, table in recolouring:
        levels = (np.tile(table, 3) if space == "rgb" else table.ravel()).tolist()
        result = result.convert(space.upper()).point(levels)
    return np.asarray(result.convert("RGB"))


def _gray(image: Image, step: Step) -> Image:
    return (step.table if step.space == "rgb" else step.table[2])[image]
