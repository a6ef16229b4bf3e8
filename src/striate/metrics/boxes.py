"""Boxes that were found beside those that are there, picture by picture, and how far boxes overlap."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from striate.errors import DataError, UsageError
from striate.structures import Detections, Objects

__all__ = ["BoxRecords", "BoxState", "Comparison", "compared", "overlaps", "pairwise_iou", "shared_areas"]

BoxState: TypeAlias = dict[str, NDArray[Any]]
"""What `BoxRecords` keep, by name: columns of all pictures together, and how many rows are of each."""

Number = TypeVar("Number", np.float32, np.float64)


class Comparison(NamedTuple):
    """The objects found in one picture, the surest first, beside those that are there."""

    key: str
    boxes: NDArray[np.float32]  # (N, 4)
    scores: NDArray[np.float32]  # (N,) not increasing
    labels: NDArray[np.int64]  # (N,) class ids
    truths: Objects

    @property
    def overlaps(self) -> NDArray[np.float64]:
        """How far each found box is on each true one, (N, T); crowds as in `overlaps`."""
        return overlaps(self.boxes, self.truths.boxes, self.truths.crowd)

    @property
    def same_class(self) -> NDArray[np.bool_]:
        """Where the found and the true class are the same, (N, T)."""
        same: NDArray[np.bool_] = self.labels[:, None] == self.truths.labels
        return same

    @property
    def excused(self) -> NDArray[np.bool_]:
        """The truths that are neither hits nor misses, (T,): crowds, and objects that are hard to see."""
        return self.truths.crowd | self.truths.difficult


def compared(result: Detections, truths: Objects, classes: int) -> Comparison:
    """`result`, the surest first, beside `truths`. Raises DataError naming the picture where they misfit."""
    outside = truths.labels[(truths.labels < 0) | (truths.labels >= classes)]
    if len(result.classes) != classes or outside.size:
        strange = f"a true class id is {outside[0]}" if outside.size else f"it has {len(result.classes)}"
        raise DataError(
            result.key, f"{strange}, and there are {classes} classes", "map the data's classes to the model's"
        )
    order = np.argsort(-result.scores, kind="stable")
    return Comparison(result.key, result.boxes[order], result.scores[order], result.labels[order], truths)


class BoxRecords:
    """What was found and what is there, of every picture; who saw them in what order does not matter.

    About 30 bytes an object, so a hundred in each of five thousand pictures take 15 MB.
    """

    def __init__(self, classes: int) -> None:
        self.classes = classes
        self._pictures: list[Comparison] = []

    def update(self, results: Sequence[Detections], truths: Sequence[Objects]) -> None:
        """Keep `results` beside the true objects. Raises DataError where they do not fit."""
        if len(results) != len(truths):
            raise DataError(
                "metric",
                f"{len(results)} results and {len(truths)} truths",
                "give the objects of each picture",
            )
        self._pictures += [
            compared(result, objects, self.classes) for result, objects in zip(results, truths, strict=True)
        ]

    @property
    def pictures(self) -> tuple[Comparison, ...]:
        """All of them by key: where scores are equal, this order decides."""
        return tuple(sorted(self._pictures, key=lambda picture: picture.key))

    def state(self) -> BoxState:
        """A copy of what is kept."""
        keys = [picture.key.encode("utf-8", "surrogateescape") for picture in self._pictures]
        truths = [picture.truths for picture in self._pictures]
        counts = [
            (len(key), len(picture.boxes), len(picture.truths))
            for key, picture in zip(keys, self._pictures, strict=True)
        ]
        return {
            "counts": np.array(counts, np.int64).reshape(-1, 3),
            "keys": np.frombuffer(b"".join(keys), np.uint8),
            "boxes": _joined([picture.boxes for picture in self._pictures], np.float32, (0, 4)),
            "scores": _joined([picture.scores for picture in self._pictures], np.float32),
            "labels": _joined([picture.labels for picture in self._pictures], np.int64),
            "true_boxes": _joined([objects.boxes for objects in truths], np.float32, (0, 4)),
            "true_labels": _joined([objects.labels for objects in truths], np.int64),
            "crowd": _joined([objects.crowd for objects in truths], np.bool_),
            "difficult": _joined([objects.difficult for objects in truths], np.bool_),
        }

    def merge(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Keep what other records kept. Raises UsageError where those are of another kind."""
        missing = self.state().keys() - state.keys()
        if missing:
            raise UsageError("metric", f"a state without {sorted(missing)}", "merge metrics made alike")
        counts = state["counts"]
        for sizes, ends in zip(counts.tolist(), counts.cumsum(axis=0).tolist(), strict=True):
            key, found, true = (slice(end - size, end) for size, end in zip(sizes, ends, strict=True))
            truths = Objects(*(state[name][true] for name in _TRUE))
            name = state["keys"][key].tobytes().decode("utf-8", "surrogateescape")
            boxes, scores, labels = (state[column][found] for column in ("boxes", "scores", "labels"))
            self._pictures.append(Comparison(name, boxes, scores, labels, truths))


_TRUE = ("true_boxes", "true_labels", "crowd", "difficult")


def _joined(
    columns: Sequence[NDArray[Any]], dtype: type[np.generic], empty: tuple[int, ...] = (0,)
) -> NDArray[Any]:
    return np.concatenate([np.empty(empty, dtype), *columns])


def overlaps(
    boxes: NDArray[np.float32], truths: NDArray[np.float32], crowd: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """IoU of boxes (N, 4) with truths (T, 4), (N, T); with a crowd (T,) the share of the box that lies in it.

    That is how COCO measures: a box within a crowd is one of those in it.
    """
    wide, true = boxes.astype(np.float64), truths.astype(np.float64)
    shared = shared_areas(wide, true)
    own = _areas(wide)[:, None]
    return _share(shared, np.where(crowd, own, own + _areas(true) - shared))


def pairwise_iou(boxes: NDArray[Number], others: NDArray[Number]) -> NDArray[Number]:
    """Intersection over union of boxes (N, 4) with others (M, 4), (N, M), in their own precision.

    A box without area overlaps nothing.
    """
    shared = shared_areas(boxes, others)
    return _share(shared, _areas(boxes)[:, None] + _areas(others) - shared)


def shared_areas(boxes: NDArray[Number], others: NDArray[Number]) -> NDArray[Number]:
    """Area of what boxes (N, 4) have in common with others (M, 4), (N, M), in pixels."""
    low = np.maximum(boxes[:, None, :2], others[:, :2])
    high = np.minimum(boxes[:, None, 2:], others[:, 2:])
    sides = np.maximum(high - low, 0)
    area: NDArray[Number] = sides[..., 0] * sides[..., 1]
    return area


def _areas(boxes: NDArray[Number]) -> NDArray[Number]:
    area: NDArray[Number] = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return area


def _share(part: NDArray[Number], whole: NDArray[Number]) -> NDArray[Number]:
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
