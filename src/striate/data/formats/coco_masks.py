"""Pictures with a list of outlined objects as COCO writes it, painted to class masks.

    instances.json  images/1.jpg                        annotations/instances_train2017.json  train2017/1.jpg
    train/_annotations.coco.json  train/1.jpg           beside the pictures of each part

A part is known by a word in the path of the list. Class 0 is the background; the others are the categories,
sorted by their ids, whatever gaps these have. Outlines are polygons or run lengths; see `data.outlines` for
which lies on top. Source: arXiv:1405.0312.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from striate.data.class_list import MOST
from striate.data.dataset import Dataset, Finding, Item
from striate.data.decode import MAX_PIXELS
from striate.data.formats import is_picture, part_in, shown, unlisted
from striate.data.formats._coco import Coco, Picture, Places, categories_of, decoded, holds, object_lists
from striate.data.outlines import Annotation, Outlined, OutlineMasks
from striate.data.tree import Tree
from striate.errors import DataError
from striate.structures import Task

__all__ = ["ACCEPTS", "NAME", "PRECEDENCE", "TASK", "read", "recognise"]

NAME = "COCO outlines"
ACCEPTS = "a COCO list of outlined objects (instances.json) beside its pictures"
PRECEDENCE = 5
TASK: Task = "segmentation"

BACKGROUND = "background"

# What begins a polygon, or run lengths.
_OUTLINE = re.compile(rb'"segmentation"\s*:\s*(?:\[\s*[\[\d]|\{)')
_NO_OUTLINE = (b"", b"null", b"[]")


class _Object(msgspec.Struct, frozen=True):
    image_id: int | str
    category_id: int
    id: int | str = ""
    iscrowd: int = 0
    segmentation: msgspec.Raw = msgspec.Raw(b"")


@dataclass(slots=True)
class _Listing:
    """What the lists of a tree say of its pictures."""

    tree: Tree
    places: Places
    items: list[Item] = field(default_factory=list)
    pictures: dict[str, Outlined] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    outlines: int = 0


def recognise(tree: Tree) -> bool:
    """Whether a JSON begins as COCO's lists do and holds an outline, and there are pictures."""
    has_pictures = any(map(is_picture, tree.files))
    return has_pictures and any(holds(tree, path, _OUTLINE) for path in object_lists(tree))


def read(tree: Tree) -> Dataset:
    """The pictures that the lists name. Raises DataError naming a list that is not as COCO's are."""
    paths = object_lists(tree)
    lists: dict[str, Coco[_Object]] = {path: decoded(tree, path, Coco[_Object], ACCEPTS) for path in paths}
    if not lists:
        raise DataError(tree.name, "has no list of objects", f"make it {ACCEPTS}")
    classes = categories_of(lists)
    if len(classes) >= MOST:
        what = f"it has {len(classes)} categories"
        raise DataError(paths[0], what, f"a mask can tell 1 to {MOST - 1} apart")
    listing = _Listing(tree, Places(tree), findings=list(tree.findings))
    for path, coco in lists.items():
        _add(listing, path, coco, classes)
    if not listing.items or not listing.outlines:
        what = "its objects have no outlines" if listing.items else "none of its pictures is there"
        raise DataError(f"{tree.name}/{paths[0]}", what, f"make it {ACCEPTS}")
    return Dataset(
        name=tree.name,
        format=NAME,
        task="segmentation",
        classes=_class_names(classes),
        items=tuple(sorted(listing.items, key=lambda item: item.key)),
        storage=tree,
        notes=(_note(paths, len(classes)),),
        findings=(
            *listing.findings,
            *unlisted(filter(is_picture, tree.files), listing.pictures, f"not listed in {shown(paths)}"),
        ),
        masks=OutlineMasks(listing.pictures),
    )


# --- classes ----------------------------------------------------------------------------------------


def _class_names(classes: Mapping[int, str]) -> tuple[str, ...]:
    return (BACKGROUND, *(name for name in classes.values() if name != BACKGROUND))


def _note(paths: Sequence[str], categories: int) -> str:
    return f"masks painted from the outlines in {shown(paths)}: {categories} categories and the background"


# --- pictures ---------------------------------------------------------------------------------------


def _add(listing: _Listing, path: str, coco: Coco[_Object], classes: Mapping[int, str]) -> None:
    """The pictures of one list."""
    objects: dict[int | str, list[_Object]] = defaultdict(list)
    for each in coco.annotations:
        objects[each.image_id].append(each)
    ids = {category: _class_names(classes).index(name) for category, name in classes.items()}
    part, absent, bare = part_in(path), [], 0
    for picture in coco.images:
        key = listing.places.place(path, picture.file_name, part)
        if key is None:
            absent.append(picture.file_name)
            continue
        if key in listing.pictures:
            what = f"it lists {picture.file_name!r}, which {listing.pictures[key].file} lists as well"
            raise DataError(f"{listing.tree.name}/{path}", what, "keep one of them")
        own = objects.pop(picture.id, [])
        outlined = [each for each in own if bytes(each.segmentation) not in _NO_OUTLINE]
        bare += len(own) - len(outlined)
        listing.outlines += len(outlined)
        if finding := _problem(path, picture, outlined, ids):
            listing.findings.append(finding)
            continue
        annotations = tuple(_annotation(each, ids) for each in outlined)
        listing.pictures[key] = Outlined(path, picture.height, picture.width, annotations)
        listing.items.append(Item(key, part, mask=key))
    listing.findings += _left_out(path, absent, bare, objects.values())


def _annotation(each: _Object, ids: Mapping[int, int]) -> Annotation:
    return Annotation(str(each.id), ids[each.category_id], bytes(each.segmentation), bool(each.iscrowd))


def _problem(
    path: str, picture: Picture, objects: Sequence[_Object], ids: Mapping[int, int]
) -> Finding | None:
    """Why a picture cannot be used, if it cannot."""
    if min(picture.height, picture.width) < 1 or picture.height * picture.width > MAX_PIXELS:
        message = f"{picture.file_name!r} has {picture.width} x {picture.height} pixels by the list"
        return Finding(path, f"image {picture.id}", "error", "size", message, "correct its height and width")
    for each in objects:
        if each.category_id not in ids:
            message = f"its category {each.category_id} does not exist: {picture.file_name!r} is left out"
            fix = "correct it or add the category"
            return Finding(path, f"annotation {each.id}", "error", "mask-label", message, fix)
    return None


def _left_out(
    path: str, absent: Sequence[str], bare: int, orphans: Iterable[Sequence[_Object]]
) -> list[Finding]:
    findings = []
    if absent:
        message = f"{len(absent):,} of its pictures are not there, or are there twice: {shown(absent)}"
        fix = "add them or remove them from the list"
        findings.append(Finding(path, "", "error", "missing", message, fix))
    if bare:
        message, fix = f"{bare:,} of its objects have no outline", "outline them, or they are background"
        findings.append(Finding(path, "", "warning", "no-outline", message, fix))
    if not absent and (count := sum(map(len, orphans))):
        message, fix = f"{count:,} of its objects are of no picture in it", "nothing to do, or add them"
        findings.append(Finding(path, "", "warning", "picture-missing", message, fix))
    return findings
