"""From boxes as files state them to a dataset: which can be used, and why the others cannot."""

import math
import posixpath
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from striate.data.class_list import find_class_list, is_void
from striate.data.dataset import Dataset, Finding, Item, Part
from striate.data.formats import is_picture, part_in
from striate.data.formats.paired_masks import common_folders
from striate.data.tree import Tree
from striate.errors import DataError
from striate.structures import Objects

__all__ = [
    "MOST_CLASSES",
    "Pictures",
    "Read",
    "StatedBox",
    "StatedPicture",
    "inclusive",
    "number_of",
    "stem_of",
]

Corners = tuple[float, ...]

MOST_CLASSES = 100_000

_SHOWN = 8  # numbers of a box in a message
_FARTHEST = 1_000_000.0  # pixels; larger coordinates are a mistake
_PICTURE_FOLDER = re.compile(r"(?i)image|img|photo|picture|jpe?g")


class StatedBox(NamedTuple):
    """One object as its file has it."""

    id: str  # how messages call it: "object 3", "line 7", "annotation 1774"
    category: str  # as the file calls its class
    corners: Corners  # x0 y0 x1 y1 in pixels, x1 and y1 exclusive; fewer or more where it has no such
    stated: Sequence[object]  # its numbers in the file's words
    is_crowd: bool = False
    is_difficult: bool = False


class StatedPicture(NamedTuple):
    """One picture and what its file says of it."""

    key: str
    file: str  # that states the boxes
    part: Part
    size: tuple[int, int] | None  # height, width as the file states them
    boxes: tuple[StatedBox, ...] | None  # None: nothing is known of it


@dataclass(slots=True)
class Read:
    """What a reader has found in a tree."""

    tree: Tree
    format: str  # its NAME
    pictures: dict[str, StatedPicture] = field(default_factory=dict)  # by key
    notes: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    has_true_sizes: bool = False  # whether sizes are the pictures' own rather than stated by the labels

    def add(self, picture: StatedPicture) -> None:
        """File a picture, the first time that its key comes."""
        self.pictures.setdefault(picture.key, picture)

    def add_bare(self, pictures: Iterable[str]) -> None:
        """File those of `pictures` of which nothing is known and that lie beside others."""
        folders = {posixpath.dirname(key) for key in self.pictures}
        for key in pictures:
            if posixpath.dirname(key) in folders:
                self.add(StatedPicture(key, key, part_in(posixpath.dirname(key)), None, None))

    def categories(self) -> list[str]:
        """What the files call their classes, sorted."""
        pictures = self.pictures.values()
        return sorted({box.category for picture in pictures for box in picture.boxes or ()})

    def named_classes(self) -> dict[str, str]:
        """Name -> name of the classes that a file beside the labels or in a folder around them lists.

        Without one, of those that occur, sorted. Raises DataError naming the list that is wrong.
        """
        categories = self.categories()
        files = [picture.file for picture in self.pictures.values() if picture.boxes is not None]
        listed = find_class_list(self.tree, common_folders(files), MOST_CLASSES) if files else None
        if listed is None:
            return {name: name for name in categories}
        # Lists for masks have a background and a void besides, which no box is of.
        names = [row.name for row in listed.listed]
        own = [name for name in names if name in categories or not (is_void(name) or name == "background")]
        self.notes.append(f"class names from {listed.file}")
        return {name: name for name in own}

    def dataset(self, classes: Mapping[str, str]) -> Dataset:
        """The dataset; `classes` maps categories to names of classes, in the order of the class ids.

        Raises DataError where there is no picture or no class.
        """
        if not self.pictures or not classes:
            what = "it has no object" if self.pictures else "none of its pictures is there"
            raise DataError(self.tree.name, what, "check that labels and pictures belong together")
        ids = {category: class_id for class_id, category in enumerate(classes)}
        pictures = [self.pictures[key] for key in sorted(self.pictures)]
        items = tuple(self._item(picture, ids) for picture in pictures)
        sizes = {picture.key: picture.size for picture in pictures if picture.size is not None}
        return Dataset(
            name=self.tree.name,
            format=self.format,
            task="detection",
            classes=tuple(classes.values()),
            items=items,
            storage=self.tree,
            notes=tuple(self.notes),
            findings=(*self.tree.findings, *self.findings),
            stated_sizes=None if self.has_true_sizes else sizes,
        )

    def _item(self, picture: StatedPicture, ids: Mapping[str, int]) -> Item:
        if picture.boxes is None:
            return Item(picture.key, picture.part)
        boxes = _as_array(picture.boxes)
        usable = []
        for row, (box, corners) in enumerate(zip(picture.boxes, boxes.tolist(), strict=True)):
            if code := _problem(box, corners, picture.size, ids):
                self.findings.append(_finding(picture, box, code))
            else:
                usable.append(row)
        kept = [picture.boxes[row] for row in usable]
        objects = Objects(
            boxes[usable],
            np.array([ids[box.category] for box in kept], np.int64),
            np.array([box.is_crowd for box in kept], np.bool_),
            np.array([box.is_difficult for box in kept], np.bool_),
        )
        return Item(picture.key, picture.part, objects=objects, ids=tuple(box.id for box in kept))


def number_of(text: str) -> float:
    """The number that `text` is; NaN for anything else."""
    try:
        return math.nan if "_" in text else float(text)  # Python takes 1_0 for ten
    except ValueError:
        return math.nan


def inclusive(corners: Sequence[float], first: tuple[float, float] = (1.0, 1.0)) -> Corners:
    """`corners` whose last pixels are inside, and whose first pixel is called `first`, made exclusive.

    Two equal corners are a click without a drag: no box has one pixel.
    """
    x, y = first
    left, top, right, bottom = corners
    width = 0.0 if (left, top) == (right, bottom) else 1.0
    return left - x, top - y, right - x + width, bottom - y + width


def _as_array(boxes: Sequence[StatedBox]) -> NDArray[np.float32]:
    """The corners of each box, (N, 4), NaN where it has no four numbers that a picture can hold."""
    known = [box.corners if len(box.corners) == 4 else (np.nan,) * 4 for box in boxes]
    corners = np.array(known, np.float64).reshape(-1, 4)
    corners[~(np.abs(corners) <= _FARTHEST)] = np.nan
    return corners.astype(np.float32)


def _problem(
    box: StatedBox, corners: Sequence[float], size: tuple[int, int] | None, ids: Mapping[str, int]
) -> str | None:
    """The code of what is wrong with a box in a picture of `size`, if anything is."""
    left, top, right, bottom = corners
    height, width = size or (math.inf, math.inf)
    if not all(map(math.isfinite, corners)):
        return "box-number"
    if right <= left or bottom <= top:
        return "box-empty"
    if right <= 0 or bottom <= 0 or left >= width or top >= height:
        return "box-outside"
    return None if box.category in ids else "box-class"


def _finding(picture: StatedPicture, box: StatedBox, code: str) -> Finding:
    """What `code` means for a box, in words."""
    listed = list(map(str, box.stated))
    its = f"its box ({' '.join(listed[:_SHOWN])}{' ...' * (len(listed) > _SHOWN)})"
    of_size = "" if picture.size is None else f" of {picture.size[1]}x{picture.size[0]} pixels"
    message, fix = {
        "box-number": (f"{its} has no four usable numbers", "correct or remove it"),
        "box-empty": (f"{its} has no area", "draw it again or remove it"),
        "box-outside": (f"{its} lies outside the picture{of_size}", "correct or remove it"),
        "box-class": (
            f"its class {box.category!r} is none of the listed ones",
            "correct it or list that class",
        ),
    }[code]
    return Finding(picture.file, box.id, "error", code, f"{message}: left out", fix)


# --- which picture ----------------------------------------------------------------------------------


class Pictures:
    """The pictures of a tree by their names, to find the one that a label file belongs to."""

    def __init__(self, tree: Tree) -> None:
        self.all = [path for path in tree.files if is_picture(path)]
        self._by_stem: dict[str, list[str]] = defaultdict(list)
        for path in self.all:
            self._by_stem[stem_of(path)].append(path)

    def of(self, label: str, stem: str | None = None) -> str | None:
        """The picture that shares its name without suffix with `label`, or is called `stem`.

        Of several, the one beside it; else that whose folders are most alike; else the one in a folder of
        pictures. None if there is none, or no telling.
        """
        found = self._by_stem.get(stem_of(label) if stem is None else stem, [])
        if len(found) < 2:
            return found[0] if found else None
        ranked = sorted(((_likeness(label, path), path) for path in found), reverse=True)
        return ranked[0][1] if ranked[0][0] > ranked[1][0] else None


def stem_of(path: str) -> str:
    """The name of a file without folder and suffix."""
    return posixpath.splitext(posixpath.basename(path))[0]


def _likeness(label: str, picture: str) -> tuple[bool, int, bool]:
    """How well the folders of `picture` fit those of its `label`."""
    own, other = (posixpath.dirname(path).split("/") for path in (label, picture))
    shared = _equal_from_start(own, other) + _equal_from_start(own[::-1], other[::-1])
    return own == other, shared, any(map(_PICTURE_FOLDER.search, other))


def _equal_from_start(some: Sequence[str], others: Sequence[str]) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(some, others, strict=False)))
