"""Random changes of a training picture and its mask together: zoom, cut, mirror, colours, rotation, warp.

The picture is interpolated as preprocessing does it and a mask takes the nearest pixel, both by the same
geometry, so that they stay together to the pixel. What lies outside the picture is `pad_value`, and of no
known class.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from striate.config import Settings
from striate.data.draws import Draws
from striate.data.pixels import Rectangle, copy_pixels, recoloured
from striate.data.placing import Place, put
from striate.data.preprocess import planned
from striate.errors import UsageError
from striate.structures import IGNORE, Geometry, Image, Preprocess

__all__ = ["MaskAugmentConfig", "MaskAugmentation", "Source", "Varied"]

_MOST_ZOOM = 10.0
_KNOTS = 18  # displacements of a 3x3 grid, rows and columns


class MaskAugmentConfig(Settings, frozen=True):
    """How training pictures and their masks are varied; everything off by default."""

    flip: float = 0.0  # probability of a horizontal mirror image
    zoom: tuple[float, float] | None = None  # least and largest factor of the size that fits the input
    jitter: float = 0.0  # brightness, contrast and saturation each times 1 - jitter .. 1 + jitter
    rotate: float = 0.0  # largest angle in degrees, either way
    elastic: float = 0.0  # standard deviation in pixels of a 3x3 grid's displacements (arXiv:1505.04597)
    # U-Net's weight map: pixels of class 0 between two cells, what hangs together of another class, weigh
    # more by `border_weight exp(-(d1 + d2)^2 / (2 border_sigma^2))`, d1 and d2 their distances in pixels.
    border_weight: float = 0.0  # 10 in the paper; 0: off
    border_sigma: float = 5.0  # pixels

    def __post_init__(self) -> None:
        for name in ("flip", "jitter"):
            _require(0 <= getattr(self, name) <= 1, name, getattr(self, name), "give a number in 0..1")
        _require(0 <= self.rotate <= 180, "rotate", self.rotate, "give 0..180 degrees")
        for name in ("elastic", "border_weight"):
            value = getattr(self, name)
            _require(0 <= value < math.inf, name, value, "give a number from 0")
        sigma = self.border_sigma
        _require(0 < sigma <= 100, "border_sigma", sigma, "give pixels above 0, up to 100")
        if self.zoom is not None:
            least, largest = self.zoom
            fits = 0 < least <= largest <= _MOST_ZOOM
            _require(fits, "zoom", self.zoom, f"give two factors, 0 < least <= largest <= {_MOST_ZOOM:g}")


def _require(allowed: bool, name: str, value: object, fix: str) -> None:
    if not allowed:
        raise UsageError(f"augment.{name}", f"{value!r} makes no sense here", fix)


class Source(NamedTuple):
    """What a training picture is made of."""

    image: Image  # as `Pictures.for_zooming` keeps it
    geometry: Geometry  # from the picture's own size to that
    mask: NDArray[np.uint8]  # of the picture's own size


class Varied(NamedTuple):
    """A training picture and the class id of each of its pixels, (H, W)."""

    image: Image
    labels: NDArray[np.uint8]
    geometry: Geometry  # where the source's pixels are, before warping and mirroring


class _Chance(NamedTuple):
    """The random numbers of one sample."""

    uniform: NDArray[np.float64]  # (5,) in 0..1: of mirror, place of the cut (2), zoom, angle
    factors: NDArray[np.float32]  # (3,): of brightness, contrast and saturation
    knots: NDArray[np.float64]  # (2, 3, 3): displacements in pixels


class _Window(NamedTuple):
    """`size` of a picture brought to `resized`, from its row `top` and column `left` on, even outside it."""

    resized: tuple[int, int]
    size: tuple[int, int]
    top: int
    left: int


@dataclass(frozen=True, slots=True)
class MaskAugmentation:
    """`config` at work on pictures that `preprocess` prepares. Raises UsageError where they do not fit."""

    config: MaskAugmentConfig
    preprocess: Preprocess

    def __post_init__(self) -> None:
        config, spec = self.config, self.preprocess
        coloured = not config.jitter or spec.color != "hsv"
        _require(coloured, "jitter", config.jitter, "it cannot work on hsv pictures: unset it")
        quarter = min(spec.inner_size) / 4
        fix = f"stay within a quarter of the side, {quarter:g} pixels"
        _require(config.elastic <= quarter, "elastic", config.elastic, fix)

    def vary(self, drawn: Draws, indices: NDArray[np.int64], sources: Iterable[Source]) -> list[Varied]:
        """The samples `indices` at the input's size, each changed at random by its own index alone.

        Without `zoom` a picture lies where `preprocess.apply` puts it and has its pixels, but for colours,
        mirroring and warping. With it, a cut of the input's size is anywhere, whatever the fit.
        """
        return [
            self._varied(chance, source)
            for chance, source in zip(self._chances(drawn, indices), sources, strict=True)
        ]

    def _chances(self, drawn: Draws, indices: NDArray[np.int64]) -> list[_Chance]:
        uniform = drawn.uniform(indices, "window", 5)
        factors = 1 + self.config.jitter * (2 * drawn.uniform(indices, "jitter", 3) - 1)
        knots = self.config.elastic * _normal(drawn.uniform(indices, "elastic", _KNOTS))
        columns = uniform, factors.astype(np.float32), knots.reshape(-1, 2, 3, 3)
        return [_Chance(*row) for row in zip(*columns, strict=True)]

    def _varied(self, chance: _Chance, source: Source) -> Varied:
        window = self._window(chance, source.geometry.source)
        if self.config.rotate or self.config.elastic:
            inner = self._warped(window, chance, source)
        else:
            inner = self._shown(window, chance, source)
        return self._bordered(inner, mirror=bool(chance.uniform[0] < self.config.flip))

    def _window(self, chance: _Chance, size: tuple[int, int]) -> _Window:
        """What is shown, inside the border, of a picture of `size`."""
        plan, border = planned(self.preprocess, *size), self.preprocess.border
        if self.config.zoom is None:
            height, width = plan.input
            inner = height - 2 * border, width - 2 * border
            return _Window(plan.resized, inner, border - plan.top, border - plan.left)
        least, largest = self.config.zoom
        factor = least + float(chance.uniform[3]) * (largest - least)
        height, width = (max(1, round(factor * side)) for side in plan.resized)
        inner = self.preprocess.inner_size
        top, left = (
            _origin(side - room, float(place))
            for side, room, place in zip((height, width), inner, chance.uniform[1:3], strict=True)
        )
        return _Window((height, width), inner, top, left)

    def _shown(self, window: _Window, chance: _Chance, source: Source) -> Varied:
        # Only training cuts, so that everything else does without torch.
        from striate.data.resample import resampler

        spec = self.preprocess
        image = np.full((*window.size, spec.channels), spec.pad_value, np.uint8)
        limits = Rectangle(0, window.size[0], 0, window.size[1])
        placed = put(
            image,
            (source.image, source.geometry),
            Place(window.resized, -window.top, -window.left, limits),
            spec,
            None if self.config.zoom is None else resampler(spec),
            partial(_recoloured, chance.factors) if self.config.jitter else None,
        )
        assert placed is not None  # a window always shows some of the picture
        return Varied(image, placed.geometry.mask_to_input(source.mask), placed.geometry)

    def _warped(self, window: _Window, chance: _Chance, source: Source) -> Varied:
        from striate.data.warp import places_of, warped

        degrees = self.config.rotate * (2 * float(chance.uniform[4]) - 1)
        places = places_of(window.size, degrees, chance.knots if self.config.elastic else None)
        least = np.minimum(np.floor(places.min((1, 2))) - 1, 0).astype(np.int64)
        largest = np.maximum(np.ceil(places.max((1, 2))) + 1, window.size).astype(np.int64)
        height, width = (largest - least).tolist()
        top, left = least.tolist()
        around = _Window(window.resized, (height, width), window.top + top, window.left + left)
        image, labels, geometry = self._shown(around, chance, source)
        places -= least[:, None, None].astype(np.float32)
        inside = replace(geometry, input=window.size, top=geometry.top + top, left=geometry.left + left)
        return Varied(*warped(image, labels, places), inside)

    def _bordered(self, inner: Varied, mirror: bool) -> Varied:
        """`inner` inside the border, mirrored or not, and padded to what the preprocessing pads to."""
        spec = self.preprocess
        height, width = inner.labels.shape
        size = height + 2 * spec.border, width + 2 * spec.border
        padded = tuple(-(-side // spec.pad_to) * spec.pad_to for side in size)
        image = np.full((*padded, spec.channels), spec.pad_value, np.uint8)
        labels = np.full(padded, IGNORE, np.uint8)
        rows, columns = slice(spec.border, spec.border + height), slice(spec.border, spec.border + width)
        copy_pixels(inner.image, image[rows, columns], mirror)
        labels[rows, columns] = inner.labels[:, ::-1] if mirror else inner.labels
        where = inner.geometry
        shifted = replace(where, input=size, top=where.top + spec.border, left=where.left + spec.border)
        return Varied(image, labels, shifted)


def _origin(spare: int, place: float) -> int:
    """Where a window begins on a side that is longer by `spare` pixels, or shorter if that is below 0."""
    return int(math.copysign(math.floor(place * (abs(spare) + 1)), spare))


def _recoloured(factors: NDArray[np.float32], image: Image) -> Image:
    changed: Image = recoloured(image[None], factors[None])[0]
    return changed


def _normal(uniform: NDArray[np.float64]) -> NDArray[np.float64]:
    """As many normally distributed numbers as `uniform` (B, N), N even, has (Box and Muller 1958)."""
    radius = np.sqrt(-2 * np.log1p(-uniform[:, ::2]))
    angle = 2 * np.pi * uniform[:, 1::2]
    return np.concatenate((radius * np.cos(angle), radius * np.sin(angle)), 1)
