"""Pictures with masks that number their objects: 0 is the background, everything else one class.

The files are as those of paired masks. They are told apart by what the masks hold, which `paired_masks` looks
at; this format is for those that must be named: --format instance_masks.
"""

from striate.data.class_list import find_class_list
from striate.data.dataset import Dataset
from striate.data.formats.paired_masks import common_folders, dataset_of, pair
from striate.data.mask_meaning import OBJECT_CLASSES, instances_meaning, look_at
from striate.data.tree import Tree
from striate.errors import DataError
from striate.structures import Task

__all__ = ["ACCEPTS", "NAME", "PRECEDENCE", "TASK", "read", "recognise"]

NAME = "instance masks"
ACCEPTS = "pictures and masks of equal names that number objects (named by --format instance_masks)"
PRECEDENCE = 7
TASK: Task = "segmentation"

_SAMPLE = 64


def recognise(_: Tree) -> bool:
    """Never: names alone do not tell."""
    return False


def read(tree: Tree) -> Dataset:
    """The pictures with their masks. Raises DataError where there is no pair, or a list of other classes."""
    found = pair(tree)
    if not found.masks:
        raise DataError(tree.name, "no mask in it has the name of a picture", f"make it {ACCEPTS}")
    masks = list(found.masks.values())
    listed = find_class_list(tree, common_folders([*found.masks, *masks]))
    classes = OBJECT_CLASSES if listed is None else listed.classes
    if listed is not None and len(classes) != 2:
        fix = "list the background and the objects, or leave --format out"
        raise DataError(listed.file, f"it lists {len(classes)} classes for masks of objects", fix)
    seen = look_at(tree, masks, _SAMPLE)
    return dataset_of(tree, NAME, found, instances_meaning(seen, classes))
