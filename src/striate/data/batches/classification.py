"""Batches of pictures that have one class each."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from striate.data.augment import Augmentation, AugmentConfig
from striate.data.batches import Arrays, Caches, Frequencies, MakeTargets, batch_of
from striate.data.cache import Pictures
from striate.data.dataset import Dataset
from striate.data.draws import Draws
from striate.data.mixing import mixture, partners
from striate.errors import DataError
from striate.structures import Batch, ClassTargets, Geometry, Preprocess

__all__ = ["AugmentConfig", "Measuring", "Training", "for_measuring", "for_training", "frequencies"]


def for_training(
    dataset: Dataset, indices: NDArray[np.int64], spec: Preprocess, augment: AugmentConfig, caches: Caches
) -> "Training":
    """Pictures cut, mirrored, recoloured and mixed; partners of mixtures are among `indices`."""
    if augment.scale is None:
        pictures = caches.for_input(dataset, spec)
    else:
        pictures = Pictures.for_cutting(dataset, spec, augment.scale[0], caches.budget, caches.disk)
    return Training(pictures, indices, _labels(dataset, indices), Augmentation(augment, spec))


def for_measuring(
    dataset: Dataset, indices: NDArray[np.int64], spec: Preprocess, caches: Caches
) -> "Measuring":
    """Whole pictures at the input's size."""
    return Measuring(caches.for_input(dataset, spec), _labels(dataset, indices))


def frequencies(dataset: Dataset, indices: NDArray[np.int64]) -> Frequencies:
    """Pictures of each class, among all of them."""
    labels = dataset.labels()[indices]
    own = np.bincount(labels[labels >= 0], minlength=len(dataset.classes))
    return Frequencies(own, np.full(len(own), own.sum()))


@dataclass(frozen=True, slots=True)
class Training:
    """Varied pictures; a batch's `geometry` and `keys` are those of its own, before shifting and mixing."""

    pictures: Pictures
    pool: NDArray[np.int64]  # the items that partners of mixtures come from
    labels: NDArray[np.int64]  # class ids of the whole dataset
    augmentation: Augmentation

    def make(self, drawn: Draws, indices: NDArray[np.int64], targets: MakeTargets) -> Batch[Arrays]:
        images, geometry = self._varied(drawn, indices)
        made = targets(self.labels[indices])
        config = self.augmentation.config
        if config.mixup or config.cutmix:
            others = partners(drawn, indices, self.pool, self.pictures.dataset.blocks())
            mixed = mixture(drawn, indices, images.shape[1:3], (config.mixup, config.cutmix))
            images = mixed.images(images, self._varied(drawn, others)[0])
            theirs = targets(self.labels[others])
            assert isinstance(made, ClassTargets)
            assert isinstance(theirs, ClassTargets)
            made = mixed.targets(made, theirs)
        return batch_of(self.pictures, indices, images, geometry, made)

    def _varied(
        self, drawn: Draws, indices: NDArray[np.int64]
    ) -> tuple[NDArray[np.uint8], tuple[Geometry, ...]]:
        if self.augmentation.config.scale is None:
            images, geometry = self.pictures.batch(indices)
        else:
            images, geometry = self.augmentation.cuts(drawn, indices, self.pictures.one)
        return self.augmentation.vary(drawn, indices, images), geometry


@dataclass(frozen=True, slots=True)
class Measuring:
    """Whole pictures and their class ids."""

    pictures: Pictures
    labels: NDArray[np.int64]  # class ids of the whole dataset

    def make(self, indices: NDArray[np.int64], targets: MakeTargets) -> Batch[Arrays]:
        images, geometry = self.pictures.batch(indices)
        return batch_of(self.pictures, indices, images, geometry, targets(self.labels[indices]))

    def truths(self, indices: NDArray[np.int64]) -> list[int]:
        truths: list[int] = self.labels[indices].tolist()
        return truths


def _labels(dataset: Dataset, indices: NDArray[np.int64]) -> NDArray[np.int64]:
    labels = dataset.labels()
    unlabelled = indices[labels[indices] < 0]
    if len(unlabelled):
        key = dataset.items[int(unlabelled[0])].key
        raise DataError(key, "it has no label", "label it, or leave it out of this part")
    return labels
