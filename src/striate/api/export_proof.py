"""The proof of an export: it and its model on the same pictures, measured, compared and timed."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from statistics import median
from typing import TYPE_CHECKING, Any

from striate import plugins, tasks
from striate.api.evaluation import Measurement
from striate.api.export_pictures import ExportPictures
from striate.errors import DataError
from striate.runtime.predictor import Predictor
from striate.structures import Preprocess, Sample

if TYPE_CHECKING:
    from striate.export.proof import Agreement, Examination
    from striate.tasks import Scores

__all__ = ["OnError", "Progress", "Proof", "Watch", "proven", "signature", "speeds"]

Progress = Callable[[str, int, int], None]
OnError = Callable[[str, DataError], None]

_BATCH = 8
_ALONE = 8  # pictures that are looked at one by one too, and as many at odd sizes
_TIMED_RUNS, _TIMED_SECONDS = 15, 3.0  # the most for each side


@dataclass(frozen=True, slots=True)
class Proof:
    """How an export does beside its model, on the same pictures."""

    agreement: "Agreement"
    source: str  # of the pictures
    pictures: int  # compared in batches
    alone: int  # of these also one by one
    odd_sizes: int  # further ones, in batches and one by one
    unreadable: int
    measure: str  # key of the measure that tells one model from a better one
    before: "Scores | None"  # of the model; None without labels
    after: "Scores | None"  # of the export

    @property
    def change(self) -> float | None:
        """By how much the measure is better after than before, a fraction; None without labels."""
        if self.before is None or self.after is None:
            return None
        return self.after.values[self.measure] - self.before.values[self.measure]

    @property
    def allowed_change(self) -> float:
        """By how much the measure of an export in float may be another, a fraction."""
        from striate.export.proof import METRIC

        # What is excused may be right on one side and wrong on the other.
        return METRIC + self.agreement.excused_share

    def to_dict(self) -> dict[str, Any]:
        """Plain data for `export --json`."""
        scores = {"model": self.before, "export": self.after}
        return {
            "source": self.source,
            "pictures": self.pictures,
            "alone": self.alone,
            "odd_sizes": self.odd_sizes,
            "unreadable": self.unreadable,
            "agreement": self.agreement.to_dict(),
            "measure": self.measure,
            "metrics": {
                side: None if found is None else dict(found.values) for side, found in scores.items()
            },
        }


class Watch:
    """Who watches an export: hears how far it is, and of pictures that cannot be used."""

    def __init__(self, progress: Progress | None, on_error: OnError | None) -> None:
        self._progress, self._on_error = progress, on_error
        self.unreadable = 0

    def progress(self, stage: str, done: int, total: int) -> None:
        """`done` of `total` pictures are done in a stage: "calibrating", "comparing"."""
        if self._progress is not None:
            self._progress(stage, done, total)

    def bad_picture(self, key: str, error: DataError) -> None:
        """A picture that cannot be read, or whose label does not fit."""
        self.unreadable += 1
        if self._on_error is not None:
            self._on_error(key, error)


def proven(model: Predictor, export: Predictor, chosen: ExportPictures, exact: bool, watch: Watch) -> Proof:
    """What `model` and `export` say of the `chosen` pictures, compared and measured; it refuses nothing.

    `exact`: whether they should say the same, and what is beyond the tolerance is a problem.
    Raises DataError where no picture can be read, StriateError where the export fails and the model does not.
    """
    from striate.export.proof import Examination

    examination = Examination(model, export, exact)
    sides = [Measurement(each, chosen.dataset) for each in (examination.model, examination.export)]
    done, closely, before = 0, (0, 0), watch.unreadable
    samples = chosen.samples(chosen.indices, watch.bad_picture)
    while batch := list(islice(samples, _BATCH)):
        pictures = [sample for _, sample in batch]
        found = examination.compare(pictures)
        if not done:
            closely = _look_closely(examination, pictures, found[0])
        if chosen.labelled:
            for side, results in zip(sides, found, strict=True):
                side.update(results, [index for index, _ in batch], watch.bad_picture)
        done += len(batch)
        watch.progress("comparing", done, len(chosen))
    if not done:
        raise DataError(chosen.dataset.name, "no picture of it can be read", "see `striate check`")
    scores = [side.scores() if chosen.labelled else None for side in sides]
    return Proof(
        examination.agreement(),
        chosen.source,
        done,
        *closely,
        watch.unreadable - before,
        plugins.load(tasks, model.task).SCORE,
        scores[0],
        scores[1],
    )


def _look_closely(
    examination: "Examination", pictures: Sequence[Sample], ours: Sequence[Any]
) -> tuple[int, int]:
    """Compare `pictures` one by one too, and at odd sizes; how many of each there were."""
    from striate.export.proof import odd_sized

    few = pictures[:_ALONE]
    examination.compare_alone(few, ours[: len(few)])
    odd = [odd_sized(sample, number) for number, sample in enumerate(few)]
    examination.compare_alone(odd, examination.compare(odd)[0])
    return len(few), len(odd)


def signature(export: Predictor, sample: Sample) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What the graph takes and gives, by name with types and axes; named axes have any length."""
    spec, inputs = export.preprocess, export.inputs(sample)
    letters = {"images": "BCHW", "proposals": "BP4"}
    outputs, axes = export.engine.dense(inputs), plugins.load(tasks, export.task).DENSE
    return (
        tuple(_port(name, array, letters[name], spec) for name, array in inputs.items()),
        tuple(_port(name, outputs[name], own, spec) for name, own in axes.items()),
    )


def _port(name: str, array: Any, letters: str, spec: Preprocess) -> str:
    free = {"B": "batch"} if spec.is_fixed else {"B": "batch", "H": "height", "W": "width"}
    axes = [free.get(letter, str(length)) for letter, length in zip(letters, array.shape, strict=True)]
    text = f"{name} {array.dtype} ({', '.join(axes)})"
    if name == "images" and not spec.is_fixed and spec.pad_to > 1:
        text += f", height and width multiples of {spec.pad_to}"
    return text


def speeds(model: Predictor, export: Predictor, sample: Sample) -> dict[str, float]:
    """Pictures a second of both, one at a time from pixels to result: the median of a few turns."""
    seconds: dict[str, list[float]] = {"model": [], "export": []}
    for each in (model, export):
        list(each.results([sample], 1))  # the first run makes ready what all others use
    for _ in range(_TIMED_RUNS):
        for name, each in (("model", model), ("export", export)):
            start = time.perf_counter()
            list(each.results([sample], 1))
            seconds[name].append(time.perf_counter() - start)
        if sum(map(sum, seconds.values())) > _TIMED_SECONDS:
            break
    return {name: 1 / median(taken) for name, taken in seconds.items()}
