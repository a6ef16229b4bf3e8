"""What training does with boxes that do not fit their picture, and what `check` says of it.

Boxes are clipped to their picture, and those without any area in it are left out. Nothing else is done to
them: doubled, tiny and shifted boxes are trained on as they are, and reported.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from striate.data.dataset import Dataset, Finding
from striate.data.formats import shown
from striate.data.overlaps import areas, pairwise_iou
from striate.structures import Objects

__all__ = ["BoxTable", "box_findings", "contents_of", "table_of", "usable_objects"]

DOUBLED = 0.99  # intersection over union with a box of the same class, from which they are one drawn twice
TINY = 2  # pixels of the shorter side of a box
SLIPS = 3  # boxes at an edge that are off by one pixel: from so many on, one mistake explains all

_EXACTLY = 1e-3  # pixels; what float32 and numbers with few digits leave of a whole number
_LISTED = 5  # keys spelled out in a message
_BLOCK = 256  # boxes compared with all the others at a time

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]
Level = Literal["error", "warning", "note"]


def usable_objects(objects: Objects, size: tuple[int, int]) -> Objects:
    """What is trained on and measured of `objects`: clipped to the picture, with an area there.

    size: height and width of the picture.
    """
    boxes = _clipped(objects.boxes, np.array([size]))
    clipped = Objects(boxes, objects.labels, objects.crowd, objects.difficult)
    return clipped[areas(boxes) > 0]


def _clipped(boxes: NDArray[np.float32], sizes: Ints) -> NDArray[np.float32]:
    """Boxes (N, 4) cut at the edges of their pictures, whose height and width are `sizes` (N or 1, 2)."""
    limits = sizes[:, [1, 0, 1, 0]].astype(np.float32)
    return np.clip(boxes, np.float32(0), limits)


@dataclass(frozen=True, slots=True)
class BoxTable:
    """The boxes of the pictures of a dataset, a row each, in the order of its items."""

    items: Ints  # (T,) whose it is
    rows: Ints  # (T,) which of the objects of that item
    labels: Ints  # (T,) class ids
    crowd: Flags  # (T,)
    stated: NDArray[np.float32]  # (T, 4) as the reader gave them
    sizes: Ints  # (T, 2) height and width of the picture
    clipped: NDArray[np.float32]  # (T, 4)

    @classmethod
    def empty(cls) -> "BoxTable":
        """No box."""
        numbers, corners = np.empty(0, np.int64), np.empty((0, 4), np.float32)
        return cls(numbers, numbers, numbers, numbers > 0, corners, np.empty((0, 2), np.int64), corners)

    @property
    def usable(self) -> Flags:
        """Which of them are trained on, (T,)."""
        return areas(self.clipped) > 0

    def of_items(self, indices: Ints) -> "BoxTable":
        """The usable boxes of these items."""
        return self[self.usable & np.isin(self.items, indices)]

    def first_of_class(self) -> "BoxTable":
        """One box for each class that a picture shows."""
        pairs = np.column_stack([self.items, self.labels])
        return self[np.unique(pairs, axis=0, return_index=True)[1]]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, rows: Flags | Ints) -> "BoxTable":
        return BoxTable(*(getattr(self, name)[rows] for name in self.__slots__))


def table_of(dataset: Dataset, shapes: Ints, sound: Flags) -> BoxTable:
    """The boxes of those pictures of `dataset` that are `sound` (items,); none for another task.

    `shapes` (items, 3) are those of the pictures: height, width, channels.
    """
    found = [
        (index, item.objects)
        for index, item in enumerate(dataset.items)
        if dataset.task == "detection" and item.objects is not None and sound[index]
    ]
    counts = np.array([len(objects) for _, objects in found], np.int64)
    items = np.repeat(np.array([index for index, _ in found], np.int64), counts)
    stated = np.concatenate([np.empty((0, 4), np.float32), *(objects.boxes for _, objects in found)])
    sizes = shapes[items, :2]
    return BoxTable(
        items=items,
        rows=np.arange(len(items)) - np.repeat(np.cumsum(counts) - counts, counts),
        labels=np.concatenate([np.empty(0, np.int64), *(objects.labels for _, objects in found)]),
        crowd=np.concatenate([np.empty(0, np.bool_), *(objects.crowd for _, objects in found)]),
        stated=stated,
        sizes=sizes,
        clipped=_clipped(stated, sizes),
    )


def contents_of(objects: Objects) -> bytes:
    """16 bytes that two sets of objects share only if they are equal, in whatever order."""
    rows = np.column_stack([objects.labels, objects.boxes, objects.crowd, objects.difficult])
    rows = rows[np.lexsort(rows.T)].astype("<f8")
    return hashlib.blake2b(rows.tobytes(), digest_size=16).digest()


# --- findings ---------------------------------------------------------------------------------------


def box_findings(dataset: Dataset, table: BoxTable, sound: Flags) -> Iterator[Finding]:
    """Boxes that are left out, clipped, doubled or tiny, and pictures without any.

    `table` holds the boxes of the pictures that are `sound` (items,).
    """
    yield from _left_out(dataset, table)
    usable = table[table.usable]
    yield from _beyond_edges(dataset, usable)
    yield from _doubled(dataset, usable)
    yield from _tiny(dataset, usable)
    yield from _bare(dataset, table, usable, sound)


def _left_out(dataset: Dataset, table: BoxTable) -> Iterator[Finding]:
    """An error for each box without area, as stated or in its picture."""
    for row in np.flatnonzero(~table.usable).tolist():
        its = f"its box ({_spelled(table.stated[row])})"
        if areas(table.stated[row : row + 1])[0]:
            message = f"{its} lies outside the picture of {_size(table, row)}: left out"
            yield _of_box(dataset, table, row, "error", "box-outside", message, "correct or remove it")
        else:
            message = f"{its} has no area: left out"
            yield _of_box(dataset, table, row, "error", "box-empty", message, "draw it again or remove it")


def _beyond_edges(dataset: Dataset, usable: BoxTable) -> Iterator[Finding]:
    """Boxes that are clipped: shifted by one throughout, by a rounding error, or by more, each by itself."""
    before = np.maximum(-usable.stated[:, :2], 0).max(1)
    after = np.maximum(usable.stated[:, 2:] - usable.sizes[:, ::-1], 0).max(1)
    far = np.maximum(before, after) > 1 + _EXACTLY
    low, high = (_are_slips(excess, far) for excess in (before, after))
    if low.any():
        yield _slip(dataset, low, is_low=True)
    if high.any():
        yield _slip(dataset, high, is_low=False)
    near = (np.maximum(before, after) > 0) & ~far & ~low & ~high
    if near.any():
        message = f"{_boxes(near)} clipped that had at most 1 pixel outside the picture"
        yield _of_data(dataset, "note", "box-rounding", message, "nothing to do: rounding does that")
    for row in np.flatnonzero(far).tolist():
        its = f"its box ({_spelled(usable.stated[row])})"
        message = f"{its} reaches beyond the picture of {_size(usable, row)}: clipped"
        fix = "correct it, unless what it holds really is cut off there"
        yield _of_box(dataset, usable, row, "warning", "box-beyond", message, fix)


def _are_slips(excess: NDArray[np.floating], far: Flags) -> Flags:
    """Which boxes are beyond an edge by exactly a pixel, if these are many and most of those beyond it."""
    exact = (np.abs(excess - 1) <= _EXACTLY) & ~far
    count = int(exact.sum())
    are_many = count >= max(SLIPS, int((excess > 0).sum()) / 2)
    return exact if are_many else np.zeros_like(exact)


def _slip(dataset: Dataset, boxes: Flags, is_low: bool) -> Finding:
    where, wrong, remedy = (
        ("begin 1 pixel left of or above", "small, as if counted from 0 and not from 1", "add 1 to")
        if is_low
        else ("end 1 pixel right of or below", "large, as if counted from 1 and not from 0", "take 1 from")
    )
    message = f"{_boxes(boxes)} {where} the picture and are clipped: all coordinates seem to be 1 too {wrong}"
    return _of_data(dataset, "warning", "off-by-one", message, f"{remedy} all coordinates of the files")


def _doubled(dataset: Dataset, usable: BoxTable) -> Iterator[Finding]:
    """A warning for each box that covers an earlier one of its class and picture."""
    for item in _with_like_boxes(usable):
        rows = np.arange(*np.searchsorted(usable.items, [item, item + 1]))
        for row, other in _twins(usable, rows):
            name = dataset.classes[int(usable.labels[row])]
            message = f"it is the same {name} as {_id(dataset, usable, other)}; both count"
            yield _of_box(dataset, usable, row, "warning", "box-duplicate", message, "remove one of them")


def _with_like_boxes(usable: BoxTable) -> list[int]:
    """The items with two boxes of one class that have nearly the same area, as doubles have."""
    sizes = areas(usable.clipped)
    kinds = np.column_stack([usable.items, usable.labels, usable.crowd])
    order = np.lexsort((sizes, *kinds.T[::-1]))
    # The areas between those of two doubles are as near, so neighbours tell.
    near = (kinds[order[1:]] == kinds[order[:-1]]).all(1)
    near &= sizes[order[:-1]] >= (DOUBLED - 1e-6) * sizes[order[1:]]
    found: list[int] = np.unique(usable.items[order[1:][near]]).tolist()
    return found


def _twins(usable: BoxTable, rows: Ints) -> Iterator[tuple[int, int]]:
    """Those of `rows`, all of one picture, that repeat an earlier one, each with the first such."""
    kinds = np.column_stack([usable.labels[rows], usable.crowd[rows]])
    boxes = usable.clipped[rows]
    for start in range(0, len(rows), _BLOCK):
        some = slice(start, start + _BLOCK)
        alike = (kinds[some, None] == kinds).all(2) & (pairwise_iou(boxes[some], boxes) >= DOUBLED)
        alike &= np.arange(len(rows)) < np.arange(len(rows))[some, None]
        for place in np.flatnonzero(alike.any(1)).tolist():
            yield int(rows[start + place]), int(rows[alike[place].argmax()])


def _tiny(dataset: Dataset, usable: BoxTable) -> Iterator[Finding]:
    """A note that counts boxes of hardly any pixels."""
    tiny = (usable.clipped[:, 2:] - usable.clipped[:, :2]).min(1) < TINY
    if tiny.any():
        keys = [dataset.items[index].key for index in np.unique(usable.items[tiny]).tolist()]
        message = f"{_boxes(tiny)} with a side below {TINY} pixels: {shown(keys, _LISTED)}"
        yield _of_data(dataset, "note", "box-tiny", message, "remove those that nobody could see")


def _bare(dataset: Dataset, table: BoxTable, usable: BoxTable, sound: Flags) -> Iterator[Finding]:
    """Pictures without a usable box: a warning where there was one, and a note that counts the others."""
    for index in np.setdiff1d(table.items, usable.items).tolist():
        message = "none of its boxes can be used: it is trained on as a picture without objects"
        fix = "correct its boxes or remove it"
        yield Finding(dataset.items[index].key, "", "warning", "no-usable-box", message, fix)
    found = [dataset.items[index] for index in np.flatnonzero(sound).tolist()]
    bare = [item.key for item in found if item.objects is not None and not len(item.objects)]
    if bare:
        message = f"{len(bare):,} of {len(dataset):,} pictures have no box and count as background: "
        message += shown(bare, _LISTED)
        fix = "nothing to do if they show none of the classes"
        yield _of_data(dataset, "note", "no-boxes", message, fix)


# --- words ------------------------------------------------------------------------------------------


def _of_box(
    dataset: Dataset, table: BoxTable, row: int, level: Level, code: str, message: str, fix: str
) -> Finding:
    key = dataset.items[int(table.items[row])].key
    return Finding(key, _id(dataset, table, row), level, code, message, fix)


def _of_data(dataset: Dataset, level: Level, code: str, message: str, fix: str) -> Finding:
    return Finding(dataset.name, "", level, code, message, fix)


def _id(dataset: Dataset, table: BoxTable, row: int) -> str:
    """What its file calls the box; else its number in the picture, from 1."""
    ids, place = dataset.items[int(table.items[row])].ids, int(table.rows[row])
    return ids[place] if ids else f"box {place + 1}"


def _spelled(box: NDArray[np.float32]) -> str:
    """Its extent in pixels counted from 0: "x 12 to 40.5, y 0 to 7"."""
    x0, y0, x1, y1 = (f"{round(side, 2):.10g}" for side in box.tolist())
    return f"x {x0} to {x1}, y {y0} to {y1}"


def _size(table: BoxTable, row: int) -> str:
    height, width = table.sizes[row].tolist()
    return f"{width}x{height} pixels"


def _boxes(flags: Flags) -> str:
    count = int(flags.sum())
    return f"{count:,} box{'es' * (count != 1)}"
