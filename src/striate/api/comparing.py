"""Several models on the same pictures: how good, how sure that is, where they disagree, what they cost."""

import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from striate.api.evaluation import Evaluation, choose_part, data_of_model, evaluate_indices
from striate.api.reporting import OnStage, summary_of
from striate.api.run_record import measured_with
from striate.api.runfiles import write_text
from striate.api.thumbnails import thumbnail
from striate.data.dataset import Dataset
from striate.errors import DataError, UsageError
from striate.metrics.intervals import wilson
from striate.metrics.mcnemar import mcnemar
from striate.reports.comparison import comparison_report
from striate.reports.evidence import Candidate, Column, Comparison, Gallery, Headline, Pair, Picture, Table
from striate.reports.tables import percent
from striate.runtime.predictor import Predictor, load
from striate.structures import Classification

__all__ = ["CompareRequest", "Compared", "compare_models"]

_GALLERY = 24  # pictures of a pair
_ALL_PAIRS = 5  # models; of more, each is compared with the first alone
_CLASS_SCORES = {"classification": ("f1", "F1"), "detection": ("ap", "AP"), "segmentation": ("iou", "IoU")}
"""The score of a class that is shown, by task: its key in a row, and its heading."""


@dataclass(frozen=True, slots=True)
class CompareRequest:
    """What to compare, and where to write it."""

    models: tuple[Path, ...]  # run folders or model files
    out: Path
    data: str | None = None  # None: what they were trained beside, which must be the same
    device: str = "auto"
    progress: OnStage | None = None

    def stage(self, name: str) -> Callable[[int, int], None] | None:
        """What to tell of the stage `name`."""
        told = self.progress
        return None if told is None else lambda done, total: told(name, done, total)

    @property
    def command(self) -> str:
        """What to type to have the same again."""
        data = [] if self.data is None else ["--data", self.data]
        return shlex.join(["striate", "compare", *map(str, self.models), *data, "-o", str(self.out)])


@dataclass(frozen=True, slots=True)
class Compared:
    """The file that was written, and what is in it."""

    path: Path
    comparison: Comparison

    def to_dict(self) -> dict[str, Any]:
        """Plain data for `compare --json`."""
        made = self.comparison
        return {
            "report": str(self.path),
            "models": [
                {
                    "name": each.name,
                    "scores": {score.label: score.value for score in each.scores},
                    "intervals": {s.label: [s.low, s.high] for s in each.scores if s.low is not None},
                    "parameters": each.parameters or None,
                    "macs": each.macs or None,
                }
                for each in made.candidates
            ],
            "pairs": [
                {
                    "models": [pair.first, pair.second],
                    "only_first_right": pair.only_first,
                    "only_second_right": pair.only_second,
                    "p_value": pair.p_value,
                    "test": pair.test,
                }
                for pair in made.pairs
            ],
        }


@dataclass(slots=True)
class _Model:
    """One of the models, and what it says of each picture."""

    name: str
    predictor: Predictor
    said: dict[int, Classification] = field(default_factory=dict)  # by item; of classifiers alone
    truths: dict[int, int] = field(default_factory=dict)  # in this model's class ids
    evaluation: Evaluation | None = None

    def add(self, index: int, result: Any, truth: Any) -> None:
        """An `OnMeasured` of `api.evaluation`."""
        if isinstance(result, Classification):
            self.said[index] = result
            self.truths[index] = truth

    @property
    def measured(self) -> Evaluation:
        """Its scores, once it was measured."""
        assert self.evaluation is not None
        return self.evaluation

    def is_right(self, index: int) -> bool:
        """Whether it names the true class of item `index`."""
        return self.said[index].index == self.truths[index]

    def told(self, index: int) -> str:
        """What it says of item `index`, in words."""
        result = self.said[index]
        return f"{self.name}: {self.measured.scores.class_names[result.index]}, {percent(result.confidence)}"


def compare_models(request: CompareRequest) -> Compared:
    """What was written. Raises a StriateError where models or data are not of one kind."""
    if len(request.models) < 2:
        raise UsageError("compare", f"there is {len(request.models)} model", "give two or more")
    if len(set(request.models)) < len(request.models):
        raise UsageError("compare", "a model is given twice", "give each one once")
    if request.out.is_dir():
        raise UsageError(request.out, "this is a folder", "name a file: --out compare.html")
    models = [
        _Model(name, load(path, request.device))
        for name, path in zip(_names(request.models), request.models, strict=True)
    ]
    _refuse_other_tasks(models)
    dataset, indices, part = _same_pictures(request)
    for model in models:
        model.evaluation = evaluate_indices(
            model.predictor, dataset, indices, progress=request.stage(model.name), on_measured=model.add
        )
    made = _comparison(request, models, dataset, part)
    write_text(request.out, comparison_report(made))
    return Compared(request.out, made)


def _names(paths: Sequence[Path]) -> list[str]:
    """What to call the models: their folders' names where those differ, else the whole paths."""
    short = [path.name if path.is_dir() else path.parent.name for path in paths]
    return short if all(short) and len(set(short)) == len(short) else list(map(str, paths))


def _refuse_other_tasks(models: Sequence[_Model]) -> None:
    first = models[0]
    for other in models[1:]:
        if other.predictor.task != first.predictor.task:
            raise UsageError(
                "compare",
                f"{first.name} is for {first.predictor.task}, {other.name} for {other.predictor.task}",
                "compare models of one task",
            )


def _same_pictures(request: CompareRequest) -> tuple[Dataset, NDArray[np.int64], str]:
    """The pictures that every model is to be measured on. Raises DataError where those are not the same."""
    first, *others = request.models
    dataset, indices, part, known = _pictures_of(first, request.data)
    for other in others:
        *_, theirs = _pictures_of(other, request.data)
        if theirs == known:
            continue
        shared = sum(known.get(key, "") == label for key, label in theirs.items())
        raise DataError(
            "compare",
            f"{first} is to be measured on {len(known):,} pictures and {other} on {len(theirs):,}, of which "
            f"{shared:,} are the same: numbers of different pictures do not compare",
            "name pictures that none of them was trained on: --data DATA",
        )
    return dataset, indices, part


def _pictures_of(model: Path, data: str | None) -> tuple[Dataset, NDArray[np.int64], str, dict[str, str]]:
    """Where a model is measured, and those pictures by name with a word for what is known of each."""
    dataset, _ = data_of_model(model, data)
    indices, part = choose_part(dataset, None)
    known = {}
    for index in indices.tolist():
        item = dataset.items[index]
        label = (
            dataset.classes[item.label] if item.label is not None else item.mask or len(item.objects or ())
        )
        known[item.key] = f"{Path(dataset.name).resolve()}: {label}"
    return dataset, indices, part, known


def _comparison(request: CompareRequest, models: Sequence[_Model], dataset: Dataset, part: str) -> Comparison:
    evaluation, task = models[0].measured, models[0].predictor.task
    notes = list(dict.fromkeys(note for model in models for note in model.measured.notes))
    costs = [_cost(model, notes) for model in models]
    if task != "classification":
        notes.append("picture by picture, only classifiers are compared")
    return Comparison(
        title=f"{len(models)} models on {Path(dataset.name).name}",
        subject=(f"For {task}, measured on {evaluation.pictures:,} pictures of {dataset.name}, {part}.",),
        notes=tuple(notes),
        candidates=tuple(
            Candidate(model.name, tuple(_headlines(model)), *cost)
            for model, cost in zip(models, costs, strict=True)
        ),
        classes=_classes(models, task),
        pairs=tuple(_pairs(models, dataset)) if task == "classification" else (),
        environment=(measured_with(),),
        command=request.command,
    )


def _cost(model: _Model, notes: list[str]) -> tuple[int, int]:
    """Parameters and multiply-adds; 0 and a note where they are not known."""
    found = summary_of(model.predictor)
    if isinstance(found, str):
        notes.append(f"{model.name}: {found}")
        return 0, 0
    return found.parameters, found.macs


def _headlines(model: _Model) -> Iterator[Headline]:
    right = sum(map(model.is_right, model.said))
    for label, value in model.measured.scores.headline:
        low, high = wilson(right, len(model.said)) if label == "top-1" else (None, None)
        yield Headline(label, value, low, high)


def _classes(models: Sequence[_Model], task: str) -> Table:
    key, heading = _CLASS_SCORES[task]
    columns = (Column("class", is_number=False), *(Column(model.name) for model in models))
    named = [{row["name"]: row[key] for row in model.measured.scores.classes} for model in models]
    rows = tuple((name, *(scores.get(name) for scores in named)) for name in named[0])
    return Table(f"{heading} of each class", columns, rows)


def _pairs(models: Sequence[_Model], dataset: Dataset) -> Iterator[Pair]:
    if len(models) <= _ALL_PAIRS:
        chosen = list(combinations(models, 2))
    else:
        chosen = [(models[0], other) for other in models[1:]]
    for first, second in chosen:
        both = [index for index in first.said if index in second.said]
        ours = [index for index in both if first.is_right(index) and not second.is_right(index)]
        theirs = [index for index in both if second.is_right(index) and not first.is_right(index)]
        tested = mcnemar(len(ours), len(theirs))
        yield Pair(
            first.name,
            second.name,
            len(ours),
            len(theirs),
            tested.p_value,
            tested.name,
            _disagreements(first, second, (ours, theirs), dataset),
        )


def _disagreements(
    first: _Model, second: _Model, alone: tuple[list[int], list[int]], dataset: Dataset
) -> Gallery:
    """Pictures that one alone gets right, those first that the other is surest of; of each kind alike."""
    ours, theirs = alone
    ours = sorted(ours, key=lambda index: -second.said[index].confidence)
    theirs = sorted(theirs, key=lambda index: -first.said[index].confidence)
    half = _GALLERY // 2
    count = max(half, _GALLERY - len(theirs)), max(half, _GALLERY - len(ours))
    chosen = (ours[: count[0]] + theirs[: count[1]])[:_GALLERY]
    names = first.measured.scores.class_names

    def shown(index: int) -> Picture:
        truth = names[first.truths[index]]
        image = thumbnail(dataset.image(index), truth)
        lines = (f"is {truth}", first.told(index), second.told(index))
        return Picture(dataset.items[index].key, (image,), lines)

    text = "Pictures that one alone gets right, those first of whose mistake the other is surest."
    left_out = len(ours) + len(theirs) - len(chosen)
    return Gallery("Where they disagree", text, tuple(map(shown, chosen)), left_out=left_out)
