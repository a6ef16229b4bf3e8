"""Pictures with an XML file of boxes each, as PASCAL VOC and most drawing programs write it.

    JPEGImages/1.jpg  Annotations/1.xml  ImageSets/Main/train.txt ...       images/1.png  annotations/1.xml
    train/1.jpg  train/1.xml  valid/2.jpg  valid/2.xml                      beside each other, in parts or not

With lists in ImageSets/Main these say which pictures count and in which part they are (`trainval.txt` is read
where there is neither train nor val); else folders called train, val and test do. Pixels are counted from 1
and the last one is inside: xmin 1, xmax 10 is ten pixels. Classes are those of a list beside (classes.txt),
or the names that occur, sorted. Source: doi:10.1007/s11263-014-0733-5.
"""

import posixpath
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

from striate.data.dataset import PARTS, Dataset, Finding, Part
from striate.data.formats import part_in, shown, unlisted
from striate.data.formats._boxes import (
    Pictures,
    Read,
    StatedBox,
    StatedPicture,
    inclusive,
    number_of,
    stem_of,
)
from striate.data.formats._voc import image_sets, listed_names, parts_of, pictures_by_stem
from striate.data.formats._written import (
    BoxFolder,
    Holds,
    Page,
    Progress,
    as_inclusive,
    check_class_names,
    points_lost,
)
from striate.data.plain_xml import xml_of
from striate.data.tree import Tree, head_of
from striate.errors import DataError
from striate.files import new_folder
from striate.structures import Objects, Task

__all__ = ["ACCEPTS", "NAME", "PRECEDENCE", "TASK", "read", "recognise", "write"]

NAME = "VOC boxes"
ACCEPTS = "pictures with boxes in VOC's XML (JPEGImages/1.jpg, Annotations/1.xml, or beside each other)"
PRECEDENCE = 9
TASK: Task = "detection"

_SETS, _PICTURES, _LABELS = "Main", "JPEGImages", "Annotations"
_SUFFIX = ".xml"
_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_TRIED = 20  # files that show whether XML is VOC's
_HEAD = 4096  # bytes of one
_ROOT = re.compile(rb"<annotation[\s>]")
_UNSTATED_POSES = ("", "unspecified")


@dataclass(slots=True)
class _Unkept:
    """How many objects say what has no place here."""

    counts: Counter[str] = field(default_factory=Counter)

    def note(self) -> list[str]:
        """A line for the user where there are any."""
        if not self.counts:
            return []
        listed = ", ".join(f"{name} of {count:,} objects" for name, count in sorted(self.counts.items()))
        return [f"not kept: {listed}"]


def recognise(tree: Tree) -> bool:
    """Whether one of the first XML files that share a name with a picture begins as VOC's do."""
    labels = [path for path in tree.files if path.lower().endswith(_SUFFIX)]
    if not labels:
        return False
    pictures = Pictures(tree)
    paired = [path for path in labels if pictures.of(path) is not None]
    return any(_begins_well(tree, path) for path in paired[:_TRIED])


def _begins_well(tree: Tree, path: str) -> bool:
    return _ROOT.search(head_of(tree, path, _HEAD).replace(b"\0", b"")) is not None


def read(tree: Tree) -> Dataset:
    """The pictures with their boxes. Raises DataError if there is none, or a list of classes is wrong."""
    found, unkept = Read(tree, NAME), _Unkept()
    pictures = Pictures(tree)
    sets = image_sets(tree, _SETS)
    for base, lists in sets.items():
        _add_listed(found, unkept, base, lists)
    if not found.pictures:
        _add_paired(found, unkept, pictures)
    found.notes += unkept.note()
    where = f"in no list of ImageSets/{_SETS}" if sets else "without a label, in folders without labels,"
    found.findings += unlisted(pictures.all, found.pictures, where)
    return found.dataset(found.named_classes())


# --- which pictures ---------------------------------------------------------------------------------


def _add_listed(found: Read, unkept: _Unkept, base: str, lists: Mapping[str, str]) -> None:
    """The pictures that the lists of one VOC folder name."""
    pictures = pictures_by_stem(found.tree, posixpath.join(base, _PICTURES))
    labels = set(found.tree.files)
    parts = parts_of(lists)
    for path, part in parts:
        for line, name in listed_names(found.tree, path):
            stem = name if name in pictures else posixpath.splitext(name)[0]
            if stem not in pictures:
                message, fix = f"there is no picture {name!r}", "correct the line or remove it"
                found.findings.append(Finding(path, f"line {line}", "error", "missing", message, fix))
                continue
            key, label = pictures[stem], posixpath.join(base, _LABELS, f"{stem}{_SUFFIX}")
            if (before := found.pictures.get(key)) is None:
                found.add(_picture(found, unkept, key, label if label in labels else None, part))
            elif before.part != part:
                message = f"{stem!r} is in {before.part} too, where it stays"
                found.findings.append(
                    Finding(path, f"line {line}", "warning", "leak", message, "keep it in one list")
                )
    unread = sorted(set(lists.values()).difference(path for path, _ in parts))
    unread = [path for path in unread if stem_of(path) != "trainval"]
    if parts and unread:
        message = f"{len(unread):,} lists that name no part left out: {shown(unread)}"
        fix = "nothing to do: classes are read from the XML"
        found.findings.append(Finding(unread[0], "", "note", "class-list", message, fix))


def _add_paired(found: Read, unkept: _Unkept, pictures: Pictures) -> None:
    """Each XML with the picture of its name, and the pictures beside those that have none."""
    for path in found.tree.files:
        if not path.lower().endswith(_SUFFIX):
            continue
        key = pictures.of(path)
        if key is None or key in found.pictures:
            what = "there is no one picture of its name" if key is None else f"{key!r} has another one"
            fix = "add the picture, or remove this file"
            found.findings.append(Finding(path, "", "error", "picture-missing", f"{what}: left out", fix))
        else:
            found.add(_picture(found, unkept, key, path, part_in(posixpath.dirname(key))))
    found.add_bare(pictures.all)


# --- one picture ------------------------------------------------------------------------------------


def _picture(found: Read, unkept: _Unkept, key: str, label: str | None, part: Part) -> StatedPicture:
    """What the file `label` says of the picture `key`; nothing where there is none, or it cannot be read."""
    if label is None:
        return StatedPicture(key, key, part, None, None)
    try:
        root = xml_of(found.tree, label)
        if root.tag != "annotation":
            raise DataError(label, f"is no annotation but a {root.tag!r}", "correct or remove it")
    except DataError as error:
        found.findings.append(Finding(label, "", "error", "label-unreadable", error.what, error.fix))
        return StatedPicture(key, label, part, None, None)
    named = _text(root, "filename").replace("\\", "/")
    if named and stem_of(named) != stem_of(key):
        message = f"it says that it is of {posixpath.basename(named)!r}, and is read as that of {key!r}"
        fix = "correct its filename, or its own name"
        found.findings.append(Finding(label, "", "warning", "file-name", message, fix))
    boxes = tuple(_boxes(root, unkept))
    return StatedPicture(key, label, part, _size(root), boxes)


def _boxes(root: ElementTree.Element, unkept: _Unkept) -> Iterator[StatedBox]:
    for number, element in enumerate(root.findall("object"), start=1):
        written = [_text(element, f"bndbox/{corner}") for corner in _CORNERS]
        unkept.counts.update(_said(element))
        yield StatedBox(
            id=f"object {number}",
            category=_text(element, "name"),
            corners=inclusive([number_of(text) for text in written]),
            stated=[f"{corner} {text}" for corner, text in zip(_CORNERS, written, strict=True)],
            is_difficult=_is_true(_text(element, "difficult")),
        )


def _said(element: ElementTree.Element) -> Iterator[str]:
    """What an object says that has no place in a dataset."""
    for name in ("truncated", "occluded"):
        if _is_true(_text(element, name)):
            yield name
    if _text(element, "pose").lower() not in _UNSTATED_POSES:
        yield "pose"
    if element.find("part") is not None:
        yield "parts"


def _size(root: ElementTree.Element) -> tuple[int, int] | None:
    """Height and width as stated; None where they are not, or are 0 as some programs write."""
    height, width = (number_of(_text(root, f"size/{side}")) for side in ("height", "width"))
    if not (0 < height < float("inf") and 0 < width < float("inf")):
        return None
    return int(height), int(width)


def _text(element: ElementTree.Element, path: str) -> str:
    return (element.findtext(path) or "").strip()


def _is_true(text: str) -> bool:
    return text.lower() in ("1", "true", "yes")


# --- written ----------------------------------------------------------------------------------------


def write(dataset: Dataset, folder: Path, progress: Progress | None = None) -> tuple[str, ...]:
    """Make `folder`, which must not exist or be empty, with `dataset` in it; what is lost, a sentence each.

    Crowds become difficult objects: both are neither a hit nor a miss. Corners keep four decimals.
    Raises DataError for a class name that XML cannot hold, DiskFull where there is no room.
    """
    check_class_names(dataset)
    with new_folder(folder) as root:
        written = BoxFolder(dataset, root, Holds(crowds=True, difficult=True, unlabelled=True), progress)
        listed: dict[str, list[str]] = defaultdict(list)
        points = 0
        for page in written.pages(lambda _: _PICTURES):
            listed[page.item.part].append(page.name)
            if page.objects is not None:
                boxes = list(map(as_inclusive, page.objects.boxes.tolist()))
                points += sum(box[:2] == box[2:] for box in boxes)
                text = _xml(page, page.objects, boxes, dataset.classes)
                written.write_text(f"{_LABELS}/{page.name}{_SUFFIX}", text)
        written.write_class_list()
        _write_lists(written, listed)
        crowds = sum(int(item.objects.crowd.sum()) for item in dataset.items if item.objects is not None)
        if crowds:
            written.lost.append(f"{crowds:,} crowds are difficult objects now")
        if points:
            written.lost.append(points_lost(points))
    return tuple(written.lost)


def _write_lists(written: BoxFolder, listed: Mapping[str, Sequence[str]]) -> None:
    """The lists of the parts, where there are parts."""
    lists = {str(part): listed[part] for part in PARTS if part in listed}
    if not lists:
        return
    if "train" in lists and "val" in lists:
        lists["trainval"] = sorted([*lists["train"], *lists["val"]])
    for name, names in lists.items():
        written.write_text(f"ImageSets/{_SETS}/{name}.txt", "".join(f"{one}\n" for one in names))
    if "" in listed:
        message = f"{len(listed['']):,} pictures are in no part: no list names them, so they do not count"
        written.lost.append(message)


def _xml(page: Page, objects: Objects, boxes: Sequence[Sequence[str]], classes: Sequence[str]) -> str:
    """The annotation of one picture, whose `boxes` are the corners of each object as text."""
    root = ElementTree.Element("annotation")
    height, width = page.size
    _add_texts(root, {"folder": _PICTURES, "filename": page.file})
    _add_texts(ElementTree.SubElement(root, "size"), {"width": width, "height": height, "depth": 3})
    _add_texts(root, {"segmented": 0})
    hard = (objects.difficult | objects.crowd).tolist()
    for label, is_hard, box in zip(objects.labels.tolist(), hard, boxes, strict=True):
        element = ElementTree.SubElement(root, "object")
        facts = {"name": classes[label], "pose": "Unspecified", "truncated": 0, "difficult": int(is_hard)}
        _add_texts(element, facts)
        _add_texts(ElementTree.SubElement(element, "bndbox"), dict(zip(_CORNERS, box, strict=True)))
    ElementTree.indent(root, "\t")
    return ElementTree.tostring(root, "unicode") + "\n"


def _add_texts(parent: ElementTree.Element, texts: Mapping[str, object]) -> None:
    for name, text in texts.items():
        ElementTree.SubElement(parent, name).text = str(text)
