"""One class for the whole picture: from labels to targets, from logits to probabilities and scores."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypedDict

import numpy as np
from numpy.typing import NDArray

from striate.errors import DataError, ModelError, NotFiniteError, UsageError, nearest
from striate.metrics import State
from striate.metrics.accuracy import Accuracy
from striate.metrics.calibration import Calibration, ReliabilityBin
from striate.metrics.confusion import Confusion, ConfusionScores, worst_pairs
from striate.structures import Batch, Classification, ClassTargets, Geometry, Image, Sample
from striate.tasks._caption import captioned

__all__ = [
    "SCORE",
    "ClassMatch",
    "ClassRow",
    "ClassificationMetric",
    "ResultOptions",
    "Scores",
    "TargetOptions",
    "balanced_weights",
    "collate",
    "draw",
    "match_classes",
    "metric",
    "results",
    "targets",
]

SCORE = "top1"
"""Key of `Scores.values` by which one model is better than another."""


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


def balanced_weights(counts: NDArray[np.int64]) -> tuple[float, ...]:
    """A weight per class, inverse to its count (K,), whose mean over the counted pictures is 1.

    Every class that has pictures then has the same share of the loss. One that has none gets 1, the mean.
    """
    present = int(np.count_nonzero(counts))
    share = int(counts.sum()) / max(present, 1)
    return tuple(share / int(count) if count else 1.0 for count in counts)


def collate(
    samples: Sequence[Sample], geometry: Sequence[Geometry], options: TargetOptions
) -> Batch[NDArray[Any]]:
    """The batch of `samples`: images (B, C, H, W) uint8, a view of (B, H, W, C) memory; targets; keys.

    Raises DataError where there is no sample, a label is missing or the pictures differ in size.
    """
    keys = tuple(sample.key for sample in samples)
    if not samples or len(geometry) != len(samples):
        raise DataError(
            "batch",
            f"{len(samples)} samples and {len(geometry)} geometries",
            "give one for each, at least one",
        )
    labels = np.array([_label(sample) for sample in samples], np.int64)
    # In memory (B, H, W, C) seen as (B, C, H, W) is what torch calls channels_last: nothing is copied.
    images = _stacked(samples).transpose(0, 3, 1, 2)
    return Batch(images, targets(labels, options), keys, tuple(geometry))


def _label(sample: Sample) -> int:
    if sample.label is None:
        raise DataError(sample.key, "it has no label", "leave it out of training, or label it")
    return sample.label


def _stacked(samples: Sequence[Sample]) -> NDArray[np.uint8]:
    shapes = Counter(sample.image.shape for sample in samples)
    if len(shapes) > 1:
        usual = max(shapes, key=lambda shape: shapes[shape])
        odd = [f"{sample.key} {sample.image.shape}" for sample in samples if sample.image.shape != usual]
        more = f" and {len(odd) - 3} more" if len(odd) > 3 else ""
        raise DataError(
            ", ".join(odd[:3]) + more,
            f"the other pictures of the batch are {usual}",
            "use a preprocessing with fit crop, stretch or letterbox, or a batch size of 1",
        )
    return np.stack([sample.image for sample in samples])


@dataclass(frozen=True, slots=True)
class ResultOptions:
    """What turns dense outputs into results: the names of the classes, in the order of the logits."""

    classes: tuple[str, ...]


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
    # The largest logit becomes 0, so that exp cannot overflow; a difference too far below is 0 in the end.
    with np.errstate(over="ignore"):
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    rows = powers / powers.sum(axis=1, keepdims=True)
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

    values: dict[str, float]  # top1 top5 macro_precision macro_recall macro_f1 ece, each 0..1
    classes: tuple[ClassRow, ...]
    confusion: NDArray[np.int64]  # (K, K): row = truth, column = prediction
    class_names: tuple[str, ...]
    reliability: tuple[ReliabilityBin, ...]  # 15 bins of confidence, behind `ece`

    def worst_pairs(self, count: int = 5) -> tuple[tuple[str, str, int], ...]:
        """The most frequent mistakes as (true class, predicted class, pictures), most first."""
        names = self.class_names
        pairs = worst_pairs(self.confusion, count)
        return tuple((names[truth], names[predicted], pictures) for truth, predicted, pictures in pairs)

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


class ClassMatch(NamedTuple):
    """Which of the model's classes each class of the data is."""

    ids: NDArray[np.int64]  # (classes of the data,): id in the model
    note: str  # what was assumed, to be shown; empty where every name is the same


def match_classes(model_classes: tuple[str, ...], data_classes: tuple[str, ...]) -> ClassMatch:
    """The model's class id of each class of the data, by name, capitals not minded.

    A model that knows only numbers ("0" .. "K-1") takes as many named classes by their order. Raises
    DataError listing the classes that match none, each with the nearest.
    """
    found = [_same_name(name, model_classes) for name in data_classes]
    unmatched = [name for name, index in zip(data_classes, found, strict=True) if index is None]
    if not unmatched:
        respelt = [
            f"{name} = {model_classes[index]}"
            for name, index in zip(data_classes, found, strict=True)
            if index is not None and model_classes[index] != name
        ]
        note = f"classes matched without regard to capitals: {', '.join(respelt)}" if respelt else ""
        return ClassMatch(np.array(found, np.int64), note)
    if _only_numbers(model_classes) and len(model_classes) == len(data_classes) == len(unmatched):
        note = f"the model's classes have numbers only; by order 0 = {data_classes[0]}, ..., "
        note += f"{len(data_classes) - 1} = {data_classes[-1]}"
        return ClassMatch(np.arange(len(data_classes)), note)
    raise _unmatched_classes(unmatched, model_classes, len(data_classes))


def _same_name(name: str, known: tuple[str, ...]) -> int | None:
    """The id of `name`: spelt the same, else the only one that differs in capitals alone."""
    if name in known:
        return known.index(name)
    folded = [index for index, other in enumerate(known) if other.casefold() == name.casefold()]
    return folded[0] if len(folded) == 1 else None


def _only_numbers(classes: tuple[str, ...]) -> bool:
    return classes == tuple(map(str, range(len(classes))))


def _unmatched_classes(unmatched: list[str], known: tuple[str, ...], count: int) -> DataError:
    def described(name: str) -> str:
        close = nearest(name, known, count=1)
        return f"{name} (nearest: {close[0]})" if close else name

    listed = ", ".join(map(described, unmatched[:8])) + (", ..." if len(unmatched) > 8 else "")
    return DataError(
        "classes",
        f"{len(unmatched)} of the data's {count} classes are none of the model's {len(known)}: {listed}",
        f"rename them to the model's ({', '.join(known[:8])}{', ...' if len(known) > 8 else ''}), "
        "or use a model trained on these classes",
    )
