"""The pictures that an export is proven and calibrated with."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from striate.api.evaluation import Measurement, OnError, choose_part, data_of_model
from striate.api.inputs import Pictures, find_pictures
from striate.data.dataset import Dataset, Item, Part
from striate.data.findings import is_labelled
from striate.errors import DataError, StriateError, UsageError
from striate.runtime.predictor import Predictor
from striate.structures import Image, Sample

__all__ = ["ExportPictures", "pictures_for"]


@dataclass(frozen=True, slots=True)
class ExportPictures:
    """Some pictures of a dataset, spread over a part of it."""

    dataset: Dataset
    indices: tuple[int, ...]
    source: str  # "256 of the 359 pictures of digits, part val"
    labelled: bool  # whether a measure can be taken on them
    notes: tuple[str, ...] = ()  # what was assumed, to be shown

    def __len__(self) -> int:
        return len(self.indices)

    def samples(self, indices: Sequence[int], on_error: OnError) -> Iterator[tuple[int, Sample]]:
        """The items `indices` decoded, each with its index; `on_error` is told of those that cannot be."""
        for index in indices:
            try:
                yield index, self.dataset.sample(index)
            except DataError as error:
                on_error(self.dataset.items[index].key, error)

    def first(self) -> Sample:
        """The first that can be read. Raises DataError where none can."""
        unread: list[str] = []
        readable = self.samples(self.indices, lambda key, _: unread.append(key))
        found = next((sample for _, sample in readable), None)
        if found is None:
            raise DataError(
                self.dataset.name, f"none of {len(unread):,} pictures can be read", "see `striate check`"
            )
        return found


def pictures_for(
    model: Path, predictor: Predictor, data: str | None, usual: Sequence[Part], most: int
) -> ExportPictures:
    """At most `most` pictures of `data`, or without it of what `model` was trained beside.

    They are of the first of the parts `usual` that there is, or else of all. Data without labels for the
    model is taken as pictures alone. Raises DataError where there are none.
    """
    dataset, notes = _dataset(model, predictor, data)
    labelled = all(map(is_labelled, dataset.items))
    if not labelled and any(map(is_labelled, dataset.items)):
        dataset = replace(dataset, items=tuple(filter(is_labelled, dataset.items)))
        labelled = True
    indices, chosen = choose_part(dataset, None, usual)
    picked = _spread(indices, most)
    amount = f"{len(picked):,} of the {len(indices):,}" if len(picked) < len(indices) else f"{len(picked):,}"
    return ExportPictures(
        dataset, tuple(picked.tolist()), f"{amount} pictures of {dataset.name}, {chosen}", labelled, notes
    )


def _spread(indices: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """At most `most` of `indices`, evenly over all: data is often sorted by class."""
    if len(indices) <= most:
        return indices
    places = np.linspace(0, len(indices) - 1, most).round().astype(np.int64)
    return indices[places]


def _dataset(model: Path, predictor: Predictor, data: str | None) -> tuple[Dataset, tuple[str, ...]]:
    if data is None:
        try:
            return data_of_model(model, None)
        except StriateError as error:
            fix = f"name some: striate export {model} --data DATA"
            raise DataError(error.where, f"an export is proven on pictures: {error.what}", fix) from None
    try:
        dataset, notes = data_of_model(model, data)
        if dataset.task != predictor.task:
            raise UsageError(
                dataset.name, f"its labels are for {dataset.task}", f"the model is for {predictor.task}"
            )
        Measurement(predictor, dataset)  # refuses classes that are not the model's
    except (DataError, UsageError) as error:
        if not Path(data).exists():
            raise
        return _unlabelled(data, predictor), (f"no labels for this model: {error.what}",)
    return dataset, notes


def _unlabelled(data: str, predictor: Predictor) -> Dataset:
    """The pictures in `data` without what may be known of them."""
    pictures = find_pictures([data])
    items = tuple(Item(key) for key, _, _ in pictures.places)
    storage = _Listed(pictures, {item.key: number for number, item in enumerate(items)})
    return Dataset(data, "pictures", predictor.task, predictor.classes, items, storage)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class _Listed:
    """Pictures that are named one by one, as the storage of a dataset."""

    pictures: Pictures
    numbers: dict[str, int]  # of each key

    def content(self, key: str) -> Path | bytes | Image:
        """The picture `key`: a file to decode, or its bytes."""
        return self.pictures.content(self.numbers[key])
