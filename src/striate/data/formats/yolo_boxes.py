"""Pictures with a text file of boxes each, as darknet and the YOLO networks after it read it.

    data.yaml  images/train/1.jpg  labels/train/1.txt       or train/images/1.jpg  train/labels/1.txt
    classes.txt  1.jpg  1.txt                               or beside each other

A line of a label file is `class x y width height`: the class is a number from 0, x and y are the centre, all
four as shares of the picture's sides. A longer line is an outline; its box is the one around it. data.yaml
says which folders (or lists of pictures) are train, val and test, and names the classes; without it folders
or lists of these names do, and classes.txt or obj.names. A picture without a label file shows nothing, unless
its whole folder has none. Sources: arXiv:1506.02640; data.yaml as arXiv:2207.02696 uses it.
"""

import json
import posixpath
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from striate.data.dataset import PARTS, Dataset, Finding, Part
from striate.data.decode import size_of
from striate.data.formats import is_picture, part_in, shown, unlisted
from striate.data.formats._boxes import MOST_CLASSES, Read, StatedBox, StatedPicture, number_of, stem_of
from striate.data.formats._written import BoxFolder, Holds, Page, Progress, number
from striate.data.formats._yolo import Description, describe, description_files
from striate.data.tree import Tree, head_of, open_tree, text_of
from striate.errors import DataError
from striate.files import new_folder
from striate.structures import Task

__all__ = ["ACCEPTS", "NAME", "PRECEDENCE", "TASK", "read", "read_file", "recognise", "write"]

NAME = "YOLO boxes"
ACCEPTS = "pictures with boxes in YOLO's text (images/1.jpg, labels/1.txt), beside a data.yaml or not"
PRECEDENCE = 10
TASK: Task = "detection"

_THREADS = 8  # that wait for small files
_TRIED = 500  # label files that are looked into
_HEAD = 4096  # bytes of one
_LINE = re.compile(rb"\s*\d+(?:[ \t]+[-+.\deE]+){4,}\s*")
_PICTURE_FOLDERS = ("images", "JPEGImages")
_LABELS = "labels"
_BOX_NUMBERS = 4
_DECIMALS = 9
_UNSPLIT = "unsplit"


def recognise(tree: Tree) -> bool:
    """Whether one of the first label files of pictures begins as YOLO's do, or a data.yaml lies there."""
    if not any(path.endswith(".txt") for path in tree.files):
        return False
    pictures = [path for path in tree.files if is_picture(path)]
    labels = [label for label in _labels_of(tree, pictures).values() if label is not None]
    return any(_begins_well(tree, path) for path in labels[:_TRIED]) or (
        bool(labels) and bool(description_files(tree))
    )


def _begins_well(tree: Tree, path: str) -> bool:
    return _LINE.fullmatch(head_of(tree, path, _HEAD).partition(b"\n")[0]) is not None


def read(tree: Tree) -> Dataset:
    """The pictures with their boxes. Raises DataError if there is none, or data.yaml is wrong.

    The header of each picture with boxes is read, since they are stated as shares of its sides.
    """
    return _read(tree, describe(tree))


def read_file(path: Path) -> Dataset:
    """The pictures that one data.yaml describes, in its folder or below. Raises as `read` does."""
    tree = open_tree(path.parent)
    return _read(tree, describe(tree, path.name))


def _read(tree: Tree, described: Description) -> Dataset:
    pictures = [path for path in tree.files if is_picture(path)]
    all_labels = _labels_of(tree, pictures)
    chosen = [path for path in pictures if path in described.parts] if described.parts else pictures
    labels = {path: all_labels[path] for path in chosen}
    if not any(labels.values()):
        raise DataError(tree.name, "no picture in it has a label file", f"make it {ACCEPTS}")
    found = Read(tree, NAME, notes=described.notes, findings=described.findings, has_true_sizes=True)

    def read_one(key: str) -> tuple[StatedPicture, Finding | None]:
        part = described.parts.get(key) or part_in(posixpath.dirname(key))
        return _picture(tree, key, labels[key] or "", part)

    with ThreadPoolExecutor(_THREADS, thread_name_prefix="striate-labels") as pool:
        for picture, finding in pool.map(read_one, [key for key in chosen if labels[key]]):
            found.add(picture)
            found.findings += [] if finding is None else [finding]
    _add_bare(found, [key for key in chosen if not labels[key]], described.parts)
    found.findings += _orphans(tree, all_labels)
    found.findings += unlisted(pictures, found.pictures, "in no part, or in folders without labels,")
    _note_outlines(found)
    return found.dataset(described.names or _numbered(found))


def _labels_of(tree: Tree, pictures: Sequence[str]) -> dict[str, str | None]:
    """The label file of each picture, if it has one."""
    files = frozenset(tree.files)
    return {path: next((place for place in _places(path) if place in files), None) for path in pictures}


def _places(picture: str) -> tuple[str, ...]:
    """Where the label file of a picture may lie: in `labels` for `images`, or beside it."""
    folder = posixpath.dirname(picture)
    name, pieces = f"{stem_of(picture)}.txt", folder.split("/")
    at = next((at for at in reversed(range(len(pieces))) if pieces[at] in _PICTURE_FOLDERS), None)
    beside = posixpath.join(folder, name)
    if at is None:
        return (beside,)
    return "/".join((*pieces[:at], _LABELS, *pieces[at + 1 :], name)), beside


def _add_bare(found: Read, bare: Sequence[str], parts: Mapping[str, Part]) -> None:
    """Pictures without a label file: they show nothing, or nothing is known of any in their folder."""
    folders = {posixpath.dirname(picture.file) for picture in found.pictures.values()}
    empty = []
    for key in bare:
        is_empty = any(posixpath.dirname(place) in folders for place in _places(key))
        part = parts.get(key) or part_in(posixpath.dirname(key))
        # A folder of a part may hide its labels; any other without labels holds something else.
        if is_empty or part:
            found.add(StatedPicture(key, key, part, None, () if is_empty else None))
        empty += [key] if is_empty else []
    if empty:
        message = f"{len(empty):,} pictures have no label file, so they show nothing: {shown(empty)}"
        fix = "nothing to do, or add their label files"
        found.findings.append(Finding(empty[0], "", "note", "no-label-file", message, fix))


def _orphans(tree: Tree, labels: Mapping[str, str | None]) -> list[Finding]:
    """An error for the label files beside others that are of no picture."""
    used = {label for label in labels.values() if label is not None}
    folders = {posixpath.dirname(label) for label in used}
    texts = [path for path in tree.files if path.endswith(".txt") and posixpath.dirname(path) in folders]
    orphans = [path for path in texts if path not in used and _begins_well(tree, path)]
    if not orphans:
        return []
    message = f"{len(orphans):,} label files are of no picture here: left out: {shown(orphans)}"
    return [Finding(orphans[0], "", "error", "picture-missing", message, "add the pictures or remove them")]


def _note_outlines(found: Read) -> None:
    boxes = [box for picture in found.pictures.values() for box in picture.boxes or ()]
    outlines = [box for box in boxes if len(box.corners) == _BOX_NUMBERS < len(box.stated)]
    if outlines:
        found.notes.append(f"{len(outlines):,} outlines are read as the boxes around them")


def _numbered(found: Read) -> dict[str, str]:
    """As many classes as occur, called by their numbers."""
    numbers = [int(name) for name in found.categories() if name.isdigit() and int(name) < MOST_CLASSES]
    count = max(numbers, default=-1) + 1
    found.notes.append(f"no file names the classes: they are called by their numbers, 0 to {count - 1}")
    return {str(number): str(number) for number in range(count)}


# --- one picture ------------------------------------------------------------------------------------


def _picture(tree: Tree, key: str, label: str, part: Part) -> tuple[StatedPicture, Finding | None]:
    """What the file `label` says of the picture `key`, and why nothing if it cannot be read."""
    try:
        lines = [line.split() for line in text_of(tree, label).splitlines()]
    except DataError as error:
        finding = Finding(label, "", "error", "label-unreadable", error.what, error.fix)
        return StatedPicture(key, label, part, None, None), finding
    if not any(lines):
        return StatedPicture(key, label, part, None, ()), None
    try:
        size = size_of(tree.content(key), key)
    except DataError:
        # Whoever decodes the picture says what is wrong with it.
        return StatedPicture(key, label, part, None, None), None
    boxes = tuple(_box(number, words, size) for number, words in enumerate(lines, start=1) if words)
    return StatedPicture(key, label, part, size, boxes), None


def _box(line: int, words: Sequence[str], size: tuple[int, int]) -> StatedBox:
    category, shares = words[0], tuple(map(number_of, words[1:]))
    height, width = size
    if len(shares) == _BOX_NUMBERS:
        x, y, wide, high = shares
        shares = (x - wide / 2, y - high / 2, x + wide / 2, y + high / 2)
    elif len(shares) > _BOX_NUMBERS and len(shares) % 2 == 0:
        shares = (min(shares[::2]), min(shares[1::2]), max(shares[::2]), max(shares[1::2]))
    corners = tuple(share * side for share, side in zip(shares, (width, height) * 4, strict=False))
    # Tables that numpy writes have class 3 as 3.0.
    category = category.removesuffix(".0") if category.endswith(".0") else category
    return StatedBox(f"line {line}", category, corners, words[1:])


# --- written ----------------------------------------------------------------------------------------


def write(dataset: Dataset, folder: Path, progress: Progress | None = None) -> tuple[str, ...]:
    """Make `folder`, which must not exist or be empty, with `dataset` in it; what is lost, a sentence each.

    Shares have nine decimals: far below a thousandth of a pixel. Raises DiskFull where there is no room.
    """
    with new_folder(folder) as root:
        written = BoxFolder(dataset, root, Holds(), progress)
        counts: Counter[Part] = Counter()
        has_parts = any(item.part for item in dataset.items)

        def place(part: Part) -> str:
            return part or (_UNSPLIT if has_parts else "")

        for page in written.pages(lambda item: posixpath.join("images", place(item.part))):
            counts[page.item.part] += 1
            # A picture that shows nothing gets an empty file, lest a part of such look unlabelled.
            path = posixpath.join(_LABELS, place(page.item.part), f"{page.name}.txt")
            written.write_text(path, "".join(_lines(page)))
        parts = [part for part in PARTS if counts[part]]
        written.write_text("data.yaml", _yaml(parts, dataset.classes))
        if parts and counts[""]:
            where = f"images/{_UNSPLIT}, which data.yaml does not name"
            written.lost.append(f"{counts['']:,} pictures are in no part: they lie in {where}")
    return tuple(written.lost)


def _lines(page: Page) -> Iterator[str]:
    """The label file of a picture."""
    if page.objects is None:
        return
    height, width = page.size
    for label, box in zip(page.objects.labels.tolist(), page.objects.boxes.tolist(), strict=True):
        left, top, right, bottom = box
        x, y = (left + right) / 2 / width, (top + bottom) / 2 / height
        shares = (x, y, (right - left) / width, (bottom - top) / height)
        yield " ".join((str(label), *(number(share, _DECIMALS) for share in shares))) + "\n"


def _yaml(parts: Sequence[Part], classes: Sequence[str]) -> str:
    """data.yaml; the folders are seen from where it lies."""
    lines = [f"{part}: images/{part}" for part in parts]
    # A text in JSON is one in YAML too.
    names = [json.dumps(name, ensure_ascii=not name.isprintable()) for name in classes]
    lines += [f"nc: {len(classes)}", "names:", *(f"  {place}: {name}" for place, name in enumerate(names))]
    return "\n".join(lines) + "\n"
