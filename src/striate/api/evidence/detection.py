"""The objects behind the scores of a detector: found, confused, false and missed ones, in their pictures."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from striate.api.evidence import Example, Gathered
from striate.api.evidence._confusion import confusion_of
from striate.api.evidence._overlays import Stroke, hex_of, outlined
from striate.api.thumbnails import LARGE, SMALL, thumbnail
from striate.data.dataset import Dataset
from striate.metrics.detection_curves import RECALLS, Curve
from striate.reports.evidence import Chart, Confusion, Gallery, Headline, Picture, Series
from striate.runtime.predictor import Predictor
from striate.structures import Detections, Image, Objects
from striate.tasks.detection import Outcome, Scores, judge

__all__ = ["Gatherer"]

_GALLERY = 12  # pictures
_PER_MISTAKE, _PER_RIGHT = 24, 6  # cuttings behind a cell beside the diagonal, and on it
_MOST = 400  # cuttings behind all cells
_MARGIN = 0.4  # of a cutting around its box, in sides of the box
_LEAST = 12  # pixels that a cutting shows around its box
_LINES = 8  # of the curves that a chart has room for

# Okabe and Ito's: told apart by colour-blind eyes, and the missed by dashes too.
_HIT, _CONFUSED, _FALSE, _MISSED = (86, 180, 233), (204, 121, 167), (213, 94, 0), (240, 228, 66)
_LEGEND = (
    ("right", hex_of(_HIT)),
    ("on an object of another class", hex_of(_CONFUSED)),
    ("on nothing, or on what was found already", hex_of(_FALSE)),
    ("missed (dashed)", hex_of(_MISSED)),
)


@dataclass(frozen=True, slots=True)
class _Judged:
    """A picture and what became of its boxes and objects."""

    index: int
    result: Detections
    truths: Objects
    outcome: Outcome

    @property
    def mistakes(self) -> int:
        """Boxes that are wrong and objects that were not found."""
        return len(self.outcome.confused) + len(self.outcome.false) + len(self.outcome.missed)


@dataclass(frozen=True, slots=True)
class _Cutting:
    """One box or object, to be shown alone."""

    truth: int  # class id; that of the background where nothing is
    said: int  # class id; that of the background where it was not found
    score: float  # 0 where it was not found
    index: int
    box: NDArray[np.float32]


class Gatherer:
    """Remembers the boxes of every picture, some 50 bytes each."""

    takes_unmeasured = False

    def __init__(self, dataset: Dataset, predictor: Predictor) -> None:  # noqa: ARG002 - as all have it
        self._dataset = dataset
        self._seen: list[tuple[int, Detections, Objects]] = []

    def add(self, index: int, result: Detections, truth: Objects) -> None:
        """Remember item `index`."""
        self._seen.append((index, result, truth))

    def end_of_measured(self) -> None:
        """Nothing: all that is added is in the scores."""

    def gathered(self, scores: Scores) -> Gathered:
        """The report's parts, of boxes of at least the score with the best F1."""
        score = scores.values.get("best_threshold", 0.0)
        judged = [_Judged(*each, judge(each[1], each[2], score)) for each in self._seen]
        return Gathered(
            tuple(Headline(label, value) for label, value in scores.headline),
            self._confusion(scores, judged),
            tuple(self._galleries(judged, score)),
            _example(judged),
            precision_recall=_curves(scores),
        )

    def _galleries(self, judged: Sequence[_Judged], score: float) -> Iterator[Gallery]:
        wrong = sorted((each for each in judged if each.mistakes), key=lambda each: -each.mistakes)
        counted = f"Boxes of a score of at least {score:.2f}, which gives the best F1."
        if wrong:
            shown = tuple(map(self._drawn, wrong[:_GALLERY]))
            text = f"The pictures with the most mistakes. {counted}"
            yield Gallery("Worst pictures", text, shown, _LEGEND, max(0, len(wrong) - _GALLERY))
        right = [each for each in judged if not each.mistakes and len(each.outcome.hits)]
        if right:
            shown = tuple(map(self._drawn, right[: _GALLERY // 2]))
            text = f"Pictures without a mistake. {counted}"
            yield Gallery("Right pictures", text, shown, _LEGEND[:1], max(0, len(right) - _GALLERY // 2))

    def _drawn(self, each: _Judged) -> Picture:
        outcome, result, truths = each.outcome, each.result, each.truths
        strokes = [Stroke(truths.boxes[row], _MISSED, is_dashed=True) for row in outcome.missed.tolist()]
        strokes += [Stroke(result.boxes[row], _FALSE) for row in outcome.false.tolist()]
        strokes += [Stroke(result.boxes[row], _CONFUSED) for row in outcome.confused[:, 0].tolist()]
        strokes += [Stroke(result.boxes[row], _HIT) for row in outcome.hits[:, 0].tolist()]
        counts = {
            "right": len(outcome.hits),
            "confused": len(outcome.confused),
            "false": len(outcome.false),
            "missed": len(outcome.missed),
        }
        told = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
        image = outlined(self._dataset.image(each.index), strokes)
        return Picture(self._dataset.items[each.index].key, (thumbnail(image, told, LARGE),), (told,))

    def _confusion(self, scores: Scores, judged: Sequence[_Judged]) -> Confusion:
        nothing = len(scores.class_names) - 1
        found = [cutting for each in judged for cutting in _cuttings(each, nothing)]
        # The surest mistakes and the least sure hits tell the most.
        found.sort(key=lambda cutting: cutting.score if cutting.truth == cutting.said else -cutting.score)
        seen: Counter[tuple[int, int]] = Counter()
        cells: dict[tuple[int, int], list[int]] = {}
        pictures: list[Picture] = []
        for cutting in found:
            cell = cutting.truth, cutting.said
            most = _PER_RIGHT if cutting.truth == cutting.said else _PER_MISTAKE
            if seen[cell] < most and len(pictures) < _MOST:
                seen[cell] += 1
                cells.setdefault(cell, []).append(len(pictures))
                pictures.append(self._cut(cutting, scores.class_names))
        return confusion_of(scores, pictures, cells)

    def _cut(self, cutting: _Cutting, names: tuple[str, ...]) -> Picture:
        image, box = _around(self._dataset.image(cutting.index), cutting.box)
        truth, said = names[cutting.truth], names[cutting.said]
        if cutting.truth == cutting.said:
            color, told = _HIT, f"{said}, {cutting.score:.2f}"
        elif cutting.truth == len(names) - 1:
            color, told = _FALSE, f"{said} on nothing, {cutting.score:.2f}"
        elif cutting.said == len(names) - 1:
            color, told = _MISSED, f"{truth}, missed"
        else:
            color, told = _CONFUSED, f"{truth} as {said}, {cutting.score:.2f}"
        drawn = outlined(image, [Stroke(box, color, color == _MISSED)], SMALL)
        return Picture(self._dataset.items[cutting.index].key, (thumbnail(drawn, told),), (told,))


def _example(judged: Sequence[_Judged]) -> Example:
    """The first without a mistake in which something is found, or with as few mistakes as there are."""
    found = [each for each in judged if len(each.outcome.hits)]
    if not found:
        return Example(judged[0].index, "In no picture is an object found; this is the first.")
    best = min(found, key=lambda each: each.mistakes)  # of equals the first
    if best.mistakes:
        text = "Of the pictures in which an object is found the first with the fewest mistakes"
        return Example(best.index, f"{text}: {best.mistakes}.")
    return Example(best.index, f"The first picture without a mistake: {len(best.outcome.hits)} found.")


def _cuttings(each: _Judged, nothing: int) -> Iterator[_Cutting]:
    """The boxes and objects of one picture that the matrix counts; `nothing` is the background's id."""
    result, truths, outcome = each.result, each.truths, each.outcome
    for box, truth in np.concatenate((outcome.hits, outcome.confused)).tolist():
        yield _Cutting(
            int(truths.labels[truth]),
            int(result.labels[box]),
            float(result.scores[box]),
            each.index,
            result.boxes[box],
        )
    for box in outcome.false.tolist():
        said, score = int(result.labels[box]), float(result.scores[box])
        yield _Cutting(nothing, said, score, each.index, result.boxes[box])
    for truth in outcome.missed.tolist():
        yield _Cutting(int(truths.labels[truth]), nothing, 0.0, each.index, truths.boxes[truth])


def _around(image: Image, box: NDArray[np.float32]) -> tuple[Image, NDArray[np.float32]]:
    """What of `image` lies around `box`, and where the box is in that."""
    height, width = image.shape[:2]
    margin = np.maximum(_MARGIN * (box[2:] - box[:2]), _LEAST)
    low = np.maximum(np.floor(box[:2] - margin), 0).astype(int)
    high = np.minimum(np.ceil(box[2:] + margin), (width, height)).astype(int)
    low = np.minimum(low, np.array((width, height)) - 1)
    high = np.maximum(high, low + 1)
    return image[low[1] : high[1], low[0] : high[0]], box - np.tile(low, 2).astype(np.float32)


def _curves(scores: Scores) -> Chart:
    """Precision over recall: all boxes together, and of the classes with the most objects."""
    named = list(zip(scores.class_names[:-1], scores.curves.classes, strict=True))
    named.sort(key=lambda pair: -pair[1].objects)
    lines = [_curve("all", scores.curves.overall)]
    if len(named) > 1:
        lines += [_curve(name, curve) for name, curve in named[: _LINES - 1] if curve.objects]
    title = "Precision over recall, at an IoU of 0.5"
    series = tuple(line for line in lines if line.xs)
    return Chart(title, "recall", "precision", series, is_percent=True, is_unit=True)


def _curve(name: str, curve: Curve) -> Series:
    precision, _ = curve.sampled()
    reached = precision > 0
    return Series(name, tuple(RECALLS[reached].tolist()), tuple(precision[reached].tolist()))
