"""COCO's list of boxes, read and written."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from striate.data.dataset import Dataset, Finding
from striate.data.formats import coco_boxes
from striate.data.open import recognise_format
from striate.data.tree import open_tree
from striate.errors import DataError
from striate.structures import Objects

CATEGORIES = {90: "dog", 7: "cat"}


def thing(number: int, bbox: object = (1, 2, 3, 4), image: int = 1, **more: Any) -> dict[str, Any]:
    """An object of the category 7, unless it says otherwise."""
    return {"id": number, "image_id": image, "category_id": 7, "bbox": bbox} | more


def listed(
    *things: dict[str, Any], files: tuple[str, ...] = ("1.jpg",), categories: dict[int, str] = CATEGORIES
) -> dict[str, Any]:
    """A list of pictures of 30x20 pixels, numbered from 1, and their objects."""
    images = [{"id": i, "file_name": file, "height": 20, "width": 30} for i, file in enumerate(files, 1)]
    named = [{"id": category, "name": name} for category, name in categories.items()]
    return {"info": {}, "categories": named, "images": images, "annotations": list(things)}


def coco(root: Path, pictures: tuple[str, ...], **lists: dict[str, Any]) -> Path:
    """Pictures of 30x20 pixels and JSON files, `__` in their names for a folder."""
    for path in pictures:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (30, 20)).save(root / path)
    for name, content in lists.items():
        target = root / f"{name.replace('__', '/')}.json"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(content))
    return root


def read(root: Path) -> Dataset:
    return coco_boxes.read(open_tree(root))


def one(tmp_path: Path, *things: dict[str, Any]) -> Dataset:
    """A dataset of one picture with these objects."""
    return read(coco(tmp_path, ("1.jpg",), instances=listed(*things)))


def objects_of(dataset: Dataset, index: int = 0) -> Objects:
    objects = dataset.items[index].objects
    assert objects is not None
    return objects


def finding(dataset: Dataset, code: str) -> Finding:
    (found,) = [finding for finding in dataset.findings if finding.code == code]
    return found


# --- read -------------------------------------------------------------------------------------------


def test_categories_with_gaps_become_classes_by_their_ids(tmp_path: Path) -> None:
    dataset = one(tmp_path, thing(5, category_id=90, iscrowd=1), thing(9, [0.5, 0, 2.25, 1]))
    assert (dataset.task, dataset.classes) == ("detection", ("cat", "dog"))
    objects = objects_of(dataset)
    assert objects.boxes.tolist() == [[1, 2, 4, 6], [0.5, 0, 2.75, 1]]
    assert objects.labels.tolist() == [1, 0]
    assert objects.crowd.tolist() == [True, False]
    assert dataset.items[0].ids == ("annotation 5", "annotation 9")
    assert dataset.stated_sizes == {"1.jpg": (20, 30)}


def test_a_picture_without_annotations_shows_nothing(tmp_path: Path) -> None:
    content = listed(thing(1), files=("1.jpg", "2.jpg"))
    assert len(objects_of(read(coco(tmp_path, ("1.jpg", "2.jpg"), instances=content)), 1)) == 0


def test_lists_of_parts_find_their_own_pictures(tmp_path: Path) -> None:
    root = coco(
        tmp_path,
        ("train2017/1.jpg", "val2017/1.jpg"),
        annotations__instances_train2017=listed(thing(1)),
        annotations__instances_val2017=listed(thing(1, [5, 5, 5, 5])),
    )
    dataset = read(root)
    found = [(item.key, item.part) for item in dataset.items]
    assert found == [("train2017/1.jpg", "train"), ("val2017/1.jpg", "val")]
    assert objects_of(dataset, 1).boxes.tolist() == [[5, 5, 10, 10]]


@pytest.mark.parametrize(
    ("bbox", "code"),
    [
        ([1, 2, 0, 4], "box-empty"),
        ([1, 2, 3, -4], "box-empty"),
        ([30, 2, 3, 4], "box-outside"),
        ([-9, 2, 9, 4], "box-outside"),
        ([1, 2, 3], "box-number"),
        ([], "box-number"),
        ([1, 2, float("nan"), 4], "box-number"),
        ([1, 2, float("inf"), 4], "box-number"),
        ([1, 2, 1e300, 4], "box-number"),
    ],
)
def test_an_unusable_box_is_left_out_by_its_id(tmp_path: Path, bbox: list[float], code: str) -> None:
    dataset = one(tmp_path, thing(5), thing(6, bbox))
    assert dataset.items[0].ids == ("annotation 5",)
    found = finding(dataset, code)
    assert (found.file, found.id, found.level) == ("instances.json", "annotation 6", "error")


def test_names_that_read_like_numbers_are_left_alone_beside_nan(tmp_path: Path) -> None:
    content = listed(
        thing(1), thing(2, [1, 2, float("nan"), 4]), categories={7: 'a "NaN" Infinity', 90: "NaN"}
    )
    dataset = read(coco(tmp_path, ("1.jpg",), instances=content))
    assert dataset.classes == ('a "NaN" Infinity', "NaN")
    assert finding(dataset, "box-number").id == "annotation 2"


def test_an_unknown_category_leaves_out_its_box_alone(tmp_path: Path) -> None:
    dataset = one(tmp_path, thing(5), thing(6, category_id=8))
    assert len(objects_of(dataset)) == 1
    assert finding(dataset, "box-class").id == "annotation 6"


def test_pictures_with_one_id_are_left_out_and_named(tmp_path: Path) -> None:
    content = listed(thing(1), thing(2, image=2), files=("1.jpg", "2.jpg", "3.jpg"))
    content["images"][2]["id"] = 2
    dataset = read(coco(tmp_path, ("1.jpg", "2.jpg", "3.jpg"), instances=content))
    assert [item.key for item in dataset.items] == ["1.jpg"]
    found = finding(dataset, "id-duplicate")
    assert (found.id, found.level) == ("image 2", "error")
    assert "2.jpg, 3.jpg" in found.message


def test_a_picture_listed_twice_keeps_the_first_entry(tmp_path: Path) -> None:
    lists = {"instances_a": listed(thing(1)), "instances_b": listed(thing(1, [0, 0, 9, 9]))}
    dataset = read(coco(tmp_path, ("1.jpg",), **lists))
    assert objects_of(dataset).boxes.tolist() == [[1, 2, 4, 6]]
    found = finding(dataset, "listed-twice")
    assert (found.file, found.level) == ("instances_b.json", "error")
    assert "instances_a.json: its 1 objects here are left out" in found.message


def test_an_annotation_id_used_twice_is_a_warning(tmp_path: Path) -> None:
    dataset = one(tmp_path, thing(5), thing(5, [0, 0, 9, 9]))
    assert len(objects_of(dataset)) == 2
    found = finding(dataset, "id-duplicate")
    assert (found.id, found.level) == ("annotation 5", "warning")


def test_objects_of_no_picture_and_pictures_that_are_missing_are_errors(tmp_path: Path) -> None:
    content = listed(thing(1), thing(2, image=9), files=("1.jpg", "../../etc/passwd.jpg"))
    dataset = read(coco(tmp_path, ("1.jpg", "extra.jpg"), instances=content))
    assert [item.key for item in dataset.items] == ["1.jpg"]
    assert finding(dataset, "picture-missing").id == "annotation 2"
    assert finding(dataset, "missing").message.endswith("passwd.jpg")
    assert finding(dataset, "unlisted").file == "extra.jpg"


def test_a_list_without_sizes_states_none(tmp_path: Path) -> None:
    content = listed(thing(1, [40, 40, 9, 9]))
    del content["images"][0]["height"]
    dataset = read(coco(tmp_path, ("1.jpg",), instances=content))
    assert dataset.stated_sizes == {}
    assert len(objects_of(dataset)) == 1, "nobody knows that it is outside"


def test_more_classes_than_a_mask_could_tell_are_allowed(tmp_path: Path) -> None:
    names = {number: f"class {number}" for number in range(1203)}
    dataset = read(coco(tmp_path, ("1.jpg",), instances=listed(thing(1), categories=names)))
    assert len(dataset.classes) == 1203


@pytest.mark.parametrize("change", [{"annotations": 3}, {"categories": []}, {"images": [{"id": 1}]}])
def test_a_list_that_is_not_as_cocos_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    with pytest.raises(DataError) as caught:
        read(coco(tmp_path, ("1.jpg",), instances=listed(thing(1)) | change))
    assert "instances.json" in caught.value.where


def test_outlines_come_first_and_boxes_alone_are_boxes(tmp_path: Path) -> None:
    outline = {"segmentation": [[0, 0, 5, 0, 5, 5]]}
    outlined = coco(tmp_path / "a", ("1.jpg",), instances=listed(thing(1, **outline)))
    bare = coco(tmp_path / "b", ("1.jpg",), instances=listed(thing(1, segmentation=[])))
    assert recognise_format(open_tree(outlined)) == "coco_masks"
    assert recognise_format(open_tree(bare)) == "coco_boxes"


def test_coco128_is_read_with_its_crowds(shared_data: Callable[[str], Path]) -> None:
    dataset = read(shared_data("coco128"))
    assert (len(dataset), len(dataset.classes)) == (128, 80)
    objects = [item.objects for item in dataset.items if item.objects is not None]
    assert (sum(map(len, objects)), sum(int(each.crowd.sum()) for each in objects)) == (939, 10)
    assert sum(len(each) == 0 for each in objects) == 2


# --- written ----------------------------------------------------------------------------------------


def test_ids_of_pictures_and_annotations_come_back(tmp_path: Path) -> None:
    content = listed(thing(70), thing(71, [0, 0, 0.3, 9], image=2, iscrowd=1), files=("009.jpg", "025.jpg"))
    source = read(coco(tmp_path / "a", ("009.jpg", "025.jpg"), instances=content))
    assert coco_boxes.write(source, tmp_path / "b") == ()
    written = json.loads((tmp_path / "b/annotations/instances.json").read_text())
    assert [(image["id"], image["file_name"]) for image in written["images"]] == [
        (9, "009.jpg"),
        (25, "025.jpg"),
    ]
    assert written["images"][0] | {"height": 20, "width": 30} == written["images"][0]
    first, second = written["annotations"]
    assert first == {
        "id": 70, "image_id": 9, "category_id": 1, "bbox": [1, 2, 3, 4], "area": 12, "iscrowd": 0,
        "segmentation": [],
    }  # fmt: skip
    assert (second["id"], second["image_id"], second["iscrowd"], second["bbox"]) == (
        71,
        25,
        1,
        [0, 0, 0.3, 9],
    )
    assert written["categories"] == [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]


def test_what_coco_has_no_place_for_is_said(tmp_path: Path) -> None:
    source = read(
        coco(tmp_path / "a", ("1.jpg", "2.jpg"), instances=listed(thing(1), files=("1.jpg", "2.jpg")))
    )
    first, second = source.items
    hard = replace(objects_of(source), difficult=np.array([True]))
    items = (replace(first, objects=hard, ids=()), replace(second, objects=None))
    lost = coco_boxes.write(replace(source, items=items), tmp_path / "b")
    assert lost == (
        "1 difficult objects are as any other",
        "1 unlabelled pictures left out, which would show nothing: 2.jpg",
    )
    again = read(tmp_path / "b")
    assert [item.key for item in again.items] == ["images/1.jpg"]
    assert again.items[0].ids == ("annotation 1",)
