"""What is noticed about the pictures of a dataset: one by one, in groups, and as a whole."""

from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Iterator, Sequence
from typing import Literal

import numpy as np

from striate.data.dataset import PARTS, Dataset, Finding, Item
from striate.data.facts import Ints, Measured, is_training
from striate.data.similarity import TOO_SMALL, clusters, near_pairs

__all__ = [
    "class_findings",
    "doubted_items",
    "group_findings",
    "is_labelled",
    "near_findings",
    "picture_findings",
]

FEW = 10  # training pictures of a class, below which it is hardly learnt
IMBALANCE = 10  # largest class / smallest class, above which plain accuracy misleads
TINY = 16  # pixels of the shorter side
NARROW = 10  # longer side / shorter side

_LISTED = 5  # keys spelled out in a message


def is_labelled(item: Item) -> bool:
    """Whether it is known what the picture shows."""
    return item.label is not None or item.objects is not None


# --- findings of one picture ------------------------------------------------------------------------


def picture_findings(dataset: Dataset, measured: Measured) -> Iterator[Finding]:
    """Unreadable, unlabelled, oddly sized and one-coloured pictures."""
    heights, widths, _ = measured.shapes.T
    readable = measured.readable
    sizes = np.unique(measured.shapes[readable, :2], axis=0)
    # One size for all is somebody's choice; a tiny picture among larger ones is an icon gone astray.
    odd = (
        readable
        & (len(sizes) > 1)
        & (
            (np.minimum(heights, widths) < TINY)
            | (np.maximum(heights, widths) > NARROW * np.minimum(heights, widths))
        )
    )
    for index, item in enumerate(dataset.items):
        if failure := measured.failures.get(index):
            yield Finding(item.key, "", "error", "unreadable", *failure)
        if not is_labelled(item):
            yield Finding(item.key, "", "error", "no-label", "it has no label", "label it or remove it")
        if odd[index]:
            message = f"it is {widths[index]} x {heights[index]} pixels, unlike the others"
            fix = "remove it if it is an icon or a cutting"
            yield Finding(item.key, "", "warning", "size", message, fix)
        if measured.even[index]:
            message = "all of its pixels have one colour"
            yield Finding(item.key, "", "warning", "one-colour", message, "remove it if it shows nothing")


# --- findings of several pictures -------------------------------------------------------------------


def doubted_items(dataset: Dataset, groups: Ints) -> Ints:
    """Indices of training items whose pixels also carry another label."""
    doubted = [
        index
        for members in _members(groups)
        if len(_labels(dataset, members)) > 1
        for index in members
        if is_training(dataset.items[index])
    ]
    return np.array(doubted, np.int64)


def group_findings(dataset: Dataset, groups: Ints, doubted: Ints) -> Iterator[Finding]:
    """Equal pixels: under different labels, in different parts, or else simply more than once."""
    left_out = set(doubted.tolist())
    for members in _members(groups):
        file, others = _file_and_others(dataset, members)
        labels, parts = _labels(dataset, members), _parts(dataset, members)
        if len(labels) > 1:
            yield _conflict(dataset, members, labels, left_out)
        if len(parts) > 1:
            message = f"its pixels are in {' and '.join(parts)}, so measurements flatter: see {others}"
            yield Finding(file, "", "warning", "leak", message, "keep it in one part")
        if len(labels) < 2 and len(parts) < 2:
            yield Finding(
                file, "", "warning", "duplicate", f"it has the same pixels as {others}", "keep one of them"
            )


def _conflict(
    dataset: Dataset, members: Sequence[int], labels: Sequence[int], left_out: Container[int]
) -> Finding:
    """An error naming a training item, which is left out; a warning where there is none."""
    is_left_out = any(index in left_out for index in members)
    first, others = _file_and_others(dataset, sorted(members, key=lambda index: index not in left_out))
    message = (
        f"its pixels are labelled {' and '.join(dataset.classes[label] for label in labels)}: see {others}"
    )
    if is_left_out:
        message += "; none of them is trained on"
    level: Literal["error", "warning"] = "error" if is_left_out else "warning"
    return Finding(first, "", level, "conflicting-labels", message, "keep the one with the right label")


def near_findings(dataset: Dataset, measured: Measured, groups: Ints) -> Iterator[Finding]:
    """Clusters of pictures that look alike; of equal pixels only the first takes part."""
    indices = np.arange(len(groups))
    compared = np.flatnonzero(measured.comparable & ((groups < 0) | (groups == indices)))
    pairs, complete = near_pairs(measured.thumbnails[compared])
    for members in clusters(compared[pairs]):
        file, others = _file_and_others(dataset, members)
        labels, parts = _labels(dataset, members), _parts(dataset, members)
        message = f"it looks nearly the same as {others}"
        message += f", in {' and '.join(parts)}" if len(parts) > 1 else ""
        message += ", under other labels" if len(labels) > 1 else ""
        level: Literal["warning", "note"] = "warning" if len(parts) > 1 or len(labels) > 1 else "note"
        yield Finding(file, "", level, "near-duplicate", message, "keep such pictures in one part")
    skipped = int((measured.readable & ~measured.comparable).sum())
    if skipped:
        subject = "1 picture is" if skipped == 1 else f"{skipped:,} pictures are"
        message = (
            f"{subject} smaller than {TOO_SMALL} pixels or nearly even, too little to look for others like it"
        )
        yield _note(dataset, message)
    if not complete:
        message = "hundreds of pictures look much alike: not each was compared with each for near duplicates"
        yield _note(dataset, message)


def _note(dataset: Dataset, message: str) -> Finding:
    fix = "nothing to do; equal pixels are found all the same"
    return Finding(dataset.name, "", "note", "near-duplicates-unchecked", message, fix)


def _members(groups: Ints) -> list[list[int]]:
    """The indices of each group, ascending, the groups in order of their first."""
    members: dict[int, list[int]] = defaultdict(list)
    for index in np.flatnonzero(groups >= 0).tolist():
        members[int(groups[index])].append(index)
    return list(members.values())


def _labels(dataset: Dataset, members: Iterable[int]) -> list[int]:
    """The different class ids of these items, ascending."""
    labels = {dataset.items[index].label for index in members}
    return sorted(label for label in labels if label is not None)


def _parts(dataset: Dataset, members: Iterable[int]) -> list[str]:
    """The different stated parts of these items: train, val, test."""
    parts = {dataset.items[index].part for index in members}
    return [part for part in PARTS if part in parts]


def _file_and_others(dataset: Dataset, members: Sequence[int]) -> tuple[str, str]:
    """The key of the first, and the keys of the others as a list that a message can hold."""
    first, *others = (dataset.items[index].key for index in members)
    return first, _listed(others)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _LISTED:,} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more


# --- findings of the whole --------------------------------------------------------------------------


def class_findings(dataset: Dataset, usable: Ints) -> Iterator[Finding]:
    """Classes without pictures, with few of them, or far fewer than another, of those to train on."""
    items = [dataset.items[index] for index in usable.tolist()]
    present = Counter(item.label for item in items)
    training = Counter(item.label for item in items if is_training(item))
    if not any(item.label is not None for item in dataset.items):
        return
    names = dict(enumerate(dataset.classes))
    if empty := [name for label, name in names.items() if not present[label]]:
        message = f"no usable picture of {_listed(empty)}"
        yield _warning(dataset, "empty-class", message, "add pictures or remove the class")
    counts = {label: training[label] for label in names if present[label]}
    if not any(counts.values()):
        return
    if few := [f"{names[label]} ({count})" for label, count in counts.items() if count < FEW]:
        message = f"fewer than {FEW} pictures to train on: {_listed(few)}"
        yield _warning(dataset, "few", message, "add pictures of them")
    ranked = sorted(counts, key=lambda label: counts[label])
    smallest, largest = ranked[0], ranked[-1]
    if counts[largest] > IMBALANCE * counts[smallest]:
        message = (
            f"{counts[largest]:,} pictures of {names[largest]}, {counts[smallest]:,} of {names[smallest]}"
        )
        fix = "add pictures of the rare class or weight the loss by class"
        yield _warning(dataset, "imbalance", message, fix)


def _warning(dataset: Dataset, code: str, message: str, fix: str) -> Finding:
    return Finding(dataset.name, "", "warning", code, message, fix)
