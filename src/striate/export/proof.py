"""Whether an export says what its model says: the final results of both on the same pictures.

Probabilities may differ by 0.0001, and by 1 % of themselves: a sure network hides what is wrong with it below
the first. Boxes may differ by 0.1 pixels (of the network's input where the picture is larger) and 0.0001 in
score. Of the pixels of masks 99.9 % must be the same, and on some pictures the logits behind them to 0.1 % of
the largest. Rounding alone stays far below all of these, but it may decide: which of two classes is the
likelier, which of two boxes stays, which is the last that is told. A box that only one side tells of is
excused, and counted, where the other has it too before the suppression and the limits, which are the same
code for both.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from striate.errors import ModelError, StriateError
from striate.export.box_agreement import BOX, SCORE, find_again, partners, told
from striate.metrics.mean_iou import MeanIou
from striate.modelfile import ModelCard
from striate.runtime.predictor import Predictor
from striate.structures import Classification, Detections, Image, Result, Sample, Segmentation
from striate.tasks.detection import result_options

__all__ = [
    "LOGITS",
    "METRIC",
    "PIXELS",
    "PROBABILITY",
    "RATIO",
    "Agreement",
    "Examination",
    "card_problems",
    "odd_sized",
]

PROBABILITY = 1e-4
"""By which a probability may differ."""

RATIO = 0.01
"""By which a probability may differ as a share of itself."""

PIXELS = 0.999
"""Share of the pixels of all masks that must be the same."""

LOGITS = 0.001
"""By which the logits of masks may differ, as a share of the largest of them."""

METRIC = 0.001
"""By which a measure may differ, beside the share of results that are excused."""

_MOST_PROBLEMS = 3  # that are told; one wrong weight makes thousands
_USUAL_EXCUSES, _EXCUSED_SHARE = 5, 0.02  # more excuses than these together are no chance any more
_LEAST = 1e-20  # probabilities below it are nothing to anybody
_EVERY = 1_000_000  # detections: more than any network has candidates


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far the results of an export are those of its model."""

    comparisons: int  # pairs of results
    things: int  # that were compared in them
    unit: str  # what those are: "pictures", "boxes", "pixels"
    same: float  # share of them that a person would call the same, 0..1
    # Differences by name: "probability", "ratio" (as a share of itself); "box" (pixels), "score"; "pixels"
    # (share), "logits" (as a share of the largest).
    largest: dict[str, float]
    excused: int  # that differ where a rounding decides
    problems: tuple[str, ...]  # what is beyond the tolerance, the first few; empty: it agrees, or may differ
    summary: str  # in a line for people

    @property
    def excused_share(self) -> float:
        """Share of what was compared that is excused."""
        return self.excused / max(1, self.things)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for `--json`."""
        return {name: getattr(self, name) for name in self.__slots__ if name != "problems"} | {
            "problems": list(self.problems)
        }


class _Comparing(Protocol):
    """Compares pair after pair of results of one task."""

    allowed: ClassVar[str]  # the tolerance, for people

    def add(self, ours: Any, theirs: Any, sample: Sample) -> None:
        """Compare what the model and the export say of the picture `sample`."""
        ...

    def agreement(self) -> Agreement:
        """What all pairs told."""
        ...


class Examination:
    """Runs a model and its export on the same pictures and compares what they say.

    `exact`: whether they must say the same; an export in 8 bits cannot, and how far it is is only told.
    """

    def __init__(self, model: Predictor, export: Predictor, exact: bool = True) -> None:
        # What is hardly likely tells of differences too, and a measure needs it.
        boxes = model.task == "detection"
        self.model, self.export = (model.at(None), export.at(None)) if boxes else (model, export)
        self._comparing = _comparing(self.model, self.export)
        self._exact = exact

    def compare(self, samples: Sequence[Sample]) -> tuple[list[Result], list[Result]]:
        """The results of both on `samples`, a batch; the export's are compared with the model's."""
        ours = list(self.model.results(samples, len(samples)))
        theirs = self._say(samples, len(samples))
        self._add(ours, theirs, samples)
        return ours, theirs

    def compare_alone(self, samples: Sequence[Sample], ours: Sequence[Result]) -> None:
        """Compare the export's results on each of `samples` alone with those of the model, `ours`."""
        self._add(ours, self._say(samples, 1), samples)
        if isinstance(self._comparing, _Masks):
            for sample in samples:
                inputs = self.model.inputs(sample)
                own, other = (each.engine.dense(inputs)["logits"] for each in (self.model, self.export))
                self._comparing.add_logits(own, other, sample.key)

    def agreement(self) -> Agreement:
        """What all comparisons told."""
        found = self._comparing.agreement()
        if self._exact:
            return replace(found, summary=f"{found.summary}; {self._comparing.allowed}")
        return replace(found, problems=())

    def _say(self, samples: Sequence[Sample], batch_size: int) -> list[Result]:
        try:
            return list(self.export.results(samples, batch_size))
        except ModelError as error:
            what = f"the export fails where its model does not ({error.what})"
            raise StriateError(error.where, what, "report it with the network's name") from error

    def _add(self, ours: Sequence[Result], theirs: Sequence[Result], samples: Sequence[Sample]) -> None:
        for own, other, sample in zip(ours, theirs, samples, strict=True):
            self._comparing.add(own, other, sample)


def _comparing(model: Predictor, export: Predictor) -> _Comparing:
    if model.task == "classification":
        return _Classes()
    if model.task == "segmentation":
        return _Masks(len(model.classes))
    return _Boxes(model, export)


def _with_all_candidates(predictor: Predictor) -> Predictor:
    """The detector `predictor`, which tells of every candidate that a rounding may bring above its score."""
    options = result_options(predictor.classes, predictor.card.config)
    all_of_them = {
        "score_threshold": max(0.0, options.score_threshold - SCORE),
        "nms_threshold": 1.0,
        "detections": _EVERY,
    }
    card = replace(predictor.card, config={**predictor.card.config, **all_of_them})
    return Predictor(card, predictor.engine)


def card_problems(model: ModelCard, export: ModelCard) -> tuple[str, ...]:
    """What the card in an export says otherwise than its model's: a line for each entry."""
    unlike = [name for name in ModelCard.__slots__ if getattr(model, name) != getattr(export, name)]
    return tuple(f"the {name} in its card are not the model's" for name in unlike)


def odd_sized(sample: Sample, number: int) -> Sample:
    """`sample` without its labels, enlarged to odd sides; `number` picks one of four proportions."""
    height, width = sample.image.shape[:2]
    growths = ((9, 11), (12, 9), (10, 10), (11, 8))
    along, across = growths[number % len(growths)]
    size = (height * along // 8 | 1, width * across // 8 | 1)
    return Sample(f"{sample.key} at {size[1]}x{size[0]}", _enlarged(sample.image, size))


def _enlarged(image: Image, size: tuple[int, int]) -> Image:
    """`image` (H, W, C) at `size`, each pixel the nearest one."""
    rows, columns = (np.arange(new) * old // new for new, old in zip(size, image.shape, strict=False))
    return np.ascontiguousarray(image[rows][:, columns])


class _Problems:
    """The first few problems, and how many there are."""

    def __init__(self) -> None:
        self.count = 0
        self._told: list[str] = []

    def add(self, text: str) -> None:
        """One more."""
        self.count += 1
        if len(self._told) < _MOST_PROBLEMS:
            self._told.append(text)

    def told(self) -> tuple[str, ...]:
        """Those to be told, with the number of the others."""
        others = self.count - len(self._told)
        return tuple(self._told) + ((f"and {others:,} more",) if others else ())


class _Classes:
    """Probabilities, and which class is the likeliest."""

    allowed: ClassVar[str] = f"{PROBABILITY:g} and {100 * RATIO:g} % are allowed"

    def __init__(self) -> None:
        self._pairs = self._same = self._excused = 0
        self._largest = {"probability": 0.0, "ratio": 0.0}
        self._problems = _Problems()

    def add(self, ours: Classification, theirs: Classification, sample: Sample) -> None:  # noqa: ARG002
        difference = np.abs(ours.probabilities - theirs.probabilities)
        logarithms = (np.log(np.maximum(each.probabilities, _LEAST)) for each in (ours, theirs))
        ratio = np.expm1(np.abs(np.subtract(*logarithms)))
        excess = np.maximum(difference / PROBABILITY, ratio / RATIO)
        worst = int(excess.argmax())
        self._pairs += 1
        self._same += ours.index == theirs.index
        self._largest["probability"] = max(self._largest["probability"], float(difference.max()))
        self._largest["ratio"] = max(self._largest["ratio"], float(ratio.max()))
        if excess[worst] <= 1:
            self._excused += ours.index != theirs.index
            return
        own, other = (float(result.probabilities[worst]) for result in (ours, theirs))
        self._problems.add(f"{ours.key}: {ours.classes[worst]} has {own:.4g} and gets {other:.4g}")

    def agreement(self) -> Agreement:
        if self._same == self._pairs:
            top1 = "top-1 the same in all"
        else:
            top1 = f"top-1 the same in {_share(self._same / self._pairs)}"
        difference, ratio = self._largest["probability"], self._largest["ratio"]
        percent = f"{100 * ratio:.0f}" if ratio > 0.1 else f"{100 * ratio:.1g}"
        text = f"{top1}, probabilities {difference:.1e} apart at most, and {percent} % of themselves"
        if self._excused:
            text += f", {self._excused:,} ties of two classes excused"
        return Agreement(
            self._pairs,
            self._pairs,
            "pictures",
            self._same / self._pairs,
            dict(self._largest),
            self._excused,
            self._problems.told(),
            text,
        )


class _Boxes:
    """Boxes, scores and labels as sets."""

    allowed: ClassVar[str] = f"{BOX:g} pixels and {SCORE:g} are allowed"

    def __init__(self, model: Predictor, export: Predictor) -> None:
        self._candidates = (_with_all_candidates(model), _with_all_candidates(export))
        self._side = max(model.preprocess.size)
        self._pairs = self._things = self._same = self._excused = 0
        self._largest = {"box": 0.0, "score": 0.0}
        self._problems = _Problems()

    def add(self, ours: Detections, theirs: Detections, sample: Sample) -> None:
        # What a network gets wrong by a pixel of its input is several in a large picture.
        pixels = BOX * max(1.0, max(ours.size) / self._side)
        found = find_again(ours, theirs, pixels)
        self._pairs += 1
        self._things += len(ours)
        self._same += found.similar
        self._largest["box"] = max(self._largest["box"], found.pixels)
        self._largest["score"] = max(self._largest["score"], found.score)
        model, export = self._candidates
        self._judge(ours[found.only_ours], export, sample, pixels, "the export has no")
        self._judge(theirs[found.only_theirs], model, sample, pixels, "the export also has a")

    def _judge(self, alone: Detections, other: Predictor, sample: Sample, pixels: float, text: str) -> None:
        """Excuse the boxes that one side tells of `alone` where the `other` has them too, but not to tell."""
        if not len(alone):
            return
        (candidates,) = other.results([sample], 1)
        assert isinstance(candidates, Detections)
        lacking = partners(alone, candidates, pixels) < 0
        self._excused += int((~lacking).sum())
        for row in np.flatnonzero(lacking).tolist():
            self._problems.add(f"{alone.key}: {text} {told(alone, row)}")

    def agreement(self) -> Agreement:
        box, score = self._largest["box"], self._largest["score"]
        same = self._same / self._things if self._things else 1.0
        text = f"{_share(same)} of {self._things:,} boxes found again, "
        text += f"{box:.1e} pixels and {score:.1e} in score apart at most"
        if self._excused:
            text += f", {self._excused:,} that a rounding decides excused"
        if self._excused > _USUAL_EXCUSES + _EXCUSED_SHARE * self._things:
            self._problems.add(f"{self._excused:,} of {self._things:,} boxes hang on a rounding")
        return Agreement(
            self._pairs,
            self._things,
            "boxes",
            same,
            dict(self._largest),
            self._excused,
            self._problems.told(),
            text,
        )


class _Masks:
    """The class of each pixel."""

    allowed: ClassVar[str] = f"{100 * PIXELS:g} % are needed, {100 * LOGITS:g} % are allowed"

    def __init__(self, classes: int) -> None:
        self._pairs = self._pixels = self._equal = 0
        self._worst, self._where = 1.0, ""
        self._logits = 0.0
        self._overlap = MeanIou(classes)
        self._problems = _Problems()

    def add(self, ours: Segmentation, theirs: Segmentation, sample: Sample) -> None:  # noqa: ARG002
        self._pairs += 1
        if ours.mask.shape != theirs.mask.shape:
            self._problems.add(f"{ours.key}: its mask is {theirs.mask.shape}, not {ours.mask.shape}")
            return
        equal = int((ours.mask == theirs.mask).sum())
        self._equal += equal
        self._pixels += ours.mask.size
        if equal < self._worst * ours.mask.size:
            self._worst, self._where = equal / ours.mask.size, ours.key
        self._overlap.update([theirs], [ours.mask])

    def add_logits(self, ours: NDArray[np.float32], theirs: NDArray[np.float32], key: str) -> None:
        """Compare the logits of both in the picture `key`: a mask tells only which is the largest."""
        largest = max(float(np.abs(ours).max()), float(np.finfo(np.float32).tiny))
        difference = float(np.abs(ours - theirs).max()) / largest
        self._logits = max(self._logits, difference)
        if not difference <= LOGITS:
            self._problems.add(f"{key}: its logits differ by {_share(difference)} of the largest")

    def agreement(self) -> Agreement:
        same = self._equal / self._pixels if self._pixels else 0.0
        if same < PIXELS:
            worst = f", in {self._where} {_share(self._worst)}" if self._where else ""
            self._problems.add(f"{_share(same)} of the pixels have the model's class{worst}")
        text = f"{_share(same)} of {self._pixels:,} pixels the same"
        if self._pixels:
            overlap = self._overlap.compute()
            lowest = float(overlap.iou[overlap.pixels > 0].min(initial=1.0))
            text += (
                f", IoU of each class at least {lowest:.4f}, logits {100 * self._logits:.1g} % apart at most"
            )
        return Agreement(
            self._pairs,
            self._pixels,
            "pixels",
            same,
            {"pixels": 1 - same, "logits": self._logits},
            0,
            self._problems.told(),
            text,
        )


def _share(fraction: float) -> str:
    """A share that is not all is never told as all: 0.99999 is "99.999 %"."""
    if fraction == 1:
        return "all"
    digits = next((digits for digits in range(1, 9) if round(100 * fraction, digits) < 100), 9)
    return f"{100 * fraction:.{digits}f} %"
