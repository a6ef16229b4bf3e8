"""Random changes of one training picture: cut, mirror, shift, colours, erasing. Mixtures: `mixing`.

Everything is uint8 (B, H, W, C) and gives uint8 again, so that a network never sees other numbers in
training than in use. All but the resizing of a cut is numpy, which needs no second pool of threads beside
torch's. Measured on two cores, a slice per picture is 2 to 3 times as fast as one gather of the batch by
index.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from striate.config import Settings
from striate.data.draws import Draws
from striate.data.pixels import Rectangle, copy_pixels, moved, recoloured, rounded
from striate.data.preprocess import apply
from striate.errors import UsageError
from striate.structures import Geometry, Image, Preprocess

__all__ = ["AugmentConfig", "Augmentation"]

_MAX_ALPHA = 4.0  # beyond it Beta(alpha, alpha) is nearly always 1/2
_ATTEMPTS = 10  # rectangles tried for a random cut
_ASPECTS = (3 / 4, 4 / 3)  # width / height of one


class AugmentConfig(Settings, frozen=True):
    """How training pictures are varied; everything off by default."""

    # Probability of a horizontal mirror image; "alternating": in turn, every second epoch, half of the
    # pictures first. No form of a picture comes twice in a row then (arXiv:2404.00498, section 3.6).
    flip: float | Literal["alternating"] = 0.0
    pad: int = 0  # pixels: pad every side with preprocess.pad_value, then cut the size at random
    scale: tuple[float, float] | None = None  # random resized crop: least and largest share of the area
    jitter: float = 0.0  # brightness, contrast and saturation each times 1 - jitter .. 1 + jitter
    erase: float = 0.0  # probability of a random rectangle in the mean colour
    mixup: float = 0.0  # alpha of Beta(alpha, alpha), the opacity of a blended second picture; 0: off
    cutmix: float = 0.0  # alpha of Beta(alpha, alpha), the area pasted from a second picture; 0: off

    def __post_init__(self) -> None:
        if self.flip != "alternating":
            _require(0 <= self.flip <= 1, "flip", self.flip, 'give a number in 0..1, or "alternating"')
        for name in ("jitter", "erase"):
            _require(0 <= getattr(self, name) <= 1, name, getattr(self, name), "give a number in 0..1")
        _require(self.pad >= 0, "pad", self.pad, "give 0 or more pixels")
        for name in ("mixup", "cutmix"):
            alpha = getattr(self, name)
            _require(0 <= alpha <= _MAX_ALPHA, name, alpha, f"give 0..{_MAX_ALPHA:g}; 0.2 to 1 is usual")
        if self.scale is not None:
            least, largest = self.scale
            _require(
                0 < least <= largest <= 1, "scale", self.scale, "give two shares, 0 < least <= largest <= 1"
            )
            _require(
                not self.pad, "pad", self.pad, "a random cut shifts the picture already: set pad or scale"
            )


def _require(allowed: bool, name: str, value: object, fix: str) -> None:
    if not allowed:
        raise UsageError(f"augment.{name}", f"{value!r} makes no sense here", fix)


@dataclass(frozen=True, slots=True)
class Augmentation:
    """`config` at work on pictures that `preprocess` prepares. Raises UsageError where they do not fit."""

    config: AugmentConfig
    preprocess: Preprocess
    _of_cut: Preprocess = field(init=False, repr=False)  # prepares a cut

    def __post_init__(self) -> None:
        config, spec = self.config, self.preprocess
        whole = config.scale is None or spec.is_fixed
        _require(
            whole, "scale", config.scale, f"preprocess.fit {spec.fit!r} has no one size to cut to: unset it"
        )
        _require(
            config.pad < min(spec.size), "pad", config.pad, f"stay below the side of {min(spec.size)} pixels"
        )
        coloured = not config.jitter or spec.color != "hsv"
        _require(coloured, "jitter", config.jitter, "it cannot work on hsv pictures: unset it")
        object.__setattr__(
            self, "_of_cut", replace(spec, fit="stretch", resize_to=None, max_size=None, pad_to=1)
        )

    def cuts(
        self,
        drawn: Draws,
        indices: NDArray[np.int64],
        picture: Callable[[int], tuple[Image, Geometry]],
    ) -> tuple[NDArray[np.uint8], tuple[Geometry, ...]]:
        """A random resized crop of each sample of `indices` at the input's size (B, H, W, C), mirrored too.

        `picture` gives the picture of an index and where its pixels went; the geometries say where they are
        in the cut, before mirroring. Colour and border are preprocessing's own, and resizing is within one
        level of it. `config.scale` must be set.
        """
        # Only training cuts, so that everything else does without torch.
        from striate.data.resample import resampler

        resize = resampler(self._of_cut)
        tries, places = self._rectangles(drawn, indices)
        mirrored = self._mirrored(drawn, indices, drawn.uniform(indices, "shift", 1)[:, 0]).tolist()
        result = np.empty((len(indices), *self.preprocess.size, self.preprocess.channels), np.uint8)
        found = []
        for row, index in enumerate(indices.tolist()):
            image, geometry = picture(index)
            height, width = image.shape[:2]
            rectangle = _random_rectangle(height, width, tries[row], places[row])
            top, bottom, left, right = rectangle
            cut, inside = apply(self._of_cut, image[top:bottom, left:right], resize)
            copy_pixels(cut, result[row], mirrored[row])
            found.append(moved(geometry, rectangle, inside))
        return result, tuple(found)

    def _rectangles(
        self, drawn: Draws, indices: NDArray[np.int64]
    ) -> tuple[list[list[tuple[float, float]]], list[tuple[float, float]]]:
        """For each sample the (share of the area, aspect) that its cut may have, and its place, in 0..1."""
        assert self.config.scale is not None
        least, largest = self.config.scale
        uniform = drawn.uniform(indices, "cut", 2 * _ATTEMPTS + 2)
        shares = least + uniform[:, :_ATTEMPTS] * (largest - least)
        low, high = _ASPECTS
        aspects = np.exp(math.log(low) + uniform[:, _ATTEMPTS:-2] * math.log(high / low))
        return np.stack((shares, aspects), 2).tolist(), uniform[:, -2:].tolist()

    def vary(self, drawn: Draws, indices: NDArray[np.int64], images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """`images` (B, H, W, C) of the samples `indices` mirrored, shifted, recoloured and erased.

        Each depends on its own index only. `images` itself stays as it is. Where `config.scale` is set they
        come from `cuts`, which has mirrored them.
        """
        config = self.config
        if config.scale is None and (config.flip or config.pad):
            uniform = drawn.uniform(indices, "shift", 3)
            images = self._shifted(uniform[:, 1:], self._mirrored(drawn, indices, uniform[:, 0]), images)
        if config.jitter:
            factors = 1 + config.jitter * (2 * drawn.uniform(indices, "jitter", 3) - 1)
            images = recoloured(images, factors.astype(np.float32))
        if config.erase:
            images = self._erased(drawn.uniform(indices, "erase", 5), images)
        return images

    def _mirrored(
        self, drawn: Draws, indices: NDArray[np.int64], uniform: NDArray[np.float64]
    ) -> NDArray[np.bool_]:
        """Which of the samples are to be mirrored, (B,)."""
        if self.config.flip != "alternating":
            return uniform < self.config.flip
        # The same draw in every epoch: whether a picture is mirrored in the first.
        first = Draws(drawn.seed, 0).uniform(indices, "mirror", 1)[:, 0] < 0.5
        return first ^ (drawn.epoch % 2 == 1)

    def _shifted(
        self, uniform: NDArray[np.float64], mirrored: NDArray[np.bool_], images: NDArray[np.uint8]
    ) -> NDArray[np.uint8]:
        pad, (height, width) = self.config.pad, images.shape[1:3]
        tops, lefts = np.floor(uniform * (2 * pad + 1)).astype(np.int64).T.tolist()
        around = ((0, 0), (pad, pad), (pad, pad), (0, 0))
        padded = np.pad(images, around, constant_values=self.preprocess.pad_value) if pad else images
        result = np.empty(images.shape, np.uint8)
        for row, (mirror, top, left) in enumerate(zip(mirrored.tolist(), tops, lefts, strict=True)):
            copy_pixels(padded[row, top : top + height, left : left + width], result[row], mirror)
        return result

    def _erased(self, uniform: NDArray[np.float64], images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """2..33 % of the area, aspect 0.3..3.3, in the mean colour (Zhong et al. 2020, arXiv:1708.04896)."""
        height, width = images.shape[1:3]
        area = height * width * (0.02 + 0.31 * uniform[:, 1])
        aspect = np.exp(np.log(0.3) + uniform[:, 2] * np.log(3.3 / 0.3))
        heights = np.clip(np.rint(np.sqrt(area / aspect)), 1, height).astype(np.int64)
        widths = np.clip(np.rint(np.sqrt(area * aspect)), 1, width).astype(np.int64)
        tops = (uniform[:, 3] * (height - heights + 1)).astype(np.int64)
        lefts = (uniform[:, 4] * (width - widths + 1)).astype(np.int64)
        mean = rounded(np.divide(self.preprocess.mean, self.preprocess.scale))
        result = images.copy()
        for row in np.flatnonzero(uniform[:, 0] < self.config.erase):
            result[row, tops[row] : tops[row] + heights[row], lefts[row] : lefts[row] + widths[row]] = mean
        return result


def _random_rectangle(
    height: int, width: int, tries: Iterable[tuple[float, float]], place: tuple[float, float]
) -> Rectangle:
    """The first of `tries` (share of the area, aspect) that fits into the picture, at `place`.

    None fits a very long picture: then the largest part of an allowed aspect. Source: Szegedy et al.
    2015 (arXiv:1409.4842), section 6.
    """
    for share, aspect in tries:
        cut_height = round(math.sqrt(height * width * share / aspect))
        cut_width = round(math.sqrt(height * width * share * aspect))
        if 1 <= cut_height <= height and 1 <= cut_width <= width:
            break
    else:
        cut_height = max(1, min(height, round(width / _ASPECTS[0])))
        cut_width = max(1, min(width, round(height * _ASPECTS[1])))
    top = int(place[0] * (height - cut_height + 1))
    left = int(place[1] * (width - cut_width + 1))
    return Rectangle(top, top + cut_height, left, left + cut_width)
