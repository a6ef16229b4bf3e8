"""Objects found in pictures as files of several formats."""

import contextlib
import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from striate.api.detection_files import CocoIds, CsvRows, JsonLines, detection_writer
from striate.api.inputs import Pictures, find_pictures
from striate.errors import DataError, UsageError
from striate.structures import Detections


def pictures(root: Path, *names: str) -> tuple[list[str], Pictures]:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((40, 80, 3), 90, np.uint8)).save(root / name)
    keys = [str(root / name) for name in names]
    return keys, find_pictures(keys)


def found(key: str, count: int = 2) -> Detections:
    boxes = np.array([[10, 5, 30, 25], [0.1, 0.2, 80, 40]], np.float32)[:count]
    return Detections(
        key,
        boxes,
        np.array([0.9, 0.1], np.float32)[:count],
        np.array([1, 0])[:count],
        ("cat", "=dog"),
        (40, 80),
        np.array([3, 7])[:count],
    )


def broken_off(form: Any, path: Path, read: Pictures) -> None:
    """Write a result and be interrupted."""
    with detection_writer(form, path, read) as writer:
        writer.write(found("a.jpg"))
        raise KeyboardInterrupt


def test_csv_has_a_row_for_each_object() -> None:
    stream = io.StringIO()
    rows = CsvRows(stream)
    rows.write(found("a.jpg"))
    rows.write(found("nothing.jpg", 0))
    rows.write(found("b, c.jpg", 1))
    assert list(csv.reader(io.StringIO(stream.getvalue()))) == [
        ["file", "class", "score", "x0", "y0", "x1", "y1"],
        ["a.jpg", "'=dog", "0.900000", "10.00", "5.00", "30.00", "25.00"],
        ["a.jpg", "cat", "0.100000", "0.10", "0.20", "80.00", "40.00"],
        ["b, c.jpg", "'=dog", "0.900000", "10.00", "5.00", "30.00", "25.00"],
    ]


def test_json_lines_give_the_same_results_back() -> None:
    stream = io.StringIO()
    lines = JsonLines(stream)
    for result in (found("a.jpg"), found("schön.jpg", 0)):
        lines.write(result)
    read = [Detections.from_dict(json.loads(line)) for line in stream.getvalue().splitlines()]
    assert [result.key for result in read] == ["a.jpg", "schön.jpg"]
    assert read[0].to_dict() == found("a.jpg").to_dict()


@pytest.mark.parametrize(("form", "name"), [("csv", "a.csv"), ("jsonl", "a.jsonl")])
def test_a_file_appears_when_all_is_written_and_not_otherwise(tmp_path: Path, form: Any, name: str) -> None:
    keys, read = pictures(tmp_path / "in", "a.png")
    with pytest.raises(KeyboardInterrupt):
        broken_off(form, tmp_path / name, read)
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
    with detection_writer(form, tmp_path / name, read) as writer:
        writer.write(found(keys[0]))
        assert not (tmp_path / name).exists()
    assert len((tmp_path / name).read_text("utf-8").splitlines()) == {"csv": 3, "jsonl": 1}[form]


def coco(tmp_path: Path, names: list[str], ids: CocoIds | None = None) -> tuple[Any, Any]:
    """What is in the two files."""
    with detection_writer("coco", tmp_path / "found.json", find_pictures(names), ids) as writer:
        for name in names:
            writer.write(found(name))
    return tuple(json.loads((tmp_path / f"found{kind}.json").read_text()) for kind in ("", ".images"))  # type: ignore[return-value]


def test_coco_results_have_boxes_by_corner_and_size_and_whole_scores(tmp_path: Path) -> None:
    rows, meaning = coco(tmp_path, ["x/000000000139.jpg", "x/7.jpg"])
    assert rows[:2] == [
        {"image_id": 139, "category_id": 2, "bbox": [10, 5, 20, 20], "score": 0.9},
        {"image_id": 139, "category_id": 1, "bbox": [0.1, 0.2, 79.9, 39.8], "score": 0.1},
    ]
    assert [row["image_id"] for row in rows[2:]] == [7, 7]
    assert meaning["images"][0] == {"id": 139, "file_name": "x/000000000139.jpg", "height": 40, "width": 80}
    assert meaning["categories"] == [{"id": 1, "name": "cat"}, {"id": 2, "name": "=dog"}]


@pytest.mark.parametrize("names", [["a.jpg", "7.jpg"], ["x/7.jpg", "y/7.jpg"], ["7.jpg", "007.jpg"]])
def test_names_that_are_no_numbers_of_their_own_are_numbered_from_1(tmp_path: Path, names: list[str]) -> None:
    rows, meaning = coco(tmp_path, names)
    assert [row["image_id"] for row in rows] == [1, 1, 2, 2]
    assert [image["file_name"] for image in meaning["images"]] == names


def test_given_numbers_are_used_and_a_missing_one_is_refused(tmp_path: Path) -> None:
    ids = CocoIds({"a.jpg": 55, "b.jpg": 3}, {"=dog": 18, "cat": 17})
    rows, _ = coco(tmp_path, ["a.jpg", "b.jpg"], ids)
    assert [(row["image_id"], row["category_id"]) for row in rows] == [(55, 18), (55, 17), (3, 18), (3, 17)]
    with pytest.raises(DataError, match=r"^c\.jpg: this picture has no number"):
        coco(tmp_path, ["c.jpg"], ids)
    with pytest.raises(DataError, match=r"^cat: this class has no number"):
        coco(tmp_path, ["a.jpg"], CocoIds({"a.jpg": 1}, {"=dog": 1}))


def test_pycocotools_reads_both_files(tmp_path: Path) -> None:
    coco(tmp_path, ["a.jpg", "b.jpg"])
    with contextlib.redirect_stdout(io.StringIO()):
        meaning = COCO(str(tmp_path / "found.images.json"))
        results = meaning.loadRes(str(tmp_path / "found.json"))
    assert results.getImgIds() == [1, 2]
    assert [row["score"] for row in results.loadAnns(results.getAnnIds(imgIds=[2]))] == [0.9, 0.1]


def test_a_broken_block_writes_no_coco_file(tmp_path: Path) -> None:
    _, read = pictures(tmp_path / "in", "a.png")
    with pytest.raises(KeyboardInterrupt):
        broken_off("coco", tmp_path / "f.json", read)
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_no_picture_at_all_gives_empty_lists(tmp_path: Path) -> None:
    assert coco(tmp_path, []) == ([], {"images": [], "categories": []})


def test_yolo_has_a_file_for_each_picture_and_the_names(tmp_path: Path) -> None:
    keys, read = pictures(tmp_path / "in", "x/a.png", "x/a.bmp", "y/a.png")
    with detection_writer("yolo", tmp_path / "out", read) as writer:
        for key, count in zip(keys, (2, 0, 1), strict=True):
            writer.write(found(key, count))
    out = tmp_path / "out"
    files = sorted(path.relative_to(out).as_posix() for path in out.rglob("*.txt"))
    assert files == ["classes.txt", "labels/x/a.bmp.txt", "labels/x/a.png.txt", "labels/y/a.txt"]
    assert (out / "classes.txt").read_text() == "cat\n=dog\n"
    assert (out / "labels/x/a.png.txt").read_text() == (
        "1 0.250000 0.375000 0.250000 0.500000 0.900000\n0 0.500625 0.502500 0.998750 0.995000 0.100000\n"
    )
    assert (out / "labels/x/a.bmp.txt").read_text() == ""


def test_a_class_of_two_lines_has_no_place_in_a_list_of_names(tmp_path: Path) -> None:
    keys, read = pictures(tmp_path / "in", "a.png")
    broken = Detections(
        keys[0], np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64),
        ("cat\ndog",), (40, 80), np.zeros(0, np.int64),
    )  # fmt: skip
    with (
        pytest.raises(UsageError, match="has two lines"),
        detection_writer("yolo", tmp_path / "out", read) as writer,
    ):
        writer.write(broken)


def test_a_folder_of_pictures_has_the_boxes_drawn_and_their_numbers(tmp_path: Path) -> None:
    keys, read = pictures(tmp_path / "in", "a.png", "b.png")
    with detection_writer("pictures", tmp_path / "out", read) as writer:
        for key, count in zip(keys, (2, 0), strict=True):
            writer.write(found(key, count))
    out = tmp_path / "out"
    files = sorted(path.relative_to(out).as_posix() for path in out.rglob("*.*"))
    assert files == ["classes.txt", "labels/a.txt", "labels/b.txt", "pictures/a.jpg", "pictures/b.jpg"]
    with Image.open(out / "pictures/a.jpg") as drawn, Image.open(out / "pictures/b.jpg") as empty:
        assert drawn.width == empty.width == 320
        assert np.ptp(np.asarray(drawn)[:160]) > 100
        assert np.ptp(np.asarray(empty)) < 5


@pytest.mark.parametrize("form", ["yolo", "pictures"])
def test_a_folder_with_anything_in_it_is_refused(tmp_path: Path, form: Any) -> None:
    _, read = pictures(tmp_path, "in.png")
    with pytest.raises(UsageError, match="choose a new folder"), detection_writer(form, tmp_path, read):
        pass
