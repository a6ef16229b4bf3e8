"""`shapes_masks`: the masks are those of the drawn pictures."""

import numpy as np

from striate.data.builtin.shapes import MASK_CLASSES, draw
from striate.data.open import DataConfig, open_dataset


def test_masks_are_those_of_the_drawn_pictures() -> None:
    dataset = open_dataset(DataConfig(source="shapes_masks"))
    assert (len(dataset), dataset.task, dataset.classes) == (600, "segmentation", MASK_CLASSES)
    for index in (0, 17, 599):
        drawn, sample = draw(index), dataset.sample(index)
        assert sample.key == drawn.key
        assert np.array_equal(sample.image, drawn.image)
        assert sample.mask is not None
        assert drawn.mask is not None
        assert np.array_equal(sample.mask, drawn.mask)
        assert sample.mask.max() <= 6


def test_every_shape_is_somewhere_and_most_is_background() -> None:
    dataset = open_dataset(DataConfig(source="shapes_masks"))
    masks = [dataset.mask(index) for index in range(24)]
    pixels = np.concatenate([mask.reshape(-1) for mask in masks if mask is not None])
    counts = np.bincount(pixels, minlength=7)
    assert counts.sum() == 24 * 64 * 64
    assert (counts > 0).all()
    assert counts.argmax() == 0
