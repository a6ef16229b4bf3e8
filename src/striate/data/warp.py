"""Rotation and elastic deformation of a training picture and its mask: both from the same places."""

import math
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from striate.data.pixels import rounded
from striate.structures import Image

__all__ = ["Places", "places_of", "warped"]

Places = NDArray[np.float32]
"""Where the pixels of an output come from, (2, H, W): rows and columns, a pixel's centre at .5."""


def places_of(size: tuple[int, int], degrees: float, knots: NDArray[np.float64] | None) -> Places:
    """Where each pixel of a picture of `size` (h, w) is taken from, in its own coordinates.

    It is turned clockwise by `degrees` about its centre, and then each pixel moved by the displacements
    `knots` (2, 3, 3), rows and columns in pixels: those of its corners, the middles of its edges and its
    centre, with bicubic interpolation between. Ronneberger et al. 2015 (arXiv:1505.04597), section 3.1.
    """
    height, width = size
    down = (np.arange(height, dtype=np.float32) + 0.5 - height / 2)[:, None]
    right = (np.arange(width, dtype=np.float32) + 0.5 - width / 2)[None, :]
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    places = np.empty((2, height, width), np.float32)
    places[0] = cosine * down - sine * right + height / 2
    places[1] = sine * down + cosine * right + width / 2
    if knots is not None:
        along = np.einsum("hi,kij->khj", _knot_weights(height), knots.astype(np.float32))
        for knot, weights in enumerate(_knot_weights(width).T):
            places += along[:, :, knot, None] * weights
    return places


@cache
def _knot_weights(count: int) -> NDArray[np.float32]:
    """What each of three knots, at both ends and in the middle, adds at `count` even places: (count, 3)."""
    every = F.interpolate(torch.eye(3)[None, None], (count, 3), mode="bicubic", align_corners=True)
    weights: NDArray[np.float32] = every[0, 0].numpy()
    return weights


def warped(image: Image, labels: NDArray[np.uint8], places: Places) -> tuple[Image, NDArray[np.uint8]]:
    """`image` (H, W, C) and `labels` (H, W) at `places` (2, h, w), all inside them: (h, w, C) and (h, w).

    The picture is interpolated linearly, a label is that of the pixel that the place lies in.
    """
    height, width = labels.shape
    rows, columns = places
    found = labels.ravel().take(rows.astype(np.intp) * width + columns.astype(np.intp))
    grid = np.empty((1, *places.shape[1:], 2), np.float32)
    for axis, (place, side) in enumerate(((columns, width), (rows, height))):
        np.multiply(place, 2 / side, out=grid[0, :, :, axis])
    grid -= 1
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    sampled = F.grid_sample(
        pixels, torch.from_numpy(grid), mode="bilinear", padding_mode="border", align_corners=False
    )
    return rounded(sampled[0].permute(1, 2, 0).numpy()), found
