from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from striate.api.evidence.segmentation import Gatherer
from striate.data.dataset import Dataset
from striate.structures import IGNORE, Segmentation
from striate.tasks import segmentation

NAMES = ("a", "b", "c")


def gathered(data: Dataset, export: Any, wrong: list[int], several: Sequence[int] = ()) -> Any:
    """Of pictures with so many wrong pixels each, half of each picture void; `several` show two classes."""
    gatherer, metric = Gatherer(data, export), segmentation.metric(NAMES)
    for index, count in enumerate(wrong):
        truth = np.zeros((40, 60), np.uint8)
        truth[20:] = IGNORE
        truth[19, :30] = index in several
        said = np.zeros((40, 60), np.uint8)
        said[19] = truth[19]
        said[20:] = 1  # what is void is neither right nor wrong
        said.reshape(-1)[:count] = 2
        result = Segmentation(str(index), said, NAMES)
        metric.update([result], [truth])
        gatherer.add(index, result, truth)
    return gatherer.gathered(metric.compute())


def test_the_worst_pictures_come_first_and_perfect_ones_not_at_all(
    dataset: Callable[..., Dataset], export: Any
) -> None:
    (worst,) = gathered(dataset("segmentation", 3), export, [120, 0, 600]).galleries
    assert [(p.key, *p.lines) for p in worst.pictures] == [
        ("2", "50.0 % of its pixels right"),
        ("0", "90.0 % of its pixels right"),
    ]
    assert [len(picture.images) for picture in worst.pictures] == [3, 3]
    assert worst.left_out == 0


def test_no_more_than_a_few_masks_are_kept(dataset: Callable[..., Dataset], export: Any) -> None:
    (worst,) = gathered(dataset("segmentation", 20), export, list(range(1, 21))).galleries
    assert [picture.key for picture in worst.pictures] == [str(19 - place) for place in range(12)]
    assert worst.left_out == 8


def test_classes_have_the_colours_of_masks_elsewhere(dataset: Callable[..., Dataset], export: Any) -> None:
    (worst,) = gathered(dataset("segmentation", 1), export, [1]).galleries
    assert worst.legend == (("a", "#000000"), ("b", "#e69f00"), ("c", "#56b4e9"))


def test_a_void_picture_is_no_mistake(dataset: Callable[..., Dataset], export: Any) -> None:
    gatherer = Gatherer(dataset("segmentation", 1), export)
    mask = np.zeros((40, 60), np.uint8)
    gatherer.add(0, Segmentation("0", mask, NAMES), np.full((40, 60), IGNORE, np.uint8))
    assert gatherer._imperfect == 0


def test_the_example_is_the_best_of_those_with_several_classes(
    dataset: Callable[..., Dataset], export: Any
) -> None:
    found = gathered(dataset("segmentation", 5), export, [0, 240, 120, 120, 600], several=[1, 2, 3, 4])
    assert found.example.index == 2  # the first has one class alone
    text = "The picture told best of those that show several classes: 90.0 % of its pixels right."
    assert found.example.text == text


def test_where_no_picture_shows_several_classes_the_best_is_the_example(
    dataset: Callable[..., Dataset], export: Any
) -> None:
    found = gathered(dataset("segmentation", 3), export, [120, 0, 0])
    assert found.example.index == 1
    assert "none of which shows several classes: 100.0 %" in found.example.text
