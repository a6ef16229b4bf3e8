"""Which part of a picture an input shows in training, even more than all of it: zoomed out, cut, jittered.

A window is in whole pixels of the picture. It is brought to the input as preprocessing would bring a picture
of that shape, so that a network which sees squeezed or padded pictures in use is trained on such.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from striate.data.draws import Draws
from striate.data.overlaps import centres_inside, pairwise_iou
from striate.data.pixels import Rectangle
from striate.structures import Objects

__all__ = ["Windows"]

_EXPAND = 0.5  # probability of zooming out
_TRIALS = 50
_LEAST_OVERLAPS = np.array([0.1, 0.3, 0.5, 0.7, 0.9, 0.0])  # that some object has with the cut
_SCALES = (0.3, 1.0)  # square root of the area of a cut, as a share
_ASPECTS = (0.5, 2.0)  # width / height of a cut of a square


@dataclass(frozen=True, slots=True)
class Windows:
    """How windows are drawn."""

    expand: float = 1.0  # the largest zoom-out; 1: none
    crop: bool = False  # by SSD's rule
    jitter: float = 0.0  # share of the side that each border moves by at most

    def __bool__(self) -> bool:
        return self.expand > 1 or self.crop or self.jitter > 0

    @property
    def least_side(self) -> float:
        """Of a window, at the least, as a share of the picture's."""
        return (_SCALES[0] if self.crop else 1.0) * (1 - 2 * self.jitter)

    def draw(
        self, drawn: Draws, index: int, size: tuple[int, int], objects: Objects, purpose: str = "window"
    ) -> Rectangle:
        """The window of sample `index`, a picture of `size` (h, w) with `objects`; it shows some of it."""
        window = Rectangle(0, size[0], 0, size[1])
        if not self:
            return window
        uniform = drawn.uniform(np.array([index]), purpose, 9 + 4 * _TRIALS)[0]
        if self.expand > 1 and uniform[0] < _EXPAND:
            window = _expanded(window, 1 + uniform[1] * (self.expand - 1), uniform[2:4])
        if self.crop:
            window = _cut(window, objects, uniform[8], uniform[9:].reshape(_TRIALS, 4))
        return _jittered(window, self.jitter * (2 * uniform[4:8] - 1))


def _expanded(window: Rectangle, ratio: float, place: NDArray[np.float64]) -> Rectangle:
    """A window `ratio` times as long and wide around `window`. Liu et al. 2016 (arXiv:1512.02325), 3.6."""
    height, width = (round(ratio * side) for side in _sides(window))
    down, right = (height - window.bottom) * place[0], (width - window.right) * place[1]
    top, left = -math.floor(down), -math.floor(right)
    return Rectangle(top, top + height, left, left + width)


def _cut(window: Rectangle, objects: Objects, choice: float, trials: NDArray[np.float64]) -> Rectangle:
    """A part of `window` that overlaps some object by 0.1, 0.3, 0.5, 0.7, 0.9 or anyhow, or all of it.

    Which of these, `choice` says among those that a trial fits; its cut holds the centre of an object.
    Without objects it is all of the window. Liu et al. 2016 (arXiv:1512.02325), section 2.2.
    """
    singles = objects.boxes[~objects.crowd]
    cuts = _candidates(window, trials)
    held = centres_inside(singles, cuts).any(0)
    if not held.any():
        return window
    # Of cuts that hold no centre, below any overlap that is asked for.
    overlaps = np.where(held, pairwise_iou(cuts, singles).max(1), -1)
    fits = overlaps >= _LEAST_OVERLAPS[:, None]  # (6, trials)
    options = np.flatnonzero(fits.any(1))
    number = int(choice * (len(options) + 1))
    if number == len(options):
        return window
    left, top, right, bottom = cuts[fits[options[number]].argmax()].astype(int).tolist()
    return Rectangle(top, bottom, left, right)


def _candidates(window: Rectangle, trials: NDArray[np.float64]) -> NDArray[np.float64]:
    """Parts of `window` x0 y0 x1 y1 in whole pixels, (trials, 4), of any size and aspect that are allowed."""
    scale, aspect = (
        low + trials[:, column] * (high - low) for column, (low, high) in enumerate((_SCALES, _ASPECTS))
    )
    aspect = np.clip(aspect, scale**2, 1 / scale**2)  # none is longer than the window
    shares = np.stack((scale * np.sqrt(aspect), scale / np.sqrt(aspect)), 1)
    height, width = _sides(window)
    sides = np.maximum(np.rint(shares * (width, height)), 1)
    corner = np.floor(trials[:, 2:] * ((width, height) - sides + 1))
    corner += np.array([window.left, window.top])
    return np.concatenate((corner, corner + sides), 1)


def _jittered(window: Rectangle, moves: NDArray[np.float64]) -> Rectangle:
    """`window` with its borders moved by shares of its sides. Redmon et al. 2016 (arXiv:1506.02640), 2.2."""
    height, width = _sides(window)
    top, bottom, left, right = np.rint(moves * (height, height, width, width)).astype(int).tolist()
    above, before = window.top + top, window.left + left
    return Rectangle(
        above, max(above + 1, window.bottom + bottom), before, max(before + 1, window.right + right)
    )


def _sides(window: Rectangle) -> tuple[int, int]:
    return window.bottom - window.top, window.right - window.left
