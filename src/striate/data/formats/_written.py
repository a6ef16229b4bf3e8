"""What the writers of boxes share: names and copies of the pictures, numbers as text, what is lost."""

import posixpath
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from striate.data.class_list import parsed
from striate.data.dataset import Dataset, Item
from striate.data.decode import size_of
from striate.data.formats import is_picture, shown
from striate.data.formats._boxes import MOST_CLASSES
from striate.data.picture_file import picture_file, suffix_of
from striate.errors import DataError
from striate.structures import Objects

__all__ = [
    "BoxFolder",
    "Holds",
    "Page",
    "Progress",
    "as_inclusive",
    "check_class_names",
    "number",
    "points_lost",
]

Progress = Callable[[int, int], None]
"""Called with how many pictures are written and how many there are."""


class Holds(NamedTuple):
    """What a format has a place for."""

    crowds: bool = False
    difficult: bool = False
    unlabelled: bool = False  # pictures of which nothing is known, told apart from those that show nothing
    ids: bool = False


class Page(NamedTuple):
    """One picture that was written."""

    item: Item
    name: str  # of the picture, without suffix
    file: str  # with suffix
    size: tuple[int, int]  # height, width
    objects: Objects | None  # those that the format can hold; None where nothing is known
    ids: tuple[str, ...]  # of the objects


@dataclass(slots=True)
class BoxFolder:
    """A folder that gets the pictures of a dataset, and files that state their boxes."""

    dataset: Dataset
    root: Path
    holds: Holds
    progress: Progress | None = None
    lost: list[str] = field(default_factory=list)  # sentences: what is not there any more, and how many

    def pages(self, folder_of: Callable[[Item], str]) -> Iterator[Page]:
        """Copy each picture to the folder below the root that `folder_of` says, and give what goes with it.

        Afterwards `lost` is complete.
        """
        unreadable: list[str] = []
        items = [item for item in self.dataset.items if item.objects is not None or self.holds.unlabelled]
        names = _names([item.key for item in items])
        for done, item in enumerate(items, start=1):
            try:
                page = self._page(item, names[item.key], folder_of(item))
            except DataError as error:
                unreadable.append(f"{item.key} ({error.what})")
            else:
                yield page
            if self.progress is not None:
                self.progress(done, len(items))
        self.lost += _object_losses(self.dataset, self.holds)
        self.lost += _picture_losses(self.dataset, self.holds, names)
        if unreadable:
            message = f"{len(unreadable):,} pictures that cannot be read left out: {shown(unreadable)}"
            self.lost.append(message)

    def _page(self, item: Item, name: str, folder: str) -> Page:
        content = picture_file(self.dataset.storage, item.key)
        size = size_of(content, item.key)
        suffix = (
            posixpath.splitext(item.key)[1] if is_picture(item.key) else f".{suffix_of(content, item.key)}"
        )
        target = self.root / folder / f"{name}{suffix}"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        objects, ids = item.objects, item.ids
        if objects is not None and not self.holds.crowds and objects.crowd.any():
            kept = np.flatnonzero(~objects.crowd)
            objects, ids = objects[kept], tuple(ids[row] for row in kept.tolist()) if ids else ()
        return Page(item, name, target.name, size, objects, ids)

    def write_text(self, path: str, text: str) -> None:
        """Write the file `path` below the root."""
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, "utf-8", newline="\n")

    def write_class_list(self) -> None:
        """Write classes.txt, where every name can stand in it: formats of names alone know no order."""
        classes = list(self.dataset.classes)
        text = "".join(f"{name}\n" for name in classes)
        try:
            is_faithful = [row.name for row in parsed(text, "classes.txt", MOST_CLASSES).listed] == classes
        except DataError:
            is_faithful = False
        if is_faithful:
            self.write_text("classes.txt", text)
        elif classes != sorted(classes):
            self.lost.append("the order of the classes is lost: their names cannot stand in classes.txt")


def _object_losses(dataset: Dataset, holds: Holds) -> Iterator[str]:
    """What becomes of objects that the format has no place for, a sentence each kind."""
    known = [item.objects for item in dataset.items if item.objects is not None]
    crowds = sum(int(objects.crowd.sum()) for objects in known)
    if crowds and not holds.crowds:
        yield f"{crowds:,} crowds left out: each would count as one object"
    difficult = sum(int((objects.difficult & ~objects.crowd).sum()) for objects in known)
    if difficult and not holds.difficult:
        yield f"{difficult:,} difficult objects are as any other"
    numbered = sum(one.startswith("annotation ") for item in dataset.items for one in item.ids)
    if numbered and not holds.ids:
        yield f"the ids of {numbered:,} annotations are lost"


def _picture_losses(dataset: Dataset, holds: Holds, names: Mapping[str, str]) -> Iterator[str]:
    """Which pictures are not there, or under another name, a sentence each kind."""
    bare = [item.key for item in dataset.items if item.objects is None]
    if bare and not holds.unlabelled:
        yield f"{len(bare):,} unlabelled pictures left out, which would show nothing: {shown(bare)}"
    # What was drawn in memory has no name that anybody could miss.
    files = {key: name for key, name in names.items() if is_picture(key)}
    renamed = [f"{key} as {name}" for key, name in files.items() if _own_name(key) != name]
    if renamed:
        yield f"{len(renamed):,} pictures got another name: {shown(renamed)}"


def number(value: float, decimals: int = 4) -> str:
    """`value` rounded, without zeros at its end: 12, 0.5."""
    text = f"{value:.{decimals}f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text


def as_inclusive(box: Sequence[float]) -> tuple[str, str, str, str]:
    """`box` as left, top, right, bottom in text where the first pixel is 1 and the last one is inside."""
    left, top, right, bottom = box
    return number(left + 1), number(top + 1), number(right), number(bottom)


def points_lost(count: int) -> str:
    """The sentence for `count` boxes of one pixel, whose corners are one point when they are inclusive."""
    return f"{count:,} boxes have one pixel, which readers take for a slip"


def check_class_names(dataset: Dataset, forbidden: str = "") -> None:
    """Raise DataError for the name of a class that a line of text cannot hold, or with one of `forbidden`."""
    for name in dataset.classes:
        is_plain = not any(unicodedata.category(letter) in ("Cc", "Cs") for letter in name)
        if not name or name != name.strip() or not is_plain or any(mark in name for mark in forbidden):
            fix = "rename that class, or choose another format"
            raise DataError(dataset.name, f"the class {name!r} cannot be written in this format", fix)


def _own_name(key: str) -> str:
    """The name of the picture's file, without the suffix if it has one of a picture."""
    name = posixpath.basename(key)
    return posixpath.splitext(name)[0] if is_picture(name) else name


def _names(keys: Sequence[str]) -> dict[str, str]:
    """Key -> name of each picture: its own, or with its folders where several share that; no two alike."""
    own = {key: _plain(_own_name(key)) for key in keys}
    often = Counter(name.casefold() for name in own.values())
    taken: set[str] = set()
    names = {}
    for key, name in own.items():
        longer = name if often[name.casefold()] == 1 else _plain(key.removesuffix(posixpath.splitext(key)[1]))
        chosen, count = longer, 1
        while chosen.casefold() in taken:
            count += 1
            chosen = f"{longer}-{count}"
        taken.add(chosen.casefold())
        names[key] = chosen
    return names


def _plain(name: str) -> str:
    """`name` without what a list of names, a shell or another system takes for something else."""
    return re.sub(r"[^\w.+=@-]+", "_", name).strip("_.") or "picture"
