"""Which of a model's classes the classes of a dataset are."""

from dataclasses import replace
from typing import NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from striate.errors import DataError, nearest
from striate.structures import IGNORE, Objects

__all__ = ["ClassMatch", "match_classes"]


class ClassMatch(NamedTuple):
    """Which of the model's classes each class of the data is."""

    ids: NDArray[np.int64]  # (classes of the data,): id in the model
    note: str  # what was assumed, to be shown; empty where every name is the same

    @overload
    def mapped(self, truth: NDArray[np.uint8]) -> NDArray[np.uint8]: ...
    @overload
    def mapped(self, truth: Objects) -> Objects: ...
    def mapped(self, truth: NDArray[np.uint8] | Objects) -> NDArray[np.uint8] | Objects:
        """A mask or objects of the data's class ids with the model's; a mask's IGNORE is kept.

        Masks are for models of at most 255 classes. Raises DataError for an id that is no class of the data.
        """
        return self._objects(truth) if isinstance(truth, Objects) else self._mask(truth)

    def _objects(self, objects: Objects) -> Objects:
        outside = objects.labels[(objects.labels < 0) | (objects.labels >= len(self.ids))]
        if outside.size:
            raise self._unknown("objects", int(outside[0]), f"use ids of 0..{len(self.ids) - 1}")
        return replace(objects, labels=self.ids[objects.labels])

    def _mask(self, mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
        table = np.full(IGNORE + 1, IGNORE, np.uint8)
        table[: len(self.ids)] = self.ids
        outside = mask[(mask >= len(self.ids)) & (mask != IGNORE)]
        if outside.size:
            raise self._unknown("mask", int(outside[0]), f"use ids of 0..{len(self.ids) - 1}, or {IGNORE}")
        return table[mask]

    def _unknown(self, where: str, class_id: int, fix: str) -> DataError:
        return DataError(where, f"it has class id {class_id}, and the data has {len(self.ids)} classes", fix)


def match_classes(model_classes: tuple[str, ...], data_classes: tuple[str, ...]) -> ClassMatch:
    """The model's class id of each class of the data, by name, capitals not minded.

    A model that knows only numbers ("0" .. "K-1") takes as many named classes by their order. Raises
    DataError listing the classes that match none, each with the nearest.
    """
    found = [_same_name(name, model_classes) for name in data_classes]
    unmatched = [name for name, index in zip(data_classes, found, strict=True) if index is None]
    if not unmatched:
        respelt = [
            f"{name} = {model_classes[index]}"
            for name, index in zip(data_classes, found, strict=True)
            if index is not None and model_classes[index] != name
        ]
        note = f"classes matched without regard to capitals: {', '.join(respelt)}" if respelt else ""
        return ClassMatch(np.array(found, np.int64), note)
    if _only_numbers(model_classes) and len(model_classes) == len(data_classes) == len(unmatched):
        note = f"the model's classes have numbers only; by order 0 = {data_classes[0]}, ..., "
        note += f"{len(data_classes) - 1} = {data_classes[-1]}"
        return ClassMatch(np.arange(len(data_classes)), note)
    raise _unmatched_classes(unmatched, model_classes, len(data_classes))


def _same_name(name: str, known: tuple[str, ...]) -> int | None:
    """The id of `name`: spelt the same, else the only one that differs in capitals alone."""
    if name in known:
        return known.index(name)
    folded = [index for index, other in enumerate(known) if other.casefold() == name.casefold()]
    return folded[0] if len(folded) == 1 else None


def _only_numbers(classes: tuple[str, ...]) -> bool:
    return classes == tuple(map(str, range(len(classes))))


def _unmatched_classes(unmatched: list[str], known: tuple[str, ...], count: int) -> DataError:
    def described(name: str) -> str:
        close = nearest(name, known, count=1)
        return f"{name} (nearest: {close[0]})" if close else name

    listed = ", ".join(map(described, unmatched[:8])) + (", ..." if len(unmatched) > 8 else "")
    return DataError(
        "classes",
        f"{len(unmatched)} of the data's {count} classes are none of the model's {len(known)}: {listed}",
        f"rename them to the model's ({', '.join(known[:8])}{', ...' if len(known) > 8 else ''}), "
        "or use a model trained on these classes",
    )
