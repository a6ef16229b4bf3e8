"""`shapes`: drawn pictures of one to four coloured shapes, with labels, boxes and masks.

Everything is integer arithmetic on numbers from a generator whose stream is fixed (PCG64), so that
picture `index` of a `seed` is the same, bit by bit, on every machine and in any order of drawing.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import count as counting
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from striate.data.dataset import Dataset, Item
from striate.data.storage import index_of
from striate.errors import UsageError
from striate.structures import Image, Objects, Sample

__all__ = ["CLASSES", "DESCRIPTION", "MASK_CLASSES", "Scene", "ShapesStorage", "arrange", "draw", "read"]

DESCRIPTION = "1,200 pictures drawn on the spot, 64x64 colour, 6 classes; labels, boxes and masks"

CLASSES = ("circle", "cross", "ring", "square", "star", "triangle")

MASK_CLASSES = ("background", *CLASSES)
"""What the values of a mask mean: 0 is the background, class id + 1 a shape."""

SMALLEST, LARGEST = 24, 1024
"""Sides that can be drawn, in pixels: below 24 a star has no arms left."""

DOMINANCE = 1.5
"""The shape that gives a picture its label shows at least this many times the area of any other."""

Ints = NDArray[np.int64]
ChoiceT = TypeVar("ChoiceT")

# Fixed point: lengths in eighths of a pixel, cosines in 1/16384. Four samples a pixel and axis lie at odd
# eighths. No cosine of a whole degree lies so near a rounding edge that two math libraries could disagree.
_EIGHTHS, _SAMPLES, _ONE = 8, 4, 1 << 14
_COSINES = tuple(round(math.cos(math.radians(degrees)) * _ONE) for degrees in range(360))

# name: (half planes around the centre, how many of them hold a point of the shape, their distance in % of
# the radius). The lines of a pentagon's sides bound a five-pointed star: each tip is beyond just one of them.
_POLYGONS = {"square": (4, 4, 71), "star": (5, 4, 31), "triangle": (3, 3, 50)}

# Radius in % of the nominal one, so that the classes show about the same area.
_REACH = {"circle": 88, "cross": 112, "ring": 104, "square": 112, "star": 138, "triangle": 132}

_PAINTS: tuple[Ints, ...] = tuple(
    np.array(
        [
            (229, 57, 53), (251, 140, 0), (253, 216, 53), (67, 160, 71), (0, 172, 193),
            (30, 136, 229), (94, 53, 177), (216, 27, 96), (245, 245, 245), (38, 50, 56),
        ],
        np.int64,
    )
)  # fmt: skip
_GROUNDS: tuple[Ints, ...] = tuple(
    np.array(
        [
            (207, 216, 220), (176, 190, 197), (188, 170, 164), (215, 204, 184), (165, 180, 160),
            (120, 134, 150), (109, 99, 92), (84, 110, 122), (62, 70, 84), (74, 84, 72),
        ],
        np.int64,
    )
)  # fmt: skip


class _Dice:
    """Whole numbers drawn from (seed, index, attempt), the same for ever."""

    def __init__(self, *seeds: int) -> None:
        # Only the raw stream of a bit generator is promised to stay as it is (numpy's NEP 19).
        self._source = np.random.PCG64(list(seeds))

    def between(self, low: int, high: int) -> int:
        """A number in low..high, both included."""
        return low + int(self._source.random_raw()) % (high - low + 1)

    def pick(self, choices: Iterable[ChoiceT], number: int) -> list[ChoiceT]:
        """`number` different members of `choices`, in random order."""
        left = list(choices)
        return [left.pop(self.between(0, len(left) - 1)) for _ in range(number)]

    def bytes(self, *shape: int) -> Ints:
        """Numbers 0..255 of this shape."""
        total = math.prod(shape)
        raw = self._source.random_raw(-(-total // 8))
        return raw.astype("<u8").view(np.uint8)[:total].reshape(shape).astype(np.int64)


@dataclass(frozen=True, slots=True)
class Scene:
    """Where the shapes of a picture lie, the bottom one first, and which of them each pixel shows."""

    labels: NDArray[np.int64]  # (shapes,) class ids
    coverages: tuple[Ints, ...]  # each (size, size): how many of a pixel's 16 samples the shape covers
    instances: NDArray[np.uint8]  # (size, size): 0 background, i the i-th shape

    @property
    def areas(self) -> NDArray[np.int64]:
        """Visible pixels of each shape, (shapes,)."""
        return np.bincount(self.instances.ravel(), minlength=len(self.labels) + 1)[1:]

    @property
    def label(self) -> int:
        """Class id of the shape that shows the most pixels."""
        return int(self.labels[self.areas.argmax()])

    @property
    def objects(self) -> Objects:
        """The extent of each shape's visible pixels; every shape shows some."""
        boxes = np.empty((len(self.labels), 4), np.float32)
        for number in range(len(self.labels)):
            rows, columns = np.nonzero(self.instances == number + 1)
            boxes[number] = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
        return Objects(boxes, self.labels, np.zeros(len(self.labels), np.bool_))

    @property
    def mask(self) -> NDArray[np.uint8]:
        """Class id + 1 of the shape that each pixel shows, 0 for the background, (size, size)."""
        values: NDArray[np.uint8] = np.append(0, self.labels + 1).astype(np.uint8)
        return values[self.instances]


@dataclass(frozen=True, slots=True)
class ShapesStorage:
    """Draws the picture `shapes[index]` whenever it is asked for; keeps none."""

    count: int
    size: int
    seed: int

    def content(self, key: str) -> Image:
        """The picture (size, size, 3). Raises DataError for a key that is not one of `count`."""
        return draw(index_of(key, "shapes", self.count), self.size, self.seed).image


def read(count: int = 1200, size: int = 64, seed: int = 0) -> Dataset:
    """`count` pictures of `size` x `size` pixels; the label is the class of the largest shape.

    Raises UsageError unless count >= 1, 24 <= size <= 1024 and seed >= 0.
    """
    _check(count, size, seed)
    scenes = (arrange(index, size, seed) for index in range(count))
    items = tuple(
        Item(f"shapes[{index}]", label=scene.label, objects=scene.objects)
        for index, scene in enumerate(scenes)
    )
    return Dataset("shapes", "built in", "classification", CLASSES, items, ShapesStorage(count, size, seed))


def draw(index: int, size: int = 64, seed: int = 0) -> Sample:
    """Picture `index` (size, size, 3) with its label, objects and mask, whose values are in MASK_CLASSES.

    A pixel belongs to the topmost shape that covers half of it; boxes are the extent of those pixels.
    """
    _check(index + 1, size, seed)
    scene = arrange(index, size, seed)
    image = _paint(scene, _Dice(seed, index, 0))
    return Sample(f"shapes[{index}]", image, scene.label, scene.objects, scene.mask)


def arrange(index: int, size: int, seed: int) -> Scene:
    """The first of the random scenes of (seed, index) in which every shape shows and one is the largest."""
    scenes = (_attempt(_Dice(seed, index, attempt), index, size) for attempt in counting(1))
    return next(scene for scene in scenes if _is_clear(scene))


def _check(count: int, size: int, seed: int) -> None:
    if count < 1 or not SMALLEST <= size <= LARGEST or seed < 0:
        raise UsageError(
            "shapes",
            f"cannot draw {count} pictures of {size} pixels with seed {seed}",
            f"use a count of 1 or more, a size of {SMALLEST} to {LARGEST} and a seed of 0 or more",
        )


def _attempt(dice: _Dice, index: int, size: int) -> Scene:
    """One large shape, its class in turn by `index`, and up to three small ones, stacked at random."""
    others = dice.between(0, 3)
    main = dice.between(0, others)  # its place in the stack
    labels = [dice.between(0, len(CLASSES) - 1) for _ in range(others + 1)]
    labels[main] = index % len(CLASSES)
    coverages = tuple(
        _place(dice, CLASSES[label], size, percent=(20, 32) if number == main else (9, 15))
        for number, label in enumerate(labels)
    )
    instances = np.zeros((size, size), np.uint8)
    for number, coverage in enumerate(coverages, start=1):
        instances[coverage >= _SAMPLES**2 // 2] = number
    return Scene(np.array(labels, np.int64), coverages, instances)


def _is_clear(scene: Scene) -> bool:
    """Whether each shape shows at least half of itself and the largest is beyond doubt."""
    areas = scene.areas
    whole = np.array([np.count_nonzero(coverage >= _SAMPLES**2 // 2) for coverage in scene.coverages])
    ranked = np.sort(areas)
    dominant = len(ranked) == 1 or ranked[-1] >= DOMINANCE * ranked[-2]
    return bool(dominant and (2 * areas >= whole).all())


def _place(dice: _Dice, name: str, size: int, percent: tuple[int, int]) -> Ints:
    """How many of each pixel's samples are in a shape of random place, angle and radius, (size, size)."""
    side = size * _EIGHTHS
    radius = side * dice.between(percent[0] * 10, percent[1] * 10) * _REACH[name] // 100_000
    x, y = (dice.between(radius, side - radius) for _ in range(2))
    angle = dice.between(0, 359)
    first = [max(0, (centre - radius) // _EIGHTHS) for centre in (x, y)]
    last = [min(size, (centre + radius) // _EIGHTHS + 1) for centre in (x, y)]
    columns, rows = (
        np.arange(low * _EIGHTHS + 1, high * _EIGHTHS, _EIGHTHS // _SAMPLES, dtype=np.int64) - centre
        for low, high, centre in zip(first, last, (x, y), strict=True)
    )
    inside = _inside(name, columns, rows[:, None], radius, angle).astype(np.int64)
    coverage = np.zeros((size, size), np.int64)
    window = inside.reshape(last[1] - first[1], _SAMPLES, last[0] - first[0], _SAMPLES)
    coverage[first[1] : last[1], first[0] : last[0]] = window.sum(axis=(1, 3))
    return coverage


def _inside(name: str, x: Ints, y: Ints, radius: int, angle: int) -> NDArray[np.bool_]:
    """Whether each point (x, y), in eighths of a pixel from the centre, is in the shape."""
    if name in ("circle", "ring"):
        squared: Ints = x * x + y * y
        hole = 0 if name == "circle" else 55 * radius // 100
        return (squared <= radius * radius) & (squared >= hole * hole)
    if name == "cross":
        along, across = (np.abs(_project(x, y, angle + turn)) for turn in (0, 90))
        arm, half = (percent * radius * _ONE // 100 for percent in (94, 32))
        return (np.maximum(along, across) <= arm) & (np.minimum(along, across) <= half)
    sides, needed, distance = _POLYGONS[name]
    turns = (angle + turn * 360 // sides for turn in range(sides))
    limit = distance * radius * _ONE // 100
    within: Ints = np.sum([_project(x, y, turn) <= limit for turn in turns], axis=0)
    return within >= needed


def _project(x: Ints, y: Ints, angle: int) -> Ints:
    """Length of (x, y) along `angle` (degrees), in 1/16384 of their unit."""
    return x * _COSINES[angle % 360] + y * _COSINES[(angle - 90) % 360]


def _paint(scene: Scene, dice: _Dice) -> Image:
    """The scene in random colours: a textured ground, shaded shapes with soft shadows, noise over all."""
    size = len(scene.instances)
    grounds = dice.pick(_GROUNDS, 2)
    canvas = _ground(dice, size, *grounds)
    # A shape must stand out from both colours of the ground.
    seen = tuple(paint for paint in _PAINTS if all(np.abs(paint - ground).sum() >= 150 for ground in grounds))
    paints = dice.pick(seen, len(scene.labels))
    full = _SAMPLES**2
    for coverage, paint in zip(scene.coverages, paints, strict=True):
        canvas -= canvas * _shadow(coverage, max(1, size // 40))[..., None] // (3 * full)
        lit = np.minimum(paint * _light(coverage)[..., None] // 256, 255)
        canvas += (lit - canvas) * coverage[..., None] // full
    strength = dice.between(4, 24)
    canvas += (dice.bytes(size, size, 3) - 128) * strength // 256
    return np.clip(canvas, 0, 255).astype(np.uint8)


def _shadow(coverage: Ints, distance: int) -> Ints:
    """The coverage moved right and down by `distance` pixels, (size, size)."""
    shadow = np.zeros_like(coverage)
    shadow[distance:, distance:] = coverage[:-distance, :-distance]
    return shadow


def _light(coverage: Ints) -> Ints:
    """Brightness in 1/256 from 284 at the shape's upper left to 228 at its lower right, (size, size)."""
    rows, columns = np.nonzero(coverage)
    low, high = (rows + columns).min(), (rows + columns).max()
    place = np.arange(len(coverage)) + np.arange(len(coverage))[:, None]
    light: Ints = 284 - 56 * (place - low) // max(1, high - low)
    return light


def _ground(dice: _Dice, size: int, first: Ints, second: Ints) -> Ints:
    """A canvas (size, size, 3) of two colours in a random texture."""
    texture = dice.pick((_gradient, _stripes, _checks, _clouds), 1)[0](dice, size)
    return first + (second - first) * texture[..., None] // 255


def _gradient(dice: _Dice, size: int) -> Ints:
    """0..255 from one side to the other, in a random direction, (size, size)."""
    along = _slanted(dice, size)
    low, high = along.min(), along.max()
    gradient: Ints = (along - low) * 255 // (high - low)
    return gradient


def _stripes(dice: _Dice, size: int) -> Ints:
    """Soft stripes 0..128 of random width and direction, (size, size)."""
    period = size * _EIGHTHS * _ONE // dice.between(3, 8)
    phase = _slanted(dice, size) % period
    return np.abs(phase * 2 - period) * 128 // period


def _checks(dice: _Dice, size: int) -> Ints:
    """Tiles of 0 and 96 of random width, (size, size)."""
    tiles = np.arange(size) * dice.between(3, 8) // size
    return (tiles + tiles[:, None]) % 2 * 96


def _clouds(dice: _Dice, size: int) -> Ints:
    """Smooth random values 0..255, (size, size)."""
    cells = dice.between(3, 7)
    corners = dice.bytes(cells + 1, cells + 1)
    place = np.arange(size) * cells
    cell, right = place // size, place % size
    across: Ints = corners[:, cell] * (size - right) + corners[:, cell + 1] * right
    down: Ints = right[:, None]
    clouds: Ints = (across[cell] * (size - down) + across[cell + 1] * down) // (size * size)
    return clouds


def _slanted(dice: _Dice, size: int) -> Ints:
    """Where each pixel lies along a random direction, in 1/16384 of an eighth of a pixel, (size, size)."""
    centres = (np.arange(size, dtype=np.int64) * 2 + 1 - size) * (_EIGHTHS // 2)
    return _project(centres, centres[:, None], dice.between(0, 359))
