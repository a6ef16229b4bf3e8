"""One class for the whole picture: from labels to targets, from logits to probabilities and scores."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypedDict

import numpy as np
from numpy.typing import NDArray

from striate.errors import DataError, ModelError, NotFiniteError, UsageError
from striate.metrics import State
from striate.metrics.accuracy import Accuracy
from striate.metrics.calibration import Calibration, ReliabilityBin
from striate.metrics.confusion import Confusion, ConfusionScores, named_pairs
from striate.structures import Classification, ClassTargets, Geometry, Image
from striate.tasks._balance import balanced_weights
from striate.tasks._caption import captioned
from striate.tasks._classes import ClassMatch, match_classes
from striate.tasks._softmax import softmax

__all__ = [
    "COLUMNS",
    "DENSE",
    "HEADLINE",
    "SCORE",
    "ClassMatch",
    "ClassRow",
    "ClassificationMetric",
    "ResultOptions",
    "Scores",
    "TargetOptions",
    "balanced_weights",
    "draw",
    "match_classes",
    "metric",
    "result_options",
    "results",
    "targets",
]

SCORE = "top1"
"""Key of `Scores.values` by which one model is better than another."""

DENSE = {"logits": "BK"}
"""Each dense output of a network, and its axes: B pictures, K classes, M candidates, H and W of the input."""

HEADLINE = (("top1", "top-1"), ("top5", "top-5"), ("macro_f1", "macro F1"), ("ece", "calibration error"))
"""Keys of `Scores.values` that sum a model up, in order, each with what to call it."""

COLUMNS = (("precision", "precision"), ("recall", "recall"), ("f1", "F1"), ("support", "pictures"))
"""Keys of a `ClassRow` beside its name, in order, each with its heading; a float is a fraction 0..1."""


@dataclass(frozen=True, slots=True)
class TargetOptions:
    """What training makes of a label."""

    classes: int
    smoothing: float = 0.0  # 0..1, share of the probability that is spread evenly over all classes
    class_weights: tuple[float, ...] | None = None  # weight in the loss of a picture of each class

    def __post_init__(self) -> None:
        weights = self.class_weights
        problems = {
            "classes": self.classes < 1,
            "smoothing": not 0 <= self.smoothing < 1,
            "class_weights": weights is not None
            and (len(weights) != self.classes or not all(0 <= weight < np.inf for weight in weights)),
        }
        for name, wrong in problems.items():
            if wrong:
                raise UsageError(
                    name,
                    f"{getattr(self, name)!r} is out of range for {self.classes} classes",
                    "there is at least 1 class, smoothing is in [0, 1), class_weights has one finite value "
                    "of at least 0 per class",
                )


def targets(labels: NDArray[np.int64], options: TargetOptions) -> ClassTargets[NDArray[np.float32]]:
    """Probabilities (B, K) and weights (B,) for class ids (B,): `(1 - smoothing) one-hot + smoothing / K`.

    Raises DataError for an id that is not in 0..K-1. Smoothing: Szegedy et al. 2016, section 7
    (arXiv:1512.00567).
    """
    outside = labels[(labels < 0) | (labels >= options.classes)]
    if outside.size:
        raise DataError(
            "labels",
            f"class id {outside[0]} is not in 0..{options.classes - 1}",
            "leave out pictures without a label, and map class ids to 0..K-1",
        )
    even = options.smoothing / options.classes
    probabilities = np.full((len(labels), options.classes), even, np.float32)
    probabilities[np.arange(len(labels)), labels] = 1 - options.smoothing + even
    if options.class_weights is None:
        return ClassTargets(probabilities, np.ones(len(labels), np.float32))
    return ClassTargets(probabilities, np.array(options.class_weights, np.float32)[labels])


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
) -> list[Classification]:
    """One result per row of `dense["logits"]` (B, K): the softmax of that row alone, in float32.

    Raises ModelError where the shapes disagree, NotFiniteError naming the picture of a NaN or infinity.
    """
    logits = np.ascontiguousarray(dense["logits"], np.float32)
    expected = (len(keys), len(options.classes))
    if logits.shape != expected or len(geometry) != len(keys):
        raise ModelError(
            "logits",
            f"the shape is {logits.shape} for {len(geometry)} pictures, expected {expected}",
            "run the network that these classes belong to",
        )
    broken = np.flatnonzero(~np.isfinite(logits).all(axis=1))
    if broken.size:
        key = keys[int(broken[0])]
        raise NotFiniteError(key, "the network gives NaN or infinity for it", "use an intact model")
    rows = softmax(logits, axis=1)
    return [Classification(key, row, options.classes) for key, row in zip(keys, rows, strict=True)]


def draw(image: Image, result: Classification) -> Image:
    """`image` with its three likeliest classes and their probabilities below it; uint8 RGB."""
    return captioned(image, result.top(3))


class ClassRow(TypedDict):
    """How well one class is told from the rest; fractions 0..1, support in pictures."""

    name: str
    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True, slots=True)
class Scores:
    """What an evaluation found."""

    columns: ClassVar[tuple[tuple[str, str], ...]] = COLUMNS
    unit: ClassVar[str] = "pictures"  # what `confusion` and `worst_pairs` count

    values: dict[str, float]  # top1 top5 macro_precision macro_recall macro_f1 ece, each 0..1
    classes: tuple[ClassRow, ...]
    confusion: NDArray[np.int64]  # (K, K): row = truth, column = prediction
    class_names: tuple[str, ...]
    reliability: tuple[ReliabilityBin, ...]  # 15 bins of confidence, behind `ece`

    @property
    def headline(self) -> tuple[tuple[str, float], ...]:
        """What sums it up; of five classes or fewer the truth is always among the first five."""
        shown = ((key, label) for key, label in HEADLINE if key != "top5" or len(self.class_names) > 5)
        return tuple((label, self.values[key]) for key, label in shown)

    def worst_pairs(self, count: int = 5) -> tuple[tuple[str, str, int], ...]:
        """The most frequent mistakes as (true class, predicted class, pictures), most first."""
        return named_pairs(self.confusion, self.class_names, count)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for `eval --json`."""
        return {
            "metrics": dict(self.values),
            "classes": [dict(row) for row in self.classes],
            "confusion": self.confusion.tolist(),
            "reliability": [row.to_dict() for row in self.reliability],
        }


def metric(classes: tuple[str, ...]) -> "ClassificationMetric":
    """A metric that has seen nothing yet, for results over `classes`."""
    return ClassificationMetric(classes)


class ClassificationMetric:
    """Top-1 and top-5 accuracy, precision, recall and F1 per class and on average, calibration error.

    With fewer than five classes top5 is 1: the truth is always among all of them.
    """

    def __init__(self, classes: tuple[str, ...]) -> None:
        self.classes = classes
        self._accuracy = Accuracy(len(classes), ks=(1, 5))
        self._confusion = Confusion(len(classes))
        self._calibration = Calibration(len(classes))
        self._parts: dict[str, Accuracy | Confusion | Calibration] = {
            "accuracy": self._accuracy,
            "confusion": self._confusion,
            "calibration": self._calibration,
        }

    def update(self, results: Sequence[Classification], truths: Sequence[int]) -> None:
        """Count `results` against the true class ids. Raises DataError where they do not fit."""
        for part in self._parts.values():
            part.update(results, truths)

    def state(self) -> State:
        """A copy of what was counted so far."""
        return {
            f"{name}.{key}": array
            for name, part in self._parts.items()
            for key, array in part.state().items()
        }

    def merge(self, state: Mapping[str, NDArray[np.int64]]) -> None:
        """Count what another metric over the same classes counted, as if it had been seen here."""
        for name, part in self._parts.items():
            prefix = f"{name}."
            part.merge({key.removeprefix(prefix): state[key] for key in state if key.startswith(prefix)})

    def compute(self) -> Scores:
        """The scores of everything counted. Raises DataError where nothing was."""
        accuracy, calibration = self._accuracy.compute(), self._calibration.compute()
        confusion = self._confusion.compute()
        values = {
            "top1": accuracy[1],
            "top5": accuracy[5],
            "macro_precision": confusion.macro_precision,
            "macro_recall": confusion.macro_recall,
            "macro_f1": confusion.macro_f1,
            "ece": calibration.ece,
        }
        rows = _class_rows(self.classes, confusion)
        return Scores(values, rows, confusion.matrix, self.classes, calibration.bins)


def _class_rows(classes: tuple[str, ...], scores: ConfusionScores) -> tuple[ClassRow, ...]:
    columns = (scores.precision.tolist(), scores.recall.tolist(), scores.f1.tolist(), scores.support.tolist())
    return tuple(
        ClassRow(name=name, precision=precision, recall=recall, f1=f1, support=support)
        for name, precision, recall, f1, support in zip(classes, *columns, strict=True)
    )
