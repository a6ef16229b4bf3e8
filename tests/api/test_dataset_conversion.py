from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from striate import api
from striate.errors import UnknownName, UsageError

XML = (
    "<annotation><object><name>cat</name><bndbox><xmin>{}</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax>"
    "</bndbox></object></annotation>"
)


@pytest.fixture
def boxes(tmp_path: Path) -> Path:
    """Two pictures of 20x10 pixels in VOC's format, the second with a box that cannot be used."""
    folder = tmp_path / "boxes"
    for part, left in (("train", "1"), ("val", "nan")):
        (folder / part).mkdir(parents=True)
        Image.new("RGB", (20, 10)).save(folder / part / f"{part}.jpg")
        (folder / part / f"{part}.xml").write_text(XML.format(left))
    return folder


@pytest.mark.parametrize("to", ["coco", "pascal", "voc", "yolo"])
def test_the_report_counts_what_can_be_read_again(boxes: Path, tmp_path: Path, to: str) -> None:
    seen: list[tuple[int, int]] = []
    report = api.convert_dataset(boxes, to, tmp_path / "out", progress=lambda *counts: seen.append(counts))
    assert (report.folder, report.source_format) == (str(tmp_path / "out"), "VOC boxes")
    assert report.pictures == {"train": 1, "val": 1}
    assert (report.boxes, report.classes, report.lost) == (1, ("cat",), ())
    assert [(found.file, found.code) for found in report.left_out] == [("val/val.xml", "box-number")]
    assert seen == [(1, 2), (2, 2)]
    assert report.to_dict()["left_out"][0]["id"] == "object 1"


def test_an_unknown_target_is_answered_with_the_nearest(boxes: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="did you mean coco"):
        api.convert_dataset(boxes, "cocos", tmp_path / "out")


def test_a_folder_with_something_in_it_is_refused(boxes: Path) -> None:
    with pytest.raises(UsageError, match="something there already"):
        api.convert_dataset(boxes, "coco", boxes)


def test_classes_alone_cannot_be_converted(color_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="class folders"):
        api.convert_dataset(color_folder, "coco", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_boxes_are_read_where_masks_come_first(shared_data: Callable[[str], Path], tmp_path: Path) -> None:
    report = api.convert_dataset(shared_data("pennfudan"), "coco", tmp_path / "out")
    assert (report.source_format, report.boxes, report.pictures) == ("PASCAL boxes", 423, {"": 170})
