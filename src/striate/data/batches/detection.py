"""Batches of pictures that have objects in boxes."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from striate.data.batches import Arrays, Caches, Frequencies, MakeTargets, batch_of
from striate.data.box_augment import BoxAugmentation, BoxAugmentConfig
from striate.data.box_canvas import Source
from striate.data.box_findings import usable_objects
from striate.data.cache import Pictures
from striate.data.dataset import Dataset
from striate.data.draws import Draws
from striate.data.overlaps import areas
from striate.data.proposal_cache import KeptProposals
from striate.data.proposals import in_input
from striate.errors import DataError, UsageError
from striate.structures import Batch, Geometry, Image, Objects, Preprocess

__all__ = ["AugmentConfig", "Measuring", "Training", "for_measuring", "for_training", "frequencies"]

AugmentConfig = BoxAugmentConfig


def for_training(
    dataset: Dataset, indices: NDArray[np.int64], spec: Preprocess, augment: AugmentConfig, caches: Caches
) -> "Training":
    """Pictures and boxes cut, zoomed, mirrored and mixed, recoloured too; partners are among `indices`."""
    _refuse_unlabelled(dataset, indices)
    augmentation = BoxAugmentation(augment, spec, indices, dataset.blocks())
    pictures = Pictures.for_zooming(dataset, spec, augment.zoom, caches.budget, caches.disk)
    proposals = KeptProposals(dataset, spec.proposals, caches.budget, caches.disk)
    return Training(pictures, proposals, augmentation)


def for_measuring(
    dataset: Dataset, indices: NDArray[np.int64], spec: Preprocess, caches: Caches
) -> "Measuring":
    """Whole pictures as they are prepared for use, and their boxes."""
    _refuse_unlabelled(dataset, indices)
    proposals = KeptProposals(dataset, spec.proposals, caches.budget, caches.disk)
    return Measuring(caches.for_input(dataset, spec), proposals, spec)


def frequencies(dataset: Dataset, _indices: NDArray[np.int64]) -> Frequencies:
    """Raises UsageError: a picture's weight cannot be that of each class in it."""
    what = f"it weighs classes, and a picture of {dataset.name} holds objects of several"
    raise UsageError("training.balance", what, 'leave it at "none"')


@dataclass(frozen=True, slots=True)
class Training:
    """Varied pictures and their boxes; `geometry` is that of a batch's own pictures, before mirroring."""

    pictures: Pictures
    proposals: KeptProposals
    augmentation: BoxAugmentation

    def make(self, drawn: Draws, indices: NDArray[np.int64], targets: MakeTargets) -> Batch[Arrays]:
        varied = self.augmentation.vary(drawn, indices, self._source)
        images = _together([one.image for one in varied], self.augmentation.preprocess)
        made = targets([one.objects for one in varied])
        extras = {}
        if self.proposals.count:
            extras["proposals"] = self.augmentation.rois(drawn, indices, varied)
        return batch_of(self.pictures, indices, images, tuple(one.geometry for one in varied), made, extras)

    def _source(self, index: int) -> Source:
        image, geometry = self.pictures.one(index)
        objects = _usable(self.pictures.dataset, index, geometry.source)
        return Source(image, geometry, objects, self.proposals.one(index))


@dataclass(frozen=True, slots=True)
class Measuring:
    """Whole pictures and their boxes."""

    pictures: Pictures
    proposals: KeptProposals
    preprocess: Preprocess
    _seen: dict[int, tuple[int, int]] = field(init=False, default_factory=dict)  # sizes, h and w, by index

    def make(self, indices: NDArray[np.int64], targets: MakeTargets) -> Batch[Arrays]:
        asked = indices.tolist()
        images, geometry = self._prepared(indices)
        self._seen.update((index, where.source) for index, where in zip(asked, geometry, strict=True))
        made = targets(
            [_in_input(truth, where) for truth, where in zip(self.truths(indices), geometry, strict=True)]
        )
        extras = {}
        if self.proposals.count:
            found = zip(map(self.proposals.one, asked), geometry, strict=True)
            extras["proposals"] = np.stack([in_input(boxes, where) for boxes, where in found])
        return batch_of(self.pictures, indices, images, geometry, made, extras)

    def truths(self, indices: NDArray[np.int64]) -> list[Objects]:
        dataset = self.pictures.dataset
        return [_usable(dataset, index, self._size(index)) for index in indices.tolist()]

    def _prepared(self, indices: NDArray[np.int64]) -> tuple[NDArray[np.uint8], tuple[Geometry, ...]]:
        if self.preprocess.is_fixed:
            return self.pictures.batch(indices)
        images, geometry = zip(*map(self.pictures.one, indices.tolist()), strict=True)
        return _together(images, self.preprocess), geometry

    def _size(self, index: int) -> tuple[int, int]:
        return self._seen.get(index) or self.pictures.one(index)[1].source


def _usable(dataset: Dataset, index: int, size: tuple[int, int]) -> Objects:
    objects = dataset.items[index].objects
    assert objects is not None  # or it had been refused
    return usable_objects(objects, size)


def _in_input(objects: Objects, geometry: Geometry) -> Objects:
    """`objects` of the source where they show in the input."""
    height, width = geometry.input
    limits = np.array([width, height] * 2, np.float32)
    boxes = np.clip(geometry.boxes_to_input(objects.boxes), 0, limits)
    shown = Objects(boxes, objects.labels, objects.crowd, objects.difficult)
    return shown[areas(boxes) > 0]


def _together(images: Sequence[Image], spec: Preprocess) -> NDArray[np.uint8]:
    """`images` (H, W, C) as one array, each padded at the right and bottom to the largest and `pad_to`."""
    shapes = [image.shape[:2] for image in images]
    if len(set(shapes)) == 1 and spec.pad_to == 1:
        return np.stack(images)
    height, width = (-(-max(sides) // spec.pad_to) * spec.pad_to for sides in zip(*shapes, strict=True))
    result = np.full((len(images), height, width, spec.channels), spec.pad_value, np.uint8)
    for row, image in zip(result, images, strict=True):
        row[: image.shape[0], : image.shape[1]] = image
    return result


def _refuse_unlabelled(dataset: Dataset, indices: NDArray[np.int64]) -> None:
    for index in indices.tolist():
        item = dataset.items[index]
        if item.objects is None:
            fix = "list its objects, none if it is background, or leave it out of this part"
            raise DataError(item.key, "nothing is known of its objects", fix)
