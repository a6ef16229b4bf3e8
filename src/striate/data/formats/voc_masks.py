"""PASCAL VOC's segmentation layout, or a set in it.

    JPEGImages/2007_000032.jpg  SegmentationClass/2007_000032.png  ImageSets/Segmentation/train.txt ...

The lists say which pictures count and in which part they are; `trainval.txt` is read where there is neither
train nor val. Masks hold class ids as palette indices, 255 void. VOC's own pictures, known by their names,
have its 21 classes; others take theirs from a list, such as CVAT's labelmap.txt, or from the masks.
Source: doi:10.1007/s11263-014-0733-5.
"""

import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from striate.data.class_list import ClassList, Listed, find_class_list
from striate.data.dataset import Dataset, Finding, Item
from striate.data.formats import shown
from striate.data.formats._voc import image_sets, listed_names, parts_of, pictures_by_stem
from striate.data.formats.paired_masks import common_folders
from striate.data.mask_meaning import look_at, meaning_of
from striate.data.masks import MaskFiles
from striate.data.tree import Tree
from striate.errors import DataError
from striate.structures import IGNORE, Task

__all__ = ["ACCEPTS", "CLASSES", "NAME", "PRECEDENCE", "TASK", "read", "recognise"]

NAME = "VOC masks"
ACCEPTS = "VOC's segmentation (JPEGImages, SegmentationClass and the lists of ImageSets/Segmentation)"
PRECEDENCE = 4
TASK: Task = "segmentation"

CLASSES = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train"),
    "tvmonitor",
)

_SETS, _PICTURES, _MASKS = "Segmentation", "JPEGImages", "SegmentationClass"
_STEM = re.compile(r"(?:20\d\d_)?\d{6}")  # of VOC's own pictures
_SAMPLE = 64


@dataclass(slots=True)
class _Found:
    """Items of one or more VOC folders."""

    items: dict[str, Item] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    unlisted: list[str] = field(default_factory=list)


def recognise(tree: Tree) -> bool:
    """Whether a list of ImageSets/Segmentation has the folder of masks beside it."""
    folders = set(tree.folders)
    return any(posixpath.join(base, _MASKS) in folders for base in image_sets(tree, _SETS))


def read(tree: Tree) -> Dataset:
    """The pictures that the lists name. Raises DataError if there is none, or no mask can be understood."""
    found = _Found(findings=list(tree.findings))
    for base, lists in image_sets(tree, _SETS).items():
        _add(found, tree, base, lists)
    masks = [item.mask for item in found.items.values() if item.mask is not None]
    if not masks:
        raise DataError(tree.name, "no picture in its lists has a mask", f"make it {ACCEPTS}")
    meaning = meaning_of(tree, masks, _class_list(tree, masks))
    if found.unlisted:
        message = f"{len(found.unlisted):,} pictures in no list left out: {shown(found.unlisted)}"
        fix = "nothing to do if they have no masks"
        found.findings.append(Finding(found.unlisted[0], "", "note", "unlisted", message, fix))
    return Dataset(
        name=tree.name,
        format=NAME,
        task="segmentation",
        classes=meaning.classes,
        items=tuple(found.items[key] for key in sorted(found.items)),
        storage=tree,
        notes=(meaning.note,),
        findings=tuple(found.findings),
        masks=MaskFiles(tree, meaning.coding),
    )


def _add(found: _Found, tree: Tree, base: str, lists: Mapping[str, str]) -> None:
    """The pictures that the lists of one VOC folder name."""
    pictures = pictures_by_stem(tree, posixpath.join(base, _PICTURES))
    masks = pictures_by_stem(tree, posixpath.join(base, _MASKS))
    for path, part in parts_of(lists):
        for line, stem in listed_names(tree, path):
            if stem not in pictures:
                message, fix = f"there is no picture {stem!r}", "correct the line or remove it"
                found.findings.append(Finding(path, f"line {line}", "error", "missing", message, fix))
                continue
            item = Item(pictures[stem], part, mask=masks.get(stem))
            before = found.items.setdefault(item.key, item)
            if before.part != part:
                message = f"{stem!r} is in {before.part} too, where it stays"
                fix = "keep it in one list"
                found.findings.append(Finding(path, f"line {line}", "warning", "leak", message, fix))
    found.unlisted += [path for path in pictures.values() if path not in found.items]


def _class_list(tree: Tree, masks: Sequence[str]) -> ClassList | None:
    """The classes that a file lists, or VOC's own; None where the masks must tell."""
    listed = find_class_list(tree, common_folders(masks))
    if listed is not None or not all(map(_is_own, masks)):
        return listed
    seen = look_at(tree, masks, _SAMPLE)
    if all(value < len(CLASSES) or value == IGNORE for mask in seen for value in mask.values):
        return ClassList("VOC", tuple(Listed(0, name, place, None) for place, name in enumerate(CLASSES)))
    return None


def _is_own(mask: str) -> bool:
    return _STEM.fullmatch(posixpath.splitext(posixpath.basename(mask))[0]) is not None
