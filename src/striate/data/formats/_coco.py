"""The list of objects as COCO writes it: found, decoded, its categories, and where its pictures lie."""

import posixpath
import re
from collections import defaultdict
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

import msgspec

from striate.data.dataset import Part
from striate.data.formats import is_picture, part_in
from striate.data.tree import Tree, head_of, text_of
from striate.errors import DataError

__all__ = ["Category", "Coco", "Picture", "Places", "categories_of", "decoded", "holds", "object_lists"]

_KEYS = tuple(f'"{key}"'.encode() for key in ("info", "licenses", "images", "annotations", "categories"))
_HEAD = 1 << 16  # bytes that show what a JSON is
_BLOCK = 1 << 24  # bytes that are looked through at a time
_LONGEST = 64  # bytes of what is looked for

# Python writes these into JSON, which has no such words. Strings are matched first, so that none is changed.
_NOT_FINITE = re.compile(rb'"(?:[^"\\]|\\.)*"|\bNaN\b|-?\bInfinity\b')

ObjectT = TypeVar("ObjectT")


class Picture(msgspec.Struct, frozen=True):
    """A picture; 0 where its height and width are not stated."""

    id: int | str
    file_name: str
    height: int = 0
    width: int = 0


class Category(msgspec.Struct, frozen=True):
    """A class."""

    id: int
    name: str


class Coco(msgspec.Struct, Generic[ObjectT], frozen=True):
    """One list."""

    images: list[Picture]
    annotations: list[ObjectT]
    categories: list[Category]


def object_lists(tree: Tree) -> list[str]:
    """The lists of objects; those called instances alone, where there are such."""
    found = [path for path in tree.files if path.lower().endswith(".json") and _begins_well(tree, path)]
    return [path for path in found if "instances" in posixpath.basename(path)] or found


def _begins_well(tree: Tree, path: str) -> bool:
    head = head_of(tree, path, _HEAD).removeprefix(b"\xef\xbb\xbf").lstrip()
    return head.startswith(b"{") and sum(key in head for key in _KEYS) > 1


def holds(tree: Tree, path: str, pattern: re.Pattern[bytes]) -> bool:
    """Whether `pattern`, of at most 64 bytes, occurs in a list; read up to there and no further."""
    content = tree.content(path)
    if isinstance(content, bytes):
        return pattern.search(content) is not None
    end = b""
    try:
        with content.open("rb") as file:
            while block := file.read(_BLOCK):
                if pattern.search(end + block):
                    return True
                end = block[-_LONGEST:]
    except OSError:
        pass
    return False


def decoded(tree: Tree, path: str, kind: type[Coco[Any]], accepts: str) -> Coco[Any]:
    """The list `path`. NaN and infinities are null in it. Raises DataError where it is no list of objects."""
    content = text_of(tree, path).encode()
    found: Coco[Any]
    try:
        try:
            found = msgspec.json.decode(content, type=kind)
        except msgspec.ValidationError:
            raise
        except msgspec.DecodeError:
            found = msgspec.json.decode(_NOT_FINITE.sub(_null, content), type=kind)
        return found
    except msgspec.DecodeError as error:
        where = f"{tree.name}/{path}"
        raise DataError(where, f"is no COCO list of objects ({error})", f"make it {accepts}") from None


def _null(match: re.Match[bytes]) -> bytes:
    return match[0] if match[0].startswith(b'"') else b"null"


def categories_of(lists: Mapping[str, Coco[Any]]) -> dict[int, str]:
    """Category id -> name, sorted by id. Raises DataError where two lists disagree or there is none."""
    names: dict[int, str] = {}
    for path, coco in lists.items():
        for category in coco.categories:
            if names.setdefault(category.id, category.name) != category.name:
                what = f"category {category.id} is called {names[category.id]!r} and {category.name!r}"
                raise DataError(path, what, "let all lists have the same categories")
    if len(set(names.values())) < len(names):
        raise DataError(next(iter(lists)), "two of its categories have one name", "rename one of them")
    if not names:
        raise DataError(next(iter(lists)), "it has 0 categories", "list the classes under categories")
    return dict(sorted(names.items()))


class Places:
    """Where the pictures of a tree lie, by their names."""

    def __init__(self, tree: Tree) -> None:
        self._by_name: dict[str, list[str]] = defaultdict(list)
        for path in filter(is_picture, tree.files):
            self._by_name[posixpath.basename(path)].append(path)

    def place(self, path: str, file_name: str, part: Part) -> str | None:
        """Where the picture `file_name` of the list `path` lies; None if that is nowhere or in doubt."""
        name = posixpath.normpath(file_name.replace("\\", "/"))
        found = [
            place
            for place in self._by_name.get(posixpath.basename(name), ())
            if place == name or place.endswith(f"/{name}")
        ]
        folder = posixpath.dirname(path)
        beside = [place for place in found if place.startswith(f"{folder}/" if folder else "")]
        of_part = [place for place in found if part_in(posixpath.dirname(place)) == part]
        return next((some[0] for some in (found, beside, of_part) if len(some) == 1), None)
