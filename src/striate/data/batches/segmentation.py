"""Batches of pictures that have a mask each."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from striate.data.batches import Arrays, Caches, Frequencies, MakeTargets, batch_of
from striate.data.border_weight import border_weight
from striate.data.cache import Budget, Pictures
from striate.data.dataset import Dataset
from striate.data.draws import Draws
from striate.data.mask_augment import MaskAugmentation, MaskAugmentConfig, Source
from striate.data.mask_cache import KeptMasks
from striate.errors import DataError
from striate.structures import IGNORE, Batch, MaskTargets, Preprocess, Targets

__all__ = ["AugmentConfig", "Measuring", "Training", "for_measuring", "for_training", "frequencies"]

AugmentConfig = MaskAugmentConfig


def for_training(
    dataset: Dataset, indices: NDArray[np.int64], spec: Preprocess, augment: AugmentConfig, caches: Caches
) -> "Training":
    """Pictures and masks zoomed, cut, mirrored and warped together, and recoloured."""
    _refuse_unmasked(dataset, indices)
    augmentation = MaskAugmentation(augment, spec)
    largest = None if augment.zoom is None else augment.zoom[1]
    pictures = Pictures.for_zooming(dataset, spec, largest, caches.budget, caches.disk)
    return Training(pictures, KeptMasks(dataset, caches.budget), augmentation)


def for_measuring(
    dataset: Dataset, indices: NDArray[np.int64], spec: Preprocess, caches: Caches
) -> "Measuring":
    """Whole pictures at the input's size, and their masks."""
    _refuse_unmasked(dataset, indices)
    return Measuring(caches.for_input(dataset, spec), KeptMasks(dataset, caches.budget))


def frequencies(dataset: Dataset, indices: NDArray[np.int64]) -> Frequencies:
    """Pixels of each class, among those of any in the pictures that show it; reads every mask."""
    masks = KeptMasks(dataset, Budget(0))
    own = np.zeros(len(dataset.classes), np.int64)
    among = np.zeros_like(own)
    for index in indices.tolist():
        mask = masks.one(index)
        counts = np.bincount(mask[mask != IGNORE], minlength=len(own))
        own += counts
        among += np.where(counts, counts.sum(), 0)
    return Frequencies(own, among)


@dataclass(frozen=True, slots=True)
class Training:
    """Varied pictures and masks; `geometry` is that before mirroring and warping."""

    pictures: Pictures
    masks: KeptMasks
    augmentation: MaskAugmentation

    def make(self, drawn: Draws, indices: NDArray[np.int64], targets: MakeTargets) -> Batch[Arrays]:
        asked = indices.tolist()
        varied = self.augmentation.vary(drawn, indices, map(self._source, asked))
        images, labels, geometry = zip(*varied, strict=True)
        self.pictures.refuse_mixed(asked, [image.shape for image in images])
        made = targets(np.stack(labels))
        config = self.augmentation.config
        if config.border_weight:
            made = _with_borders(made, config)
        return batch_of(self.pictures, indices, np.stack(images), geometry, made)

    def _source(self, index: int) -> Source:
        image, geometry = self.pictures.one(index)
        return Source(image, geometry, self.masks.one(index, geometry.source))


@dataclass(frozen=True, slots=True)
class Measuring:
    """Whole pictures and their masks."""

    pictures: Pictures
    masks: KeptMasks

    def make(self, indices: NDArray[np.int64], targets: MakeTargets) -> Batch[Arrays]:
        images, geometry = self.pictures.batch(indices)
        labels = np.full(images.shape[:3], IGNORE, np.uint8)
        for row, (index, where) in enumerate(zip(indices.tolist(), geometry, strict=True)):
            height, width = where.input
            labels[row, :height, :width] = where.mask_to_input(self.masks.one(index, where.source))
        return batch_of(self.pictures, indices, images, geometry, targets(labels))

    def truths(self, indices: NDArray[np.int64]) -> list[NDArray[np.uint8]]:
        return [self.masks.one(index) for index in indices.tolist()]


def _with_borders(targets: Targets[Arrays], config: AugmentConfig) -> MaskTargets[Arrays]:
    assert isinstance(targets, MaskTargets)
    borders = [border_weight(labels, config.border_weight, config.border_sigma) for labels in targets.labels]
    return MaskTargets(targets.labels, targets.weight + np.stack(borders))


def _refuse_unmasked(dataset: Dataset, indices: NDArray[np.int64]) -> None:
    for index in indices.tolist():
        item = dataset.items[index]
        if item.mask is None:
            raise DataError(item.key, "it has no mask", "add its mask, or leave it out of this part")
