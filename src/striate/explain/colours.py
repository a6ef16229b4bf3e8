"""Numbers as colours: viridis from the least to the largest, blue over white to orange around 0.

Both are read by colour-blind eyes and in gray: lightness alone tells the order, on either side of 0.
A picture is shown in colours of its own, in whatever form a network takes them.
"""

from dataclasses import dataclass

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from striate.structures import Image, Preprocess

__all__ = ["NOT_FINITE", "Scale", "as_seen", "coloured"]

# Viridis at nine places in equal steps (van der Walt and Smith 2015, CC0).
_VIRIDIS = (
    *((68, 1, 84), (71, 44, 122), (59, 81, 139), (44, 113, 142), (33, 144, 141), (39, 173, 129)),
    *((92, 200, 99), (170, 220, 50), (253, 231, 37)),
)
_SIGNED = ((4, 62, 110), (60, 142, 200), (247, 247, 247), (235, 148, 50), (140, 57, 0))
NOT_FINITE = (255, 0, 255)
"""Of NaN and infinity, which no scale has a place for."""


@dataclass(frozen=True, slots=True)
class Scale:
    """Which number has which colour: viridis from `low` to `high`, or around 0 where `low` is below it."""

    low: float
    high: float

    @classmethod
    def of(cls, values: NDArray[np.floating]) -> "Scale":
        """That of `values`: from 0 or their least to their largest, evenly around 0 if any is negative."""
        finite = values[np.isfinite(values)]
        if not finite.size:
            return cls(0.0, 0.0)
        low, high = float(finite.min()), float(finite.max())
        if low < 0:
            reach = max(-low, high)
            return cls(-reach, reach)
        return cls(0.0, high)

    @property
    def is_signed(self) -> bool:
        """Whether it is centred at 0."""
        return self.low < 0

    def __call__(self, values: NDArray[np.floating]) -> Image:
        """The colours of `values` (...,): uint8 (..., 3). What lies outside has the colour of the end."""
        span = self.high - self.low
        share = (values - self.low) / span if span else np.zeros_like(values)
        colors: Image = coloured(np.nan_to_num(share), _SIGNED if self.is_signed else _VIRIDIS)
        colors[~np.isfinite(values)] = NOT_FINITE
        return colors


def coloured(shares: NDArray[np.floating], anchors: tuple[tuple[int, int, int], ...] = _VIRIDIS) -> Image:
    """The colours at `shares` (...,) of the way along `anchors`, 0..1: uint8 (..., 3)."""
    places = np.linspace(0, 1, len(anchors))
    channels = [np.interp(shares, places, [anchor[channel] for anchor in anchors]) for channel in range(3)]
    colors: Image = np.rint(np.stack(channels, -1)).astype(np.uint8)
    return colors


def as_seen(spec: Preprocess, image: Image) -> Image:
    """A network's input (H, W, spec.channels), uint8, for people: gray or RGB."""
    if spec.color != "hsv":
        return image
    return np.array(PIL.Image.fromarray(image, "HSV").convert("RGB"))
