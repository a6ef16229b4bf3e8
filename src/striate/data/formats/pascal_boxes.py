"""Pictures with a text file of boxes each in PASCAL's first annotation format, as Penn-Fudan has it.

    PNGImages/1.png  Annotation/1.txt                   in train, val and test or not

    # Compatible with PASCAL Annotation Version 1.00
    Image size (X x Y x C) : 479 x 354 x 3
    # Top left pixel co-ordinates : (1, 1)
    Bounding box for object 1 "PASperson" (Xmin, Ymin) - (Xmax, Ymax) : (139, 37) - (253, 339)

The last pixels are inside; the first is (1, 1) unless the file says otherwise. Classes are those of a list
beside (classes.txt), or the names that occur, sorted.
"""

import posixpath
import re
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from striate.data.dataset import Dataset, Finding
from striate.data.formats import part_in, unlisted
from striate.data.formats._boxes import Pictures, Read, StatedBox, StatedPicture, inclusive, number_of
from striate.data.formats._written import (
    BoxFolder,
    Holds,
    Page,
    Progress,
    as_inclusive,
    check_class_names,
    points_lost,
)
from striate.data.tree import Tree, head_of, text_of
from striate.errors import DataError
from striate.files import new_folder
from striate.structures import Task

__all__ = ["ACCEPTS", "NAME", "PRECEDENCE", "TASK", "read", "recognise", "write"]

NAME = "PASCAL boxes"
ACCEPTS = "pictures with boxes in PASCAL's text (PNGImages/1.png, Annotation/1.txt as Penn-Fudan has it)"
PRECEDENCE = 11
TASK: Task = "detection"

MARK = "PASCAL Annotation Version 1.00"

_PICTURES, _LABELS = "PNGImages", "Annotation"
_TRIED = 50  # texts that show whether any is one
_HEAD = 4096  # bytes that show what a text is
_CORNER = r"\(\s*([^,()]*?)\s*,\s*([^,()]*?)\s*\)"
_BOX = re.compile(rf'\s*Bounding box for object (\d+)\s+"([^"]*)"[^:]*:\s*{_CORNER}\s*-\s*{_CORNER}\s*')
_SIZE = re.compile(r"^Image size[^:\n]*:[ \t]*(\d{1,9})[ \t]*x[ \t]*(\d{1,9})", re.MULTILINE)
_FIRST = re.compile(rf"^#?[ \t]*Top left pixel co-?ordinates[ \t]*:[ \t]*{_CORNER}", re.MULTILINE)
_COUNT = re.compile(r"^Objects with ground truth[ \t]*:[ \t]*(\d{1,9})", re.MULTILINE)


def recognise(tree: Tree) -> bool:
    """Whether a text that shares its name with a picture says that it is such an annotation."""
    texts = [path for path in tree.files if path.lower().endswith(".txt")]
    if not texts:
        return False
    pictures = Pictures(tree)
    paired = islice((path for path in texts if pictures.of(path) is not None), _TRIED)
    return any(_begins_well(tree, path) for path in paired)


def read(tree: Tree) -> Dataset:
    """The pictures with their boxes. Raises DataError if there is none."""
    found, pictures = Read(tree, NAME), Pictures(tree)
    for path in _labels(tree):
        key = pictures.of(path)
        if key is None or key in found.pictures:
            what = "there is no one picture of its name" if key is None else f"{key!r} has another one"
            fix = "add the picture, or remove this file"
            found.findings.append(Finding(path, "", "error", "picture-missing", f"{what}: left out", fix))
        else:
            found.add(_picture(found, key, path))
    found.add_bare(pictures.all)
    where = "without a label, in folders without labels,"
    found.findings += unlisted(pictures.all, found.pictures, where)
    return found.dataset(found.named_classes())


def _labels(tree: Tree) -> Iterator[str]:
    return (path for path in tree.files if path.lower().endswith(".txt") and _begins_well(tree, path))


def _begins_well(tree: Tree, path: str) -> bool:
    return MARK.encode() in head_of(tree, path, _HEAD)


def _picture(found: Read, key: str, label: str) -> StatedPicture:
    """What the file `label` says of the picture `key`; nothing where it cannot be read."""
    part = part_in(posixpath.dirname(key))
    try:
        text = text_of(found.tree, label)
    except DataError as error:
        found.findings.append(Finding(label, "", "error", "label-unreadable", error.what, error.fix))
        return StatedPicture(key, label, part, None, None)
    first = _FIRST.search(text)
    offset = (number_of(first[1]), number_of(first[2])) if first else (1.0, 1.0)
    boxes = tuple(_boxes(text, offset))
    stated = _COUNT.search(text)
    if stated and int(stated[1]) != len(boxes):
        message = f"it says that it has {stated[1]} objects, and {len(boxes)} have a box"
        fix = "correct the number, or add the boxes"
        found.findings.append(Finding(label, "", "warning", "object-count", message, fix))
    size = _SIZE.search(text)
    sides = (int(size[2]), int(size[1])) if size else (0, 0)
    return StatedPicture(key, label, part, sides if min(sides) > 0 else None, boxes)


def _boxes(text: str, first: tuple[float, float]) -> Iterator[StatedBox]:
    for line in text.splitlines():
        if match := _BOX.fullmatch(line):
            number, category, *written = match.groups()
            corners = inclusive([number_of(one) for one in written], first)
            yield StatedBox(f"object {number}", category, corners, written)


# --- written ----------------------------------------------------------------------------------------


def write(dataset: Dataset, folder: Path, progress: Progress | None = None) -> tuple[str, ...]:
    """Make `folder`, which must not exist or be empty, with `dataset` in it; what is lost, a sentence each.

    The format knows no parts: each has a folder of its own. Corners keep four decimals. Raises DataError for
    a class name that the format cannot hold, DiskFull where there is no room.
    """
    check_class_names(dataset, forbidden='"')
    with new_folder(folder) as root:
        written = BoxFolder(dataset, root, Holds(unlabelled=True), progress)
        points = 0
        for page in written.pages(lambda item: posixpath.join(item.part, _PICTURES)):
            if page.objects is not None:
                boxes = list(map(as_inclusive, page.objects.boxes.tolist()))
                points += sum(box[:2] == box[2:] for box in boxes)
                text = _text(page, boxes, dataset.classes)
                written.write_text(posixpath.join(page.item.part, _LABELS, f"{page.name}.txt"), text)
        written.write_class_list()
        if points:
            written.lost.append(points_lost(points))
    return tuple(written.lost)


def _text(page: Page, boxes: Sequence[Sequence[str]], classes: Sequence[str]) -> str:
    """The annotation of one picture, whose `boxes` are left, top, right and bottom as text."""
    names = [] if page.objects is None else [classes[label] for label in page.objects.labels.tolist()]
    listed = "".join(f'"{name}" ' for name in names)
    height, width = page.size
    lines = [
        f"# Compatible with {MARK}",
        "",
        f'Image filename : "{_PICTURES}/{page.file}"',
        f"Image size (X x Y x C) : {width} x {height} x 3",
        f"Objects with ground truth : {len(names)} {{ {listed}}}",
        "# Top left pixel co-ordinates : (1, 1)",
    ]
    for row, (name, (left, top, right, bottom)) in enumerate(zip(names, boxes, strict=True), start=1):
        corners = f"({left}, {top}) - ({right}, {bottom})"
        lines += ["", f'Bounding box for object {row} "{name}" (Xmin, Ymin) - (Xmax, Ymax) : {corners}']
    return "\n".join(lines) + "\n"
