"""What a check tells people: columns and rows by class."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from striate.api.checking import check_data


def test_masks_add_the_share_of_each_parts_pixels(tmp_path: Path) -> None:
    chance = np.random.default_rng(0)
    for part, mask in {"train": [[0, 1], [1, 1]], "val": [[1, 1], [1, 1]]}.items():
        for folder, pixels in {"": chance.integers(0, 256, (2, 2, 3)), "annot": np.array(mask)}.items():
            (tmp_path / f"{part}{folder}").mkdir()
            Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / f"{part}{folder}" / "1.png")
    checked = check_data(str(tmp_path), None, near=False, workers=1, progress=None)
    assert checked.columns == ("train", "val", "train pixels", "val pixels")
    assert checked.class_rows() == [("0", "1", "0", "25.0 %", "0.00 %"), ("1", "1", "1", "75.0 %", "100.0 %")]


def test_without_parts_there_are_two_columns() -> None:
    checked = check_data("shapes_masks", None, near=False, workers=1, progress=None)
    assert checked.columns == ("pictures", "pixels")
    assert [row[:2] for row in checked.class_rows()][:2] == [("background", "600"), ("circle", "200")]


def test_labels_have_no_pixels() -> None:
    checked = check_data("digits", None, near=False, workers=1, progress=None)
    assert checked.columns == ("pictures",)
    assert checked.class_rows()[0] == ("0", "178")


def test_boxes_add_how_many_there_are() -> None:
    checked = check_data("shapes_boxes", None, near=False, workers=1, progress=None)
    assert checked.columns == ("pictures", "boxes")
    assert checked.class_rows()[0] == ("circle", "200", "237")
    told = dict(checked.describe())
    assert told["boxes"] == [
        "1,361 boxes, 1 to 4 a picture (median 2)",
        "their sides 13.1 % to 80.4 % of the picture's (median 29.7 %)",
    ]
    assert checked.to_dict()["facts"]["boxes"]["circle"] == {"": 237}


def test_boxes_stand_behind_the_pictures_of_each_part(shared_data: Callable[[str], Path]) -> None:
    checked = check_data(str(shared_data("bccd")), None, near=False, workers=1, progress=None)
    assert checked.columns == ("train", "val", "test", "train boxes", "val boxes", "test boxes")
    assert checked.class_rows()[0] == ("Platelets", "117", "45", "39", "209", "83", "69")
    assert [(found.id, found.code) for found in checked.report.errors] == [
        ("object 13", "box-empty"),
        ("object 4", "box-empty"),
    ]
