"""Pictures with a list of outlined objects as COCO writes it, painted to class masks.

    instances.json  images/1.jpg                        annotations/instances_train2017.json  train2017/1.jpg
    train/_annotations.coco.json  train/1.jpg           beside the pictures of each part

A part is known by a word in the path of the list. Class 0 is the background; the others are the categories,
sorted by their ids, whatever gaps these have. Outlines are polygons or run lengths; see `data.outlines` for
which lies on top. Source: arXiv:1405.0312.
"""

import posixpath
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from striate.data.class_list import MOST
from striate.data.dataset import Dataset, Finding, Item, Part
from striate.data.decode import MAX_PIXELS
from striate.data.formats import is_picture, part_of, shown
from striate.data.outlines import Annotation, Outlined, OutlineMasks
from striate.data.tree import Tree, text_of
from striate.errors import DataError

__all__ = ["ACCEPTS", "NAME", "PRECEDENCE", "read", "recognise"]

NAME = "COCO outlines"
ACCEPTS = "a COCO list of outlined objects (instances.json) beside its pictures"
PRECEDENCE = 5

BACKGROUND = "background"

_KEYS = tuple(f'"{key}"'.encode() for key in ("info", "licenses", "images", "annotations", "categories"))
_HEAD = 1 << 16  # bytes that show what a JSON is
_NO_OUTLINE = (b"", b"null", b"[]")


class _Picture(msgspec.Struct, frozen=True):
    id: int | str
    file_name: str
    height: int
    width: int


class _Category(msgspec.Struct, frozen=True):
    id: int
    name: str


class _Object(msgspec.Struct, frozen=True):
    image_id: int | str
    category_id: int
    id: int | str = ""
    iscrowd: int = 0
    segmentation: msgspec.Raw = msgspec.Raw(b"")


class _Coco(msgspec.Struct, frozen=True):
    images: list[_Picture]
    annotations: list[_Object]
    categories: list[_Category]


@dataclass(slots=True)
class _Listing:
    """What the lists of a tree say of its pictures."""

    tree: Tree
    by_name: Mapping[str, Sequence[str]]  # file name -> paths
    items: list[Item] = field(default_factory=list)
    pictures: dict[str, Outlined] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    outlines: int = 0


def recognise(tree: Tree) -> bool:
    """Whether a JSON begins as COCO's lists do, and there are pictures."""
    return any(map(is_picture, tree.files)) and bool(_lists(tree))


def read(tree: Tree) -> Dataset:
    """The pictures that the lists name. Raises DataError naming a list that is not as COCO's are."""
    by_name: dict[str, list[str]] = defaultdict(list)
    for path in filter(is_picture, tree.files):
        by_name[posixpath.basename(path)].append(path)
    paths = _lists(tree)
    lists = {path: _decoded(tree, path) for path in paths}
    if not lists:
        raise DataError(tree.name, "has no list of objects", f"make it {ACCEPTS}")
    classes = _classes(lists)
    listing = _Listing(tree, by_name, findings=list(tree.findings))
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
        findings=(*listing.findings, *_unlisted(listing, paths)),
        masks=OutlineMasks(listing.pictures),
    )


def _lists(tree: Tree) -> list[str]:
    """The lists of objects; those called instances alone, where there are such."""
    found = [path for path in tree.files if path.lower().endswith(".json") and _begins_well(tree, path)]
    return [path for path in found if "instances" in posixpath.basename(path)] or found


def _begins_well(tree: Tree, path: str) -> bool:
    content = tree.content(path)
    try:
        if isinstance(content, Path):
            with content.open("rb") as file:
                content = file.read(_HEAD)
    except OSError:
        return False
    head = content[:_HEAD].removeprefix(b"\xef\xbb\xbf").lstrip()
    return head.startswith(b"{") and sum(key in head for key in _KEYS) > 1


def _decoded(tree: Tree, path: str) -> _Coco:
    try:
        return msgspec.json.decode(text_of(tree, path).encode(), type=_Coco)
    except msgspec.DecodeError as error:
        where = f"{tree.name}/{path}"
        raise DataError(where, f"is no COCO list of objects ({error})", f"make it {ACCEPTS}") from None


# --- classes ----------------------------------------------------------------------------------------


def _classes(lists: Mapping[str, _Coco]) -> dict[int, str]:
    """Category id -> name, sorted by id. Raises DataError where two lists disagree or there are too many."""
    names: dict[int, str] = {}
    for path, coco in lists.items():
        for category in coco.categories:
            if names.setdefault(category.id, category.name) != category.name:
                what = f"category {category.id} is called {names[category.id]!r} and {category.name!r}"
                raise DataError(path, what, "let all lists have the same categories")
    if len(set(names.values())) < len(names):
        raise DataError(next(iter(lists)), "two of its categories have one name", "rename one of them")
    if not 0 < len(names) < MOST:
        what = f"it has {len(names)} categories"
        raise DataError(next(iter(lists)), what, f"a mask can tell 1 to {MOST - 1} apart")
    return dict(sorted(names.items()))


def _class_names(classes: Mapping[int, str]) -> tuple[str, ...]:
    return (BACKGROUND, *(name for name in classes.values() if name != BACKGROUND))


def _note(paths: Sequence[str], categories: int) -> str:
    return f"masks painted from the outlines in {shown(paths)}: {categories} categories and the background"


# --- pictures ---------------------------------------------------------------------------------------


def _add(listing: _Listing, path: str, coco: _Coco, classes: Mapping[int, str]) -> None:
    """The pictures of one list."""
    objects: dict[int | str, list[_Object]] = defaultdict(list)
    for each in coco.annotations:
        objects[each.image_id].append(each)
    ids = {category: _class_names(classes).index(name) for category, name in classes.items()}
    part, absent, bare = _part(path), [], 0
    for picture in coco.images:
        key = _place(listing, path, picture.file_name, part)
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
    path: str, picture: _Picture, objects: Sequence[_Object], ids: Mapping[int, int]
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


def _place(listing: _Listing, path: str, file_name: str, part: Part) -> str | None:
    """Where the picture `file_name` of the list `path` lies; None if that is nowhere or in doubt."""
    name = posixpath.normpath(file_name.replace("\\", "/"))
    found = [
        place
        for place in listing.by_name.get(posixpath.basename(name), ())
        if place == name or place.endswith(f"/{name}")
    ]
    folder = posixpath.dirname(path)
    beside = [place for place in found if place.startswith(f"{folder}/" if folder else "")]
    of_part = [place for place in found if _part(posixpath.dirname(place)) == part]
    return next((some[0] for some in (found, beside, of_part) if len(some) == 1), None)


def _part(path: str) -> Part:
    """The part that a word in the path means; "" where none does, or two differ."""
    parts = {part for word in re.split(r"[^A-Za-z]+", path) if (part := part_of(word))}
    return parts.pop() if len(parts) == 1 else ""


def _unlisted(listing: _Listing, paths: Sequence[str]) -> list[Finding]:
    listed = set(listing.pictures)
    unlisted = sorted(place for places in listing.by_name.values() for place in places if place not in listed)
    if not unlisted:
        return []
    message = f"{len(unlisted):,} pictures not listed in {shown(paths)} left out: {shown(unlisted)}"
    return [Finding(unlisted[0], "", "note", "unlisted", message, "list them if they belong here")]
