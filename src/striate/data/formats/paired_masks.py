"""Pictures and their masks as files that belong together by their names.

    images/1.jpg  masks/1.png                        in parts or not: train/images/1.jpg train/masks/1.png,
                                                     images/train/1.jpg masks/train/1.png
    train/1.png  trainannot/1.png                    likewise train_image and train_label
    1.jpg  1_mask.png                                in one folder, or images/1.jpg masks/1_mask.png

A folder holds masks if its name has a word such as mask, annot, label or gt in it. What the other words of
the folders and the name up to its suffix say must agree. What the values mean: see `data.mask_meaning`.
"""

import posixpath
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, reduce
from typing import Literal, NamedTuple

from striate.data.class_list import NAMES, YAML, find_class_list
from striate.data.dataset import Dataset, Finding, Item, Part
from striate.data.formats import is_picture, other_files, part_of, shown
from striate.data.mask_meaning import Meaning, meaning_of
from striate.data.masks import MaskFiles
from striate.data.tree import Tree
from striate.errors import DataError
from striate.structures import Task

__all__ = [
    "ACCEPTS",
    "NAME",
    "PRECEDENCE",
    "TASK",
    "Pairing",
    "common_folders",
    "dataset_of",
    "pair",
    "read",
    "recognise",
]

NAME = "paired masks"
ACCEPTS = "pictures and masks of equal names (images/1.jpg, masks/1.png), inside train, val and test or not"
PRECEDENCE = 6
TASK: Task = "segmentation"

_MASK_WORDS = frozenset(
    (
        *(
            "mask",
            "masks",
            "label",
            "labels",
            "labeled",
            "labelled",
            "annot",
            "annots",
            "annotation",
            "annotations",
        ),
        *("segmentation", "segmentations", "gt", "truth", "groundtruth"),
    )
)
_PICTURE_WORDS = frozenset(
    ("image", "images", "img", "imgs", "picture", "pictures", "photo", "photos", "frame", "frames")
)
# Said of a folder of masks or pictures, they tell nothing else apart.
_FILLERS = frozenset(("semantic", "class", "seg", "index", "raw", "png", "jpg", "jpeg", "ground"))
_PART_WORDS = ("training", "validation", "testing", "train", "valid", "val", "test")

_WORD = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|\d+")
_SUFFIXES = "[Mm]asks?|[Ll]abels?|[Aa]nnot|[Ss]eg(?:mentation)?|gt|GT"
_MASK_SUFFIX = re.compile(rf"(.+)[ _.-](?:{_SUFFIXES})")
# In folders of masks: CamVid's own end with _L, fastai's copies of them with _P.
_PARTNER_SUFFIX = re.compile(rf"(.+)[ _.-](?:{_SUFFIXES}|L|P)")
_PICTURE_SUFFIX = re.compile(r"(.+)[ _.-](?:[Ii]mage|[Ii]mg|sat)")

Role = Literal["mask", "picture", ""]


class _Folder(NamedTuple):
    """What the names of a folder and of those around it say."""

    role: Role
    rest: str  # the words that say something else
    part: Part
    is_part: bool  # whether a part is all that its own name says


@dataclass(slots=True)
class Pairing:
    """The files of a tree by what they are to each other."""

    masks: dict[str, str] = field(default_factory=dict)  # picture -> its mask
    bare: list[str] = field(default_factory=list)  # pictures without a mask
    alone: list[str] = field(default_factory=list)  # masks without a picture
    doubled: dict[str, list[str]] = field(default_factory=dict)  # picture -> its several masks
    strays: list[str] = field(default_factory=list)  # pictures in folders that have to do with no mask


def recognise(tree: Tree) -> bool:
    """Whether most masks have a picture, and most other pictures lie where pictures with masks do."""
    if not any(is_picture(path) and (_is_mask(path, True) or _is_mask(path, False)) for path in tree.files):
        return False
    found = pair(tree)
    paired = len(found.masks) + len(found.doubled)
    return 0 < paired >= max(len(found.alone), len(found.strays))


def read(tree: Tree) -> Dataset:
    """The pictures with their masks. Raises DataError where there is no pair or no mask can be understood."""
    found = pair(tree)
    if not found.masks:
        raise DataError(tree.name, "no mask in it has the name of a picture", f"make it {ACCEPTS}")
    masks = list(found.masks.values())
    folders = common_folders([*found.masks, *masks])
    return dataset_of(tree, NAME, found, meaning_of(tree, masks, find_class_list(tree, folders)))


def dataset_of(tree: Tree, format_name: str, found: Pairing, meaning: Meaning) -> Dataset:
    """The dataset of these pictures, whose masks mean `meaning`."""
    items = [Item(key, _part(key) or _part(mask), mask=mask) for key, mask in found.masks.items()]
    items += [Item(key, _part(key)) for key in found.bare]
    return Dataset(
        name=tree.name,
        format=format_name,
        task="segmentation",
        classes=meaning.classes,
        items=tuple(sorted(items, key=lambda item: item.key)),
        storage=tree,
        notes=(meaning.note,),
        findings=(*tree.findings, *_findings(found), *_other_files(tree)),
        masks=MaskFiles(tree, meaning.coding),
    )


def _part(path: str) -> Part:
    return _folder(posixpath.dirname(path)).part


def common_folders(paths: Iterable[str]) -> list[str]:
    """The deepest folder that all `paths` are in, and those around it, the deepest first."""
    common = posixpath.commonpath([posixpath.dirname(path) for path in paths])
    pieces = common.split("/") if common else []
    return ["/".join(pieces[:end]) for end in range(len(pieces), -1, -1)]


# --- pairs ------------------------------------------------------------------------------------------


def pair(tree: Tree) -> Pairing:
    """Which pictures of `tree` have which masks."""
    files = [path for path in tree.files if is_picture(path)]
    has_folders = any(_folder(posixpath.dirname(path)).role == "mask" for path in files)
    masks = [path for path in files if _is_mask(path, has_folders)]
    pictures = sorted(set(files).difference(masks))
    found = _matched(pictures, masks, by_folder=True)
    # Folders may be called as they like, as long as no name comes twice.
    if not found.masks and _are_unique(pictures):
        found = _matched(pictures, masks, by_folder=False)
    return found


def _matched(pictures: Sequence[str], masks: Sequence[str], by_folder: bool) -> Pairing:
    by_key: dict[str, str] = {}
    for picture in pictures:
        for key in _keys(picture, _PICTURE_SUFFIX, by_folder):
            by_key.setdefault(key, picture)
    found = Pairing()
    several: dict[str, list[str]] = defaultdict(list)
    for mask in masks:
        keys = _keys(mask, _PARTNER_SUFFIX, by_folder)
        partner = next((by_key[key] for key in keys if key in by_key), None)
        (found.alone if partner is None else several[partner]).append(mask)
    found.masks = {picture: own[0] for picture, own in several.items() if len(own) == 1}
    found.doubled = {picture: own for picture, own in several.items() if len(own) > 1}
    with_masks = {posixpath.dirname(picture) for picture in several}
    for picture in pictures:
        if picture not in several:
            folder = posixpath.dirname(picture)
            reading = _folder(folder)
            belongs = folder in with_masks or reading.role == "picture" or reading.is_part
            (found.bare if belongs else found.strays).append(picture)
    return found


def _is_mask(path: str, has_folders: bool) -> bool:
    """Whether its folder says so, or its name where no folder does."""
    if has_folders:
        return _folder(posixpath.dirname(path)).role == "mask"
    # A photo 1_mask.jpg beside 1.jpg shows somebody with a mask.
    is_photo = path.lower().endswith((".jpg", ".jpeg"))
    return not is_photo and _MASK_SUFFIX.fullmatch(_stem(path)) is not None


def _keys(path: str, suffix: re.Pattern[str], by_folder: bool) -> Iterator[str]:
    """What the partner of `path` must share with it: its name, or that without `suffix`."""
    prefix = _folder(posixpath.dirname(path)).rest if by_folder else ""
    stem = _stem(path)
    yield f"{prefix}/{stem}"
    if shorter := suffix.fullmatch(stem):
        yield f"{prefix}/{shorter[1]}"


def _are_unique(pictures: Sequence[str]) -> bool:
    return max(Counter(map(_stem, pictures)).values(), default=0) == 1


def _stem(path: str) -> str:
    return posixpath.splitext(posixpath.basename(path))[0]


@lru_cache(maxsize=4096)
def _folder(path: str) -> _Folder:
    """What the path of a folder says, its own name more than those around it."""
    return reduce(_within, filter(None, path.split("/")), _Folder("", "", "", False))


def _within(around: _Folder, name: str) -> _Folder:
    """What the folder `name` inside another says."""
    words = [word for whole in _WORD.findall(name) for word in _split(whole.lower())]
    role: Role = ""
    if not _MASK_WORDS.isdisjoint(words):
        role = "mask"
    elif not _PICTURE_WORDS.isdisjoint(words):
        role = "picture"
    if role:
        words = [word for word in words if word not in _MASK_WORDS | _PICTURE_WORDS | _FILLERS]
    parts = [part for word in words if (part := part_of(word))]
    rest = "/".join(filter(None, (around.rest, "_".join(words))))
    part = parts[0] if len(parts) == 1 else around.part
    return _Folder(role or around.role, rest, part, bool(parts) and len(words) == 1)


def _split(word: str) -> list[str]:
    """`trainannot` as train and annot; any other word as it is."""
    for part in _PART_WORDS:
        if word.startswith(part) and word[len(part) :] in _MASK_WORDS | _PICTURE_WORDS:
            return [part, word[len(part) :]]
    return [word]


# --- what was left out ------------------------------------------------------------------------------


def _findings(found: Pairing) -> Iterator[Finding]:
    if found.alone:
        message = f"{_counted(found.alone, 'mask')} without a picture left out: {shown(found.alone)}"
        fix = "add the pictures or remove the masks"
        yield Finding(found.alone[0], "", "warning", "picture-missing", message, fix)
    for picture, masks in found.doubled.items():
        message = f"it has several masks and is left out: {shown(masks)}"
        yield Finding(picture, "", "error", "two-masks", message, "keep one of them")
    if found.strays:
        message = f"{_counted(found.strays, 'picture')} in other folders left out: {shown(found.strays)}"
        fix = "move them to those that have masks"
        yield Finding(found.strays[0], "", "warning", "stray", message, fix)


def _counted(files: Sequence[str], noun: str) -> str:
    return f"{len(files):,} {noun}{'s' * (len(files) > 1)}"


def _other_files(tree: Tree) -> list[Finding]:
    others = [path for path in tree.files if not is_picture(path)]
    return other_files(
        path for path in others if posixpath.basename(path) not in NAMES and not path.endswith(YAML)
    )
