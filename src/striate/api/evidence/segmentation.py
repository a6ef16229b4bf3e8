"""The masks behind the scores: the pictures that are told worst, beside what they should be."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from striate.api.evidence import Example, Gathered
from striate.api.evidence._confusion import confusion_of
from striate.api.evidence._overlays import enlarged, legend_of, masked
from striate.api.thumbnails import thumbnail
from striate.data.dataset import Dataset
from striate.reports.evidence import Gallery, Headline, Picture
from striate.reports.tables import percent
from striate.runtime.predictor import Predictor
from striate.structures import IGNORE, Segmentation
from striate.tasks.segmentation import Scores

__all__ = ["Gatherer"]

_GALLERY = 12  # pictures
_SIDE = 168  # pixels of each of the three that are shown side by side

Mask = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class _Judged:
    """A picture, and the share of its known pixels that is right."""

    right: float
    index: int
    said: Mask
    truth: Mask


class Gatherer:
    """Remembers the masks of the worst pictures alone, and how many others there are."""

    takes_unmeasured = False

    def __init__(self, dataset: Dataset, predictor: Predictor) -> None:  # noqa: ARG002 - as all have it
        self._dataset = dataset
        self._worst: list[_Judged] = []
        self._imperfect = 0
        self._best: tuple[bool, float, int] | None = None  # several classes, share that is right, -index

    def add(self, index: int, result: Segmentation, truth: Mask) -> None:
        """Remember item `index` if it is among the worst; `truth` is (H, W) of the model's class ids."""
        known = truth != IGNORE
        count = int(known.sum())
        right = int((result.mask[known] == truth[known]).sum())
        self._consider(index, right / count if count else 0.0, truth[known])
        if right == count:
            return
        self._imperfect += 1
        self._worst.append(_Judged(right / count, index, result.mask, truth))
        self._worst.sort(key=lambda each: (each.right, each.index))
        del self._worst[_GALLERY:]

    def _consider(self, index: int, right: float, labels: Mask) -> None:
        """Keep in mind item `index` with these `labels`, if none before is as good an example."""
        shows_several = bool((labels != labels[:1]).any())
        # Of equals the first: the largest of numbers below 0.
        found = (shows_several, right, -index)
        self._best = found if self._best is None else max(self._best, found)

    def _example(self) -> Example:
        assert self._best is not None  # what nothing was measured of has no scores
        shows_several, right, index = self._best
        which = (
            "that show several classes" if shows_several else "measured, none of which shows several classes"
        )
        return Example(
            -index, f"The picture told best of those {which}: {percent(right)} of its pixels right."
        )

    def end_of_measured(self) -> None:
        """Nothing: all that is added is in the scores."""

    def gathered(self, scores: Scores) -> Gathered:
        """The report's parts."""
        headline = tuple(Headline(label, value) for label, value in scores.headline)
        galleries = (self._gallery(),) if self._worst else ()
        return Gathered(headline, confusion_of(scores, (), {}), galleries, self._example())

    def _gallery(self) -> Gallery:
        text = (
            "The pictures with the smallest share of right pixels: the picture, its mask as it should be, "
            "and as the model says. Pixels of no known class keep their own colour."
        )
        shown = tuple(map(self._drawn, self._worst))
        left_out = self._imperfect - len(shown)
        return Gallery("Worst pictures", text, shown, legend_of(self._dataset), left_out)

    def _drawn(self, each: _Judged) -> Picture:
        image = self._dataset.image(each.index)
        key = self._dataset.items[each.index].key
        images = (
            thumbnail(np.asarray(enlarged(image, _SIDE)), "the picture", _SIDE),
            thumbnail(masked(image, each.truth, _SIDE), "its mask as it should be", _SIDE),
            thumbnail(masked(image, each.said, _SIDE), "its mask as the model says", _SIDE),
        )
        return Picture(key, images, (f"{percent(each.right)} of its pixels right",))
