"""The pictures behind the scores of a classifier: those taken for others, the worst, the doubtful."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from striate.api.evidence import Example, Gathered
from striate.api.evidence._confusion import confusion_of
from striate.api.evidence._heat import Heat
from striate.api.thumbnails import thumbnail
from striate.data.dataset import Dataset
from striate.metrics.intervals import wilson
from striate.metrics.label_errors import label_suspects
from striate.reports.evidence import Bin, Calibration, Confusion, Gallery, Headline, Picture
from striate.reports.tables import percent
from striate.runtime.predictor import Predictor
from striate.structures import Classification
from striate.tasks.classification import Scores

__all__ = ["DOUBTED", "Gatherer"]

DOUBTED = "Likely label errors"
"""Title of the gallery of pictures whose label may be wrong."""

_GALLERY = 24  # pictures
_HEATED = 12  # of them with Grad-CAM, which takes a pass back through the network for each
_PER_MISTAKE, _PER_RIGHT = 24, 6  # pictures behind a cell beside the diagonal, and on it
_MOST = 500  # pictures behind all cells


@dataclass(frozen=True, slots=True)
class _Judgement:
    """What the model says of one picture."""

    index: int
    truth: int
    said: int
    confidence: float  # of `said`
    own: float  # probability of the truth


class Gatherer:
    """Remembers the probabilities of every picture, 4 bytes each."""

    takes_unmeasured = True  # for doubtful labels

    def __init__(self, dataset: Dataset, predictor: Predictor) -> None:
        self._heat = Heat(predictor)
        self._dataset = dataset
        self._names: tuple[str, ...] = ()
        self._judged: list[_Judgement] = []
        self._probabilities: list[NDArray[np.float32]] = []
        self._measured = 0  # how many of them the scores are of

    def add(self, index: int, result: Classification, truth: int) -> None:
        """Remember item `index`."""
        own = float(result.probabilities[truth])
        self._judged.append(_Judgement(index, truth, result.index, result.confidence, own))
        self._probabilities.append(result.probabilities)

    def end_of_measured(self) -> None:
        """What is added from here on is not in the scores: it is looked at for doubtful labels only."""
        self._measured = len(self._judged)

    def gathered(self, scores: Scores) -> Gathered:
        """The report's parts; without a call of `end_of_measured` the scores are of everything."""
        self._names = scores.class_names
        own = self._judged[: self._measured or len(self._judged)]
        wrong = sorted((each for each in own if each.said != each.truth), key=lambda each: -each.confidence)
        return Gathered(
            tuple(_headline(scores, len(own) - len(wrong), len(own))),
            self._confusion(scores, own, wrong),
            tuple(self._galleries(wrong)),
            self._example(own),
            calibration=_calibration(scores),
        )

    def _example(self, own: Sequence[_Judgement]) -> Example:
        """The first that the model is right about."""
        chosen = next((each for each in own if each.said == each.truth), own[0])
        said = f"it says {self._names[chosen.said]}, with {percent(chosen.confidence)}"
        if chosen.said == chosen.truth:
            return Example(chosen.index, f"The first picture that the model is right about: {said}.")
        truth = self._names[chosen.truth]
        return Example(chosen.index, f"It is right about none; this is the first: {said}, and it is {truth}.")

    def _galleries(self, wrong: Sequence[_Judgement]) -> Iterator[Gallery]:
        if wrong:
            shown = tuple(map(self._heated, wrong[:_HEATED])) + tuple(
                map(self._mistake, wrong[_HEATED:_GALLERY])
            )
            text = f"The mistakes that the model is surest of, the surest first. {self._looked()}"
            legend = tuple(self._heat.legend()) if self._heat.layer else ()
            yield Gallery("Worst mistakes", text, shown, legend, max(0, len(wrong) - _GALLERY))
        doubted = self._doubted()
        if doubted is not None:
            yield doubted

    def _heated(self, each: _Judgement) -> Picture:
        """A mistake, and where the model looked for what it said."""
        plain = self._mistake(each)
        heat = self._heat.of(self._dataset.image(each.index), each.said)
        return plain if heat is None else replace(plain, images=(*plain.images, heat))

    def _looked(self) -> str:
        """What is drawn beside the first ones."""
        if self._heat.refusal:
            return f"Where it looked is not shown: {self._heat.refusal}."
        return (
            f"Beside the first {_HEATED}, where it looked for the class that it named, in its input: "
            f"Grad-CAM (Selvaraju et al. 2017) at layer {self._heat.layer}."
        )

    def _doubted(self) -> Gallery | None:
        """The pictures whose label may be wrong."""
        labels = np.array([each.truth for each in self._judged], np.int64)
        found = label_suspects(np.stack(self._probabilities), labels)
        if not len(found.rows):
            return None
        text = (
            f"Of {len(labels):,} pictures, by confident learning (Northcutt et al. 2021): each looks more "
            "like another class than pictures of that class usually do. The probabilities are this model's, "
            f"{self._honestly()}. Look before you change a label: a hard picture looks like this too."
        )
        pairs = zip(found.rows[:_GALLERY].tolist(), found.likelier[:_GALLERY].tolist(), strict=True)
        shown = tuple(self._doubtful(row, likelier) for row, likelier in pairs)
        return Gallery(DOUBTED, text, shown, left_out=max(0, len(found.rows) - _GALLERY))

    def _honestly(self) -> str:
        """What the probabilities are worth."""
        counts = Counter(self._dataset.items[each.index].part or "no part" for each in self._judged)
        listed = ", ".join(f"{part} {count:,}" for part, count in counts.items())
        if counts["train"]:
            return f"which was trained on some of them ({listed}) and may have learned their wrong labels"
        return f"whose weights were not trained on them ({listed})"

    def _mistake(self, each: _Judgement) -> Picture:
        said, truth = self._names[each.said], self._names[each.truth]
        return self._picture(
            each,
            f"{truth}, taken for {said}",
            (f"is {truth}", f"taken for {said}, {percent(each.confidence)}"),
        )

    def _doubtful(self, row: int, likelier: int) -> Picture:
        each = self._judged[row]
        label, other = self._names[each.truth], self._names[likelier]
        share = float(self._probabilities[row][likelier])
        lines = (f"labelled {label}, {percent(each.own)}", f"rather {other}, {percent(share)}?")
        return self._picture(each, f"labelled {label}", lines)

    def _right(self, each: _Judgement) -> Picture:
        name = self._names[each.truth]
        return self._picture(each, name, (f"{name}, {percent(each.confidence)}",))

    def _picture(self, each: _Judgement, alt: str, lines: tuple[str, ...]) -> Picture:
        image = self._dataset.image(each.index)
        return Picture(self._dataset.items[each.index].key, (thumbnail(image, alt),), lines)

    def _confusion(self, scores: Scores, own: Sequence[_Judgement], wrong: Sequence[_Judgement]) -> Confusion:
        right = sorted((each for each in own if each.said == each.truth), key=lambda each: each.confidence)
        chosen = _first_of_each([*wrong], _PER_MISTAKE) + _first_of_each(right, _PER_RIGHT)
        cells: dict[tuple[int, int], list[int]] = {}
        pictures = []
        for place, each in enumerate(chosen[:_MOST]):
            cells.setdefault((each.truth, each.said), []).append(place)
            pictures.append(self._right(each) if each.said == each.truth else self._mistake(each))
        return confusion_of(scores, pictures, cells)


def _first_of_each(judged: Iterable[_Judgement], count: int) -> list[_Judgement]:
    """The first `count` of each cell, in their order; the first of all cells before the second of any."""
    seen: Counter[tuple[int, int]] = Counter()
    ranked = []
    for each in judged:
        ranked.append((seen[each.truth, each.said], each))
        seen[each.truth, each.said] += 1
    return [each for rank, each in sorted(ranked, key=lambda pair: pair[0]) if rank < count]


def _headline(scores: Scores, right: int, total: int) -> Iterator[Headline]:
    for label, value in scores.headline:
        low, high = wilson(right, total) if label == "top-1" else (None, None)
        yield Headline(label, value, low, high)


def _calibration(scores: Scores) -> Calibration:
    bins = (
        Bin(each.low, each.high, each.pictures, each.accuracy, each.confidence) for each in scores.reliability
    )
    return Calibration(scores.values["ece"], tuple(bins))
