"""An input made of a picture, or of four, with the objects that remain visible in it."""

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from striate.data.colours import Recolouring, recolour
from striate.data.mosaic import Mosaic, tiles
from striate.data.overlaps import areas, centres_inside
from striate.data.pixels import Rectangle, copy_pixels
from striate.data.placing import Place, Placed, put
from striate.data.preprocess import Resize, planned
from striate.structures import Geometry, Image, Objects, Preprocess

__all__ = ["BoxCanvas", "Source", "Varied"]

_LEAST_SHARE = 0.1  # of its area that a box cut by an edge keeps, or it says too little of its object
_LEAST_SIDE = 1.0  # pixels of the input that remain of it
_ROUNDING = 0.01  # pixels that a box may lie beyond an edge without being cut


class Source(NamedTuple):
    """What a training picture is made of."""

    image: Image  # as `Pictures.for_zooming` keeps it
    geometry: Geometry  # from the picture's own size to that
    objects: Objects  # in the picture's own pixels, inside it
    proposals: NDArray[np.float32]  # (P, 4) likewise; a row of zeros is none


class Varied(NamedTuple):
    """A training picture and what is in it, in its own pixels."""

    image: Image
    objects: Objects
    proposals: NDArray[np.float32]  # (N, 4), those that remain
    geometry: Geometry  # where the source's pixels are, before mirroring

    def mirrored(self) -> "Varied":
        """The same with left and right exchanged."""
        image = np.empty_like(self.image)
        copy_pixels(self.image, image, mirror=True)
        width, objects = image.shape[1], self.objects
        boxes = _mirrored(objects.boxes, width)
        changed = Objects(boxes, objects.labels, objects.crowd, objects.difficult)
        return Varied(image, changed, _mirrored(self.proposals, width), self.geometry)

    def blended(self, other: "Varied") -> "Varied":
        """The mean with a picture of the same size, and the objects of both. YOLOX (arXiv:2107.08430)."""
        total = self.image.astype(np.uint16) + other.image + 1
        image = (total >> 1).astype(np.uint8)
        return self._replace(image=image, objects=_joined([self.objects, other.objects]))


@dataclass(frozen=True, slots=True)
class BoxCanvas:
    """How inputs are made that `spec` describes.

    A box that an edge cuts is cut too. It stays if enough of it is left: with `by_centre` if its centre is,
    else if a tenth of its area is, and by at least a pixel. A crowd always stays: what is left of it is still
    no background.
    """

    spec: Preprocess
    resize: Resize | None  # in place of preprocessing's own filter
    around: int | NDArray[np.uint8]  # levels outside the picture, where a window shows more than that
    by_centre: bool

    def single(self, source: Source, window: Rectangle, recolouring: Recolouring) -> Varied:
        """`window` of the picture, brought to the input as if it were a picture of its own."""
        size, place = self._place(source.geometry.source, window)
        image = self._empty(size)
        if not place.is_full:
            top, bottom, left, right = place.limits
            image[top:bottom, left:right] = self.around
        placed = self._put(image, source, place, recolouring)
        if placed is None:  # less than half a pixel of the picture was in the window
            height, width = source.geometry.source
            return self.single(source, Rectangle(0, height, 0, width), recolouring)
        proposals = self._proposals(source.proposals, placed)
        return Varied(image, self._objects(source.objects, placed), proposals, placed.geometry)

    def mosaic(self, sources: list[Source], layout: Mosaic, recolouring: Recolouring) -> Varied:
        """Four pictures around a point; the geometry is that of the first."""
        spec = self.spec
        image, border = self._empty(spec.size), spec.border
        frame = Rectangle(border, spec.size[0] - border, border, spec.size[1] - border)
        fitted = [planned(spec, *source.geometry.source).resized for source in sources]
        found = []
        for source, place in zip(sources, tiles(layout, fitted, frame), strict=True):
            placed = self._put(image, source, place, recolouring)
            assert placed is not None  # each tile touches the point, which is inside
            found.append((self._objects(source.objects, placed), placed.geometry))
        objects = _joined([objects for objects, _ in found])
        return Varied(image, objects, np.empty((0, 4), np.float32), found[0][1])

    def _empty(self, size: tuple[int, int]) -> Image:
        return np.full((*size, self.spec.channels), self.spec.pad_value, np.uint8)

    def _place(self, size: tuple[int, int], window: Rectangle) -> tuple[tuple[int, int], Place]:
        """The input's size, and where on it a picture of `size` goes of which `window` shows."""
        sides = window.bottom - window.top, window.right - window.left
        plan, border = planned(self.spec, *sides), self.spec.border
        scales = [new / old for new, old in zip(plan.resized, sides, strict=True)]
        height, width = (max(1, round(side * scale)) for side, scale in zip(size, scales, strict=True))
        limits = Rectangle(
            max(plan.top, border),
            min(plan.top + plan.resized[0], plan.input[0] - border),
            max(plan.left, border),
            min(plan.left + plan.resized[1], plan.input[1] - border),
        )
        top, left = plan.top - round(window.top * scales[0]), plan.left - round(window.left * scales[1])
        return plan.input, Place((height, width), top, left, limits)

    def _put(self, image: Image, source: Source, place: Place, recolouring: Recolouring) -> Placed | None:
        change = partial(recolour, recolouring) if recolouring else None
        return put(image, (source.image, source.geometry), place, self.spec, self.resize, change)

    def _objects(self, objects: Objects, placed: Placed) -> Objects:
        whole = placed.geometry.boxes_to_input(objects.boxes)
        shown = _within(whole, placed.shows)
        is_cut = (np.abs(whole - shown) > _ROUNDING).any(1)
        if self.by_centre:
            top, bottom, left, right = placed.shows
            stays = centres_inside(whole, np.array([[left, top, right, bottom]]))[:, 0]
        else:
            stays = areas(shown) >= _LEAST_SHARE * areas(whole)
        stays &= (shown[:, 2:] - shown[:, :2] >= _LEAST_SIDE).all(1)
        stays = (stays | ~is_cut | objects.crowd) & (areas(shown) > 0)
        return Objects(shown, objects.labels, objects.crowd, objects.difficult)[stays]

    def _proposals(self, proposals: NDArray[np.float32], placed: Placed) -> NDArray[np.float32]:
        """Those of which a pixel remains, cut by the edges."""
        found = proposals[areas(proposals) > 0]
        shown = _within(placed.geometry.boxes_to_input(found), placed.shows)
        return shown[(shown[:, 2:] - shown[:, :2] >= _LEAST_SIDE).all(1)]


def _within(boxes: NDArray[np.float32], shows: Rectangle) -> NDArray[np.float32]:
    low = np.array([shows.left, shows.top] * 2, np.float32)
    high = np.array([shows.right, shows.bottom] * 2, np.float32)
    return np.clip(boxes, low, high)


def _mirrored(boxes: NDArray[np.float32], width: int) -> NDArray[np.float32]:
    """Boxes (N, 4) of a picture of this width in its mirror image."""
    x0, y0, x1, y1 = boxes.T
    return np.stack((width - x1, y0, width - x0, y1), 1)


def _joined(parts: list[Objects]) -> Objects:
    return Objects(
        np.concatenate([part.boxes for part in parts]),
        np.concatenate([part.labels for part in parts]),
        np.concatenate([part.crowd for part in parts]),
        np.concatenate([part.difficult for part in parts]),
    )
