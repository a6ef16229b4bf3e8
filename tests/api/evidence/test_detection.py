import base64
import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from striate.api.evidence.detection import Gatherer
from striate.data.dataset import Dataset
from striate.reports.evidence import Picture
from striate.structures import Detections, Objects
from striate.tasks import detection

pytest.importorskip("hotcoco")
NAMES = ("a", "b", "c")
LEFT, RIGHT, FAR = [4, 4, 20, 20], [30, 4, 46, 20], [44, 24, 58, 38]

Boxes = list[tuple[list[int], int, float]]


def gathered(data: Dataset, export: Any, seen: list[tuple[Boxes, Boxes]]) -> Any:
    """What is made of pictures with (found boxes, true ones), each box with class and score."""
    gatherer, metric = Gatherer(data, export), detection.metric(NAMES)
    for index, (found, true) in enumerate(seen):
        boxes, labels, scores = columns(found)
        rows = np.arange(len(found))
        result = Detections(str(index), boxes, scores, labels, NAMES, (40, 60), rows)
        own, ids, _ = columns(true)
        truths = Objects(own, ids, np.zeros(len(true), np.bool_))
        metric.update([result], [truths])
        gatherer.add(index, result, truths)
    return gatherer.gathered(metric.compute())


def columns(rows: Boxes) -> tuple[Any, Any, Any]:
    boxes = np.array([row[0] for row in rows], np.float32).reshape(-1, 4)
    return boxes, np.array([row[1] for row in rows], np.int64), np.array([r[2] for r in rows], np.float32)


SEEN: list[tuple[Boxes, Boxes]] = [
    # Found as it is; found as another class, and on nothing; not found.
    ([(LEFT, 0, 0.9)], [(LEFT, 0, 1)]),
    ([(LEFT, 0, 0.95), (FAR, 0, 0.92), (RIGHT, 1, 0.9)], [(LEFT, 0, 1), (RIGHT, 0, 1)]),
    ([], [(FAR, 2, 1)]),
]


def test_every_cell_shows_the_boxes_that_it_counts(dataset: Callable[..., Dataset], export: Any) -> None:
    confusion = gathered(dataset("detection", 3), export, SEEN).confusion
    shown = {
        (truth, said): [(confusion.pictures[p].key, *confusion.pictures[p].lines) for p in places]
        for truth, said, places in confusion.cells
    }
    assert shown == {
        (0, 0): [("0", "a, 0.90"), ("1", "a, 0.95")],  # the least sure hit first
        (0, 1): [("1", "a as b, 0.90")],
        (3, 0): [("1", "a on nothing, 0.92")],
        (2, 3): [("2", "c, missed")],
    }
    for truth, said, places in confusion.cells:
        assert confusion.counts[truth][said] == len(places)


def test_the_worst_pictures_have_the_most_mistakes(dataset: Callable[..., Dataset], export: Any) -> None:
    worst, right = gathered(dataset("detection", 3), export, SEEN).galleries
    assert [(p.key, *p.lines) for p in worst.pictures] == [
        ("1", "1 right, 1 confused, 1 false"),
        ("2", "1 missed"),
    ]
    assert [picture.key for picture in right.pictures] == ["0"]
    assert "a score of at least 0.90" in worst.text


def pixels(picture: Picture) -> np.ndarray:
    content = base64.b64decode(picture.images[0].uri.partition(",")[2])
    return np.array(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)


def test_a_hit_is_drawn_around_its_box_in_its_colour(dataset: Callable[..., Dataset], export: Any) -> None:
    _, right = gathered(dataset("detection", 3), export, SEEN).galleries
    drawn = pixels(right.pictures[0])
    assert drawn.shape == (120, 180, 3)  # three times as large
    close = np.abs(drawn - (86, 180, 233)).sum(axis=2) < 120
    rows, cols = np.nonzero(close)
    assert np.abs(np.array([rows.min(), rows.max(), cols.min(), cols.max()]) - (12, 59, 12, 59)).max() <= 3


def test_curves_are_of_all_and_of_each_class_with_objects(
    dataset: Callable[..., Dataset], export: Any
) -> None:
    curve = gathered(dataset("detection", 3), export, SEEN).precision_recall
    assert [series.name for series in curve.series] == ["all", "a"]  # nothing of c is found
    own = curve.series[1]
    assert (own.xs[0], own.ys[0]) == (0.0, 1.0)
    # Scores 0.95 right, 0.92 false, 0.9 right: two of three objects are found, two of three boxes right.
    assert (own.xs[-1], own.ys[-1]) == (0.66, pytest.approx(2 / 3))


def test_the_example_is_the_first_picture_without_a_mistake(
    dataset: Callable[..., Dataset], export: Any
) -> None:
    nothing: tuple[Boxes, Boxes] = ([], [])  # no mistake, and nothing to see
    example = gathered(dataset("detection", 4), export, [SEEN[1], nothing, SEEN[0], SEEN[0]]).example
    assert example.index == 2
    assert example.text == "The first picture without a mistake: 1 found."


def test_with_mistakes_everywhere_the_example_has_the_fewest_of_those_with_something_found(
    dataset: Callable[..., Dataset], export: Any
) -> None:
    twice = ([(LEFT, 0, 0.95)], [(LEFT, 0, 1), (RIGHT, 0, 1), (FAR, 0, 1)])
    once = ([(LEFT, 0, 0.95)], [(LEFT, 0, 1), (RIGHT, 0, 1)])
    example = gathered(dataset("detection", 4), export, [SEEN[2], twice, once, once]).example
    assert example.index == 2
    assert example.text.endswith("is found the first with the fewest mistakes: 1.")


def test_where_nothing_is_found_the_first_picture_is_the_example(
    dataset: Callable[..., Dataset], export: Any
) -> None:
    example = gathered(dataset("detection", 2), export, [SEEN[2], SEEN[2]]).example
    assert (example.index, example.text) == (0, "In no picture is an object found; this is the first.")
