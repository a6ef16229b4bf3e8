"""Which labels of a dataset are likely wrong: each picture judged by a network that never saw it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from striate.api.data_evidence import whole_data
from striate.api.evaluation import evaluate_indices
from striate.api.runfiles import CONFIG_FILE
from striate.api.settings import RunConfig, recorded_settings
from striate.api.training import make_network, planned, settle
from striate.config import Layer, Resolved
from striate.data.check import CheckReport, check
from striate.data.dataset import Dataset
from striate.errors import DataError, UsageError
from striate.metrics.label_errors import label_suspects
from striate.runtime.predictor import load
from striate.structures import Classification

__all__ = ["LabelErrors", "LabelSuspect", "find_label_errors", "folds_of", "label_errors_of_run"]

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class LabelSuspect:
    """A picture whose label may be wrong."""

    key: str
    part: str  # "train", "val" or "test"
    label: str  # as it is given
    likelier: str  # the class that it rather looks like
    probability: float  # of `label`, 0..1
    likelier_probability: float

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True, repr=False)
class LabelErrors:
    """What `striate.label_errors` gives."""

    source: str
    model: str
    folds: int
    pictures: int
    accuracy: float  # of the networks on the pictures that they never saw, by the labels as given
    suspects: tuple[LabelSuspect, ...]  # the most doubtful first

    def lines(self, count: int = 20) -> Iterator[str]:
        """The outcome, and the first `count` suspects."""
        yield (
            f"{self.source}: {len(self.suspects):,} of {self.pictures:,} labels are doubted by {self.model} "
            f"in {self.folds} folds, which agrees with {self.accuracy:.1%} of all"
        )
        for each in self.suspects[:count]:
            yield (
                f"{each.key}: labelled {each.label} ({each.probability:.1%}), "
                f"rather {each.likelier} ({each.likelier_probability:.1%})"
            )
        if len(self.suspects) > count:
            yield f"and {len(self.suspects) - count:,} more"

    def __repr__(self) -> str:
        return "\n".join(self.lines())

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "source": self.source,
            "model": self.model,
            "folds": self.folds,
            "pictures": self.pictures,
            "accuracy": self.accuracy,
            "suspects": [each.to_dict() for each in self.suspects],
        }


def find_label_errors(
    source: str, model: str | None, folds: int, layers: Sequence[Layer], progress: Progress | None
) -> LabelErrors:
    """The doubtful labels of `source`, most doubtful first.

    Each picture gets the probabilities of a network that was trained on the other folds alone, for all its
    epochs: nothing is chosen by what it says of those held out. Pictures with equal pixels share a fold.
    Raises UsageError for folds below 2, DataError where the data has no classes to tell apart.
    """
    _refuse_few(folds)
    resolved, dataset, report = settle(source, model, layers)
    if dataset.task != "classification":
        raise DataError(source, f"it is data for {dataset.task}", "give pictures with a class each")
    return _cross_checked(resolved, dataset, report, report.usable, folds, progress)


def label_errors_of_run(folder: Path, folds: int, progress: Progress | None = None) -> LabelErrors:
    """The doubtful labels of the pictures of the run in `folder`, by networks trained as it was.

    As `find_label_errors`; all epochs are trained, where the run itself may have stopped early.
    """
    _refuse_few(folds)
    resolved = recorded_settings(folder / CONFIG_FILE)
    training = msgspec.structs.replace(resolved.value.training, patience=None)  # there is no val part
    resolved = replace(resolved, value=msgspec.structs.replace(resolved.value, training=training))
    opened = whole_data(folder)
    report = check(opened, near_duplicates=False)
    kept = np.array([index for index in report.usable.tolist() if opened.items[index].part], np.int64)
    return _cross_checked(resolved, opened.only(kept), report, kept, folds, progress)


def _refuse_few(folds: int) -> None:
    if folds < 2:
        raise UsageError("folds", f"{folds} leaves no picture unseen", "give 2 or more")


def _cross_checked(
    resolved: Resolved[RunConfig],
    dataset: Dataset,
    report: CheckReport,
    kept: NDArray[np.int64],
    folds: int,
    progress: Progress | None,
) -> LabelErrors:
    """The doubtful labels of `dataset`, whose items are those `kept` of the ones in `report`."""
    probabilities = np.zeros((len(dataset), len(dataset.classes)), np.float32)
    fold_of = folds_of(dataset, folds, report.groups[kept], resolved.value.training.seed)
    for fold in range(folds):
        for index, row in _held_out(resolved, dataset, report, fold_of == fold):
            probabilities[index] = row
        if progress is not None:
            progress(fold + 1, folds)
    return _outcome(resolved.value, dataset, folds, probabilities)


def folds_of(dataset: Dataset, folds: int, groups: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """The fold of each item, (items,): every class spread evenly, by `seed`; equal `groups` >= 0 together."""
    chance = np.random.default_rng(seed)
    fold_of = np.full(len(dataset), -1, np.int64)
    first_of: dict[int, int] = {}
    counts = np.zeros((len(dataset.classes), folds), np.int64)
    for index in chance.permutation(len(dataset)).tolist():
        group, label = int(groups[index]), dataset.items[index].label
        if group in first_of:
            fold_of[index] = fold_of[first_of[group]]
        else:
            fold_of[index] = int(counts[label].argmin())
        if group >= 0:
            first_of.setdefault(group, index)
        counts[label, fold_of[index]] += 1
    return fold_of


def _held_out(
    resolved: Resolved[RunConfig], dataset: Dataset, report: CheckReport, is_held: NDArray[np.bool_]
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """The probabilities of each item that is held out, by a network trained on all others."""
    items = zip(dataset.items, is_held.tolist(), strict=True)
    split = replace(
        dataset, items=tuple(replace(item, part="test" if held else "train") for item, held in items)
    )
    found: list[tuple[int, NDArray[np.float32]]] = []

    def add(index: int, result: Any, _: Any) -> None:
        assert isinstance(result, Classification)
        found.append((index, result.probabilities))

    with TemporaryDirectory(prefix="striate-fold-") as folder:
        network = make_network(resolved.value, split)
        plan = planned(resolved, split, report, network, lambda: Path(folder))
        for _ in plan.events():
            pass
        predictor = load(folder, resolved.value.training.device)
        evaluate_indices(predictor, split, np.flatnonzero(is_held), on_measured=add)
    yield from found


def _outcome(
    config: RunConfig, dataset: Dataset, folds: int, probabilities: NDArray[np.float32]
) -> LabelErrors:
    labels = dataset.labels()
    found = label_suspects(probabilities, labels)
    suspects = tuple(
        LabelSuspect(
            dataset.items[row].key,
            dataset.items[row].part,
            dataset.classes[labels[row]],
            dataset.classes[likelier],
            float(probabilities[row, labels[row]]),
            float(probabilities[row, likelier]),
        )
        for row, likelier in zip(found.rows.tolist(), found.likelier.tolist(), strict=True)
    )
    accuracy = float((probabilities.argmax(axis=1) == labels).mean())
    return LabelErrors(dataset.name, config.model, folds, len(dataset), accuracy, suspects)
