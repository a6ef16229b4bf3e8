"""Pictures with a list of objects in boxes as COCO writes it; outlines are not looked at.

    instances.json  images/1.jpg                        annotations/instances_train2017.json  train2017/1.jpg
    train/_annotations.coco.json  train/1.jpg           beside the pictures of each part

A part is known by a word in the path of the list. Classes are the categories, sorted by their ids, whatever
gaps these have. A listed picture without annotations shows nothing. Source: arXiv:1405.0312.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from striate.data.dataset import Dataset, Finding, Part
from striate.data.formats import is_picture, part_in, shown, unlisted
from striate.data.formats._boxes import Read, StatedBox, StatedPicture
from striate.data.formats._coco import Coco, Picture, Places, categories_of, decoded, object_lists
from striate.data.formats._written import BoxFolder, Holds, Page, Progress
from striate.data.tree import Tree
from striate.errors import DataError
from striate.files import new_folder
from striate.structures import Task

__all__ = ["ACCEPTS", "NAME", "PRECEDENCE", "TASK", "read", "recognise", "write"]

NAME = "COCO boxes"
ACCEPTS = "a COCO list of objects in boxes (instances.json) beside its pictures"
PRECEDENCE = 8
TASK: Task = "detection"

_DIGITS = 16  # of an id: JavaScript holds no more


class _Object(msgspec.Struct, frozen=True):
    image_id: int | str
    category_id: int
    bbox: list[float | None] = []
    id: int | str = ""
    iscrowd: int = 0


_List = Coco[_Object]


@dataclass(slots=True)
class _Reading:
    """One list while it is read."""

    found: Read
    places: Places
    path: str
    part: Part
    objects: dict[int | str, list[_Object]] = field(default_factory=lambda: defaultdict(list))  # by image id
    absent: list[str] = field(default_factory=list)  # file names

    def say(self, place: str, level: Literal["error", "warning"], code: str, message: str, fix: str) -> None:
        """File a finding of this list."""
        self.found.findings.append(Finding(self.path, place, level, code, message, fix))


def recognise(tree: Tree) -> bool:
    """Whether a JSON begins as COCO's lists do, and there are pictures."""
    return any(map(is_picture, tree.files)) and bool(object_lists(tree))


def read(tree: Tree) -> Dataset:
    """The pictures that the lists name. Raises DataError naming a list that is not as COCO's are."""
    paths = object_lists(tree)
    if not paths:
        raise DataError(tree.name, "has no list of objects", f"make it {ACCEPTS}")
    lists: dict[str, _List] = {path: decoded(tree, path, _List, ACCEPTS) for path in paths}
    classes = categories_of(lists)
    found, places = Read(tree, NAME), Places(tree)
    for path, coco in lists.items():
        _add(_Reading(found, places, path, part_in(path)), coco)
    where = f"not listed in {shown(paths)}"
    found.findings += unlisted(filter(is_picture, tree.files), found.pictures, where)
    return found.dataset({str(category): name for category, name in classes.items()})


def _add(reading: _Reading, coco: _List) -> None:
    """The pictures of one list."""
    for each in coco.annotations:
        reading.objects[each.image_id].append(each)
    for number, count in Counter(each.id for each in coco.annotations if each.id != "").items():
        if count > 1:
            message = f"{count} of its objects have this id: all of them count"
            reading.say(f"annotation {number}", "warning", "id-duplicate", message, "number them anew")
    for picture in _told_apart(reading, coco.images):
        _add_picture(reading, picture)
    if reading.absent:
        message = f"{len(reading.absent):,} of its pictures are not there, or are there twice: "
        fix = "add them or remove them from the list"
        reading.say("", "error", "missing", message + shown(reading.absent), fix)
    if orphans := [each for several in reading.objects.values() for each in several]:
        ids = [str(each.id) for each in orphans]
        message = f"{len(orphans):,} of its objects are of no picture in it: left out: {shown(ids)}"
        fix = "list their pictures, or remove them"
        reading.say(f"annotation {ids[0]}", "error", "picture-missing", message, fix)


def _told_apart(reading: _Reading, pictures: Sequence[Picture]) -> Iterator[Picture]:
    """The pictures, without those that share an id with another: nobody knows whose the objects are."""
    files: dict[int | str, set[str]] = defaultdict(set)
    for picture in pictures:
        files[picture.id].add(picture.file_name)
    shared = {number: sorted(names) for number, names in files.items() if len(names) > 1}
    for number, names in shared.items():
        count = len(reading.objects.pop(number, ()))
        message = f"{shown(names)} have the same id: they and their {count:,} objects are left out"
        reading.say(f"image {number}", "error", "id-duplicate", message, "number the pictures anew")
    once = {picture.id: picture for picture in pictures if picture.id not in shared}
    yield from once.values()


def _add_picture(reading: _Reading, picture: Picture) -> None:
    own = reading.objects.pop(picture.id, [])
    key = reading.places.place(reading.path, picture.file_name, reading.part)
    if key is None:
        reading.absent.append(picture.file_name)
        return
    if before := reading.found.pictures.get(key):
        message = f"{key!r} is listed already, in {before.file}: its {len(own):,} objects here are left out"
        reading.say(f"image {picture.id}", "error", "listed-twice", message, "keep one of them")
        return
    size = (picture.height, picture.width) if min(picture.height, picture.width) > 0 else None
    boxes = tuple(map(_box, own))
    reading.found.add(StatedPicture(key, reading.path, reading.part, size, boxes))


def _box(each: _Object) -> StatedBox:
    numbers = [float("nan") if number is None else number for number in each.bbox]
    if len(numbers) == 4:
        left, top, width, height = numbers
        numbers = [left, top, left + width, top + height]
    return StatedBox(
        id=f"annotation {each.id}",
        category=str(each.category_id),
        corners=tuple(numbers),
        stated=each.bbox,
        is_crowd=bool(each.iscrowd),
    )


# --- written ----------------------------------------------------------------------------------------


def write(dataset: Dataset, folder: Path, progress: Progress | None = None) -> tuple[str, ...]:
    """Make `folder`, which must not exist or be empty, with `dataset` in it; what is lost, a sentence each.

    Each part has its folder of pictures and its list, `annotations/instances_train.json`. Categories are
    numbered from 1; pictures by their names where these are numbers. Raises DiskFull where there is no room.
    """
    with new_folder(folder) as root:
        written = BoxFolder(dataset, root, Holds(crowds=True, ids=True), progress)
        lists: dict[Part, list[Page]] = defaultdict(list)
        for page in written.pages(lambda item: item.part or "images"):
            lists[page.item.part].append(page)
        numbers = _numbers([page for pages in lists.values() for page in pages])
        for part, pages in lists.items():
            name = f"instances_{part}.json" if part else "instances.json"
            written.write_text(f"annotations/{name}", _json(pages, dataset.classes, numbers))
    return tuple(written.lost)


class _Numbers(NamedTuple):
    """The ids of pictures and of annotations."""

    images: dict[str, int]  # name of a picture -> id
    annotations: dict[str, list[int]]  # name of a picture -> id of each object


def _numbers(pages: Sequence[Page]) -> _Numbers:
    """The ids that pictures and annotations had before, where all of them had one; else 1, 2, 3, ..."""
    names = [page.name for page in pages]
    are_numbers = all(name.isascii() and name.isdigit() and len(name) < _DIGITS for name in names)
    own = [int(name) for name in names] if are_numbers else []
    images = own if len(set(own)) == len(names) else range(1, len(names) + 1)
    count = sum(len(page.objects) for page in pages if page.objects is not None)
    stated = [one.removeprefix("annotation ") for page in pages for one in page.ids]
    are_numbers = all(one.isascii() and one.isdigit() and len(one) < _DIGITS for one in stated)
    are_kept = are_numbers and len(set(map(int, stated))) == count == len(stated)
    following = iter(map(int, stated) if are_kept else range(1, count + 1))
    annotations = {page.name: list(islice(following, len(page.objects or ()))) for page in pages}
    return _Numbers(dict(zip(names, images, strict=True)), annotations)


def _json(pages: Sequence[Page], classes: Sequence[str], numbers: _Numbers) -> str:
    categories = [{"id": number, "name": name} for number, name in enumerate(classes, start=1)]
    images = [
        {"id": numbers.images[page.name], "file_name": page.file, "height": height, "width": width}
        for page in pages
        for height, width in [page.size]
    ]
    content = {
        "info": {"description": "boxes"},
        "categories": categories,
        "images": images,
        "annotations": [each for page in pages for each in _annotations(page, numbers)],
    }
    return msgspec.json.encode(content).decode()


def _annotations(page: Page, numbers: _Numbers) -> Iterator[dict[str, object]]:
    """The objects of a picture as COCO writes them."""
    if page.objects is None:
        return
    rows = zip(
        numbers.annotations[page.name],
        page.objects.boxes.tolist(),
        page.objects.labels.tolist(),
        page.objects.crowd.tolist(),
        strict=True,
    )
    for number, (left, top, right, bottom), label, is_crowd in rows:
        width, height = right - left, bottom - top
        yield {
            "id": number,
            "image_id": numbers.images[page.name],
            "category_id": label + 1,
            "bbox": [round(side, 4) for side in (left, top, width, height)],
            "area": round(width * height, 4),
            "iscrowd": int(is_crowd),
            "segmentation": [],
        }
