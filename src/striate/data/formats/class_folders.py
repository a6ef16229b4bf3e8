"""One folder per class, as torchvision's ImageFolder reads it, in parts or not.

    cat/1.jpg  dog/7.jpg                    train/cat/1.jpg  val/cat/2.jpg  test/dog/3.jpg

Class ids follow the class names sorted by code point (so "10" comes before "2"), over all parts
together. Folders below a class folder belong to it. A folder without any picture is no class.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from striate.data.dataset import PARTS, Dataset, Finding, Item, Part
from striate.data.formats import is_picture, other_files, part_of, shown
from striate.data.tree import Tree
from striate.errors import DataError
from striate.structures import Task

__all__ = [
    "ACCEPTS",
    "NAME",
    "PRECEDENCE",
    "TASK",
    "Arrangement",
    "Placed",
    "arrange",
    "dataset_of",
    "read",
    "recognise",
]

NAME = "class folders"
ACCEPTS = "a folder of pictures for each class (cat/1.jpg, dog/2.jpg), inside train, val and test or not"
PRECEDENCE = 12
TASK: Task = "classification"


class Placed(NamedTuple):
    """A picture and what its folders say of it."""

    path: str
    part: Part
    category: str  # name of its class folder


@dataclass(slots=True)
class Arrangement:
    """The files of a tree by what their folders say."""

    has_parts: bool
    placed: list[Placed] = field(default_factory=list)
    strays: list[str] = field(default_factory=list)  # pictures in no class folder
    others: list[str] = field(default_factory=list)  # files that are no pictures


def recognise(tree: Tree) -> bool:
    """Whether there are parts with class folders, or at least two folders with pictures."""
    tops = _picture_folders(tree)
    # Pictures lying loose in train and in test say nothing of their classes.
    are_loose_parts = len({part_of(name) for name in tops} - {None}) > 1
    return _has_parts(tops) or (len(tops) > 1 and not are_loose_parts)


def read(tree: Tree) -> Dataset:
    """The pictures labelled by their folders. Raises DataError if no folder holds any."""
    arrangement = arrange(tree)
    if not arrangement.placed:
        raise DataError(tree.name, "no class folder holds a picture", f"make it {ACCEPTS}")
    findings = [
        *tree.findings,
        *_stray_findings(arrangement.strays),
        *_empty_folders(tree, arrangement),
        *other_files(arrangement.others),
    ]
    return dataset_of(tree, NAME, arrangement.placed, {}, findings)


def arrange(tree: Tree) -> Arrangement:
    """Part and class of each picture, in the order of the tree."""
    found = Arrangement(_has_parts(_picture_folders(tree)))
    for path in tree.files:
        if not is_picture(path):
            found.others.append(path)
            continue
        part, folders = _part_and_folders(path, found.has_parts)
        if part is None or not folders:
            found.strays.append(path)
        else:
            found.placed.append(Placed(path, part, folders[0]))
    return found


def dataset_of(
    tree: Tree,
    format_name: str,
    placed: Iterable[Placed],
    names: Mapping[str, str],
    findings: Iterable[Finding],
) -> Dataset:
    """The dataset of these pictures; `names` maps folder names to class names where they differ."""
    placed = sorted(placed)
    categories = sorted({picture.category for picture in placed})
    ids = {category: index for index, category in enumerate(categories)}
    return Dataset(
        name=tree.name,
        format=format_name,
        task="classification",
        classes=tuple(names.get(category, category) for category in categories),
        items=tuple(Item(path, part, ids[category]) for path, part, category in placed),
        storage=tree,
        findings=(*findings, *_one_sided(placed)),
    )


def _picture_folders(tree: Tree) -> dict[str, set[str]]:
    """Top folder with pictures -> those of its folders that hold pictures."""
    tops: dict[str, set[str]] = defaultdict(set)
    for path in tree.files:
        top, slash, rest = path.partition("/")
        if slash and is_picture(path):
            inner, slash, _ = rest.partition("/")
            tops[top].update([inner] if slash else [])
    return tops


def _has_parts(tops: Mapping[str, set[str]]) -> bool:
    """Whether the top folders are parts of the dataset rather than classes.

    A class may be called "train", beside "plane": a part has class folders below it, and there is a
    second part, or nothing beside it, or more than one class in it.
    """
    parts = [name for name in tops if part_of(name)]
    classes = max((len(tops[name]) for name in parts), default=0)
    return classes > 1 or (classes == 1 and (len(parts) > 1 or len(tops) == 1))


def _part_and_folders(path: str, has_parts: bool) -> tuple[Part | None, list[str]]:
    """The part and the folders below it that `path` names; None for a folder that is no part."""
    folders = path.split("/")[:-1]
    if not has_parts:
        return "", folders
    return (part_of(folders[0]), folders[1:]) if folders else (None, [])


def _stray_findings(strays: list[str]) -> list[Finding]:
    if not strays:
        return []
    message = f"{len(strays):,} picture{'s' * (len(strays) > 1)} in no class folder left out: {shown(strays)}"
    return [Finding(strays[0], "", "warning", "stray", message, "move them into the folder of their class")]


def _empty_folders(tree: Tree, arrangement: Arrangement) -> list[Finding]:
    """A finding for each folder at the level of the classes that holds no picture in any part."""
    has_parts = arrangement.has_parts
    level = 2 if has_parts else 1
    classes = {picture.category for picture in arrangement.placed}
    empty: dict[str, str] = {}
    for path in tree.folders:
        pieces = path.split("/")
        is_class_level = len(pieces) == level and (not has_parts or part_of(pieces[0]))
        if is_class_level and pieces[-1] not in classes:
            empty.setdefault(pieces[-1], path)
    fix = "put pictures into it or remove it"
    return [
        Finding(path, "", "warning", "empty-class", f"{name!r} holds no picture and is no class", fix)
        for name, path in empty.items()
    ]


def _one_sided(placed: Iterable[Placed]) -> list[Finding]:
    """A finding for each class that some part, not all, lacks."""
    parts_of: dict[str, set[Part]] = defaultdict(set)
    for _, part, category in placed:
        parts_of[category].add(part)
    present = set().union(*parts_of.values())
    findings = []
    for category, parts in sorted(parts_of.items()):
        if missing := [part for part in PARTS if part in present - parts]:
            message = f"class {category!r} has no picture in {' and '.join(missing)}"
            fix = "spell it alike in each part, or add pictures"
            findings.append(Finding(category, "", "warning", "class-missing", message, fix))
    return findings
