"""`shapes_boxes`: the boxes are those of the drawn pictures."""

import numpy as np

from striate.data.builtin.shapes import CLASSES, draw
from striate.data.open import DataConfig, open_dataset


def test_boxes_are_those_of_the_drawn_pictures() -> None:
    dataset = open_dataset(DataConfig(source="shapes_boxes", task="detection"))
    assert (len(dataset), dataset.task, dataset.classes) == (600, "detection", CLASSES)
    for index in (0, 17, 599):
        drawn, sample = draw(index), dataset.sample(index)
        assert sample.key == drawn.key
        assert np.array_equal(sample.image, drawn.image)
        assert sample.objects is not None
        assert drawn.objects is not None
        assert np.array_equal(sample.objects.boxes, drawn.objects.boxes)
        assert np.array_equal(sample.objects.labels, drawn.objects.labels)


def test_every_class_is_in_many_pictures_and_none_is_without_a_box() -> None:
    dataset = open_dataset(DataConfig(source="shapes_boxes"))
    labels = [item.objects.labels for item in dataset.items if item.objects is not None]
    assert min(map(len, labels)) == 1
    assert np.bincount(np.concatenate(labels), minlength=6).min() > 200
