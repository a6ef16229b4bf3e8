"""What the lists of PASCAL VOC's ImageSets say, and the pictures they mean."""

import posixpath
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping

from striate.data.dataset import PARTS, Part
from striate.data.formats import is_picture, part_of
from striate.data.tree import Tree, text_of

__all__ = ["image_sets", "listed_names", "parts_of", "pictures_by_stem"]

_LIST = re.compile(r"(?:(?P<base>.*)/)?ImageSets/(?P<kind>[^/]+)/(?P<name>[^/]+)\.txt")


def image_sets(tree: Tree, kind: str) -> dict[str, dict[str, str]]:
    """Folder around ImageSets -> name of a list in ImageSets/`kind` -> its path."""
    lists: dict[str, dict[str, str]] = defaultdict(dict)
    for path in tree.files:
        if (match := _LIST.fullmatch(path)) and match["kind"] == kind:
            lists[match["base"] or ""][match["name"]] = path
    return lists


def parts_of(lists: Mapping[str, str]) -> list[tuple[str, Part]]:
    """Path of each list (given by name) that makes a part, and the part: train, val, test.

    `trainval` is one of part "" where there is neither train nor val.
    """
    chosen: dict[str, Part] = {path: part for name, path in lists.items() if (part := part_of(name))}
    if set(chosen.values()) <= {"test"} and "trainval" in lists:
        chosen[lists["trainval"]] = ""
    return sorted(chosen.items(), key=lambda entry: PARTS.index(entry[1] or "train"))


def listed_names(tree: Tree, path: str) -> Iterator[tuple[int, str]]:
    """The names in a list, with their lines."""
    for line, text in enumerate(text_of(tree, path).splitlines(), start=1):
        if words := text.split():
            yield line, words[0]


def pictures_by_stem(tree: Tree, folder: str) -> dict[str, str]:
    """Name without suffix -> path, of the pictures in `folder`."""
    prefix = f"{folder}/"
    paths = [path for path in tree.files if path.startswith(prefix) and is_picture(path)]
    return {posixpath.splitext(path.removeprefix(prefix))[0]: path for path in paths}
