"""The fully connected CRF: class probabilities drawn to the edges of the picture.

Every pixel hangs on every other. The energy of the labels x of all pixels, with the class probabilities p, is

    sum_i -log p_i(x_i)  +  sum_{i<j} [x_i != x_j] (w_s k_s(i, j) + w_a k_a(i, j))

    k_s = exp(-|position|^2 / (2 smoothness_pixels^2))
    k_a = exp(-|position|^2 / (2 appearance_pixels^2) - |colour|^2 / (2 appearance_levels^2))

of the differences in position and colour of i and j (Krähenbühl and Koltun 2011, arXiv:1210.5644; DeepLab v1
and v2 use it so). Mean field finds the marginals of all pixels at once: from Q = p on, `iterations`
times, `Q <- softmax(log p + w_s K_s Q + w_a K_a Q)`.

Two choices are the same in the exact and in the fast form. Each kernel is normalised symmetrically,
`K = D^-1/2 k D^-1/2` with D the row sums of k, so that a weight means the same in flat and in busy regions.
And a pixel is among its own neighbours, where the paper leaves it out: a filter sums over all pixels, and the
published weights were found with one.
"""

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from striate.config import Settings
from striate.errors import DataError, NotFiniteError, UsageError
from striate.structures import IGNORE, Image
from striate.tasks._lattice import Lattice
from striate.tasks._softmax import softmax

__all__ = ["EXACT_PIXELS", "CrfConfig", "exact_mean_field", "refine"]

Maps = NDArray[np.float32]
Filter = Callable[[Maps], Maps]
"""Maps (K, H, W) to as many, each alone: what the neighbours of each pixel vote for."""

Blur = Callable[[Maps], Maps]
"""A map (H, W) to the sums by a kernel around each pixel, up to a common factor."""

EXACT_PIXELS = 96 * 96
"""Largest picture that `exact_mean_field` takes: its matrix of all pairs is then 340 MB."""

# A class of probability 0 could never come back, however much its neighbours vote for it.
_LEAST_PROBABILITY = 1e-5

# Standard deviations after which exp(-x^2 / 2) is nothing beside 1 in float32.
_REACH = 6


class CrfConfig(Settings, frozen=True):
    """How much the pixels around count, and which. Defaults: DeepLab v2's for VOC 2012."""

    iterations: int = 10  # of mean field
    smoothness_weight: float = 3.0  # of pixels that are near; 0: do not count
    smoothness_pixels: float = 1.0  # standard deviation of near
    appearance_weight: float = 4.0  # of pixels that are near and alike in colour; 0: do not count
    appearance_pixels: float = 67.0  # standard deviation of near
    appearance_levels: float = 3.0  # standard deviation of alike, in levels 0..255 of red, green and blue

    def __post_init__(self) -> None:
        _require(
            1 <= self.iterations <= 1000, "iterations", self.iterations, "give 1..1000; 5 to 10 are usual"
        )
        for name in ("smoothness_weight", "appearance_weight"):
            weight = getattr(self, name)
            _require(0 <= weight <= 1000, name, weight, "give 0..1000; 1 to 10 are usual")
        for name in ("smoothness_pixels", "appearance_pixels", "appearance_levels"):
            deviation = getattr(self, name)
            _require(0.1 <= deviation <= 1e5, name, deviation, "give a standard deviation of 0.1..100000")


def _require(allowed: bool, name: str, value: object, fix: str) -> None:
    if not allowed:
        raise UsageError(f"crf.{name}", f"{value!r} makes no sense here", fix)


_DEFAULT = CrfConfig()


def refine(
    probabilities: NDArray[np.floating[Any]],
    image: Image,
    config: CrfConfig = _DEFAULT,
    key: str = "probabilities",
) -> Maps:
    """Marginal probabilities (K, H, W) float32 of the CRF over `probabilities` (K, H, W) and their picture.

    `image` is uint8 (H, W, 1 or 3), RGB or gray. Time and memory grow with the pixels, not with their pairs:
    the appearance kernel is filtered on a permutohedral lattice, which approximates it; the smoothness kernel
    is exact. Memory: 400 bytes a pixel, or 100 and six arrays of the size of `probabilities` where that is
    more. Raises DataError or NotFiniteError naming `key` where these are no probabilities, or those of
    another picture, UsageError where the standard deviations are too small for so large a picture.
    """
    scores = _log_probabilities(probabilities, image, key)
    size = image.shape[:2]
    filters = []
    if config.smoothness_weight:
        near = partial(_smoothed, deviation=config.smoothness_pixels)
        filters.append(_normalized(near, config.smoothness_weight, size))
    if config.appearance_weight:
        alike = partial(_blurred, lattice=Lattice.around(_appearance(image, config)))
        filters.append(_normalized(alike, config.appearance_weight, size))
    return _mean_field(scores, filters, config.iterations)


def exact_mean_field(
    probabilities: NDArray[np.floating[Any]],
    image: Image,
    config: CrfConfig = _DEFAULT,
    key: str = "probabilities",
) -> Maps:
    """What `refine` approximates, from the matrix of all pairs of pixels; takes and raises the same.

    Raises DataError for a picture of more than EXACT_PIXELS pixels too.
    """
    scores = _log_probabilities(probabilities, image, key)
    height, width = scores.shape[1:]
    if height * width > EXACT_PIXELS:
        raise DataError(
            key,
            f"{width}x{height} pixels have too many pairs for the exact CRF",
            "use refine, or a smaller picture",
        )
    pairs = np.zeros((height * width, height * width), np.float32)
    for weight, points in _kernels(image, config):
        pairs += _normalized_pairs(points, weight)

    def product(maps: Maps) -> Maps:
        return (maps.reshape(len(maps), -1) @ pairs).reshape(maps.shape)

    return _mean_field(scores, [product], config.iterations)


def _log_probabilities(probabilities: NDArray[np.floating[Any]], image: Image, key: str) -> Maps:
    shape = probabilities.shape
    if len(shape) != 3 or shape[1:] != image.shape[:2] or not 0 < shape[0] <= IGNORE:
        raise DataError(
            key,
            f"probabilities of shape {shape} for a picture of shape {image.shape}",
            f"give (K, H, W) at the picture's own size, with 1..{IGNORE} classes",
        )
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in (1, 3):
        raise DataError(
            key, f"a picture is uint8 (H, W, 1 or 3), got {image.dtype} {image.shape}", "use decode_image"
        )
    if not np.isfinite(probabilities).all():
        raise NotFiniteError(
            key, "a probability is NaN or infinite", "look for the cause in the network's output"
        )
    if probabilities.min() < 0 or np.abs(probabilities.sum(axis=0, dtype=np.float32) - 1).max() > 1e-2:
        raise DataError(
            key, "at some pixel the probabilities do not sum to 1", "give the softmax of the logits"
        )
    return np.log(np.maximum(probabilities.astype(np.float32), np.float32(_LEAST_PROBABILITY)))


def _mean_field(scores: Maps, filters: list[Filter], iterations: int) -> Maps:
    marginals = softmax(scores, axis=0)
    for _ in range(iterations):
        votes = scores.copy()
        for filtered in filters:
            votes += filtered(marginals)
        marginals = softmax(votes, axis=0)
    return marginals


def _normalized(blur: Blur, weight: float, size: tuple[int, ...]) -> Filter:
    """`weight` times D^-1/2, `blur` and D^-1/2 one after the other, where D is what `blur` makes of ones."""
    scale: Maps = np.sqrt(np.float32(weight) / blur(np.ones(size, np.float32)))
    return lambda maps: np.stack([scale * blur(scale * values) for values in maps])


def _blurred(values: Maps, lattice: Lattice) -> Maps:
    return lattice.blur(values.ravel()).reshape(values.shape)


def _smoothed(values: Maps, deviation: float) -> Maps:
    """At each pixel the sum of all `values` (H, W) by a Gaussian of their distance, `deviation` in pixels."""
    for axis in (0, 1):
        lines = values.swapaxes(0, axis)
        sums = lines.copy(order="K")
        for distance in range(1, min(math.ceil(_REACH * deviation) + 1, len(lines))):
            part = np.float32(math.exp(-0.5 * (distance / deviation) ** 2)) * lines
            sums[distance:] += part[:-distance]
            sums[:-distance] += part[distance:]
        values = sums.swapaxes(0, axis)
    return values


def _kernels(image: Image, config: CrfConfig) -> Iterator[tuple[float, NDArray[np.float64]]]:
    """The weight of each kernel that counts, and points (N, d) of whose distance it is the Gaussian."""
    if config.smoothness_weight:
        yield config.smoothness_weight, _positions(image) / config.smoothness_pixels
    if config.appearance_weight:
        yield config.appearance_weight, _appearance(image, config)


def _appearance(image: Image, config: CrfConfig) -> NDArray[np.float64]:
    """A point (N, 2 + C) for each pixel of `image`: where it is and its colour, in standard deviations."""
    channels = image.shape[2]
    # Gray counts three times: the same picture gives the same whether it is stored as gray or as RGB.
    colors = image.reshape(-1, channels) * (np.sqrt(3 / channels) / config.appearance_levels)
    return np.concatenate((_positions(image) / config.appearance_pixels, colors), axis=1)


def _positions(image: Image) -> NDArray[np.float64]:
    """Row and column of each pixel of `image`, (N, 2)."""
    return np.indices(image.shape[:2], np.float64).reshape(2, -1).T


def _normalized_pairs(points: NDArray[np.float64], weight: float) -> Maps:
    """`weight` times D^-1/2 k D^-1/2 of the Gaussian k of the distances between `points` (N, d); (N, N)."""
    kernel = np.empty((len(points), len(points)), np.float32)
    columns = np.ascontiguousarray(points.T)
    for row, point in zip(kernel, points, strict=True):
        row[:] = np.exp(-0.5 * ((columns - point[:, None]) ** 2).sum(axis=0))
    scale = np.sqrt(weight / kernel.sum(axis=1))
    kernel *= scale
    kernel *= scale[:, None]
    return kernel
