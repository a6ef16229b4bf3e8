"""Measuring a model on pictures with known labels."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from striate import plugins, tasks
from striate.api.runfiles import CONFIG_FILE, SPLIT_FILE, read_split
from striate.config import Layer, read_toml, resolve
from striate.data.box_findings import usable_objects
from striate.data.dataset import Dataset, Part
from striate.data.findings import is_labelled
from striate.data.open import DataConfig, open_dataset
from striate.errors import DataError, ModelError, UsageError
from striate.runtime.predictor import STEADY, Predictor
from striate.structures import Detections, Objects, Result, Segmentation, check_same_size
from striate.tasks import Scores

__all__ = [
    "Evaluation",
    "Measurement",
    "OnMeasured",
    "choose_part",
    "data_of_model",
    "evaluate_indices",
    "evaluate_model",
]

Progress = Callable[[int, int], None]
OnError = Callable[[str, DataError], None]

OnMeasured = Callable[[int, Result, Any], None]
"""Called with an item's index, what the model says of it and its truth in the model's class ids."""


@dataclass(frozen=True, slots=True, repr=False)
class Evaluation:
    """How a model does on a part of a dataset."""

    scores: Scores
    source: str  # "digits, part test"
    pictures: int
    unreadable: int
    notes: tuple[str, ...] = ()  # what was assumed, to be shown

    def __repr__(self) -> str:
        scores = ", ".join(f"{name} {value:.4f}" for name, value in self.scores.values.items())
        return f"Evaluation({self.source}: {self.pictures:,} pictures, {scores})"

    @property
    def metrics(self) -> dict[str, float]:
        """The scores by name, fractions 0..1."""
        return dict(self.scores.values)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for `eval --json`."""
        return {
            "source": self.source,
            "pictures": self.pictures,
            "unreadable": self.unreadable,
            "notes": list(self.notes),
            **self.scores.to_dict(),
        }


def evaluate_model(
    predictor: Predictor,
    model: Path,
    data: str | None,
    part: str | None,
    batch_size: int | None,
    progress: Progress | None,
    on_error: OnError | None,
) -> Evaluation:
    """The scores of the `predictor` of `model` on `part` of `data`; without `data`, see `data_of_model`."""
    dataset, notes = data_of_model(model, data)
    indices, chosen = choose_part(dataset, part)
    found = evaluate_indices(predictor, dataset, indices, batch_size, progress, on_error)
    return Evaluation(
        found.scores, f"{dataset.name}, {chosen}", found.pictures, found.unreadable, (*notes, *found.notes)
    )


def evaluate_indices(
    predictor: Predictor,
    dataset: Dataset,
    indices: NDArray[np.int64],
    batch_size: int | None = None,
    progress: Progress | None = None,
    on_error: OnError | None = None,
    on_measured: OnMeasured | None = None,
) -> Evaluation:
    """The scores of `predictor` on the items `indices`; a picture that cannot be read is counted, not scored.

    batch_size: pictures at once; None: as many as a steady stream takes. Raises DataError where none
    can be read or the classes are not the model's.
    """
    if predictor.task == "detection":
        predictor = predictor.at(None)  # a curve needs what is unlikely too
    measurement = Measurement(predictor, dataset, on_measured)
    labelled = {
        dataset.items[index].key: index for index in indices.tolist() if is_labelled(dataset.items[index])
    }
    failed = 0

    def report(key: str, error: DataError | ModelError) -> None:
        nonlocal failed
        if isinstance(error, ModelError):
            raise error  # a score without the pictures that the model fails on would flatter it
        failed += 1
        if on_error is not None:
            on_error(key, error)

    contents = ((key, dataset.storage.content(key)) for key in labelled)
    done = 0
    if batch_size is None:
        results = predictor.steady_stream(contents, report)
    else:
        results = predictor.stream(contents, max(1, batch_size // predictor.engine.lanes), on_error=report)
    while batch := list(islice(results, batch_size or STEADY)):
        done += measurement.update(batch, [labelled[result.key] for result in batch], report)
        if progress is not None:
            progress(done + failed, len(labelled))
    if not done:
        raise DataError(dataset.name, "there is no labelled picture that can be read", "see `striate check`")
    notes = list(measurement.notes)
    if len(labelled) < len(indices):
        notes.append(f"{len(indices) - len(labelled)} pictures without a label were left out")
    return Evaluation(measurement.scores(), dataset.name, done, failed, tuple(notes))


class Measurement:
    """The scores of what a predictor says of items of a dataset, batch after batch.

    Raises DataError where the classes of the dataset are not the model's.
    """

    def __init__(self, predictor: Predictor, dataset: Dataset, on_measured: OnMeasured | None = None) -> None:
        task = plugins.load(tasks, predictor.task)
        self._dataset = dataset
        self._match = task.match_classes(predictor.classes, dataset.classes)
        names = list(predictor.classes)
        for data_id, model_id in enumerate(self._match.ids.tolist()):
            names[model_id] = dataset.classes[data_id]  # a model that knows only numbers is told of by names
        self._metric = task.metric(tuple(names))
        self._on_measured = on_measured

    @property
    def notes(self) -> tuple[str, ...]:
        """What was assumed of the classes, to be shown."""
        return (self._match.note,) if self._match.note else ()

    def update(self, results: Sequence[Result], indices: Sequence[int], on_error: OnError) -> int:
        """Count `results` of the items `indices`; how many have a truth that fits, others are told of."""
        measured, truths = [], []
        for result, index in zip(results, indices, strict=True):
            try:
                truth = self._truth(index, result)
            except DataError as error:
                on_error(result.key, error)
                continue
            measured.append(result)
            truths.append(truth)
            if self._on_measured is not None:
                self._on_measured(index, result, truth)
        self._metric.update(measured, truths)
        return len(measured)

    def scores(self) -> Scores:
        """The scores of all that was counted."""
        found: Scores = self._metric.compute()
        return found

    def _truth(self, index: int, result: Result) -> Any:
        """What is known of item `index`, in the model's ids. Raises DataError naming a mask that is unfit."""
        truth = self._dataset.truth(index)
        if isinstance(truth, int):
            return int(self._match.ids[truth])
        if isinstance(truth, np.ndarray) and isinstance(result, Segmentation):
            check_same_size(result.key, truth, result.mask)
        if isinstance(truth, Objects) and isinstance(result, Detections):
            truth = usable_objects(truth, result.size)
        return self._match.mapped(truth)


def data_of_model(model: Path, data: str | None) -> tuple[Dataset, tuple[str, ...]]:
    """`data`, or without it the data that `model` was trained beside, and what was assumed.

    It has the parts that it had then. Raises UsageError where none is known.
    """
    folder = model if model.is_dir() else model.parent
    return (_own_data(folder), ()) if data is None else _given_data(folder, data)


def _own_data(folder: Path) -> Dataset:
    """The data that the run in `folder` was trained on, with the parts that it had then."""
    if _own_source(folder) is None:
        raise UsageError(
            folder, "it does not say what it was trained on", f"give the data: striate eval {folder} DATA"
        )
    table = read_toml(folder / CONFIG_FILE)
    settings = resolve(DataConfig, [Layer(table.origin, table.values["data"])]).value
    return _with_parts(open_dataset(settings), read_split(folder))


def _given_data(folder: Path, data: str) -> tuple[Dataset, tuple[str, ...]]:
    """`data` as it is; where the run in `folder` was trained on it, with the parts that it had then."""
    own = _own_source(folder)
    if own is not None and own in (data, str(Path(data).resolve())):
        return _own_data(folder), ("it was trained on this data, so the parts of that run are used",)
    return open_dataset(DataConfig(source=data)), ()


def _own_source(folder: Path) -> str | None:
    if not ((folder / CONFIG_FILE).is_file() and (folder / SPLIT_FILE).is_file()):
        return None
    source: str = read_toml(folder / CONFIG_FILE).values["data"]["source"]
    return source


def _with_parts(dataset: Dataset, known: Mapping[str, Part]) -> Dataset:
    kept = [replace(item, part=known[item.key]) for item in dataset.items if item.key in known]
    missing = len(known) - len(kept)
    if missing:
        raise DataError(
            dataset.name,
            f"{missing} of the {len(known)} pictures that the model was trained beside are gone",
            "put them back, or name other data",
        )
    return replace(dataset, items=tuple(kept))


def choose_part(
    dataset: Dataset, part: str | None, usual: Sequence[Part] = ("test", "val")
) -> tuple[NDArray[np.int64], str]:
    """The items of `part`, without it of the first that there is of the `usual` ones, and what they are."""
    if part == "all":
        return np.arange(len(dataset)), "all pictures"
    if part is not None:
        indices = dataset.indices(part)  # type: ignore[arg-type]
        if not len(indices):
            there = sorted({item.part or "none stated" for item in dataset.items})
            raise DataError(dataset.name, f"it has no part {part}", f"its parts are: {', '.join(there)}")
        return indices, f"part {part}"
    for candidate in usual:
        indices = dataset.indices(candidate)
        if len(indices):
            return indices, f"part {candidate}"
    return np.arange(len(dataset)), "all pictures"
