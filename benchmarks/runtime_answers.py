"""Whether two ways gave the same answers, read from the files that they wrote."""

import csv
import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from striate.metrics.boxes import pairwise_iou
from striate.structures import Segmentation

__all__ = ["agreement"]

PIXELS, SCORE = 1.0, 1e-3  # boxes that are no further apart are the same
IOU = 0.5  # boxes that overlap by as much are similar


class Box(NamedTuple):
    """A box that was told."""

    label: str
    score: float
    corners: tuple[float, ...]  # x0, y0, x1, y1 in pixels


def agreement(ours: Path, theirs: Path, is_detector: bool, photos: int) -> dict[str, float]:
    """How far the answers in two files are the same, over all `photos`.

    Classes: share of equal ones, largest difference of confidence. Boxes: the share of those of either file
    that the other has too, within PIXELS and SCORE, or one of their class that mostly lies on them; and their
    number. Masks: share of equal pixels, of the
    least equal photo too. Raises SystemExit where a classifier's file has not all photos.
    """
    if ours.suffix == ".jsonl":
        return masks_agree(ours, theirs)
    if is_detector:
        return boxes_agree(boxes_in(ours), boxes_in(theirs))
    found, other = classes_in(ours), classes_in(theirs)
    if len(found) != photos or set(found) != set(other):
        raise SystemExit(f"{ours}, {theirs}: they have {len(found)} and {len(other)} of {photos} photos")
    same = [name for name in found if found[name][0] == other[name][0]]
    return {
        "same_class": len(same) / photos,
        "largest_confidence_difference": max(
            (abs(found[name][1] - other[name][1]) for name in same), default=0.0
        ),
        "distinct_classes": len({label for label, _ in found.values()}),
    }


def classes_in(file: Path) -> dict[str, tuple[str, float]]:
    """Class and confidence of each photo, by its name."""
    with file.open(newline="") as lines:
        return {
            Path(row["file"]).name: (row["label"], float(row["confidence"])) for row in csv.DictReader(lines)
        }


def boxes_in(file: Path) -> dict[str, list[Box]]:
    """The boxes of each photo that has some, by its name."""
    found = defaultdict(list)
    with file.open(newline="") as lines:
        for row in csv.DictReader(lines):
            corners = tuple(float(row[name]) for name in ("x0", "y0", "x1", "y1"))
            found[Path(row["file"]).name].append(Box(row["class"], float(row["score"]), corners))
    return dict(found)


def boxes_agree(found: Mapping[str, Sequence[Box]], other: Mapping[str, Sequence[Box]]) -> dict[str, float]:
    """The share of boxes that both have."""
    total = sum(map(len, found.values())) + sum(map(len, other.values()))

    def share(is_partner: Callable[[Box, Box], bool]) -> float:
        paired = sum(pairs(boxes, other.get(name, []), is_partner) for name, boxes in found.items())
        return 2 * paired / total if total else 1.0

    return {
        "same_boxes": share(is_same),
        "similar_boxes": share(is_similar),
        "boxes": sum(map(len, found.values())),
    }


def pairs(found: Sequence[Box], other: Sequence[Box], is_partner: Callable[[Box, Box], bool]) -> int:
    """How many boxes of one photo have a partner, each its own."""
    left = list(other)
    for box in found:
        partner = next((one for one in left if is_partner(box, one)), None)
        if partner is not None:
            left.remove(partner)
    return len(other) - len(left)


def is_same(one: Box, other: Box) -> bool:
    """Whether they differ by a rounding at most."""
    apart = max(abs(a - b) for a, b in zip(one.corners, other.corners, strict=True))
    return one.label == other.label and abs(one.score - other.score) <= SCORE and apart <= PIXELS


def is_similar(one: Box, other: Box) -> bool:
    """Whether they are of one class and cover the same."""
    boxes = np.array([[one.corners], [other.corners]], np.float32)
    return one.label == other.label and bool(pairwise_iou(*boxes)[0, 0] >= IOU)


def masks_agree(ours: Path, theirs: Path) -> dict[str, float]:
    """The share of pixels of one class."""
    shares = []
    with ours.open() as found, theirs.open() as other:
        for pair in zip(found, other, strict=True):
            one, two = (Segmentation.from_dict(json.loads(line)) for line in pair)
            shares.append(float(np.mean(one.mask == two.mask)))
    return {"same_pixels": sum(shares) / len(shares), "same_pixels_least": min(shares)}
