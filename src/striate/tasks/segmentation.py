"""A class for each pixel: from masks to targets, from logits to masks at the picture's size, and scores."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypedDict

import numpy as np
from numpy.typing import NDArray

from striate.errors import DataError, ModelError, UsageError
from striate.metrics import State
from striate.metrics.confusion import named_pairs
from striate.metrics.mean_iou import MeanIou, OverlapScores
from striate.structures import IGNORE, Geometry, Image, MaskTargets, Segmentation
from striate.tasks._at_source import classes_at_source, finite
from striate.tasks._balance import balanced_weights
from striate.tasks._classes import ClassMatch, match_classes
from striate.tasks._merger import Merger, Refine
from striate.tasks._overlay import overlay
from striate.tasks._palette import index_image, palette
from striate.tasks._views import View, ViewOptions, views

__all__ = [
    "COLUMNS",
    "DENSE",
    "HEADLINE",
    "SCORE",
    "ClassMatch",
    "ClassRow",
    "Merger",
    "Refine",
    "ResultOptions",
    "Scores",
    "SegmentationMetric",
    "TargetOptions",
    "View",
    "ViewOptions",
    "balanced_weights",
    "draw",
    "index_image",
    "match_classes",
    "metric",
    "palette",
    "result_options",
    "results",
    "targets",
    "views",
]

SCORE = "mean_iou"
"""Key of `Scores.values` by which one model is better than another."""

DENSE = {"logits": "BKHW"}
"""Each dense output of a network, and its axes: B pictures, K classes, M candidates, H and W of the input."""

HEADLINE = (("mean_iou", "mean IoU"), ("pixel_accuracy", "pixel accuracy"), ("dice", "Dice"))
"""Keys of `Scores.values` that sum a model up, in order, each with what to call it."""

COLUMNS = (
    ("iou", "IoU"),
    ("accuracy", "accuracy"),
    ("precision", "precision"),
    ("dice", "Dice"),
    ("share", "of pixels"),
)
"""Keys of a `ClassRow` beside its name, in order, each with its heading; a float is a fraction 0..1."""


@dataclass(frozen=True, slots=True)
class TargetOptions:
    """What training makes of a mask."""

    classes: int
    smoothing: float = 0.0  # masks are not smoothed: only 0 is taken
    class_weights: tuple[float, ...] | None = None  # weight in the loss of a pixel of each class

    def __post_init__(self) -> None:
        weights = self.class_weights
        problems = {
            "classes": not 1 <= self.classes <= IGNORE,
            "class_weights": weights is not None
            and (len(weights) != self.classes or not all(0 <= weight < np.inf for weight in weights)),
        }
        for name, wrong in problems.items():
            if wrong:
                raise UsageError(
                    name,
                    f"{getattr(self, name)!r} is out of range for {self.classes} classes",
                    f"there are 1..{IGNORE} classes, class_weights has a finite value of at least 0 for each",
                )
        if self.smoothing:
            raise UsageError(
                "label_smoothing", f"{self.smoothing!r} has no meaning for masks", "leave it at 0"
            )


def targets(labels: NDArray[np.uint8], options: TargetOptions) -> MaskTargets[NDArray[Any]]:
    """`labels` (B, H, W) as they are, and the weight of each pixel by its class; 0 where it is IGNORE.

    Raises DataError for an id that is neither in 0..K-1 nor IGNORE.
    """
    outside = labels[(labels >= options.classes) & (labels != IGNORE)]
    if outside.size:
        raise DataError(
            "masks",
            f"class id {outside[0]} is not in 0..{options.classes - 1}",
            f"map class ids to 0..K-1, and pixels of no known class to {IGNORE}",
        )
    table = np.zeros(IGNORE + 1, np.float32)
    table[: options.classes] = 1 if options.class_weights is None else options.class_weights
    return MaskTargets(labels, table[labels])


@dataclass(frozen=True, slots=True)
class ResultOptions:
    """What turns dense outputs into results: the names of the classes, in the order of the logits."""

    classes: tuple[str, ...]


def result_options(classes: tuple[str, ...], settings: Mapping[str, Any]) -> ResultOptions:  # noqa: ARG001
    """The options of a network over `classes`; nothing in its `settings` matters here."""
    return ResultOptions(classes)


def results(
    dense: Mapping[str, NDArray[Any]],
    keys: Sequence[str],
    geometry: Sequence[Geometry],
    options: ResultOptions,
) -> list[Segmentation]:
    """One mask per row of `dense["logits"]` (B, K, H, W), at the size of the picture.

    The logits are brought to that size, bilinear in float32, and the largest is the class, the lowest id
    where several are equal; IGNORE where preprocessing cropped the picture. Raises ModelError where the
    shapes disagree, NotFiniteError naming the picture of a NaN or infinity.
    """
    logits, expected = dense["logits"], (len(keys), len(options.classes))
    if logits.ndim != 4 or logits.shape[:2] != expected or len(geometry) != len(keys):
        raise ModelError(
            "logits",
            f"the shape is {logits.shape} for {len(geometry)} pictures, expected {(*expected, 'H', 'W')}",
            "run the network that these classes belong to",
        )
    return [
        Segmentation(key, classes_at_source(finite(maps, key), where), options.classes)
        for maps, key, where in zip(logits, keys, geometry, strict=True)
    ]


def draw(image: Image, result: Segmentation) -> Image:
    """`image` tinted by class, with a line between classes and their names and shares below it; uint8 RGB."""
    return overlay(image, result)


class ClassRow(TypedDict):
    """How well the pixels of one class are found; fractions 0..1."""

    name: str
    iou: float
    accuracy: float  # found among those that are so: recall
    precision: float
    dice: float
    share: float  # of all pixels with a known class
    pixels: int


@dataclass(frozen=True, slots=True)
class Scores:
    """What an evaluation found."""

    columns: ClassVar[tuple[tuple[str, str], ...]] = COLUMNS
    unit: ClassVar[str] = "pixels"  # what `confusion` and `worst_pairs` count

    # mean_iou pixel_accuracy class_accuracy dice frequency_iou, of two classes also pixel_error; each 0..1
    values: dict[str, float]
    classes: tuple[ClassRow, ...]
    confusion: NDArray[np.int64]  # (K, K) pixels: row = truth, column = prediction
    unseen: NDArray[np.int64]  # (K,) pixels of each true class that preprocessing cropped away: wrong too
    class_names: tuple[str, ...]

    @property
    def headline(self) -> tuple[tuple[str, float], ...]:
        """What sums it up."""
        return tuple((label, self.values[key]) for key, label in HEADLINE)

    def worst_pairs(self, count: int = 5) -> tuple[tuple[str, str, int], ...]:
        """The most frequent mistakes as (true class, predicted class, pixels), most first."""
        return named_pairs(self.confusion, self.class_names, count)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for `eval --json`."""
        return {
            "metrics": dict(self.values),
            "classes": [dict(row) for row in self.classes],
            "confusion": self.confusion.tolist(),
            "unseen": self.unseen.tolist(),
        }


def metric(classes: tuple[str, ...]) -> "SegmentationMetric":
    """A metric that has seen nothing yet, for results over `classes`."""
    return SegmentationMetric(classes)


class SegmentationMetric:
    """Mean IoU and what goes with it, over all pixels that have a known class, at the pictures' own sizes."""

    def __init__(self, classes: tuple[str, ...]) -> None:
        self.classes = classes
        self._overlap = MeanIou(len(classes))

    def update(self, results: Sequence[Segmentation], truths: Sequence[NDArray[np.uint8]]) -> None:
        """Count `results` against the true masks. Raises DataError where they do not fit."""
        self._overlap.update(results, truths)

    def state(self) -> State:
        """A copy of what was counted so far."""
        return self._overlap.state()

    def merge(self, state: Mapping[str, NDArray[np.int64]]) -> None:
        """Count what another metric over the same classes counted, as if it had been seen here."""
        self._overlap.merge(state)

    def compute(self) -> Scores:
        """The scores of everything counted. Raises DataError where no pixel was."""
        found = self._overlap.compute()
        values = {
            "mean_iou": found.mean_iou,
            "pixel_accuracy": found.pixel_accuracy,
            "class_accuracy": found.class_accuracy,
            "dice": found.mean_dice,
            "frequency_iou": found.frequency_iou,
        }
        if len(self.classes) == 2:
            values["pixel_error"] = 1 - found.pixel_accuracy
        rows = _class_rows(self.classes, found)
        return Scores(values, rows, found.matrix, found.unseen, self.classes)


def _class_rows(classes: tuple[str, ...], found: OverlapScores) -> tuple[ClassRow, ...]:
    total = int(found.pixels.sum())
    measures = np.stack((found.iou, found.accuracy, found.precision, found.dice), 1).tolist()
    return tuple(
        ClassRow(
            name=name,
            iou=iou,
            accuracy=accuracy,
            precision=precision,
            dice=dice,
            share=pixels / total,
            pixels=pixels,
        )
        for name, (iou, accuracy, precision, dice), pixels in zip(
            classes, measures, found.pixels.tolist(), strict=True
        )
    )
