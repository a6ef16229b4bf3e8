"""A dataset's masks and objects in the class ids of a model."""

import numpy as np
import pytest

from striate.errors import DataError
from striate.structures import IGNORE, Objects
from striate.tasks._classes import match_classes


def test_a_mask_is_mapped_by_name_and_void_stays_void() -> None:
    match = match_classes(("sky", "road", "car"), ("Car", "sky"))
    mask = np.array([[0, 1, IGNORE], [1, 0, 0]], np.uint8)
    mapped = match.mapped(mask)
    assert mapped.tolist() == [[2, 0, IGNORE], [0, 2, 2]]
    assert mapped.dtype == np.uint8
    assert mask[0, 0] == 0


def test_an_id_beyond_the_data_s_classes_is_refused() -> None:
    with pytest.raises(DataError, match=r"class id 2, and the data has 2 classes"):
        match_classes(("a", "b", "c"), ("b", "a")).mapped(np.array([[1, 2]], np.uint8))


def test_a_mask_of_255_classes_is_mapped() -> None:
    names = tuple(f"class {number}" for number in range(255))
    mask = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert (match_classes(names, names).mapped(mask) == mask).all()


def test_objects_are_mapped_by_name_and_nothing_else_of_them_changes() -> None:
    objects = Objects(
        np.array([[0, 0, 5, 5], [1, 1, 2, 2]], np.float32), np.array([0, 1]), np.array([False, True])
    )
    mapped = match_classes(("sky", "road", "car"), ("Car", "sky")).mapped(objects)
    assert mapped.labels.tolist() == [2, 0]
    assert mapped.boxes is objects.boxes
    assert mapped.crowd.tolist() == [False, True]
    assert objects.labels.tolist() == [0, 1]


@pytest.mark.parametrize("label", [-1, 2])
def test_an_object_of_no_class_of_the_data_is_refused(label: int) -> None:
    objects = Objects(np.zeros((1, 4), np.float32), np.array([label]), np.zeros(1, np.bool_))
    with pytest.raises(DataError, match=rf"class id {label}, and the data has 2 classes"):
        match_classes(("a", "b", "c"), ("b", "a")).mapped(objects)
