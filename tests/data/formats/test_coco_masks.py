"""COCO's lists of outlines: categories, places of pictures, and what is wrong with a list."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from striate.data.dataset import Dataset, Finding
from striate.data.formats import coco_masks
from striate.data.open import DataConfig, open_dataset, recognise_format
from striate.data.tree import open_tree
from striate.errors import DataError

LEFT, ALL = [[0, 0, 1, 0, 1, 2, 0, 2]], [[0, 0, 3, 0, 3, 2, 0, 2]]


def thing(
    category: int, outline: object = LEFT, image: int = 1, number: int = 1, crowd: int = 0
) -> dict[str, Any]:
    return {
        "id": number, "image_id": image, "category_id": category,
        "segmentation": outline, "iscrowd": crowd, "area": 2, "bbox": [0, 0, 1, 2],
    }  # fmt: skip


def listed(
    *things: dict[str, Any], files: tuple[str, ...] = ("1.jpg",), categories: dict[int, str] | None = None
) -> dict[str, Any]:
    """A list of pictures of 3x2 pixels, numbered from 1, and their objects."""
    return {
        "info": {"year": 2017},
        "images": [
            {"id": number, "file_name": file, "height": 2, "width": 3} for number, file in enumerate(files, 1)
        ],
        "annotations": list(things),
        "categories": [
            {"id": category, "name": name, "supercategory": "x"}
            for category, name in (categories or {7: "cat", 90: "dog"}).items()
        ],
    }


def coco(root: Path, pictures: tuple[str, ...], **lists: dict[str, Any]) -> Path:
    """Pictures of 3x2 pixels and JSON files, `__` in their names for a folder."""
    for path in pictures:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (3, 2)).save(root / path)
    for name, content in lists.items():
        target = root / f"{name.replace('__', '/')}.json"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(content))
    return root


def read(root: Path) -> Dataset:
    return coco_masks.read(open_tree(root))


def finding(dataset: Dataset, code: str) -> Finding:
    (found,) = [finding for finding in dataset.findings if finding.code == code]
    return found


def test_categories_with_gaps_become_classes_after_the_background(tmp_path: Path) -> None:
    content = listed(thing(90, ALL), thing(7, LEFT, number=2), categories={90: "dog", 7: "cat"})
    tree = open_tree(coco(tmp_path, ("images/1.jpg",), instances=content))
    assert recognise_format(tree) == "coco_masks"
    dataset = coco_masks.read(tree)
    assert (dataset.task, dataset.classes) == ("segmentation", ("background", "cat", "dog"))
    sample = dataset.sample(0)
    assert sample.mask is not None
    assert sample.mask.tolist() == [[1, 2, 2], [1, 2, 2]]


def test_a_category_called_background_is_class_0(tmp_path: Path) -> None:
    content = listed(thing(3), thing(1, ALL, number=2), categories={1: "background", 3: "cat"})
    dataset = read(coco(tmp_path, ("1.jpg",), instances=content))
    assert dataset.classes == ("background", "cat")
    found = dataset.mask(0)
    assert found is not None
    assert found.tolist() == [[1, 0, 0], [1, 0, 0]]


def test_a_picture_without_objects_is_all_background(tmp_path: Path) -> None:
    content = listed(thing(7), files=("1.jpg", "2.jpg"))
    dataset = read(coco(tmp_path, ("images/1.jpg", "images/2.jpg"), instances=content))
    found = dataset.mask(1)
    assert found is not None
    assert not found.any()


def test_run_lengths_and_crowds_are_painted(tmp_path: Path) -> None:
    runs = {"size": [2, 3], "counts": [0, 6]}
    content = listed(thing(7, runs, crowd=1), thing(90, LEFT, number=2))
    dataset = read(coco(tmp_path, ("1.jpg",), instances=content))
    found = dataset.mask(0)
    assert found is not None
    assert found.tolist() == [[2, 1, 1], [2, 1, 1]]


def test_lists_of_parts_find_their_own_pictures(tmp_path: Path) -> None:
    train, val = listed(thing(7)), listed(thing(90))
    root = coco(
        tmp_path,
        ("train2017/1.jpg", "val2017/1.jpg"),
        annotations__instances_train2017=train,
        annotations__instances_val2017=val,
        annotations__captions_val2017=val,
    )
    dataset = read(root)
    assert [(item.key, item.part) for item in dataset.items] == [
        ("train2017/1.jpg", "train"),
        ("val2017/1.jpg", "val"),
    ]
    assert "instances_train2017.json, annotations/instances_val2017.json" in dataset.notes[0]


def test_lists_beside_their_pictures_are_read(tmp_path: Path) -> None:
    pictures = ("train/1.jpg", "valid/1.jpg")
    lists = {"train___annotations.coco": listed(thing(7)), "valid___annotations.coco": listed(thing(7))}
    dataset = read(coco(tmp_path, pictures, **lists))
    assert [(item.key, item.part) for item in dataset.items] == [
        ("train/1.jpg", "train"),
        ("valid/1.jpg", "val"),
    ]


def test_pictures_that_are_missing_or_not_listed_are_said(tmp_path: Path) -> None:
    content = listed(thing(7), files=("1.jpg", "gone.jpg"))
    dataset = read(coco(tmp_path, ("1.jpg", "extra.jpg"), instances=content))
    assert [item.key for item in dataset.items] == ["1.jpg"]
    assert finding(dataset, "missing").message.endswith("gone.jpg")
    assert finding(dataset, "missing").level == "error"
    assert finding(dataset, "unlisted").file == "extra.jpg"


def test_an_object_of_no_category_is_an_error_and_its_picture_left_out(tmp_path: Path) -> None:
    content = listed(thing(8, number=5), thing(7, image=2), files=("1.jpg", "2.jpg"))
    dataset = read(coco(tmp_path, ("1.jpg", "2.jpg"), instances=content))
    assert [item.key for item in dataset.items] == ["2.jpg"]
    found = finding(dataset, "mask-label")
    assert (found.file, found.id, found.level) == ("instances.json", "annotation 5", "error")


def test_objects_without_outlines_and_of_no_picture_are_counted(tmp_path: Path) -> None:
    content = listed(thing(7), thing(7, [], number=2), thing(7, None, number=3), thing(7, image=9, number=4))
    dataset = read(coco(tmp_path, ("1.jpg",), instances=content))
    assert finding(dataset, "no-outline").message.startswith("2 of its objects")
    assert finding(dataset, "picture-missing").message.startswith("1 of its objects")


def test_boxes_alone_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"instances\.json: its objects have no outlines"):
        read(coco(tmp_path, ("1.jpg",), instances=listed(thing(7, []))))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": [{"id": 1}]}, "is no COCO list of objects"),
        ({"annotations": 3}, "is no COCO list of objects"),
        ({"categories": []}, "it has 0 categories"),
        ({"categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "cat"}]}, "two of its categories"),
        (
            {"categories": [{"id": number, "name": str(number)} for number in range(255)]},
            "has 255 categories",
        ),
    ],
)
def test_a_list_that_is_not_as_cocos_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read(coco(tmp_path, ("1.jpg",), instances=listed(thing(7)) | change))
    assert "instances.json" in caught.value.where


def test_a_size_that_no_picture_has_is_an_error(tmp_path: Path) -> None:
    content = listed(thing(7), thing(7, image=2), files=("1.jpg", "2.jpg"))
    content["images"][0]["height"] = 10**9
    found = finding(read(coco(tmp_path, ("1.jpg", "2.jpg"), instances=content)), "size")
    assert (found.id, found.level) == ("image 1", "error")


def test_other_json_files_are_not_taken_for_lists(tmp_path: Path) -> None:
    assert not coco_masks.recognise(open_tree(coco(tmp_path, ("cat/1.jpg",), meta={"info": "my photos"})))


def test_lists_that_disagree_are_refused(tmp_path: Path) -> None:
    lists = {"instances_train": listed(thing(7)), "instances_val": listed(thing(7), categories={7: "cow"})}
    with pytest.raises(DataError, match="category 7 is called 'cat' and 'cow'"):
        read(coco(tmp_path, ("train/1.jpg", "val/1.jpg"), **lists))
    twice = {"instances_a": listed(thing(7)), "instances_b": listed(thing(7))}
    with pytest.raises(DataError, match=r"lists '1.jpg', which instances_a\.json lists as well"):
        read(coco(tmp_path / "twice", ("1.jpg",), **twice))


def test_coco128_is_read_with_all_its_categories(shared_data: Callable[[str], Path]) -> None:
    dataset = open_dataset(DataConfig(source=str(shared_data("coco128"))))
    assert (len(dataset), len(dataset.classes)) == (128, 81)
    assert dataset.classes[:2] == ("background", "person")
    sample = dataset.sample(0)
    assert sample.mask is not None
    assert sample.mask.shape == (480, 640)
    # Bowls, an orange and broccoli.
    shown = [dataset.classes[class_id] for class_id in np.unique(sample.mask)]
    assert shown == ["background", "bowl", "orange", "broccoli"]
