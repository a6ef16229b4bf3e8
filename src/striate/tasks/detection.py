"""Boxes around things: from objects to targets, from candidates to the boxes of a picture, and scores."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypedDict

import numpy as np
from numpy.typing import NDArray

from striate.errors import DataError, ModelError, NotFiniteError, UsageError
from striate.metrics.average_precision import VocScores, voc_scores
from striate.metrics.boxes import BoxRecords, BoxState, compared
from striate.metrics.coco import CocoScores, coco_scores
from striate.metrics.confusion import named_pairs
from striate.metrics.detection_confusion import BACKGROUND, Outcome, detection_confusion, outcome
from striate.metrics.detection_curves import RECALLS, Curve, DetectionCurves, detection_curves
from striate.structures import BoxTargets, Detections, Geometry, Image, Objects
from striate.tasks._balance import balanced_weights
from striate.tasks._boxes import boxed
from striate.tasks._classes import ClassMatch, match_classes
from striate.tasks._suppression import unsuppressed

__all__ = [
    "COLUMNS",
    "DENSE",
    "HEADLINE",
    "SCORE",
    "ClassMatch",
    "ClassRow",
    "DetectionMetric",
    "Outcome",
    "ResultOptions",
    "Scores",
    "TargetOptions",
    "balanced_weights",
    "draw",
    "judge",
    "match_classes",
    "metric",
    "result_options",
    "results",
    "targets",
]

SCORE = "ap"
"""Key of `Scores.values` by which one model is better than another."""

DENSE = {"boxes": "BM4", "scores": "BM", "labels": "BM"}
"""Each dense output of a network, and its axes: B pictures, K classes, M candidates, H and W of the input."""

HEADLINE = (("ap50", "AP50"), ("ap", "AP"), ("ar100", "AR100"))
"""Keys of `Scores.values` that sum a model up, in order, each with what to call it."""

COLUMNS = (
    ("ap", "AP"),
    ("ap50", "AP50"),
    ("precision", "precision"),
    ("recall", "recall"),
    ("threshold", "best score"),
    ("objects", "objects"),
)
"""Keys of a `ClassRow` beside its name, in order, each with its heading; a float is a fraction 0..1."""


@dataclass(frozen=True, slots=True)
class TargetOptions:
    """What training makes of objects."""

    classes: int
    smoothing: float = 0.0  # boxes are not smoothed: only 0 is taken
    class_weights: tuple[float, ...] | None = None  # nor do classes weigh: what is no object outweighs all

    def __post_init__(self) -> None:
        if self.classes < 1:
            raise UsageError("classes", f"{self.classes!r} is out of range", "there is at least 1 class")
        if self.smoothing:
            raise UsageError(
                "label_smoothing", f"{self.smoothing!r} has no meaning for boxes", "leave it at 0"
            )
        if self.class_weights is not None:
            raise UsageError("balance", "classes of boxes are not balanced", 'leave it at "none"')


def targets(objects: Sequence[Objects], options: TargetOptions) -> BoxTargets[NDArray[Any]]:
    """The objects of B pictures, boxes in input pixels, as arrays of as many rows as the fullest has.

    Difficult objects are learned like any other. Raises DataError for an id that is not in 0..K-1.
    """
    rows = max(1, *map(len, objects)) if objects else 1
    boxes = np.zeros((len(objects), rows, 4), np.float32)
    labels = np.zeros((len(objects), rows), np.int64)
    valid = np.zeros((len(objects), rows), np.bool_)
    crowd = np.zeros_like(valid)
    for picture, own in enumerate(objects):
        outside = own.labels[(own.labels < 0) | (own.labels >= options.classes)]
        if outside.size:
            raise DataError(
                "objects",
                f"class id {outside[0]} is not in 0..{options.classes - 1}",
                "map class ids to 0..K-1",
            )
        count = len(own)
        boxes[picture, :count], labels[picture, :count] = own.boxes, own.labels
        valid[picture, :count], crowd[picture, :count] = True, own.crowd
    return BoxTargets(boxes, labels, valid, crowd, np.ones(len(objects), np.float32))


@dataclass(frozen=True, slots=True)
class ResultOptions:
    """What turns candidates into results."""

    classes: tuple[str, ...]
    score_threshold: float = 0.01  # candidates below it are nothing; 0: all that have a score
    nms_threshold: float = 0.5  # of two of a class whose IoU is above it, the surer stays
    detections: int = 100  # at most in a picture

    def __post_init__(self) -> None:
        problems = {
            "score_threshold": not 0 <= self.score_threshold <= 1,
            "nms_threshold": not 0 < self.nms_threshold <= 1,
            "detections": self.detections < 1,
        }
        for name, wrong in problems.items():
            if wrong:
                raise UsageError(
                    name,
                    f"{getattr(self, name)!r} is out of range",
                    "score_threshold is in [0, 1], nms_threshold in (0, 1], detections at least 1",
                )


def result_options(classes: tuple[str, ...], settings: Mapping[str, Any]) -> ResultOptions:
    """The options of a network over `classes` with these `settings`; the usual ones where it has none."""
    named = ("score_threshold", "nms_threshold", "detections")
    return ResultOptions(classes, **{name: settings[name] for name in named if name in settings})


def results(
    dense: Mapping[str, NDArray[Any]],
    keys: Sequence[str],
    geometry: Sequence[Geometry],
    options: ResultOptions,
) -> list[Detections]:
    """The objects in each picture, from the dense `boxes` (B, M, 4), `scores` (B, M) and `labels` (B, M).

    Of the candidates that have the least score and lie in the picture, those stay that no surer one of their
    class overlaps in the input: the surest `detections` of them, in pixels of the picture. Raises ModelError
    where shapes, scores or labels are not so, NotFiniteError naming the picture of a NaN or infinity.
    """
    boxes = np.asarray(dense["boxes"], np.float32)
    scores, labels = np.asarray(dense["scores"], np.float32), np.asarray(dense["labels"], np.int64)
    expected = (len(keys), *scores.shape[1:2])
    if not (scores.shape == labels.shape == expected and boxes.shape == (*expected, 4)):
        raise ModelError(
            "detections",
            f"the shapes are boxes {boxes.shape}, scores {scores.shape}, labels {labels.shape} for "
            f"{len(keys)} pictures",
            "give boxes (B, M, 4), scores and labels (B, M)",
        )
    rows = zip(keys, geometry, boxes, scores, labels, strict=True)
    return [_result(key, where, options, *columns) for key, where, *columns in rows]


def _result(
    key: str,
    where: Geometry,
    options: ResultOptions,
    boxes: NDArray[np.float32],
    scores: NDArray[np.float32],
    labels: NDArray[np.int64],
) -> Detections:
    """The objects of one picture, of boxes (M, 4), scores (M,) and labels (M,)."""
    if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
        raise NotFiniteError(key, "the network gives NaN or infinity for it", "use an intact model")
    _refuse_impossible(key, scores, labels, len(options.classes))
    # Unused candidates have a score of 0.
    likely = np.flatnonzero((scores >= options.score_threshold) & (scores > 0))
    own = where.boxes_to_source(boxes[likely])
    there = (own[:, 2:] > own[:, :2]).all(axis=1)
    candidate, own = likely[there], own[there]
    columns = boxes[candidate], scores[candidate], labels[candidate]
    kept = unsuppressed(*columns, options.nms_threshold, options.detections)
    return Detections(
        key, own[kept], columns[1][kept], columns[2][kept], options.classes, where.source, candidate[kept]
    )


def _refuse_impossible(
    key: str, scores: NDArray[np.float32], labels: NDArray[np.int64], classes: int
) -> None:
    if scores.size and not 0 <= scores.min() <= scores.max() <= 1:
        what = f"it gets scores of {scores.min():.3g} to {scores.max():.3g}"
    elif labels.size and not 0 <= labels.min() <= labels.max() < classes:
        what = f"it gets class ids {labels.min()}..{labels.max()} of {classes} classes"
    else:
        return
    raise ModelError(key, what, "use a network whose scores are 0..1, with the classes it belongs to")


def draw(image: Image, result: Detections) -> Image:
    """`image` with each box, its class and score, and what there is how often below it; uint8 RGB.

    All of `result` is drawn: give `result.above(score)` where it holds what is hardly likely.
    """
    return boxed(image, result)


def judge(result: Detections, truths: Objects, score: float) -> Outcome:
    """Which boxes of at least `score` are right, confused, false or excused, and which objects are missed.

    Rows are those of `result` and `truths`. Raises DataError where they do not fit.
    """
    return outcome(compared(result, truths, len(result.classes)), score)


class ClassRow(TypedDict):
    """How well the objects of one class are found; fractions 0..1, None where there is no object of it."""

    name: str
    ap: float | None  # COCO's
    ap50: float | None
    precision: float | None  # of the boxes of at least `threshold`
    recall: float | None
    threshold: float | None  # score of the highest F1; None also where nothing is right
    objects: int  # without crowds and those that are hard to see


@dataclass(frozen=True, slots=True)
class Scores:
    """What an evaluation found."""

    columns: ClassVar[tuple[tuple[str, str], ...]] = COLUMNS
    unit: ClassVar[str] = "objects"  # what `confusion` and `worst_pairs` count

    # COCO's ap ap50 ap75 ap_small ap_medium ap_large ar1 ar10 ar100 ar_small ar_medium ar_large, voc07_ap50,
    # voc10_ap50, and best_threshold, the score of the highest F1 over all boxes; without what is not defined:
    # there is no large object, or nothing is right
    values: dict[str, float]
    classes: tuple[ClassRow, ...]
    confusion: NDArray[np.int64]  # (K + 1, K + 1) of boxes of at least best_threshold: row = truth
    class_names: tuple[str, ...]  # "background" last: found where nothing is, or not found
    curves: DetectionCurves  # at an IoU of 0.5

    @property
    def headline(self) -> tuple[tuple[str, float], ...]:
        """What sums it up."""
        return tuple((label, self.values[key]) for key, label in HEADLINE)

    def worst_pairs(self, count: int = 5) -> tuple[tuple[str, str, int], ...]:
        """The most frequent mistakes as (true class, found as, objects), most first."""
        return named_pairs(self.confusion, self.class_names, count)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for `eval --json`."""
        named = zip(self.class_names[:-1], self.curves.classes, strict=True)
        return {
            "metrics": dict(self.values),
            "classes": [dict(row) for row in self.classes],
            "confusion": self.confusion.tolist(),
            "curves": {
                "recall": RECALLS.tolist(),
                "overall": self.curves.overall.to_dict(),
                "classes": [{"name": name, **curve.to_dict()} for name, curve in named],
            },
        }


def metric(classes: tuple[str, ...]) -> "DetectionMetric":
    """A metric that has seen nothing yet, for results over `classes`."""
    return DetectionMetric(classes)


class DetectionMetric:
    """Average precision and recall as COCO and VOC have them, curves and a confusion matrix.

    COCO counts difficult objects as any other; all else here takes them for neither hits nor misses.
    """

    def __init__(self, classes: tuple[str, ...]) -> None:
        self.classes = classes
        self._records = BoxRecords(len(classes))

    def update(self, results: Sequence[Detections], truths: Sequence[Objects]) -> None:
        """Keep `results` beside the true objects. Raises DataError where they do not fit."""
        self._records.update(results, truths)

    def state(self) -> BoxState:
        """A copy of what was kept so far."""
        return self._records.state()

    def merge(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Keep what another metric over the same classes kept, as if it had been seen here."""
        self._records.merge(state)

    def compute(self) -> Scores:
        """The scores of all. Raises DataError without an object, EnvironmentProblem without hotcoco."""
        pictures, count = self._records.pictures, len(self.classes)
        coco = coco_scores(pictures, count)
        if "ap" not in coco.values:
            raise DataError("metric", "no object was measured", "give pictures with objects")
        voc, curves = voc_scores(pictures, count), detection_curves(pictures, count)
        best = curves.overall.best
        values = coco.values | _voc_values(voc)
        if best is not None:
            values["best_threshold"] = best.score
        confusion = detection_confusion(pictures, count, 0.0 if best is None else best.score)
        rows = tuple(
            _class_row(name, label, coco, curves.classes[label]) for label, name in enumerate(self.classes)
        )
        return Scores(values, rows, confusion, (*self.classes, BACKGROUND), curves)


def _voc_values(voc: VocScores) -> dict[str, float]:
    means = {"voc07_ap50": voc.eleven_point, "voc10_ap50": voc.area}
    return {name: float(np.nanmean(own)) for name, own in means.items() if not np.isnan(own).all()}


def _class_row(name: str, label: int, coco: CocoScores, curve: Curve) -> ClassRow:
    best = curve.best
    usual = 0.0 if curve.objects else None
    return ClassRow(
        name=name,
        ap=_known(coco.ap[label]),
        ap50=_known(coco.ap50[label]),
        precision=usual if best is None else best.precision,
        recall=usual if best is None else best.recall,
        threshold=None if best is None else best.score,
        objects=curve.objects,
    )


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
