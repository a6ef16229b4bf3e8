"""What a check tells people: columns and rows by class."""

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
