"""From one format of boxes to the next and back: what is lost is said."""

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from striate.data.dataset import Dataset, Item
from striate.data.formats import coco_boxes, pascal_boxes, voc_boxes, yolo_boxes
from striate.data.storage import ArrayStorage
from striate.data.tree import open_tree
from striate.structures import Objects

FORMATS = {"coco": coco_boxes, "pascal": pascal_boxes, "voc": voc_boxes, "yolo": yolo_boxes}
ATOL = 1e-3  # pixels


def by_name(dataset: Dataset) -> dict[str, Item]:
    return {Path(item.key).name: item for item in dataset.items}


def travel(dataset: Dataset, folder: Path, *stations: str) -> tuple[Dataset, list[str]]:
    """The dataset after it was written and read in each format, and the sentences on the way."""
    lost = []
    for number, name in enumerate(stations):
        lost += FORMATS[name].write(dataset, folder / f"{number}-{name}")
        dataset = FORMATS[name].read(open_tree(folder / f"{number}-{name}"))
        assert not [found for found in dataset.findings if found.level == "error"]
    return dataset, lost


def assert_same(before: Dataset, after: Dataset) -> None:
    """The same classes, pictures, parts and boxes, apart from crowds."""
    assert after.classes == before.classes
    old, new = by_name(before), by_name(after)
    assert new.keys() == old.keys()
    for name, item in old.items():
        assert new[name].part == item.part
        objects, again = item.objects, new[name].objects
        assert objects is not None
        assert again is not None
        objects = objects[~objects.crowd]
        assert again.labels.tolist() == objects.labels.tolist()
        np.testing.assert_allclose(again.boxes, objects.boxes, rtol=0, atol=ATOL)


def test_bccd_comes_back_whole(shared_data: Callable[[str], Path], tmp_path: Path) -> None:
    whole = voc_boxes.read(open_tree(shared_data("bccd")))
    chosen = sorted(random.Random(0).sample(range(len(whole)), 60))
    source = whole.only(chosen)
    assert {item.part for item in source.items} == {"train", "val", "test"}
    again, lost = travel(source, tmp_path, "coco", "yolo", "voc", "pascal")
    assert_same(source, again)
    count = sum(len(item.objects) for item in source.items if item.objects is not None)
    assert lost == [f"the ids of {count} annotations are lost"]


def test_coco128_loses_its_crowds_and_ids_alone(shared_data: Callable[[str], Path], tmp_path: Path) -> None:
    source = coco_boxes.read(open_tree(shared_data("coco128")))
    again, lost = travel(source, tmp_path, "yolo", "voc", "coco")
    assert_same(source, again)
    assert lost == [
        "10 crowds left out: each would count as one object",
        "the ids of 939 annotations are lost",
    ]
    empty = [
        name for name, item in by_name(again).items() if item.objects is not None and not len(item.objects)
    ]
    assert empty == ["000000000250.jpg", "000000000508.jpg"]


def drawn(*boxes: list[float], crowd: bool = False) -> Dataset:
    """A black picture of 40x30 pixels with `boxes` of one class."""
    count = len(boxes)
    objects = Objects(np.array(boxes, np.float32), np.zeros(count, np.int64), np.full(count, crowd))
    storage = ArrayStorage(np.zeros((2, 30, 40, 3), np.uint8), "drawn")
    return Dataset("d", "drawn", "detection", ("a",), (Item("drawn[0]", objects=objects),), storage)


def objects_of(dataset: Dataset, index: int = 0) -> Objects:
    objects = dataset.items[index].objects
    assert objects is not None
    return objects


@pytest.mark.parametrize("name", FORMATS)
def test_small_boxes_and_odd_names_survive_every_format(tmp_path: Path, name: str) -> None:
    boxes = [[0, 0, 1, 30], [0.25, 0.5, 0.75, 29], [39.5, 29.5, 41, 31], [-2, 3, 4.0625, 5]]
    source = drawn(*boxes)
    objects = replace(objects_of(source), labels=np.array([2, 0, 1, 2]))
    items = (Item("drawn[0]", "train", objects=objects), Item("drawn[1]", "val", objects=objects[:0]))
    classes = ("traffic light", "<&>", "Ähre")
    again, lost = travel(replace(source, items=items, classes=classes), tmp_path, name)
    assert lost == []
    assert again.classes == classes
    assert [item.part for item in again.items] == ["train", "val"]
    np.testing.assert_allclose(objects_of(again).boxes, boxes, rtol=0, atol=ATOL)
    assert objects_of(again).labels.tolist() == [2, 0, 1, 2]
    assert len(objects_of(again, 1)) == 0
    np.testing.assert_array_equal(again.sample(0).image, 0)


@pytest.mark.parametrize("name", ["pascal", "voc"])
def test_a_box_of_one_pixel_is_said_where_corners_are_inclusive(tmp_path: Path, name: str) -> None:
    lost = FORMATS[name].write(drawn([3, 4, 4, 5], [1, 1, 9, 9]), tmp_path / "b")
    assert lost == ("1 boxes have one pixel, which readers take for a slip",)
    again = FORMATS[name].read(open_tree(tmp_path / "b"))
    assert [(found.id, found.code) for found in again.findings] == [("object 1", "box-empty")]


def test_crowds_are_difficult_objects_in_voc(tmp_path: Path) -> None:
    lost = voc_boxes.write(drawn([1, 1, 9, 9], crowd=True), tmp_path / "b")
    assert lost == ("1 crowds are difficult objects now",)
    read = objects_of(voc_boxes.read(open_tree(tmp_path / "b")))
    assert (read.difficult.tolist(), read.crowd.tolist()) == ([True], [False])


@pytest.mark.parametrize("name", ["pascal", "voc"])
def test_unlabelled_pictures_stay_so_where_the_format_can_say_it(tmp_path: Path, name: str) -> None:
    source = drawn([1, 1, 9, 9])
    items = (replace(source.items[0], part="train"), Item("drawn[1]", "train"))
    again, lost = travel(replace(source, items=items), tmp_path, name)
    assert lost == []
    assert [item.objects is None for item in again.items] == [False, True]


@pytest.mark.parametrize("name", FORMATS)
def test_the_folder_appears_whole_or_not_at_all(tmp_path: Path, name: str) -> None:
    def interrupt(done: int, total: int) -> None:
        assert (done, total) == (1, 1)
        assert list(tmp_path.glob(".striate-tmp-*")), "it is under way"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        FORMATS[name].write(drawn([1, 1, 9, 9]), tmp_path / "b", interrupt)
    assert list(tmp_path.iterdir()) == []
