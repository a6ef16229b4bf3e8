"""COCO's twelve numbers, beside those of pycocotools."""

import contextlib
import io
import json
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from striate.errors import EnvironmentProblem
from striate.metrics.boxes import BoxRecords, Comparison
from striate.metrics.coco import coco_scores
from striate.structures import Detections, Objects

NAMES = [
    *("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large"),
    *("ar1", "ar10", "ar100", "ar_small", "ar_medium", "ar_large"),
]


def oracle(pictures: Sequence[Comparison], classes: int) -> tuple[dict[str, float], Any]:
    """pycocotools' numbers by name, those that it has; and its precision of each class (10, 101, K)."""
    annotations, results = list[dict[str, Any]](), list[dict[str, Any]]()

    def row(number: int, box: list[float], label: int) -> dict[str, Any]:
        x0, y0, x1, y1 = box
        area = (x1 - x0) * (y1 - y0)
        return {"image_id": number, "category_id": label, "bbox": [x0, y0, x1 - x0, y1 - y0], "area": area}

    for number, picture in enumerate(pictures):
        truths = picture.truths
        true = zip(truths.boxes.tolist(), truths.labels.tolist(), truths.crowd.tolist(), strict=True)
        annotations += [row(number, box, label) | {"iscrowd": int(crowd)} for box, label, crowd in true]
        found = zip(picture.boxes.tolist(), picture.labels.tolist(), picture.scores.tolist(), strict=True)
        results += [row(number, box, label) | {"score": score} for box, label, score in found]
    shared = {
        "images": [{"id": number} for number in range(len(pictures))],
        "categories": [{"id": label} for label in range(classes)],
    }
    sides = []
    for rows in (annotations, results):
        side = COCO()
        numbered = [{"iscrowd": 0, **one, "id": number} for number, one in enumerate(rows, 1)]
        side.dataset = {**shared, "annotations": numbered}
        sides.append(side)
    with contextlib.redirect_stdout(io.StringIO()):
        for side in sides:
            side.createIndex()
        evaluation = COCOeval(*sides, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    values = dict(zip(NAMES, evaluation.stats.tolist(), strict=True))
    return {name: value for name, value in values.items() if value != -1}, evaluation.eval["precision"]


def records(pictures: list[tuple[Detections, Objects]], classes: int) -> tuple[Comparison, ...]:
    kept = BoxRecords(classes)
    for result, truths in pictures:
        kept.update([result], [truths])
    return kept.pictures


def jittered(
    key: str, truths: Objects, classes: int, chance: np.random.Generator, more: int = 3
) -> Detections:
    """What a middling detector may find: boxes moved, classes mistaken, scores of few different values."""
    times = chance.integers(0, 4, len(truths))
    boxes = np.repeat(truths.boxes.astype(np.float64), times, axis=0)
    sides = np.tile(boxes[:, 2:] - boxes[:, :2], 2)
    boxes = boxes + chance.normal(0, 0.08, boxes.shape) * sides
    low = chance.uniform(0, 300, (more, 2))
    boxes = np.concatenate((boxes, np.concatenate((low, low + chance.uniform(4, 200, (more, 2))), 1)))
    labels = np.concatenate((np.repeat(truths.labels, times), chance.integers(0, classes, more)))
    mistaken = chance.random(len(labels)) < 0.1
    labels = np.where(mistaken, chance.integers(0, classes, len(labels)), labels)
    scores = -np.sort(-chance.integers(1, 20, len(labels)) / 20)
    columns = (boxes.astype(np.float32), scores.astype(np.float32), labels)
    names = tuple(map(str, range(classes)))
    return Detections(key, *columns, names, (480, 640), np.arange(len(labels)))


def random_pictures(seed: int, classes: int = 3, count: int = 12) -> list[tuple[Detections, Objects]]:
    chance = np.random.default_rng(seed)
    pictures = []
    for number in range(count):
        rows = int(chance.integers(0, 8))
        low, sides = chance.uniform(0, 400, (rows, 2)), np.exp(chance.uniform(1, 5.5, (rows, 2)))
        boxes = np.concatenate((low, low + sides), 1).astype(np.float32)
        truths = Objects(boxes, chance.integers(0, classes, rows), chance.random(rows) < 0.15)
        # The first has more boxes of a class than COCO looks at.
        found = jittered(f"{number:03d}", truths, classes, chance, more=3 if number else 400)
        pictures.append((found, truths))
    return pictures


def assert_equal(pictures: Sequence[Comparison], classes: int) -> None:
    ours = coco_scores(pictures, classes)
    theirs, precision = oracle(pictures, classes)
    assert ours.values == pytest.approx(theirs, abs=1e-12, rel=0)
    for label in range(classes):
        own = precision[:, :, label, 0, 2]
        if (own > -1).any():
            assert ours.ap[label] == pytest.approx(own.mean(), abs=1e-12)
            assert ours.ap50[label] == pytest.approx(own[0].mean(), abs=1e-12)
        else:
            assert np.isnan(ours.ap[label])
            assert np.isnan(ours.ap50[label])


@pytest.mark.parametrize("seed", range(12))
def test_random_pictures_have_the_numbers_of_pycocotools(seed: int) -> None:
    assert_equal(records(random_pictures(seed), 3), 3)


def test_pictures_shared_out_between_processes_have_the_same_numbers_to_the_last_bit() -> None:
    pictures = random_pictures(5)
    first, second = BoxRecords(3), BoxRecords(3)
    for number, (result, truths) in enumerate(pictures):
        (first if number % 3 else second).update([result], [truths])
    second.merge(first.state())
    assert coco_scores(second.pictures, 3).values == coco_scores(records(pictures, 3), 3).values


def test_a_class_without_objects_has_no_precision_and_does_not_count() -> None:
    own = random_pictures(3)
    pictures = records([(replace(found, classes=tuple("abcde")), truths) for found, truths in own], 5)
    assert_equal(pictures, 5)
    assert np.isnan(coco_scores(pictures, 5).ap[3:]).all()
    assert coco_scores(pictures, 5).values["ap"] == coco_scores(records(own, 3), 3).values["ap"]


def test_nothing_found_is_zero_and_nothing_there_is_no_number() -> None:
    pictures = random_pictures(1)
    blind = records([(found[:0], truths) for found, truths in pictures], 3)
    assert_equal(blind, 3)
    assert set(coco_scores(blind, 3).values.values()) == {0.0}
    empty = records([(found, truths[:0]) for found, truths in pictures], 3)
    assert_equal(empty, 3)
    assert coco_scores(empty, 3).values == {}
    assert coco_scores((), 3).values == {}


def test_sizes_that_no_object_has_are_left_out() -> None:
    box = np.array([[0, 0, 20, 20]], np.float32)
    truths = Objects(box, np.zeros(1, np.int64), np.zeros(1, np.bool_))
    found = Detections("a", box, np.ones(1, np.float32), np.zeros(1, np.int64), ("x",), (9, 9), np.arange(1))
    values = coco_scores(records([(found, truths)], 1), 1).values
    assert sorted(values) == sorted(("ap", "ap50", "ap75", "ap_small", "ar1", "ar10", "ar100", "ar_small"))
    assert list(values.values()) == pytest.approx([1.0] * 8)


@pytest.mark.parametrize("seed", range(3))
def test_real_objects_with_moved_boxes_have_the_numbers_of_pycocotools(
    shared_data: Callable[[str], Path], seed: int
) -> None:
    content = json.loads((shared_data("coco128") / "instances.json").read_text())
    ids = {category["id"]: label for label, category in enumerate(content["categories"])}
    own = defaultdict(list)
    for annotation in content["annotations"]:
        own[annotation["image_id"]].append(annotation)
    chance, pictures = np.random.default_rng(seed), []
    for image in content["images"]:
        rows = own[image["id"]]
        boxes = np.array([row["bbox"] for row in rows], np.float64).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        labels = np.array([ids[row["category_id"]] for row in rows], np.int64)
        truths = Objects(
            boxes.astype(np.float32), labels, np.array([row["iscrowd"] for row in rows], np.bool_)
        )
        pictures.append((jittered(image["file_name"], truths, len(ids), chance), truths))
    made = records(pictures, len(ids))
    assert_equal(made, len(ids))
    assert 0.1 < coco_scores(made, len(ids)).values["ap"] < 0.9


def test_without_hotcoco_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hotcoco", None)
    with pytest.raises(EnvironmentProblem, match=r"pip install 'striate\[train\]'"):
        coco_scores((), 1)
