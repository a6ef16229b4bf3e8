"""What is noticed about the pictures of a dataset: one by one, in groups, and as a whole."""

from collections import defaultdict
from collections.abc import Container, Iterable, Iterator, Sequence
from typing import Literal

import numpy as np

from striate.data.box_findings import box_findings, contents_of
from striate.data.dataset import PARTS, Dataset, Finding, Item
from striate.data.facts import Ints, Measured, is_training
from striate.data.similarity import TOO_SMALL, clusters, near_pairs

__all__ = [
    "class_findings",
    "doubted_items",
    "group_findings",
    "is_labelled",
    "label_ids",
    "near_findings",
    "picture_findings",
]

FEW = 10  # training pictures (or boxes) of a class, below which it is hardly learnt
IMBALANCE = 10  # largest class / smallest class, above which plain accuracy misleads
TINY = 16  # pixels of the shorter side
NARROW = 10  # longer side / shorter side

_LISTED = 5  # keys spelled out in a message


def is_labelled(item: Item) -> bool:
    """Whether it is known what the picture shows."""
    return item.label is not None or item.objects is not None or item.mask is not None


def label_ids(dataset: Dataset, measured: Measured) -> Ints:
    """A number for what is known of each item, (items,): equal for equal labels, masks or sets of boxes.

    -1 for nothing.
    """
    if dataset.task == "classification":
        return dataset.labels()
    if dataset.task == "detection":
        return _numbers_of_boxes(dataset)
    _, numbers = np.unique(measured.mask_digests, axis=0, return_inverse=True)
    return np.where(measured.mask_digests.any(axis=1), numbers.reshape(-1), -1)


def _numbers_of_boxes(dataset: Dataset) -> Ints:
    """A number for the set of boxes of each item, -1 where it is not known which there are."""
    known: dict[bytes, int] = {}
    numbers = np.full(len(dataset), -1, np.int64)
    for index, item in enumerate(dataset.items):
        if item.objects is not None:
            numbers[index] = known.setdefault(contents_of(item.objects), len(known))
    return numbers


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
    is_hidden = _has_hidden_test(dataset)
    for index, item in enumerate(dataset.items):
        if failure := measured.failures.get(index):
            yield Finding(failure.file, "", "error", failure.code, failure.message, failure.fix)
        if not is_labelled(item) and not (is_hidden and item.part == "test"):
            yield _unlabelled(dataset, item)
        if odd[index]:
            message = f"it is {widths[index]} x {heights[index]} pixels, unlike the others"
            fix = "remove it if it is an icon or a cutting"
            yield Finding(item.key, "", "warning", "size", message, fix)
        if measured.even[index]:
            message = "all of its pixels have one colour"
            yield Finding(item.key, "", "warning", "one-colour", message, "remove it if it shows nothing")
    if is_hidden:
        what = "masks" if dataset.task == "segmentation" else "boxes"
        message = f"no test picture has {what}: nothing is measured on them"
        yield _note(dataset, f"no-test-{what}", message, f"add their {what} if you have them")
    if dataset.task == "segmentation":
        yield from _empty_masks(dataset, measured)
    if dataset.task == "detection":
        yield from box_findings(dataset, measured.boxes, measured.sound)


def _unlabelled(dataset: Dataset, item: Item) -> Finding:
    if dataset.task == "segmentation":
        return Finding(item.key, "", "error", "mask-missing", "it has no mask", "draw its mask or remove it")
    if dataset.task == "detection":
        message = "nothing says which objects it shows"
        fix = "annotate it, if only as a picture without objects, or remove it"
        return Finding(item.key, "", "error", "no-label", message, fix)
    return Finding(item.key, "", "error", "no-label", "it has no label", "label it or remove it")


def _has_hidden_test(dataset: Dataset) -> bool:
    """Whether there are masks or boxes, and none of the test pictures, as challenges have it."""
    if dataset.task == "classification":
        return False
    tests = [item for item in dataset.items if item.part == "test"]
    return bool(tests) and not any(map(is_labelled, tests)) and any(map(is_labelled, dataset.items))


def _empty_masks(dataset: Dataset, measured: Measured) -> Iterator[Finding]:
    """Masks in which no pixel has a class, and how many show only the background."""
    masked = np.flatnonzero(measured.mask_digests.any(axis=1)).tolist()
    shown = [index for index in masked if measured.pixels[index].any()]
    for index in sorted(set(masked).difference(shown)):
        file = dataset.items[index].mask or dataset.items[index].key
        message = "no pixel of the mask has a class"
        yield Finding(file, "", "warning", "mask-empty", message, "draw it or remove the picture")
    if dataset.classes[:1] == ("background",) and len(dataset.classes) > 1:
        bare = [dataset.items[index].key for index in shown if not measured.pixels[index, 1:].any()]
        if bare:
            message = f"{len(bare):,} of {len(masked):,} masks show only the background: {_listed(bare)}"
            yield _note(dataset, "mask-empty", message, "nothing to do if these pictures show nothing else")


# --- findings of several pictures -------------------------------------------------------------------


def doubted_items(dataset: Dataset, groups: Ints, labels: Ints) -> Ints:
    """Indices of training items whose pixels also carry another label."""
    doubted = [
        index
        for members in _members(groups)
        if len(_different(labels, members)) > 1
        for index in members
        if is_training(dataset.items[index])
    ]
    return np.array(doubted, np.int64)


def group_findings(dataset: Dataset, groups: Ints, labels: Ints, doubted: Ints) -> Iterator[Finding]:
    """Equal pixels: under different labels, in different parts, or else simply more than once."""
    left_out = set(doubted.tolist())
    for members in _members(groups):
        file, others = _file_and_others(dataset, members)
        different, parts = _different(labels, members), _parts(dataset, members)
        if len(different) > 1:
            yield _conflict(dataset, members, different, left_out)
        if len(parts) > 1:
            message = f"its pixels are in {' and '.join(parts)}, so measurements flatter: see {others}"
            yield Finding(file, "", "warning", "leak", message, "keep it in one part")
        if len(different) < 2 and len(parts) < 2:
            yield Finding(
                file, "", "warning", "duplicate", f"it has the same pixels as {others}", "keep one of them"
            )


def _conflict(
    dataset: Dataset, members: Sequence[int], labels: Sequence[int], left_out: Container[int]
) -> Finding:
    """An error naming a training item, which is left out; a warning where there is none."""
    is_left_out = any(index in left_out for index in members)
    first, others = _file_and_others(dataset, sorted(members, key=lambda index: index not in left_out))
    if dataset.task == "classification":
        names = " and ".join(dataset.classes[label] for label in labels)
        message = f"its pixels are labelled {names}: see {others}"
    else:
        what = "masks" if dataset.task == "segmentation" else "sets of boxes"
        message = f"its pixels have {len(labels)} different {what}: see {others}"
    if is_left_out:
        message += "; none of them is trained on"
    level: Literal["error", "warning"] = "error" if is_left_out else "warning"
    return Finding(first, "", level, "conflicting-labels", message, "keep the one with the right label")


def near_findings(dataset: Dataset, measured: Measured, groups: Ints) -> Iterator[Finding]:
    """Clusters of pictures that look alike; of equal pixels only the first takes part."""
    indices = np.arange(len(groups))
    compared = np.flatnonzero(measured.comparable & ((groups < 0) | (groups == indices)))
    pairs, complete = near_pairs(measured.thumbnails[compared])
    # Masks and boxes differ wherever pixels do.
    known = dataset.labels() if dataset.task == "classification" else np.full(len(dataset), -1)
    for members in clusters(compared[pairs]):
        file, others = _file_and_others(dataset, members)
        labels, parts = _different(known, members), _parts(dataset, members)
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
        yield _note(dataset, "near-duplicates-unchecked", message, _EQUAL_FOUND)
    if not complete:
        message = "hundreds of pictures look much alike: not each was compared with each for near duplicates"
        yield _note(dataset, "near-duplicates-unchecked", message, _EQUAL_FOUND)


_EQUAL_FOUND = "nothing to do; equal pixels are found all the same"


def _note(dataset: Dataset, code: str, message: str, fix: str) -> Finding:
    return Finding(dataset.name, "", "note", code, message, fix)


def _members(groups: Ints) -> list[list[int]]:
    """The indices of each group, ascending, the groups in order of their first."""
    members: dict[int, list[int]] = defaultdict(list)
    for index in np.flatnonzero(groups >= 0).tolist():
        members[int(groups[index])].append(index)
    return list(members.values())


def _different(labels: Ints, members: Sequence[int]) -> list[int]:
    """The different labels of these items, ascending."""
    found: list[int] = np.unique(labels[members]).tolist()
    return [label for label in found if label >= 0]


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


def class_findings(dataset: Dataset, measured: Measured, usable: Ints) -> Iterator[Finding]:
    """Classes without pictures (or boxes), few of them, or far fewer than another, of those to train on."""
    if not _has_class(dataset):
        return
    what = "boxes" if dataset.task == "detection" else "pictures"
    trained = [index for index in usable.tolist() if is_training(dataset.items[index])]
    present = _tallied(dataset, measured, usable)[0] > 0
    training, amounts = _tallied(dataset, measured, np.array(trained, np.int64))
    names = np.array(dataset.classes, object)
    if empty := names[~present].tolist():
        message = f"no usable {'box' if what == 'boxes' else 'picture'} of {_listed(empty)}"
        yield _warning(dataset, "empty-class", message, f"add {what} or remove the class")
    if not training.any():
        return
    few = [f"{names[label]} ({training[label]})" for label in np.flatnonzero(present & (training < FEW))]
    if few:
        message = f"fewer than {FEW} {what} to train on: {_listed(few)}"
        yield _warning(dataset, "few", message, "add pictures of them")
    yield from _imbalance(dataset, amounts, np.flatnonzero(present))


def _has_class(dataset: Dataset) -> bool:
    """Whether any item says of itself, or of a part of its picture, which class it is."""
    if dataset.task == "detection":
        return any(item.objects is not None and len(item.objects) for item in dataset.items)
    return any(item.label is not None or item.mask is not None for item in dataset.items)


def _tallied(dataset: Dataset, measured: Measured, indices: Ints) -> tuple[Ints, Ints]:
    """For each class, how many of these items show it, and in how many pixels; of boxes, how many, twice.

    Without either, the items twice.
    """
    if dataset.task == "segmentation":
        pixels = measured.pixels[indices]
        return (pixels > 0).sum(axis=0), pixels.sum(axis=0, dtype=np.int64)
    labels = dataset.labels()[indices]
    if dataset.task == "detection":
        labels = measured.boxes.of_items(indices).labels
    counts = np.bincount(labels[labels >= 0], minlength=len(dataset.classes))
    return counts, counts


def _imbalance(dataset: Dataset, totals: Ints, present: Ints) -> Iterator[Finding]:
    """A warning where the largest of the classes `present` is far larger than the smallest."""
    ranked = present[np.argsort(totals[present], kind="stable")]
    smallest, largest = int(ranked[0]), int(ranked[-1])
    if totals[largest] > IMBALANCE * totals[smallest]:
        unit, fix = "pictures", "add pictures of the rare class or weight the loss by class"
        if dataset.task == "segmentation":
            unit = "pixels"
        elif dataset.task == "detection":
            unit, fix = "boxes", "add pictures of the rare class"
        names = dataset.classes
        message = f"{totals[largest]:,} {unit} of {names[largest]}, {totals[smallest]:,} of {names[smallest]}"
        yield _warning(dataset, "imbalance", message, fix)


def _warning(dataset: Dataset, code: str, message: str, fix: str) -> Finding:
    return Finding(dataset.name, "", "warning", code, message, fix)
