"""What the masks of a dataset mean, told from their values and a list of classes, if there is one.

In this order: colours that a list explains; the numbers that a list names; CamVid as it is passed around,
known by the names of its files; 0 and 255 alone are two classes; where each mask numbers its objects from 1
without a gap, and up to three different numbers at least, all objects are one class; otherwise a number is a
class, and 255 none.
"""

import posixpath
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from striate.data.class_list import MOST, ClassList
from striate.data.dataset import Storage
from striate.data.masks import Coding, ColorCoding, IndexCoding, InstanceCoding, is_colored, stored_values
from striate.errors import DataError
from striate.structures import IGNORE

__all__ = ["OBJECT_CLASSES", "Meaning", "Seen", "instances_meaning", "look_at", "meaning_of"]

OBJECT_CLASSES = ("background", "object")

CAMVID = (
    "sky",
    "building",
    "pole",
    "road",
    "pavement",
    "tree",
    "sign",
    "fence",
    "car",
    "pedestrian",
    "bicyclist",
)
_CAMVID_VOID = 11
_CAMVID_FRAME = re.compile(r"(0001TP|0006R0|0016E5|Seq05VD)_f?\d+")

_SAMPLE = 64  # masks that show whether they hold numbers, colours or objects
_MOST_READ = 2000  # masks whose numbers are collected where nothing says how many classes there are
_THREADS = 4
_FEWEST_COUNTS = 3  # different numbers of objects, below which they may as well be classes

_NAMED = "write classes.txt beside the folders, a name a line"


class Seen(NamedTuple):
    """What one mask holds."""

    key: str
    is_colored: bool
    values: tuple[int, ...]  # different numbers, ascending; empty where it is coloured


@dataclass(frozen=True, slots=True)
class Meaning:
    """The classes of a dataset and how its masks say them."""

    classes: tuple[str, ...]
    coding: Coding
    note: str


def meaning_of(storage: Storage, keys: Sequence[str], listed: ClassList | None) -> Meaning:
    """What the masks `keys` mean.

    Raises DataError where none can be read, or nothing explains their colours or large numbers.
    """
    if listed is None and all(map(_is_camvid, keys)) and (meaning := _of_camvid(storage, keys)):
        return meaning
    seen = look_at(storage, keys, _MOST_READ if listed is None else _SAMPLE)
    colored = [mask for mask in seen if mask.is_colored]
    if colored:
        return _of_colors(colored[0], listed)
    values = sorted(set().union(*(mask.values for mask in seen)))
    if listed is not None:
        return _of_list(listed, values, seen)
    if _is_black_and_white(values):
        note = "the masks hold 0 and 255: two classes, called by these numbers; for names " + _NAMED
        return Meaning(("0", "255"), IndexCoding({0: 0, IGNORE: 1}), note)
    if _are_instances(seen):
        return instances_meaning(seen, OBJECT_CLASSES)
    return _of_numbers(values, seen)


def instances_meaning(seen: Sequence[Seen], classes: tuple[str, ...]) -> Meaning:
    """That every number but 0 is an object of the one class; 255 is void unless objects reach that far."""
    has_void = any(_has_void(mask) for mask in seen)
    note = (
        f"each mask numbers its objects: all of them are {classes[1]!r}, the rest is {classes[0]!r}; "
        f"if the numbers are classes {_NAMED}"
    )
    return Meaning(classes, InstanceCoding(IGNORE if has_void else None), note)


def look_at(storage: Storage, keys: Sequence[str], most: int) -> list[Seen]:
    """What at most `most` of the masks hold, spread evenly; one that cannot be read is left to `check`.

    Raises DataError, that of the first, if none can be read.
    """
    spread = sorted(set(np.linspace(0, len(keys) - 1, min(most, len(keys))).astype(int).tolist()))

    def look(key: str) -> Seen | DataError:
        try:
            return _seen(storage, key)
        except DataError as error:
            return error

    with ThreadPoolExecutor(_THREADS, thread_name_prefix="striate-masks") as pool:
        found = list(pool.map(look, [keys[index] for index in spread]))
    seen = [one for one in found if isinstance(one, Seen)]
    if not seen:
        raise next(one for one in found if isinstance(one, DataError))
    return seen


def _seen(storage: Storage, key: str) -> Seen:
    values = stored_values(storage.content(key), key)
    if is_colored(values):
        return Seen(key, True, ())
    numbers = values if values.ndim == 2 else values[:, :, 0]
    return Seen(key, False, tuple(np.unique(numbers).tolist()))


# --- the kinds --------------------------------------------------------------------------------------


def _of_camvid(storage: Storage, keys: Sequence[str]) -> Meaning | None:
    """CamVid's 11 classes; None where the masks hold other numbers."""
    values = {value for mask in look_at(storage, keys, _SAMPLE) for value in mask.values}
    if not values or max(values) > _CAMVID_VOID:
        return None
    ids = {value: value for value in range(len(CAMVID))} | {_CAMVID_VOID: IGNORE, IGNORE: IGNORE}
    note = f"CamVid: {len(CAMVID)} classes, {_CAMVID_VOID} is void"
    return Meaning(CAMVID, IndexCoding(ids), note)


def _of_colors(mask: Seen, listed: ClassList | None) -> Meaning:
    ids = {} if listed is None else listed.by_color
    if listed is None or not ids:
        raise DataError(
            mask.key,
            "its labels are colours, and no file says which class each of them is",
            "write label_colors.txt beside the folders, with a line `R G B name` for each class",
        )
    return Meaning(listed.classes, ColorCoding(ids), f"classes and their colours from {listed.file}")


def _of_list(listed: ClassList, values: Sequence[int], seen: Sequence[Seen]) -> Meaning:
    note = f"class names from {listed.file}"
    grays = {color[0]: class_id for color, class_id in listed.by_color.items() if len(set(color)) == 1}
    if len(grays) == len(listed.listed) and set(values) <= set(grays) | {IGNORE}:
        return Meaning(listed.classes, IndexCoding({IGNORE: IGNORE} | grays), note)
    if len(listed.classes) == 2:
        if _is_black_and_white(values):
            return Meaning(listed.classes, IndexCoding({0: 0, IGNORE: 1}), note)
        if _are_instances(seen):
            meaning = instances_meaning(seen, listed.classes)
            return Meaning(meaning.classes, meaning.coding, f"{note}; {meaning.note}")
    return Meaning(listed.classes, IndexCoding(listed.by_value), note)


def _of_numbers(values: Sequence[int], seen: Sequence[Seen]) -> Meaning:
    classes = max((value for value in values if value != IGNORE), default=0) + 1
    if classes > MOST:
        raise DataError(
            next(mask.key for mask in seen if classes - 1 in mask.values),
            f"its numbers run up to {classes - 1}, and nothing says which are classes",
            "write classes.txt beside the folders, a line `NUMBER NAME` for each class; "
            "or give --format instance_masks if they number objects",
        )
    note = f"no file names the classes: they are called by their numbers, 0 to {classes - 1}"
    note += f", as {len(seen):,} masks have them"
    ids = {value: value for value in range(classes)} | {IGNORE: IGNORE}
    return Meaning(tuple(map(str, range(classes))), IndexCoding(ids), f"{note}; for names {_NAMED}")


def _is_camvid(key: str) -> bool:
    return _CAMVID_FRAME.fullmatch(posixpath.splitext(posixpath.basename(key))[0]) is not None


def _is_black_and_white(values: Sequence[int]) -> bool:
    return set(values) <= {0, IGNORE} and IGNORE in values


def _are_instances(seen: Sequence[Seen]) -> bool:
    """Whether every mask numbers from 1 without a gap, and the masks end at several different numbers."""
    counts = set()
    for mask in seen:
        values = [value for value in mask.values if value and not (value == IGNORE and _has_void(mask))]
        if values != list(range(1, len(values) + 1)):
            return False
        counts.add(len(values))
    return len(counts - {0}) >= _FEWEST_COUNTS


def _has_void(mask: Seen) -> bool:
    """Whether 255 is in it, and not just the number of its last object."""
    return IGNORE in mask.values and IGNORE - 1 not in mask.values
